"""Passes that are ended at any moment, and what must hold after the next one: what the tests of crash safety share.

A ``Place`` is a folder with a spool of small captures, a store, and somebody who is told. ``Forker`` is a process that has everything imported and compiled, so that a pass
in a child of it takes a fraction of a second: it is run as a program (``python -m tests.jobs.crashing killed FOLDER TRIALS SEED``), because it forks.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

SAMPLE = ROOT / "captures" / "sample" / "healthy.pcap"
INVENTORY = ROOT / "captures" / "sample" / "healthy.inventory.yml"
PIECES = 5
BEGIN = 1_795_300_000

CONFIG = """
store = "history"
[spool]
folders = ["spool"]
settle = "0s"
after = "move"
done = "done"
aside = "aside"
[limits]
files = 2
[[inventory]]
file = "who.yml"
[[report]]
format = "json"
output = "reports/{audit}.json"
[[notify]]
name = "team"
url = "json://127.0.0.1:1"
on = ["new", "gone", "aside", "store"]
severity = "info"
"""


def split(source: Path, parts: int) -> list[bytes]:
    """A little-endian pcap cut into files of as many packets, each with the header."""
    raw = source.read_bytes()
    at, packets = 24, []
    while at < len(raw):
        size = int.from_bytes(raw[at + 8 : at + 12], "little")
        packets.append(raw[at : at + 16 + size])
        at += 16 + size
    each = -(-len(packets) // parts)
    return [raw[:24] + b"".join(packets[k : k + each]) for k in range(0, len(packets), each)]


def lay_out(place: Path) -> None:
    """A spool with captures, one twice and one that is none."""
    spool = place / "spool"
    spool.mkdir(parents=True)
    pieces = split(SAMPLE, PIECES)
    for k, piece in enumerate([*pieces, pieces[0], b"no capture at all\n"]):
        file = spool / f"{k}.pcap"
        file.write_bytes(piece)
        os.utime(file, (BEGIN + k, BEGIN + k))
    text = INVENTORY.read_text(encoding="utf-8")
    # Without one cell there is a stranger: findings whose story can be followed.
    (place / "who.yml").write_text(
        "".join(line for line in text.splitlines(keepends=True) if "diego_cell/0" not in line)
    )
    (place / "run.toml").write_text(CONFIG)


def clock() -> int:
    """The time, wherever the machine's clock stands."""
    return 1_795_400_000_000_000_000 + time.monotonic_ns()


