"""The report in headless Chromium: it loads without a complaint, asks the network for nothing, and can be used."""

import io
import json
import re
import time

import numpy as np
import pytest
from chromium import missing
from harness.report_examples import CLASSES, HOSTILE, draw, example
from harness.report_pages import open_map, text, wait
from PIL import Image

from ccscale.report.report import build

pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[test]'")
if missing():
    pytest.skip(missing(), allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

pytest_plugins = ["harness.report_browser"]


def clusters_shown(driver):
    script = "return [...document.querySelectorAll('#list > article')].map((one) => Number(one.id.slice(8)))"
    return driver.execute_script(script)


@pytest.mark.parametrize("name", ["full", "plain", "compared", pytest.param("many", marks=pytest.mark.slow)])
def test_all_of_it_can_be_read(page, name):
    driver = page(name)
    height = driver.execute_script("return document.documentElement.scrollHeight")
    for top in range(0, min(height, 12_000), 700):
        driver.execute_script("scrollTo(0, arguments[0])", top)
        time.sleep(0.02)
    for details in driver.find_elements(By.TAG_NAME, "details"):
        driver.execute_script("arguments[0].open = true", details)
    tables = "return [...document.querySelectorAll('details')].every((one) => one.querySelector('tbody tr'))"
    assert wait(driver, tables)
    shown = [
        bool(driver.find_elements(By.CSS_SELECTOR, f"#{part}:not([hidden])"))
        for part in ("map", "confusion", "sure", "compare")
    ]
    assert shown == [name != "plain"] * 3 + [name == "compared"]


def test_names_of_classes_and_keys_are_only_text(page):
    driver = page()
    assert driver.title == "runs/example0 – ccscale report"
    assert driver.execute_script("return document.querySelectorAll('img').length") == 0
    heads = [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, "#confusion thead th")]
    assert heads == list(CLASSES)
    assert f"“{HOSTILE}”" in text(driver, "#list")


def test_figures(page):
    driver = page()
    one = example()
    shown = dict(
        zip(
            (cell.text for cell in driver.find_elements(By.CSS_SELECTOR, ".figures dt")),
            (cell.text for cell in driver.find_elements(By.CSS_SELECTOR, ".figures dd")),
            strict=True,
        )
    )
    assert shown["images"] == "399"
    assert shown["images that cannot be decoded"] == "1"
    assert shown["of 12 clusters have images"] == "11"
    assert shown["mean confidence"] == f"{one.table.confidence[1:].mean():.3f}"
    assert {"ACC", "NMI", "ARI", "F"} <= shown.keys()


def test_how_sure(page):
    driver = page()
    trust = example().evaluation["trust"]
    assert f"off by {trust['ece']:.3f}" in text(driver, "#sure-lead")
    plot = driver.find_element(By.CSS_SELECTOR, "#sure .plot")
    driver.execute_script("arguments[0].focus()", plot)
    plot.send_keys(Keys.END)
    assert text(driver, "#sure .readout") == f"answered 100%: right {trust['accuracy'][0]:.3f}"


def test_confusion_matrix(page):
    driver = page()
    table = example().table
    known = (table.clusters >= 0) & (table.labels >= 0)
    rows = driver.find_elements(By.CSS_SELECTOR, "#confusion .heat tbody tr")
    assert len(rows) == 11
    for row in rows:
        cluster = int(row.find_element(By.TAG_NAME, "th").text.removeprefix("Cluster "))
        counts = [int(cell.text or 0) for cell in row.find_elements(By.TAG_NAME, "td")]
        inside = table.labels[known & (table.clusters == cluster)]
        assert counts == np.bincount(inside, minlength=3).tolist()


