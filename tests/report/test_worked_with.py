"""The report in headless Chromium, worked with: images enlarged and selected, clusters named, found and printed."""

import csv
import io
import json

import pytest
from chromium import missing
from harness.report_examples import example
from harness.report_pages import text, wait

from ccscale.evaluate.cluster_names import ClusterNames

pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[test]'")
if missing():
    pytest.skip(missing(), allow_module_level=True)

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytest_plugins = ["harness.report_browser"]

# What the page would save is kept by the page; nothing is downloaded.
KEEP = """
window.saved = {};
const make = URL.createObjectURL;
HTMLAnchorElement.prototype.click = function () { saved[this.download] = last; };
let last;
URL.createObjectURL = (blob) => ((last = blob.text()), make(blob));
"""
SAVED = "return saved[arguments[0]] ? saved[arguments[0]] : null"
OPEN = "return document.getElementById('viewer').open"


def members(cluster):
    """Keys of a cluster's images, the surest first."""
    table = example().table
    rows = [i for i in range(len(table.keys)) if table.clusters[i] == cluster]
    return [table.keys[i].as_py() for i in sorted(rows, key=lambda i: -table.confidence[i])]


def pick(driver, selector):
    wait(driver, "return document.querySelector(arguments[0])", selector)
    element = driver.find_element(By.CSS_SELECTOR, selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    return element


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_images_are_enlarged_paged_through_and_selected(page, width, scheme):
    driver = page(scheme=scheme, width=width)
    driver.execute_script(KEEP)
    keys = members(2)
    pick(driver, "#cluster-2").find_element(By.CSS_SELECTOR, ".all-images").click()
    wait(
        driver, "return document.querySelectorAll('#cluster-2 .all .pick').length === arguments[0]", len(keys)
    )
    pick(driver, "#cluster-2 .surest .pick").click()
    wait(driver, OPEN)
    viewer = driver.find_element(By.ID, "viewer")
    assert text(driver, "#viewer-key") == keys[0]
    assert text(driver, "#viewer-where") == f"1 of {len(keys)}"
    viewer.send_keys(Keys.ARROW_RIGHT, "s")
    assert text(driver, "#viewer-key") == keys[1]
    assert "=photos/" in text(driver, "#viewer-facts")
    assert wait(driver, "return document.querySelector('#viewer .tile').style.backgroundImage").startswith(
        "url"
    )
    viewer.send_keys(Keys.END)
    assert text(driver, "#viewer-key") == keys[-1]
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    viewer.send_keys(Keys.ESCAPE)
    wait(driver, "return !document.getElementById('viewer').open")
    assert driver.execute_script("return document.activeElement.dataset.key") == keys[0]
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.SPACE)
    assert text(driver, "#selected") == "2 images selected"
    driver.find_element(By.ID, "save-selection").click()
    rows = list(csv.DictReader(io.StringIO(wait(driver, SAVED, "selection.csv"))))
    assert {row["key"] for row in rows} == {keys[1], keys[2]}
    assert all(row["origin"].startswith("'=photos/") and row["cluster"] == "2" for row in rows)


def test_clusters_are_named_found_and_printed(page, tmp_path):
    driver = page()
    driver.execute_script(KEEP)

    def say(cluster, name="", into="", junk=False):
        pick(driver, f"#cluster-{cluster} .name-it").click()
        fields = driver.find_elements(By.CSS_SELECTOR, f"#cluster-{cluster} form input")
        fields[0].send_keys(name)
        fields[1].send_keys(into)
        if junk:
            fields[2].click()
        driver.find_element(By.CSS_SELECTOR, f"#cluster-{cluster} form button").click()

    say(2, "Größere\u202e <b>cats</b>")  # a turn of the direction is left out
    say(5, into="größere <b>CATS</b>")
    say(7, "blurred", junk=True)
    assert text(driver, "#cluster-5 h3") == "Cluster 5 · Größere <b>cats</b>"
    assert "with cluster 5" in text(driver, "#cluster-2 .joined")
    say(2, into="5")  # which is joined to it: refused, and told there
    assert driver.find_elements(By.CSS_SELECTOR, "#cluster-2 form input:invalid")
    driver.find_element(By.CSS_SELECTOR, "#cluster-2 form input").send_keys(Keys.ESCAPE)
    assert text(driver, "#unsaved") == "Names of 3 clusters, not saved"
    driver.find_element(By.ID, "save-names").click()
    (tmp_path / "names.json").write_text(wait(driver, SAVED, "names.json"), encoding="utf-8")
    names = ClusterNames.load(tmp_path)
    assert names.as_json() == {
        "2": {"name": "Größere <b>cats</b>"},
        "5": {"into": 2},
        "7": {"name": "blurred", "junk": True},
    }
    assert driver.execute_script("return document.getElementById('bar').hidden")

    search = driver.find_element(By.ID, "search")
    search.send_keys("CATS GRA")
    assert "No cluster fits" in text(driver, "#list")
    search.clear()
    search.send_keys("CATS GRO")
    shown = "return [...document.querySelectorAll('#list > article')].map((one) => one.id)"
    assert driver.execute_script(shown) == ["cluster-2", "cluster-5"]
    search.clear()
    search.send_keys("long rath")
    assert "a rather long name of a class" in text(driver, "#classes-found")

    driver.execute_script("window.print = () => dispatchEvent(new Event('beforeprint'))")
    pick(driver, "#list article .actions button:last-child").click()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = "return [...document.querySelectorAll('section, article')].filter((one) => one.checkVisibility()).length"
    assert driver.execute_script(seen) == 2
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.execute_script(seen) > 10


def test_figures_explain_themselves(page):
    driver = page()
    buttons = driver.find_elements(By.CSS_SELECTOR, "#figures .why")
    assert len(buttons) == len(driver.find_elements(By.CSS_SELECTOR, "#figures .figures dt"))
    driver.execute_script("arguments[0].focus()", buttons[0])
    assert text(driver, "#why").startswith("ACCClustering accuracy: ")
    described = buttons[0].get_attribute("aria-describedby")
    assert "one-to-one" in text(driver, f"#{described}")
    buttons[0].send_keys(Keys.ESCAPE)
    assert driver.execute_script("return document.getElementById('why').hidden")
    data = json.loads(text(driver, "#data"))
    assert data["names"]["format"] == "ccscale-names"
