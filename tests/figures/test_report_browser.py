"""The page in a real browser: what a person does changes what is shown, and nothing is loaded."""

import re

import numpy as np
import pytest
from browser import chromium, emulate, requested
from planted_scores import write_scores
from scipy import stats

from tda.experiments import Experiment
from tda.report import images, page

SMALL, NUM_RUNS, NUM_CHECKPOINTS = Experiment("cnn2", "mnist3", 10), 5, 3
METHODS = ("loo", "influence", "grad_dot")
Q_OF_STOP = {5: 0.05, 7: 0.2}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(tmp_path_factory.mktemp("root")))
        write_scores(SMALL, METHODS, num_runs=NUM_RUNS)
        return images.report_of(SMALL)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def address(report, tmp_path_factory):
    return page.write(tmp_path_factory.mktemp("page") / "report.html", report).as_uri()


@pytest.fixture
def opened(driver, address):
    """The page, freshly opened on a light desktop, with what a person needs to use it."""
    emulate(driver)
    driver.get("about:blank")
    requested(driver)  # what the browser asked for until now is not the page's doing
    driver.get(address)
    person = Person(driver)
    person.until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
    return person


class Person:
    """Finds, reads, clicks and types."""

    def __init__(self, driver):
        from selenium.webdriver.common.keys import Keys

        self.driver, self.keys = driver, Keys

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.one(selector).text

    def texts(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return self.driver.execute_script(script, selector)

    def count(self, selector):
        return len(self.texts(selector))

    def click(self, selector):
        self.driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})",
            self.one(selector),
        )
        self.one(selector).click()

    def press(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def slide(self, selector, value):
        """Move a slider as the keyboard does: to its end, then back step by step."""
        slider = self.one(selector)
        slider.send_keys(self.keys.HOME)
        low, step = (float(slider.get_attribute(name)) for name in ("min", "step"))
        slider.send_keys(self.keys.ARROW_RIGHT * round((value - low) / step))

    def until(self, holds):
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 60, 0.05).until(lambda _: holds())

    def passing(self):
        return int(self.text("#passed").split()[0])


@pytest.fixture(scope="module")
def truth(report):
    """Mean, p and q of every pair and method [N M], by the book."""
    found = {}
    for name, method in report.methods.items():
        runs = method.scores.mean("checkpoint").astype(float).values
        p = stats.ttest_1samp(runs, 0).pvalue
        q = stats.false_discovery_control(p.ravel()).reshape(p.shape)
        same = np.maximum((runs > 0).mean(0), (runs < 0).mean(0))
        found[name] = {"mean": runs.mean(0), "q": q, "agreement": same}
    return found


def power_of(title):
    """The power of ten in whose multiples scores are shown below a title."""
    found = re.search("×10(⁻?)(.)", title)
    exponent = "⁰¹²³⁴⁵⁶⁷⁸⁹".index(found[2]) if found else 0
    return 10.0 ** (-exponent if found and found[1] else exponent)


def assert_shown(texts, title, expected):
    """That texts such as ``+0.21 ± 0.03`` are these numbers, rounded to the digits shown."""
    assert len(texts) == len(expected) > 0
    for text, value in zip(texts, expected, strict=True):
        shown = text.split()[0].replace("\N{MINUS SIGN}", "-")
        last_digit = 10.0 ** -len(shown.partition(".")[2])
        scaled = value / power_of(title)
        assert abs(float(shown) - scaled) <= 0.51 * last_digit, (text, value)


def test_it_opens_without_errors_and_asks_for_nothing(opened, driver, address):
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    loaded = [url for url in requested(driver) if not url.startswith(("data:", "blob:", "about:"))]
    assert set(loaded) == {address}
    assert driver.get_log("browser") == []


def test_scores_shown_are_those_of_the_files(opened, report, truth):
    mean_N = truth["loo"]["mean"][:, 0]
    title = opened.text("#ranking h3.help")
    expected = np.sort(mean_N)[::-1][:6]
    assert_shown(opened.texts("#ranking > div:first-child .score"), title, expected[expected > 0])
    best = int(report.train.index[mean_N.argmax()])
    assert f"no.\N{NO-BREAK SPACE}{best}" in opened.texts("#ranking .what")[0]


def test_a_click_chooses_another_test_image(opened, report, truth):
    before = opened.texts("#ranking .score")
    opened.click("#tests [role=option]:nth-child(4)")
    number_4 = int(report.test.index[3])
    opened.until(lambda: opened.text("#query h3") == f"Test image no. {number_4}")
    opened.until(lambda: opened.texts("#ranking .score") != before)
    worst = int(report.train.index[truth["loo"]["mean"][:, 3].argmin()])
    assert f"no.\N{NO-BREAK SPACE}{worst}" in opened.texts("#ranking > div:last-child .what")[0]
    assert f"test={number_4}" in opened.driver.current_url
    opened.click("#query .steps button:last-child")
    opened.until(lambda: str(report.test.index[4]) in opened.text("#query h3"))


def test_filters_let_pass_what_is_reliable(opened, truth):
    assert opened.passing() == 20
    for stop, q in Q_OF_STOP.items():
        opened.slide("#max-q", stop)
        expected = int((truth["loo"]["q"][:, 0] < q).sum())
        opened.until(lambda expected=expected: opened.passing() == expected)
        assert expected < 20
    opened.click("button[type=reset]")
    opened.until(lambda: opened.passing() == 20)
    opened.slide("#min-agreement", 100)
    expected = int((truth["loo"]["agreement"][:, 0] >= 1).sum())
    opened.until(lambda: opened.passing() == expected)
    assert 0 < expected < 20 and opened.text("#agreement-value") == "100 %"


