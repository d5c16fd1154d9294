"""Living clusters as a report tells of them, over their versions."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from chromium import address, browser, complaints, missing, requests
from harness.lineages import commit
from harness.report_examples import draw, example
from harness.report_pages import text, wait
from PIL import Image

from ccscale.clusters.lineage import open_lineage, version_folder
from ccscale.clusters.version import PICTURES, Event, Proposed
from ccscale.report import timeline as module
from ccscale.report.report import build
from ccscale.report.timeline import timeline

COUNTS = {"images": 8, "assigned": 8, "unassigned": 0, "bad": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three versions: founded, an update with an alarm and a proposal, and a birth."""
    run = tmp_path_factory.mktemp("living") / "run"
    commit(
        run,
        "init",
        [[0, 1, 2, 3, 0, 1, 2, 3]],
        counts=COUNTS,
        events=(Event(kind="founded", ids=(0, 1, 2, 3), images=8),),
    )
    proposal = Proposed(
        id="p1",
        kind="birth",
        images=3,
        since=2,
        sentence="3 images hang together.",
        facts={"stability": 0.91234567},
        picture="p1.png",
        drawn=2,
    )
    found = commit(
        run,
        "update",
        [[0, -1, -1, -1]],
        counts=COUNTS | {"images": 12, "assigned": 9, "unassigned": 3},
        proposals=(proposal,),
    )
    pictures = version_folder(run / "clusters", found.number) / PICTURES
    pictures.mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(pictures / "p1.png")
    commit(
        run,
        "accept",
        changed=3,
        counts=COUNTS | {"images": 12, "assigned": 12},
        events=(Event(kind="born", ids=(4,), images=3, proposal="p1"),),
    )
    return run


def test_versions_sizes_shards_and_proposals(run, monkeypatch):
    told, blocks = timeline(open_lineage(run))
    assert [(one["number"], one["why"], one["images"], one["new"]) for one in told["versions"]] == [
        (1, "init", 8, 8),
        (2, "update", 12, 4),
        (3, "accept", 12, 0),
    ]
    assert told["versions"][2]["events"][0]["ids"] == [4]
    assert [(one["version"], one["images"], one["unassigned"]) for one in told["shards"]] == [(2, 4, 3)]
    assert all(len(sizes) == 3 for sizes in told["sizes"].values())
    assert told["newest"] == {"unassigned": [], "assigned": []}  # the shards are not there
    assert told["proposals"][0]["facts"] == {"stability": 0.9123}
    ((name, picture),) = blocks
    assert name == "proposal-p1"
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    monkeypatch.setattr(module, "VERSIONS", 2)
    monkeypatch.setattr(module, "SHEETS", 10)
    told, blocks = timeline(open_lineage(run))
    assert (told["left_out"], len(told["versions"]), blocks) == (1, 2, [])


@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_the_page(run, tmp_path):
    pytest.importorskip("selenium")
    page = tmp_path / "report.html"
    page.write_bytes(build(replace(example(), lineage=open_lineage(run)), None, draw))
    with browser(390) as driver:
        driver.get(address(page))
        assert "Version 3" in text(driver, "#timeline-lead")
        assert "4 born" in text(driver, ".happened")
        driver.execute_script("document.querySelector('.proposal').scrollIntoView()")
        assert wait(driver, "return document.querySelector('.proposal img')?.naturalWidth") == 30
        assert "ccscale lineage accept" in text(driver, ".proposal")
        beside = "return document.querySelector('#timeline-body > div:last-child caption')?.textContent"
        assert wait(driver, beside) == "Version 1 beside version 3, in images"
        driver.find_element("css selector", "#timeline-body select").send_keys("2")
        assert wait(driver, beside) == "Version 2 beside version 3, in images"
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert complaints(driver) == []
        assert requests(driver) == [address(page)]