def one(place: Path, later_ns: int = 0) -> Any:
    """One pass, in this process, so much later. Whoever is told gets a line in ``told``."""
    from auditor.jobs.config import load_config
    from auditor.jobs.digest import NotToldError
    from auditor.jobs.log import Log
    from auditor.jobs.scheduled_run import one_pass
    from auditor.store import history

    # As in a store of many audits: pieces are joined in these few passes, too.
    history.JOIN_AT = history.JOINED = 2

    def tell(_section: Any, digest: dict[str, Any]) -> None:
        if (place / "down").exists():
            raise NotToldError("notify team: it is down")
        with (place / "told").open("a") as out:
            marks = [f"{each['change']} {each.get('fingerprint') or each['title']}" for each in digest["changes"]]
            out.write(json.dumps([digest["key"], marks]) + "\n")
            out.flush()
            os.fsync(out.fileno())
        handle = os.open(place, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    log = Log(write=lambda _line: None)
    return one_pass(load_config(place / "run.toml"), log, lambda: clock() + later_ns, tell=tell)


def state(place: Path) -> dict[str, Any]:
    """What the store says, without anything that may differ from pass to pass (ids of audits, times)."""
    from auditor.jobs import keep
    from auditor.store.history import open_history

    found: dict[str, Any] = {}
    with open_history(place / "history") as history:
        rows = history.rows()
        packets: dict[str, int] = {}
        news: list[str] = []
        for row in rows:
            audit = keep.restore(history, row)
            for name, sent, got in zip(
                *(audit.connections[column].tolist() for column in ("id", "originator_packets", "responder_packets")),
                strict=True,
            ):
                packets[name] = packets.get(name, 0) + sent + got
            news += audit.findings.loc[audit.findings["status"] == "new", "fingerprint"].tolist()
        found["packets"] = packets
        found["new"] = sorted(news)
        found["frames"] = sum(row.counts["packets"] for row in rows)
        found["taken"] = sorted(
            content for (content,) in history.sql.execute("SELECT content FROM taken WHERE audit IS NOT NULL")
        )
        found["aside"] = [says for (says,) in history.sql.execute("SELECT aside FROM taken WHERE aside IS NOT NULL")]
        found["errands"] = history.sql.execute("SELECT kind, what, says FROM errands").fetchall()
        found["facts"] = sorted(history.known())
        named = {file for (file,) in history.sql.execute("SELECT file FROM pieces UNION SELECT file FROM trash")}
        found["strays"] = sorted({each.name for each in (place / "history" / "pieces").iterdir()} - named)
        found["reports"] = [(place / "reports" / f"{row.audit}.json").is_file() for row in rows]
        (fine,) = history.sql.execute("PRAGMA integrity_check").fetchone()
        found["integrity"] = fine
    for name in ("spool", "done", "aside"):
        folder = place / name
        found[f"in {name}"] = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else None
    keys: dict[str, set[str]] = {}
    for line in (place / "told").read_text().splitlines() if (place / "told").exists() else ():
        key, marks = json.loads(line)
        for mark in marks:
            keys.setdefault(mark, set()).add(key)
    found["told"] = sorted(keys)
    found["told twice"] = sorted(mark for mark, some in keys.items() if len(some) > 1)
    return found


def wrong(found: dict[str, Any], expected: dict[str, Any], told: bool = True) -> list[str]:
    """What is not as after a pass that nobody disturbed."""
    bad = [key for key in expected if found[key] != expected[key] and (key != "told" or told)]
    return [f"{key}: {found[key]!r} instead of {expected[key]!r}"[:600] for key in bad]


class Forker:
    """Runs passes in children."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        reference = folder / "reference"
        lay_out(reference)
        began = time.monotonic()
        one(reference)  # compiled, imported
        shutil.rmtree(reference)
        lay_out(reference)
        began = time.monotonic()
        assert self._child(lambda: one(reference)) == 0
        self.seconds = time.monotonic() - began
        self.expected = state(reference)

    def _child(self, work: Any, kill_after: float | None = None) -> int:
        """The exit status of a child that does this; -9 where it was killed."""
        child = os.fork()
        if child == 0:
            status = 70
            try:
                work()
                status = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def finish(self, place: Path, told: bool = True) -> list[str]:
        """The next pass, and what is wrong after it."""
        status = self._child(
            lambda: one(place, 7_200 * 10**9)
        )  # errands that failed wait a while before they are tried again
        if status:
            return [f"the next pass ended with {status}"]
        return wrong(state(place), self.expected, told)

    def killed(self, trial: int, rng: random.Random) -> tuple[list[str], list[str]]:
        """Passes killed at random moments, then one that is left alone: how far each of them was, and what is wrong then."""
        place = self.folder / f"trial-{trial}"
        lay_out(place)
        kills = [
            _how_far(place)
            for _ in range(rng.choice((1, 1, 2, 3)))
            if self._child(lambda: one(place), rng.uniform(0.0, self.seconds * 1.05)) == -signal.SIGKILL
        ]
        bad = self.finish(place)
        if not bad:
            shutil.rmtree(place)
        return kills, bad


def _how_far(place: Path) -> str:
    """What of a pass was true when it was killed: audits in the store, and errands that were still to be done."""
    file = place / "history" / "catalogue.sqlite"
    if not file.is_file():
        return "nothing"
    catalogue = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        [audits] = catalogue.execute("SELECT count(*) FROM audits").fetchone()
        [errands] = catalogue.execute("SELECT count(*) FROM errands").fetchone()
    except sqlite3.OperationalError:  # no table yet
        return "nothing"
    finally:
        catalogue.close()
    return f"{audits} audits, {'errands' if errands else 'no errand'} left"


def killed(folder: str, trials: str, seed: str) -> dict[str, Any]:
    """Passes killed at random moments."""
    forker = Forker(Path(folder))
    rng = random.Random(int(seed))
    kills: list[str] = []
    bad = []
    for trial in range(int(trials)):
        found, wrongs = forker.killed(trial, rng)
        kills += found
        bad += [f"trial {trial}: {each}" for each in wrongs]
    return {
        "trials": int(trials),
        "kills": len(kills),
        "at": dict(sorted(Counter(kills).items())),
        "wrong": bad,
        "seconds": forker.seconds,
        "expected": len(forker.expected["packets"]),
    }


def power_cut(folder: str, every: str) -> dict[str, Any]:
    """The disk as it would be had the power gone at a sync (at each ``every``-th), and the next pass on it."""
    from tests.jobs.recording import cuts, record

    base = Path(folder)
    forker = Forker(base)
    lay_out(base / "live")
    shutil.copytree(base / "live", base / "before")
    record([sys.executable, "-m", "tests.jobs.crashing", "one", str(base / "live")], base / "calls", base / "live")
    bad, seen, tried = [], 0, 0
    disks = set()
    bad += [f"undisturbed: {each}" for each in wrong(state(base / "live"), forker.expected)]
    place = (base / "live").rename(base / "recorded").with_name("live")  # errands name files by their whole path
    for number, model in cuts(base / "calls", base / "before", place):
        seen = number
        if number % int(every):
            continue
        for only_synced in (False, True):
            # What is on the disk, and who was told before: the same twice is tried once.
            disk = model.digest(only_synced)
            if disk in disks:
                continue
            disks.add(disk)
            model.write(place, only_synced)
            for k in range(PIECES + 2):
                if (place / "spool" / f"{k}.pcap").exists():
                    os.utime(place / "spool" / f"{k}.pcap", (BEGIN + k, BEGIN + k))
            tried += 1
            # Who was told before the power went may have been told by a digest that nobody remembers: the key is the same then.
            found = forker.finish(place)
            bad += [f"sync {number}, {'only synced' if only_synced else 'all written'}: {each}" for each in found]
            shutil.rmtree(place)
    return {"syncs": seen, "tried": tried, "wrong": bad}


def full_disk(folder: str, sizes: str) -> dict[str, Any]:
    """On a disk of so many KiB (a tmpfs: run this under ``unshare -Urm``), then on one that is large enough."""
    base = Path(folder)
    forker = Forker(base)
    bad, failed = [], 0
    for size in map(int, sizes.split(",")):
        place = base / f"disk-{size}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)], check=True)
        try:
            inner = place / "x"
            lay_out(inner)
            failed += forker._child(lambda where=inner: one(where)) != 0
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            bad += [f"{size} KiB: {each}" for each in forker.finish(inner)]
        finally:
            subprocess.run(["umount", str(place)], check=True)
    return {"failed": failed, "wrong": bad}


NEXT_DAY_NS = 26 * 3_600 * 10**9
"""Every piece is looked at again then."""
DAMAGES = ("flip", "flip", "truncate", "zero", "empty", "swap", "missing")


def spoil(rng: random.Random, how: str, file: Path, others: list[Path]) -> bool:
    """Damage a file; whether it is another one now."""
    raw = file.read_bytes()
    other = rng.choice(others) if others else file
    at = rng.randrange(len(raw)) if raw else 0
    if how == "flip" and raw:
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :])
    elif how == "truncate":
        file.write_bytes(raw[:at])
    elif how == "zero":
        file.write_bytes(raw[:at] + bytes(min(512, len(raw) - at)) + raw[at + 512 :])
    elif how == "swap":
        file.write_bytes(other.read_bytes())
        other.write_bytes(raw)
    elif how == "missing":
        file.unlink()
        return True
    elif how == "empty":
        file.write_bytes(b"")
    return file.read_bytes() != raw


def whole_story(place: Path) -> dict[str, Any]:
    """Everything that a store says; of what it says is lost, that."""
    from auditor.errors import ConfigError
    from auditor.jobs import keep
    from auditor.store.history import open_history

    found: dict[str, Any] = {"lost": []}
    with open_history(place / "history") as history:
        for row in history.rows():
            for name in keep.COLUMNS:
                try:
                    table = history.table(name, row.audit)
                    found[f"{name} {row.audit}"] = None if table is None else table.drop_columns(["audit"]).to_pylist()
                except ConfigError as error:
                    assert "lost" in str(error), error
                    found["lost"].append(f"{name} {row.audit}")
            found[f"deciders {row.audit}"] = [each.sha256 for each in history.deciders(row.audit)]
            found[f"body {row.audit}"] = history.body(row.audit)["summary"]
        found["facts"] = sorted(
            history.sql.execute("SELECT fingerprint, first_audit, last_audit, gone_audit IS NULL FROM facts")
        )
        found["taken"] = sorted(history.sql.execute("SELECT content, audit, aside FROM taken"), key=str)
        found["errands"] = history.sql.execute("SELECT kind, what FROM errands").fetchall()
    lines = (place / "told").read_text().splitlines()
    marks = Counter(mark for line in lines for mark in json.loads(line)[1])
    found["told"] = sorted(mark for mark in marks if not mark.startswith("store "))
    found["told twice"] = sorted(mark for mark, count in marks.items() if count > 1)
    found["store"] = sorted(mark for mark in marks if mark.startswith("store "))
    return found


def damaged(folder: str, trials: str, seed: str) -> dict[str, Any]:
    """A store that is damaged somewhere, asked by its readers, then the next pass on it: what is lost is said, and nothing is told twice."""
    base, rng = Path(folder), random.Random(int(seed))
    forker = Forker(base)
    place, before = base / "live", base / "before"
    lay_out(place)
    late = [(place / "spool" / f"{k}.pcap", (place / "spool" / f"{k}.pcap").read_bytes()) for k in (3, 4)]
    for file, _ in late:
        file.unlink()
    assert forker._child(lambda: one(place)) == 0
    (place / "down").touch()
    late[0][0].write_bytes(late[0][1])
    assert forker._child(lambda: one(place, 3_600 * 10**9)) == 0  # somebody could not be told
    (place / "down").unlink()
    late[1][0].write_bytes(late[1][1])
    place.rename(before)
    shutil.copytree(before, place)
    assert forker._child(lambda: one(place, NEXT_DAY_NS)) == 0
    expected = whole_story(place)
    names = sorted(
        str(each.relative_to(before))
        for each in (before / "history").rglob("*")
        if each.is_file() and each.name != "run.lock"
    )
    bad, done = [], Counter()
    for trial in range(int(trials)):
        name, how = names[trial % len(names)], rng.choice(DAMAGES)
        shutil.rmtree(place)
        shutil.copytree(before, place)
        others = [place / each for each in names if each != name and Path(each).parent == Path(name).parent]
        if not spoil(rng, how, place / name, others):
            continue
        done[how] += 1
        said = f"trial {trial}: {how} {name}"
        bad += [f"{said}: {each}" for each in (*_asked(place), *_wrong_after(forker, place, expected, name))]
    return {"trials": sum(done.values()), "how": dict(sorted(done.items())), "files": len(names), "wrong": bad}


def _asked(place: Path) -> list[str]:
    """Readers of a damaged store answer or say in one line why not."""
    import contextlib
    import io

    from auditor.cli import main

    bad = []
    store = ["--store", str(place / "history")]
    for words in (["list"], ["show"], ["diff"], ["query", "SELECT count(*) FROM connections"], ["check"]):
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["history", *words, *store])
        err.seek(0)
        text = err.read()
        if "internal error" in text or "Traceback" in text or status not in (0, 2, 3):
            bad.append(f"history {words[0]}: {status} {text[-300:]}")
    return bad


def _wrong_after(forker: Forker, place: Path, expected: dict[str, Any], name: str) -> list[str]:
    """What is lost silently or told twice after the next pass."""
    status = forker._child(lambda: one(place, NEXT_DAY_NS))
    if status:
        return [f"the next pass ended with {status}"]
    found = whole_story(place)
    mine = [mark for mark in found["store"] if Path(name).name in mark]
    bad = [] if mine or name == "history/state" else ["it was not told"]
    for key, value in expected.items():
        if key in ("store", "lost"):
            continue
        if key in ("told", "taken") and any("what waited to be told" in mark for mark in found["store"]):
            continue  # the catalogue and its state were damaged both: that is said
        if name.startswith("history/carry/") and (key in ("facts", "told") or key.endswith(" 4")):
            continue  # connections that were open begin midstream in the last audit: that is said
        if key not in found and key in found["lost"]:
            if not any(key.split()[0] in mark for mark in found["store"]):
                bad.append(f"{key} was lost and not told")
        elif found.get(key) != value:
            bad.append(f"{key}: {found.get(key)!r} instead of {value!r}"[:400])
    return bad


def run_program(*words: str, timeout: float = 900, under: tuple[str, ...] = ()) -> dict[str, Any]:
    """This module as a program (``under`` another one); what it says."""
    done = subprocess.run(
        [*under, sys.executable, "-m", "tests.jobs.crashing", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def one_here(folder: str) -> dict[str, Any]:
    """A pass, in this process."""
    return {"audits": one(Path(folder)).audits}


PROGRAMS = {"damaged": damaged, "killed": killed, "power": power_cut, "disk": full_disk, "one": one_here}

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]](*sys.argv[2:])))
