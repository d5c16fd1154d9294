"""Headless Chromium, driven by selenium, with a log of what it says and asks the network for."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def missing() -> str:
    """Say what there is not here, "" if all is there."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"there is no {program} here (Debian: apt-get install chromium chromium-driver)"
    return ""


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Start Chromium with a fresh profile; yield selenium's driver."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
        )
        try:
            driver.get("about:blank")
            complaints(driver), requests(driver)  # those of the browser's own first page
            yield driver
        finally:
            driver.quit()


def address(path: Path) -> str:
    """Return the file's URL."""
    return path.resolve().as_uri()


def complaints(driver: Any) -> list[str]:
    """Return what stands in the console since it was last asked: errors, warnings, refused requests."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """Return the addresses asked for since it was last asked, those of the page's own memory left out."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("blob:", "data:")):
                found.append(url)
    return found