def test_search_finds_by_number_and_by_label(opened, report):
    opened.one("#find").send_keys(str(report.test.index[7]))
    opened.until(lambda: opened.count("#tests [role=option]") == 1)
    opened.press(opened.keys.ENTER)
    opened.until(lambda: str(report.test.index[7]) in opened.text("#query h3"))
    label = report.train.label[5]
    opened.one("#find-train").send_keys(f"label {label}")
    expected = list(report.train.label).count(label)
    opened.until(lambda: opened.passing() == expected)
    assert all(f"label {label} " in text for text in opened.texts("#ranking .what"))


def test_methods_stand_side_by_side(opened, truth):
    opened.click("input[name=view][value=all]")
    opened.until(lambda: opened.count("#ranking thead th") == 1 + len(METHODS))
    opened.click("#ranking thead th:nth-child(4) button")
    opened.until(lambda: "Grad-Dot ↓" in opened.text("#ranking thead"))
    title = opened.texts("#ranking thead th")[3]
    shown = opened.texts("#ranking tbody td:nth-child(4) .score")
    mean_N = np.sort(truth["grad_dot"]["mean"][:, 0])[::-1]
    assert_shown(shown, title, [*mean_N[:8], *mean_N[-8:]])


def test_a_pair_shows_every_sample_of_every_method(opened):
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    assert opened.count("#pair .sample") == len(METHODS) * NUM_RUNS * NUM_CHECKPOINTS
    assert opened.count("#pair .seed-mean") == len(METHODS) * NUM_RUNS
    opened.click("#pair .close")
    opened.until(lambda: not opened.one("#pair").is_displayed())


def test_samples_are_drawn_where_they_are(opened, report, truth):
    """Places of the dots, brought back to scores by the places of zero and of the mean."""
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    best = int(truth["loo"]["mean"][:, 0].argmax())
    script = (
        "const panel = document.querySelector('#pair .panel');"
        "return [[...panel.querySelectorAll('.sample')].map((e) => +e.getAttribute('cx')),"
        "+panel.querySelector('.zero').getAttribute('x1'),"
        "+panel.querySelector('circle.mean').getAttribute('cx')]"
    )
    places, zero, mean = opened.driver.execute_script(script)
    found = (np.array(places) - zero) / (mean - zero) * truth["loo"]["mean"][best, 0]
    scores = report.methods["loo"].scores[:, :, best, 0].values.ravel()
    largest = np.abs(scores - scores.mean()).max()
    np.testing.assert_allclose(found, scores, atol=largest / 40)


def test_the_keyboard_is_enough(opened, report):
    keys = opened.keys
    opened.one("body").send_keys("/")
    assert opened.driver.switch_to.active_element.get_attribute("id") == "find"
    opened.press(str(report.test.index[2]), keys.ENTER)
    opened.until(lambda: str(report.test.index[2]) in opened.text("#query h3"))
    opened.driver.switch_to.active_element.send_keys("")  # the chosen image has the focus
    assert opened.driver.switch_to.active_element.get_attribute("aria-selected") == "true"
    opened.one("#find").clear()
    opened.one("#find").send_keys(" ", keys.BACKSPACE)
    opened.until(lambda: opened.count("#tests [role=option]") == 12)
    opened.one("#tests [aria-selected=true]").send_keys(keys.ARROW_RIGHT)
    opened.until(lambda: str(report.test.index[3]) in opened.text("#query h3"))
    opened.press(keys.END)
    opened.until(lambda: str(report.test.index[11]) in opened.text("#query h3"))
    opened.one(".card").send_keys(keys.ENTER)
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    assert opened.driver.switch_to.active_element.get_attribute("id") == "pair-title"
    opened.press(keys.ESCAPE)
    opened.until(lambda: not opened.one("#pair").is_displayed())
    opened.until(
        lambda: "card" in (opened.driver.switch_to.active_element.get_attribute("class") or "")
    )


def background(opened):
    script = "return getComputedStyle(document.body).backgroundColor"
    return opened.driver.execute_script(script)


def test_light_and_dark_follow_the_system_and_the_button(opened, driver):
    light = background(opened)
    emulate(driver, "dark")
    dark = background(opened)
    assert (
        sum(map(int, re.findall(r"\d+", light)))
        > 600
        > 200
        > sum(map(int, re.findall(r"\d+", dark)))
    )
    opened.click("#theme")
    assert background(opened) == light
    opened.click("#theme")
    assert background(opened) == dark


def test_it_fits_a_phone_and_can_be_tapped(opened, driver):
    emulate(driver, phone=True)
    opened.click("#tests [role=option]:nth-child(2)")
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    content, screen = driver.execute_script(widths)
    assert content <= screen == 390


def test_every_input_has_a_label_and_every_button_a_name(opened, driver):
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    script = (
        "return [...document.querySelectorAll('input, select, button, [role=option], [role=img]')]"
        ".filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))"
        ".map((e) => e.outerHTML.slice(0, 90))"
    )
    assert driver.execute_script(script) == []


def test_an_address_leads_to_the_same_choice(opened, report, address):
    chosen = f"test={report.test.index[6]}&method=influence&view=all&train={report.train.index[4]}"
    opened.driver.get(f"{address}#explore?{chosen}")
    opened.until(lambda: str(report.test.index[6]) in opened.text("#query h3"))
    opened.until(lambda: str(report.train.index[4]) in opened.text("#pair-title"))
    assert opened.one("input[name=method][value=influence]").is_selected()
