"""A pytest plugin: reports of made-up runs, and a Chromium that opens them."""

import pytest
from chromium import address, browser, complaints, requests

from ccscale.report.report import build
from harness.report_examples import ADVICE, CLASSES, draw, example

WIDTH, HEIGHT = 1280, 900


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports by name, as files."""
    root = tmp_path_factory.mktemp("reports")
    plain = {"labels": False, "seconds": False, "features": False, "metrics": []}
    pages = {
        "full": build(example(), None, draw),
        "plain": build(example(**plain), None, draw),
        "advised": build(example(evaluation={"how_many": ADVICE}), None, draw),
        "compared": build(example(0), example(1, clusters=50), draw),
        "many": build(example(clusters=150, images=900, classes=CLASSES * 20), None, draw),
    }
    for name, page in pages.items():
        (root / f"{name}.html").write_bytes(page)
    return root


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
        opened.append(address(reports / f"{name}.html"))
        chromium.get(opened[-1])
        assert chromium.execute_script("return document.documentElement.dataset.ready") == "true"
        return chromium

    yield open_report
    assert complaints(chromium) == []
    assert [url for url in requests(chromium) if url != "about:blank"] == opened
