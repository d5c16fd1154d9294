"""The report in headless Chromium, for people who see little, or use no pointer: contrast, names, focus, width."""

from itertools import pairwise

import pytest
from chromium import missing
from harness.report_pages import open_map, wait
from harness.servers import wait_until

pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[test]'")
if missing():
    pytest.skip(missing(), allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytest_plugins = ["harness.report_browser"]
pytestmark = pytest.mark.slow


def test_light_and_dark(page):
    driver = page(scheme="light")
    background = "return getComputedStyle(document.body).backgroundColor"
    light = driver.execute_script(background)
    driver.find_element(By.CSS_SELECTOR, "input[value=dark]").send_keys(Keys.SPACE)
    dark = driver.execute_script(background)
    assert dark != light

    def is_remembered():  # by a page that is opened later: the browser keeps it behind the first one's back
        return page(scheme="light").execute_script(background) == dark

    wait_until(is_remembered)
    driver.execute_script("localStorage.clear()")
    page(scheme="dark")
    assert driver.execute_script(background) == dark
    driver.find_element(By.CSS_SELECTOR, "input[value=light]").send_keys(Keys.SPACE)
    assert driver.execute_script(background) == light
    driver.execute_script("localStorage.clear()")


CONTRASTS = """
const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
const context = canvas.getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const poor = [];
for (const node of document.querySelectorAll("body *")) {
  if (![...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim())) continue;
  if (!node.checkVisibility() || node.matches("script, style, option, .hidden, .hidden *, .skip")) continue;
  let behind = node;
  while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
  const style = getComputedStyle(node);
  const ink = light(rgba(node.namespaceURI.endsWith("svg") ? style.fill : style.color).slice(0, 3));
  const paper = light(rgba(getComputedStyle(behind).backgroundColor).slice(0, 3));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.tagName} ${node.textContent.slice(0, 40)}`);
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_what_is_behind_it(page, scheme):
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    driver = page("compared", scheme)
    open_map(driver)
    assert driver.execute_script(CONTRASTS) == []


@pytest.mark.parametrize("name", ["full", "compared"])
def test_a_narrow_window_is_not_scrolled_sideways(page, name):
    driver = page(name, width=400)
    open_map(driver)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", ["full", "compared"])
def test_what_a_screen_reader_is_told(page, name):
    driver = page(name)
    open_map(driver)
    driver.execute_script("document.getElementById('clusters').scrollIntoView()")
    wait(driver, "return document.querySelector('.tiles li')")
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node)
        for node in nodes
        if not node["ignored"]
    ]
    roles = [role for role, _, _ in seen]
    assert {"banner", "navigation", "main", "contentinfo", "search", "region", "table", "article"} <= set(
        roles
    )
    focusable = [
        (role, label)
        for role, label, node in seen
        if any(one["name"] == "focusable" and one["value"]["value"] for one in node.get("properties", ()))
        and role not in ("RootWebArea", "main")
    ]
    assert len(focusable) > 20
    assert [role for role, label in focusable if not label.strip()] == []
    assert [
        label
        for role, label, _ in seen
        if role in ("image", "img", "article", "region") and not label.strip()
    ] == []
    levels = [
        int(one["value"]["value"])
        for role, _, node in seen
        if role == "heading"
        for one in node["properties"]
        if one["name"] == "level"
    ]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = driver.execute_script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


OUTLINE = """
const one = document.activeElement;
return getComputedStyle(one.matches("[name=theme]") ? one.nextSibling : one).outlineStyle;
"""


def test_focus_is_seen_and_the_first_stop_skips(page):
    driver = page()
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert driver.execute_script("return document.activeElement.className") == "skip"
    assert driver.execute_script("return document.activeElement.getBoundingClientRect().top") >= 0
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert driver.execute_script("return document.activeElement.id") == "main"
    for _ in range(12):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        assert driver.execute_script(OUTLINE) == "solid"


# What a printer finds, which looks at once: clusters with images, those of them with pictures, the map.
PRINTED = """
dispatchEvent(new Event("beforeprint"));
const pictures = (one) => [...one.querySelectorAll(".tile")].filter(
  (tile) => /blob:|data:image/.test(getComputedStyle(tile).backgroundImage)).length;
return new Promise((resolve) => queueMicrotask(() => setTimeout(() => resolve([
  [...document.querySelectorAll("#list > article")].map(pictures),
  document.querySelector(".map canvas")?.dataset.drawn ?? null,
]))));
"""


def test_all_clusters_are_printed_with_their_pictures(page):
    """Also those that nobody has scrolled to, on white paper whatever the screen's colours."""
    driver = page("many", scheme="dark")
    assert driver.execute_script("return document.querySelectorAll('#list > article').length") < 150
    pictures, drawn = driver.execute_script(PRINTED)
    assert len(pictures) == 150
    assert all(pictures[:149])
    assert int(drawn) > 400
    driver.execute_script("dispatchEvent(new Event('afterprint'))")


@pytest.mark.parametrize("name", ["full", "compared"])
def test_nothing_is_cut_on_paper(page, name):
    driver = page(name, scheme="dark", width=700)
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    wide = "return [...document.querySelectorAll('.scroll')].map((one) => [one.scrollWidth, one.clientWidth])"
    shown = driver.execute_script(wide)
    assert shown
    assert all(inside <= outside for inside, outside in shown)
    height = "return [...document.querySelectorAll('.scroll')].every((one) => one.scrollHeight <= one.clientHeight)"
    assert driver.execute_script(height)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    paper = "return getComputedStyle(document.body).color"
    assert driver.execute_script(paper) == "rgb(28, 30, 33)"
    driver.execute_script("dispatchEvent(new Event('afterprint'))")


def test_no_match_is_told_to_all(page):
    driver = page()
    open_map(driver)
    highlight, key = driver.find_elements(By.CSS_SELECTOR, "#map input")
    told = driver.find_element(By.CSS_SELECTOR, "#map output")
    key.send_keys("no such key", Keys.ENTER)
    wait(driver, "return document.querySelector('#map output').textContent")
    assert told.text == "No image on the map has a key with “no such key”"
    assert told.is_displayed()
    key.clear()
    key.send_keys("key-0002", Keys.ENTER)
    wait(driver, "return !document.getElementById('tip').hidden")
    assert told.text == ""
    highlight.send_keys("99")
    assert told.text == "There is no cluster 99"
    highlight.clear()
    highlight.send_keys("3")
    assert told.text == ""


LOOKS = """
return [...document.querySelectorAll(".swatch")].map((one) => [one.className, one.style.backgroundColor].join());
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_two_marks_look_alike(page, scheme):
    driver = page("many", scheme)
    driver.execute_script("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    assert len(set(driver.execute_script(LOOKS))) == 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_advice_on_the_number_of_clusters_on_a_phone(page, scheme):
    ask = page("advised", scheme, width=360).execute_script
    assert ask("return document.getElementById('how-many').hidden") is False
    assert ask("return document.getElementById('how-many-lead').textContent").startswith("About 7 clusters")
    assert ask("return document.querySelectorAll('#how-many svg rect.range').length") == 2
    assert ask("return document.documentElement.scrollWidth <= innerWidth")
