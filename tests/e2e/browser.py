"""A real browser without a screen, for pages that come through the gateway."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

#: Seconds; it bounds a failure, a success does not wait for it. Software rendering is slow.
PATIENCE = 60.0


def missing() -> str:
    """Return what of the browser is missing; empty where all is there."""
    wanted = ("chromium", "chromedriver")
    return " and ".join(name for name in wanted if shutil.which(name) is None)


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """Yield a selenium driver of a fresh Chromium that renders WebGL in software."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run"),
        *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", "--window-size=760,480", f"--user-data-dir={profile}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()


def until(true: Callable[[], Any], what: str, driver: Any = None) -> Any:
    """Return the first true value of ``true``, asked again and again."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = true()
        if value:
            return value
        time.sleep(0.1)
    told = [entry["message"][:200] for entry in driver.get_log("browser")[-5:]] if driver else ""
    raise AssertionError(f"waited in vain for {what}; the page said {told}")


def picture(element: Any, name: str) -> Any:
    """Return the pixels of an element; ``VSMGATE_PICTURES`` names a folder to keep them in."""
    octets = element.screenshot_as_png
    if folder := os.environ.get("VSMGATE_PICTURES"):
        (Path(folder) / f"{name}.png").write_bytes(octets)
    return numpy.asarray(Image.open(io.BytesIO(octets)).convert("RGB")).astype(int)


def differing(one: Any, other: Any) -> float:
    """Return the share of the pixels that differ clearly."""
    return float((abs(one - other).max(axis=2) > 40).mean())


def other_picture(element: Any, name: str, last: Any) -> Any:
    """Return the pixels of an element once they differ clearly from ``last``, and stand still."""
    seen = last

    def changed() -> bool:
        nonlocal seen
        before, seen = seen, picture(element, name)
        return differing(last, seen) > 0.002 and differing(before, seen) < 0.0005

    until(changed, f"another picture: {name}")
    return seen
