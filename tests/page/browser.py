"""A headless Chromium of the machine's own, which reaches nothing and leaves nothing behind."""

import contextlib
import json
import shutil

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MEND = "for the tests of a page install Debian's chromium and chromium-driver, and selenium (pip)"


@contextlib.contextmanager
def chromium(profile, size=(1280, 1000)):
    """A driver whose window has this size.

    Args:
        profile: an empty folder for the browser's own files.
        size: width and height in pixels.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason=MEND)
    binary, service = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not binary or not service:
        pytest.skip(MEND)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size={},{}".format(*size)):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    try:
        yield driver
    finally:
        driver.quit()


def requested(driver):
    """Addresses that the browser asked for since this was last called."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def emulate(driver, scheme="light", phone=False):
    """A light or dark system, and perhaps a phone's screen."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    if phone:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    else:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
