"""A real browser for tests of pages: headless Chromium, driven by selenium, that says at the end what it complained of."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PATIENCE_S = 60.0
"""A condition that does not hold by then never will."""

CONTRAST = """
const lum = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgba = css => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] / 255 + under[i] * (1 - top[3] / 255));
const ground = node => { const stack = []; for (let at = node; at instanceof Element; at = at.parentElement) stack.push(rgba(getComputedStyle(at).backgroundColor));
  return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || seen.has(node) || !node.checkVisibility()) continue;
  seen.add(node);
  const style = getComputedStyle(node), under = ground(node);
  const ink = node instanceof SVGElement ? style.fill : style.color;
  const a = lum(over(rgba(ink), under)), b = lum(under);
  found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), walker.currentNode.data.trim().slice(0, 60), node.className.baseVal ?? node.className]);
}
return found.sort((a, b) => a[0] - b[0]);
"""
"""[contrast (WCAG 2.2, 1.4.3), text, class] of every text that is shown, the worst first."""


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def command(self, name: str, **given: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, given)

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """How wide the window is, which colours its reader wants, whether scripts run."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        wish = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", media="", features=wish)
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)

    def open(self, place: Path | str, fragment: str = "") -> None:
        """The page from its beginning, with nothing left of one before; waits until its script is ready."""
        self.driver.get("about:blank")
        self.complaints()
        self.driver.get((place.as_uri() if isinstance(place, Path) else place) + fragment)

    def wait(self, what: Callable[[], Any], says: str) -> Any:
        """What ``what`` gives, once it is true."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = what()
            if found:
                return found
            assert time.monotonic() < end, f"waited in vain for: {says}"
            time.sleep(0.02)

    def ready(self) -> None:
        self.wait(lambda: self.run("return document.documentElement.dataset.ready"), "the page's script")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What stands in an element, hidden or not."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def complaints(self) -> list[str]:
        """What the console holds since it was asked last: errors, refusals of the Content-Security-Policy."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])

    def paper(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.command("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])


@contextmanager
def started(chromium: tuple[str, str], folder: Path, *, patient: bool = True) -> Iterator[Browser]:
    """A browser with a profile of its own in ``folder``, gone at the end; not ``patient``: opening a page does not wait until it is read."""
    options = Options()
    options.page_load_strategy = "normal" if patient else "none"
    options.binary_location = chromium[0]
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests run as root in containers, and load nothing but their own pages
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromium[1]))
    driver.set_page_load_timeout(120)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
