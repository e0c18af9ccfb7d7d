"""A round of fuzzing over all targets: ``make fuzz``, or ``python -m tests.fuzz --seconds 600``.

Each target runs in a process of its own, first with the kernels as plain Python, then compiled; the corpus grows from run to run. What
broke is kept beside the corpus and told at the end, with the command that runs it again. Exit status 1: something broke.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import zstandard

from tests.conftest import ROOT
from tests.fuzz import seeds
from tests.fuzz.targets import Target, targets

KEPT = Path(__file__).resolve().parent / "corpus.tar.zst"
"""The corpus of the last long round, minimised."""
MAX_LEN = 16_384
_STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\S+).*")
SLOW = {"audit": 4, "connections": 3, "decode": 2, "read": 2, "examine": 2, "inspect-tls": 2}
"""Shares of the time; the others have one."""
COMPILED = ("read", "decode", "connections", "examine", "audit")
"""Targets that kernels have a part in."""
COMPILED_ALONE = ("audit",)
"""As plain Python it comes to two runs a second; its kernels are those of the others."""


@dataclass
class Ran:
    """How one process ended."""

    target: str
    form: str
    status: str
    """libFuzzer's own last line."""
    seconds: float
    broke: list[Path]


def unpack(folder: Path) -> int:
    """The kept corpus, a folder a target; how many inputs."""
    if not KEPT.exists():
        return 0
    count = 0
    with tarfile.open(fileobj=BytesIO(zstandard.ZstdDecompressor().decompress(KEPT.read_bytes(), 1 << 28))) as packed:
        for member in packed:
            data = packed.extractfile(member)
            if data is not None:
                place = folder / Path(member.name).parent.name
                place.mkdir(parents=True, exist_ok=True)
                (place / Path(member.name).name).write_bytes(data.read())
                count += 1
    return count


def pack(folder: Path) -> int:
    """Keep a corpus beside the targets, the same bytes for the same content; how many inputs."""
    out = BytesIO()
    files = sorted(
        each for name in targets() for each in (folder / name).glob("*") if not each.name.startswith("seed-")
    )
    with tarfile.open(fileobj=out, mode="w") as packed:
        for file in files:
            entry = tarfile.TarInfo(f"{file.parent.name}/{file.name[:12]}")
            entry.size = file.stat().st_size
            packed.addfile(entry, BytesIO(file.read_bytes()))
    KEPT.write_bytes(zstandard.compress(out.getvalue(), 19))
    return len(files)


def _command(target: str, options: list[str], *places: Path) -> list[str]:
    return [sys.executable, "-m", "tests.fuzz.one", target, *options, *map(str, places)]


def _environment(form: str) -> dict[str, str]:
    return {
        **os.environ,
        "NUMBA_DISABLE_JIT": "0" if form == "compiled" else "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
    }


def fuzz(target: Target, form: str, folder: Path, options: list[str], log: Path) -> Ran:
    """One target in one form. ``options`` are libFuzzer's."""
    corpus, broken = folder / target.name, folder / "broken"
    broken.mkdir(parents=True, exist_ok=True)
    seeds.write(corpus, target.name, target.kind)
    before = set(broken.iterdir())
    fixed = [
        f"-max_len={MAX_LEN}",
        "-timeout=60",
        "-rss_limit_mb=3072",
        "-reload=0",
        "-len_control=0",
        "-print_final_stats=1",
    ]
    command = _command(target.name, [*fixed, f"-artifact_prefix={broken}/{target.name}-", *options], corpus)
    with log.open("ab") as out:
        out.write(f"== {target.name} ({form})\n".encode())
        out.flush()
        subprocess.run(command, env=_environment(form), cwd=ROOT, stdout=out, stderr=out, check=False)
    text = log.read_text(errors="replace").rpartition(f"== {target.name} ({form})\n")[2]
    lines = [match[0].strip() for match in _STATUS.finditer(text)]
    spent = re.search(r"Done (\d+) runs in (\d+) second", text)
    return Ran(
        target.name,
        form,
        lines[-1] if lines else text[-200:].strip(),
        float(spent[2]) if spent else 0.0,
        sorted(set(broken.iterdir()) - before),
    )


def minimise(target: Target, folder: Path) -> None:
    """Of a corpus, the inputs that together reach all it reaches."""
    corpus, kept = folder / target.name, folder / f".{target.name}"
    kept.mkdir(exist_ok=True)
    options = ["-merge=1", f"-max_len={MAX_LEN}", "-timeout=60", "-rss_limit_mb=3072"]
    subprocess.run(
        _command(target.name, options, kept, corpus),
        env=_environment("plain Python"),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if any(kept.iterdir()):
        for file in corpus.iterdir():
            file.unlink()
        for file in kept.iterdir():
            file.rename(corpus / file.name)
    kept.rmdir()


def main() -> int:
    """Run a round; 1 where something broke."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Coverage-guided fuzzing of every way in."
    )
    parser.add_argument("--seconds", type=int, default=300, help="for all targets together (default: 300)")
    parser.add_argument("--target", action="append", choices=sorted(targets()), help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=ROOT / ".fuzz", help="where it grows (default: .fuzz)")
    parser.add_argument("--keep", action="store_true", help="minimise the corpus and keep it in the project")
    args = parser.parse_args()
    args.corpus.mkdir(parents=True, exist_ok=True)
    print(f"{unpack(args.corpus)} inputs of earlier rounds")
    chosen = [each for name, each in sorted(targets().items()) if not args.target or name in args.target]
    # What reaches most comes first.
    runs = [(each, "compiled") for each in chosen if each.name in COMPILED]
    runs += [(each, "plain Python") for each in chosen if each.name not in COMPILED_ALONE]
    unit = args.seconds / sum(SLOW.get(each.name, 1) for each, _ in runs)
    log, broke = args.corpus / "log", []
    for each, form in runs:
        seconds = max(int(unit * SLOW.get(each.name, 1)), 1)
        ran = fuzz(each, form, args.corpus, [f"-max_total_time={seconds}", f"-seed={args.seed}"], log)
        print(f"{ran.target} ({ran.form}, {ran.seconds:.0f} s): {ran.status}", flush=True)
        broke += ran.broke
    if args.keep:
        for each in chosen:
            minimise(each, args.corpus)
        print(f"{pack(args.corpus)} inputs kept, {KEPT.stat().st_size} bytes")
    for file in broke:
        print(f"broke: {file}\n  again with: python -m tests.fuzz.one {'-'.join(file.name.split('-')[:-2])} {file}")
    return 1 if broke else 0


if __name__ == "__main__":
    sys.exit(main())