def test_search_filter_and_sort(page):
    driver = page()
    table = example().table
    sizes = np.bincount(table.clusters[1:], minlength=12)
    assert clusters_shown(driver) == list(range(12))
    Select(driver.find_element(By.ID, "sort")).select_by_value("large")
    assert clusters_shown(driver) == sorted(range(12), key=lambda cluster: -sizes[cluster])
    Select(driver.find_element(By.ID, "show")).select_by_value("empty")
    assert clusters_shown(driver) == [11]
    Select(driver.find_element(By.ID, "show")).select_by_value("used")
    search = driver.find_element(By.ID, "search")
    search.send_keys("rather LONG")
    majority = [
        np.bincount(table.labels[(table.clusters == c) & (table.labels >= 0)], minlength=3) for c in range(11)
    ]
    assert sorted(clusters_shown(driver)) == [c for c in range(11) if 2 in np.flatnonzero(majority[c])]
    assert text(driver, "#found").endswith(" of 12 clusters")
    search.clear()
    search.send_keys("7")
    assert clusters_shown(driver) == [7]
    search.clear()
    search.send_keys("no such thing")
    assert clusters_shown(driver) == []
    assert "No cluster fits" in text(driver, "#list")


def test_many_clusters_are_built_as_they_are_needed(page):
    driver = page("many")
    assert len(clusters_shown(driver)) < 150
    driver.execute_script("location.hash = ''; document.querySelector('#sizes').scrollIntoView()")
    plot = driver.find_element(By.CSS_SELECTOR, "#sizes .plot")
    plot.send_keys(Keys.END, Keys.ENTER)  # the smallest: it is empty and the last
    assert driver.execute_script("return document.activeElement.textContent") == "Cluster 149"
    assert len(clusters_shown(driver)) == 150
    assert driver.execute_script("return location.hash") == "#cluster-149"


def test_near_clusters_are_links(page):
    driver = page()
    Select(driver.find_element(By.ID, "show")).select_by_value("used")
    driver.find_element(By.ID, "search").send_keys("3")
    link = driver.find_element(By.CSS_SELECTOR, "#cluster-3 .near a")
    target = link.text
    link.send_keys(Keys.ENTER)  # the target is not among what is shown
    assert driver.execute_script("return document.activeElement.textContent") == f"Cluster {target}"
    assert len(clusters_shown(driver)) == 12


