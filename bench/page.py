"""How long a large HTML report takes to open in Chromium.

    python bench/page.py                     # 300,000 connections: makes the capture, audits it, opens the page five times (about five minutes)
    python bench/page.py --page audit.html   # a page that is there already
    python bench/page.py --packets 200000    # does it run at all

The capture is the shape ``diego`` of ``generate.py``. Three moments by the page's own clock, from asking Chromium for the file: its first rows of connections are on
the screen and its filters have their choices (open); all rows are decoded, so that any filter answers at once (ready); the file is read to its end (read).
Each time in a new browser with an empty profile. Beside them what the renderer needed of the processor until the first and the last of them: on a busy machine the rest is
waiting. Needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]
OUT = HERE / "out"
OPEN = """
const row = document.querySelector('#connections table tbody tr[data-index]'), told = document.documentElement.dataset;
return (told.shown || told.ready) && row && row.checkVisibility() ? Number(told.shown || told.ready) : null;
"""
READ = """
const [told, whole] = [document.documentElement.dataset, performance.getEntriesByType('navigation')[0]];
return told.ready && whole.loadEventEnd ? [Number(told.ready), whole.loadEventEnd, performance.memory?.usedJSHeapSize ?? 0] : null;
"""


def made(packets: int) -> Path:
    """The page of an audit of so many packets; 0: of the whole shape."""
    import foundation

    OUT.mkdir(exist_ok=True)
    capture, inventory, page = OUT / f"page-{packets}.pcap", OUT / "inventory-diego.json", OUT / f"page-{packets}.html"
    inventory.write_text(json.dumps(foundation.inventory()), encoding="utf-8")
    if not capture.exists():
        more = ["--packets", str(packets)] if packets else []
        subprocess.run(
            [sys.executable, HERE / "generate.py", "--shape", "diego", "--out", capture, *more], check=True, cwd=ROOT
        )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "auditor", "audit", capture, "--inventory", inventory, "-q"]
    subprocess.run(
        [*command, "--format", "html", "--output", page, "--fail-on", "never", "--allow-incomplete"],
        check=True,
        cwd=ROOT,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"audited and written in {cpu:.1f} s of CPU")
    return page


def spent(parent: int) -> dict[str, float]:
    """Seconds of CPU by kind of process (renderer, gpu-process, ...) of all that this process started."""
    found: dict[str, float] = {}
    rows = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        rows[int(folder.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), command
    inside = {parent}
    while more := {pid for pid, (above, _, _) in rows.items() if above in inside} - inside:
        inside |= more
    for pid in inside & set(rows):
        kind = rows[pid][2].partition("--type=")[2].split(" ")[0] or "browser"
        found[kind] = found.get(kind, 0.0) + rows[pid][1]
    return found


@dataclass(frozen=True)
class Opening:
    """One time: seconds until each moment, seconds of CPU of the renderer, MiB of the script."""

    shown: float
    ready: float
    read: float
    cpu_shown: float
    cpu: float
    heap: float


def opening(page: Path, chromium: tuple[str, str]) -> Opening:
    """Open the page once, in a browser of its own."""
    from tests.browser import started

    with tempfile.TemporaryDirectory() as folder, started(chromium, Path(folder), patient=False) as browser:
        browser.look()
        service = browser.driver.service.process.pid
        before = spent(service).get("renderer", 0.0)
        browser.driver.get(page.resolve().as_uri())
        shown = browser.wait(lambda: browser.run(OPEN), "the first rows")
        cpu_shown = spent(service).get("renderer", 0.0) - before
        ready, read, heap = browser.wait(lambda: browser.run(READ), "the page")
        cpu = spent(service).get("renderer", 0.0) - before
        return Opening(shown / 1_000, ready / 1_000, read / 1_000, cpu_shown, cpu, heap / (1 << 20))


def main() -> None:
    """Make what is missing, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="an HTML report that is there already")
    parser.add_argument("--packets", type=int, default=0, help="of the capture (default: the shape's)")
    parser.add_argument("--opens", type=int, default=5, help="how often the page is opened")
    args = parser.parse_args()
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if not (found[0] and found[1]):
        sys.exit("chromium or chromedriver is missing (Debian: chromium, chromium-driver)")
    chromium = found[0], found[1]
    page = args.page or made(args.packets)
    version = subprocess.run([chromium[0], "--version"], capture_output=True, text=True, check=True).stdout.strip()
    times = [opening(page, chromium) for _ in range(args.opens)]
    size = page.stat().st_size / (1 << 20)
    print(f"{version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; page of {size:.1f} MiB")
    for name, says in (
        ("shown", "open, with the first rows on the screen, after"),
        ("ready", "all rows decoded after"),
        ("read", "read to its end after"),
        ("cpu_shown", "CPU of the renderer when the first rows were seen"),
        ("cpu", "CPU of the renderer in all"),
    ):
        taken = sorted(getattr(each, name) for each in times)
        print(f"{says} {statistics.median(taken):.2f} s ({taken[0]:.2f} to {taken[-1]:.2f})")
    print(f"memory of the script: {max(each.heap for each in times):.0f} MiB")


if __name__ == "__main__":
    main()
