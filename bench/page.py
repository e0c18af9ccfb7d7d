"""How long a large HTML report takes to open in Chromium.

    python bench/page.py                     # 300,000 connections: makes the capture, audits it, opens the page five times (about five minutes)
    python bench/page.py --page audit.html   # a page that is there already
    python bench/page.py --packets 200000    # does it run at all

The capture is the shape ``diego`` of ``generate.py``. Opening is from asking Chromium for the file until its script says that the page can be used and a row of
connections is on the screen; each time in a new browser with an empty profile. Needs chromium, chromedriver and selenium.
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
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]
OUT = HERE / "out"
USABLE = """
const row = document.querySelector('#connections table tbody tr');
return document.documentElement.dataset.ready && row && row.checkVisibility() ? [performance.now(), performance.memory?.usedJSHeapSize ?? 0] : null;
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


def opening(page: Path, chromium: tuple[str, str]) -> tuple[float, float, float, float]:
    """Seconds until the page can be used, by our clock and by the page's own; MiB of its script; seconds of CPU of the process that renders it."""
    from tests.browser import started

    with tempfile.TemporaryDirectory() as folder, started(chromium, Path(folder)) as browser:
        browser.look()
        service = browser.driver.service.process.pid
        before = spent(service).get("renderer", 0.0)
        begin = time.monotonic()
        browser.driver.get(page.resolve().as_uri())
        own, heap = browser.wait(lambda: browser.run(USABLE), "the page")
        took = time.monotonic() - begin
        return took, own / 1_000, heap / (1 << 20), spent(service).get("renderer", 0.0) - before


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
    ours, own = sorted(each[0] for each in times), sorted(each[1] for each in times)
    print(
        f"{version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; page of {page.stat().st_size / (1 << 20):.1f} MiB"
    )
    print(
        f"open in {statistics.median(ours):.2f} s ({ours[0]:.2f} to {ours[-1]:.2f}; by the page's own clock {statistics.median(own):.2f})"
    )
    cpu = sorted(each[3] for each in times)
    print(
        f"of that the renderer needed {statistics.median(cpu):.2f} s of CPU ({cpu[0]:.2f} to {cpu[-1]:.2f}); on a busy machine the rest is waiting"
    )
    print(f"memory of the script: {max(each[2] for each in times):.0f} MiB")


if __name__ == "__main__":
    main()