def picture_of(driver, element):
    """Return the middle pixel of what an element shows."""
    wait(driver, "return arguments[0].style.backgroundImage", element)
    time.sleep(0.1)
    with Image.open(io.BytesIO(element.screenshot_as_png)) as image:
        return image.convert("RGB").getpixel((image.width // 2, image.height // 2))


def test_pictures_are_those_of_their_images(page):
    driver = page()
    driver.execute_script("document.getElementById('cluster-2').scrollIntoView()")
    wait(driver, "return document.querySelector('#cluster-2 .tiles li')")
    items = driver.find_elements(By.CSS_SELECTOR, "#cluster-2 .tiles li")
    assert len(items) == 24
    for item in (items[0], items[9], items[23]):  # in both groups, in the first and the last row of the sheet
        about = item.get_attribute("title")
        number = int(re.match(r"key-(\d+), confidence 0\.\d+", about)[1])
        tile = item.find_element(By.CSS_SELECTOR, "[role=img]")
        assert tile.get_attribute("aria-label") == about
        assert picture_of(driver, tile)[0] == pytest.approx(number % 256, abs=6)  # WebP is not exact


def find_a_point(driver, canvas):
    """Move the pointer over the map until there is a point below it."""
    size = canvas.size
    for y in range(-size["height"] // 2 + 20, size["height"] // 2 - 20, 12):
        for x in range(-size["height"] // 2 + 20, size["height"] // 2 - 20, 60):
            ActionChains(driver, duration=0).move_to_element_with_offset(canvas, x, y).perform()
            if driver.execute_script("return !document.getElementById('tip').hidden"):
                return
    raise AssertionError("there are no points on the map")


def test_the_map_shows_what_is_below_the_pointer(page):
    driver = page()
    canvas = open_map(driver)
    assert (
        canvas.get_attribute("data-drawn") == "199"
    )  # every second image, but for the one without a cluster
    find_a_point(driver, canvas)
    lines = driver.find_element(By.ID, "tip").text.splitlines()
    table = example().table
    row = table.keys.to_pylist().index(lines[0])
    assert (
        lines[1]
        == f"cluster {table.clusters[row]}, confidence {round(table.confidence[row] * 255) / 255:.2f}"
    )
    label = table.labels[row]
    assert lines[2] == ("no label" if label < 0 else f"label {CLASSES[label]}")
    tile = driver.find_element(By.CSS_SELECTOR, "#tip .tile")
    assert picture_of(driver, tile)[0] == pytest.approx(row % 256, abs=6)
    ActionChains(driver).move_to_element(driver.find_element(By.ID, "map-title")).perform()
    assert driver.execute_script("return document.getElementById('tip').hidden")


def test_the_map_by_keys(page):
    driver = page()
    canvas = open_map(driver)
    driver.find_element(By.CSS_SELECTOR, "#map label:nth-of-type(3) input").send_keys("key-0010", Keys.ENTER)
    assert "key-0010" in wait(driver, "return document.getElementById('said').textContent")
    driver.execute_script("document.getElementById('said').textContent = ''")
    canvas.send_keys(
        Keys.ARROW_LEFT, Keys.ARROW_RIGHT
    )  # the cross is where the image found is, in the middle
    spoken = wait(driver, "return document.getElementById('said').textContent")
    assert spoken.startswith(driver.find_element(By.ID, "tip").text.splitlines()[0] + ", cluster ")
    cluster = re.search(r"cluster (\d+)", driver.find_element(By.ID, "tip").text)[1]
    canvas.send_keys(Keys.ENTER)
    assert driver.execute_script("return document.activeElement.textContent") == f"Cluster {cluster}"


def test_a_cluster_on_the_map(page):
    driver = page()
    open_map(driver)
    before = driver.find_element(By.CSS_SELECTOR, ".map canvas").screenshot_as_base64
    button = driver.find_element(By.CSS_SELECTOR, "#cluster-5 header button")
    assert button.text.splitlines()[0] == "Show on the map"
    driver.execute_script("arguments[0].click()", button)
    time.sleep(0.2)
    assert driver.execute_script("return document.activeElement.tagName") == "CANVAS"
    assert driver.find_element(By.CSS_SELECTOR, ".map canvas").screenshot_as_base64 != before


def test_a_chart_by_keys(page):
    driver = page()
    plot = driver.find_element(By.CSS_SELECTOR, "#panels .plot")
    plot.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    assert plot.get_attribute("aria-valuetext") == "step 2: total 4.00 · instance 2.50 · cluster 1.50"
    assert text(driver, "#panels .readout") == plot.get_attribute("aria-valuetext")
    assert plot.get_attribute("aria-label").startswith("Losses: total from 8.00 to 0.400, ")


def test_comparison(page):
    driver = page("compared")
    assert "With runs/example1: 399 images in both." in text(driver, "#compare-lead")
    assert len(driver.find_elements(By.CSS_SELECTOR, "#panels .panel:first-child path.curve")) == 6
    assert len(driver.find_elements(By.CSS_SELECTOR, "#panels .panel:first-child path.other")) == 3
    assert driver.find_elements(By.CSS_SELECTOR, "#compare canvas.matrix")  # 11 by 49
    assert "Seed" in text(driver, ".beside table:nth-of-type(2)")


def test_the_same_run_gives_the_same_bytes(reports, capsys):
    full = reports("full").read_bytes()
    capsys.readouterr()
    assert build(example(), None, draw) == full
    assert capsys.readouterr().err.count("drawing: ") == 1  # of pictures of all sizes


def test_the_page_holds_what_it_shows(reports):
    """No address of anything outside, and JSON that is JSON."""
    page = reports("full").read_text(encoding="utf-8")
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert outside == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["classes"] == list(CLASSES)
