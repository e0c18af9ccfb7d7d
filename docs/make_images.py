"""Takes the pictures in docs/images/ of the report that the README walks through: ``python -m docs.make_images`` (needs Chromium and its driver)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import auditor
from tests.browser import started

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """The sample's report: its head, who talked to whom, and connections of one rule with one of them open, in dark colours."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise SystemExit("chromium and chromedriver are needed")
    report = auditor.audit("sample:lab", ca=[str(ROOT / "captures" / "sample" / "lab.ca.pem")])
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "lab.html"
        page.write_text(report.to_html(), encoding="utf-8")
        with started((chromium, driver), Path(name) / "profile") as browser:
            browser.look(width=1240, height=860)
            browser.open(page)
            browser.ready()
            (IMAGES / "report-summary.png").write_bytes(browser.screenshot())
            browser.look(width=1240, height=760)
            browser.open(page, "#map")
            browser.ready()
            browser.run("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
            (IMAGES / "report-map.png").write_bytes(browser.screenshot())
            browser.look(width=1240, height=760, dark=True)
            one = report.connections.loc[report.connections["authentication_verdict"] == "violated", "id"].iloc[0]
            browser.open(page, f"#connection={one}")
            browser.ready()
            browser.wait(lambda: browser.all("#drawer :not(:empty)"), "the connection")
            (IMAGES / "report-connections.png").write_bytes(browser.screenshot())


if __name__ == "__main__":
    main()
