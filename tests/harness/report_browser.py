"""A pytest plugin: reports of made-up runs, and a Chromium that opens them."""

from functools import cache

import pytest
from chromium import address, browser, complaints, requests

from ccscale.report.report import build
from harness.report_examples import ADVICE, CLASSES, draw, example

WIDTH, HEIGHT = 1280, 900


PLAIN = {"labels": False, "seconds": False, "features": False, "metrics": []}
EXAMPLES = {
    "full": lambda: (example(), None),
    "plain": lambda: (example(**PLAIN), None),
    "advised": lambda: (example(evaluation={"how_many": ADVICE}), None),
    "compared": lambda: (example(0), example(1, clusters=50)),
    "many": lambda: (example(clusters=150, images=900, classes=CLASSES * 20), None),
}


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """Reports by name, as files; each is made when it is first asked for."""
    root = tmp_path_factory.mktemp("reports")

    @cache
    def path(name):
        found = root / f"{name}.html"
        found.write_bytes(build(*EXAMPLES[name](), draw))
        return found

    return path


@pytest.fixture(scope="module")
def chromium():
    with browser(WIDTH, HEIGHT) as driver:
        yield driver


@pytest.fixture
def page(chromium, reports):
    """Open a report by name; what it says and asks the network for is checked at the end."""
    opened = []

    def open_report(name="full", scheme="light", width=WIDTH):
        size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        chromium.get("about:blank")
        opened.append(address(reports(name)))
        chromium.get(opened[-1])
        assert chromium.execute_script("return document.documentElement.dataset.ready") == "true"
        return chromium

    yield open_report
    assert complaints(chromium) == []
    assert [url for url in requests(chromium) if url != "about:blank"] == opened
