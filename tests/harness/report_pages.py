"""What tests of the report ask the Chromium that shows it."""

import time


def wait(driver, script, *arguments):
    """Return what a script returns once that is true."""
    for _ in range(300):
        found = driver.execute_script(script, *arguments)
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never true: {script}")


def text(driver, selector):
    return driver.execute_script("return document.querySelector(arguments[0]).textContent", selector)


def open_map(driver):
    driver.execute_script("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
    wait(driver, "return document.querySelector('.map canvas')?.dataset.drawn")
    return driver.find_element("css selector", ".map canvas")
