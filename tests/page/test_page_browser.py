"""The page in a real browser: what a person does changes what is shown, and nothing is loaded."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from browser import chromium, emulate, requested
from planted_arrays import planted_images, planted_probabilities, planted_scores
from scipy import stats

from bayestda.page import rendering
from bayestda.page.from_scores import report_of
from bayestda.page.model import Cell, Examples, Section, Table, Texts
from bayestda.page.tables import heat

NUM_RUNS, NUM_CHECKPOINTS = 5, 3
METHODS = ("loo", "influence", "grad_dot")
Q_OF_STOP = {5: 0.05, 7: 0.2}


@pytest.fixture(scope="module")
def report():
    scores = planted_scores(METHODS, NUM_RUNS, NUM_CHECKPOINTS)
    images = planted_images(20), planted_images(12)
    return report_of(scores, images, planted_probabilities())


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def address(report, tmp_path_factory):
    return rendering.write(tmp_path_factory.mktemp("page") / "report.html", report).as_uri()


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
        """Wait; what is looked at may be replaced meanwhile."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        replaced = (StaleElementReferenceException,)
        wait = WebDriverWait(self.driver, 60, 0.05, ignored_exceptions=replaced)
        wait.until(lambda _: holds())

    def focused(self):
        """Of what the keyboard acts on: one of its attributes, the first that it has."""
        script = "const e = document.activeElement; return e.ariaLabel || e.dataset.sort || e.id"
        return self.driver.execute_script(script)

    def visit(self, hash):
        """Another address of the same page, as pasted into the address bar."""
        self.driver.execute_script("location.hash = arguments[0]", hash)

    def shown_test(self):
        return int(self.text("#query h3").split()[-1])

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


def test_an_address_is_the_whole_choice(opened, report):
    tests, trains = report.test.index, report.train.index
    opened.visit(f"#explore?test={tests[6]}&method=influence&view=all&train={trains[4]}")
    opened.until(lambda: opened.count("#ranking thead th") == 1 + len(METHODS))
    opened.until(lambda: opened.one("#pair").is_displayed())
    opened.visit(f"#explore?test={tests[5]}&method=loo&view=one")
    opened.until(lambda: opened.shown_test() == tests[5] and opened.count(".card") > 0)
    assert opened.one("input[name=view][value=one]").is_selected()
    opened.until(lambda: not opened.one("#pair").is_displayed())
    opened.visit("#explore?method=grad_dot&view=one")  # nothing about the test image
    opened.until(lambda: opened.one("input[value=grad_dot]").is_selected())
    assert opened.shown_test() == tests[5] and not opened.one("#not-found").is_displayed()


def test_an_address_of_what_is_not_here_is_said_and_shows_no_pair(opened, report):
    before, train = opened.shown_test(), report.train.index[4]
    opened.visit(f"#explore?test=987654321&train={train}")
    opened.until(lambda: opened.one("#not-found").is_displayed())
    assert opened.text("#not-found") == "Not in this page: test image no. 987654321."
    assert opened.shown_test() == before and not opened.one("#pair").is_displayed()
    opened.click("#next")
    opened.until(lambda: not opened.one("#not-found").is_displayed())


def test_addresses_of_sections_are_left_as_they_are(opened, driver, address):
    driver.get("about:blank")
    driver.get(f"{address}#effects")
    opened.until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
    assert driver.current_url == f"{address}#effects"
    opened.visit("#labels")
    opened.visit("#effects")
    assert driver.current_url == f"{address}#effects"
    opened.click("#tests [role=option]:nth-child(3)")
    opened.until(lambda: "#explore?test=" in driver.current_url)


def test_buttons_keep_the_focus_when_they_are_used(opened, report):
    opened.one("#next").send_keys(opened.keys.ENTER)
    opened.until(lambda: opened.shown_test() == report.test.index[1])
    opened.press(opened.keys.ENTER)
    opened.until(lambda: opened.shown_test() == report.test.index[2])
    assert opened.focused() == "Next test image"
    opened.click("input[name=view][value=all]")
    opened.until(lambda: opened.count("#ranking thead th") == 1 + len(METHODS))
    opened.one("[data-sort=grad_dot]").send_keys(opened.keys.ENTER)
    opened.until(lambda: "Grad-Dot ↓" in opened.text("#ranking thead"))
    assert opened.focused() == "grad_dot"


def test_escape_while_typing_leaves_the_pair_open(opened):
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == len(METHODS))
    opened.one("#find").send_keys("1", opened.keys.ESCAPE)
    assert opened.one("#pair").is_displayed() and opened.focused() == "find"
    opened.one("#max-q").send_keys(opened.keys.ESCAPE)
    opened.until(lambda: not opened.one("#pair").is_displayed())


def test_filters_say_nothing_again_about_the_test_image(opened, driver):
    assert opened.text("#announced") == opened.text("#query h3")
    script = "document.querySelector('#query h3').dataset.first = 'yes'"
    driver.execute_script(script)
    before = opened.passing()
    opened.slide("#max-q", 5)
    opened.until(lambda: opened.passing() < before)
    assert opened.one("#query h3").get_attribute("data-first") == "yes"
    assert opened.count("#query[aria-live], #query [aria-live]") == 0


def test_words_of_numbers(opened):
    script = "return arguments[0].map((value) => sizeName(value, 0))"
    shown = opened.driver.execute_script(script, [99.7, 99.4, 9.96, 123.4, 0.5, -99.7, 0, 3])
    minus = "\N{MINUS SIGN}"
    assert shown == ["100", "99", "10", "123", "0.5", f"{minus}100", "0", "3"]
    assert opened.driver.execute_script("return measured(0, 0.2, 0)") == "0"


# ---- other pages --------------------------------------------------------------------------------


def open_page(driver, path, report):
    """A person before the page of a report."""
    emulate(driver)
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get(rendering.write(path / "report.html", report).as_uri())
    person = Person(driver)
    person.until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
    return person


def contrast(one, other):
    """Contrast of two colours ``rgb(r, g, b)`` (WCAG 2.2): from 1 to 21."""

    def luminance(colour):
        share_3 = np.array([int(part) for part in re.findall(r"\d+", colour)][:3]) / 255
        linear = np.where(share_3 <= 0.04045, share_3 / 12.92, ((share_3 + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_of_heat_maps_are_legible(driver, report, tmp_path, scheme):
    cells = [heat(value, "+0.1", "0.0 to 0.2") for value in np.linspace(-1, 1, 21)]
    table = Table("scale", [str(n) for n in range(22)], [[Cell("row"), *cells]])
    scale = replace(report, sections=[Section("scale", "Scale", tables=[table])])
    opened = open_page(driver, tmp_path, scale)
    emulate(driver, scheme)
    script = (
        "return [...document.querySelectorAll('td.heat, td.heat small')].map((e) => ["
        "getComputedStyle(e).color, getComputedStyle(e.closest('td')).backgroundColor,"
        "getComputedStyle(e).opacity])"
    )
    found = opened.driver.execute_script(script)
    assert len(found) == 42 and {opacity for _, _, opacity in found} == {"1"}
    assert min(contrast(ink, behind) for ink, behind, _ in found) >= 4.5


def one_method(report, scores):
    method = replace(report.methods["loo"], scores=scores)
    return replace(report, methods={"loo": method})


def test_of_one_seed_there_are_means_and_no_tests(driver, report, tmp_path):
    scores = report.methods["loo"].scores.isel(seed=[2])
    opened = open_page(driver, tmp_path, one_method(report, scores))
    assert set(opened.texts(".card .trust")) == {"single run: no test"}
    mean_N = scores.mean(("seed", "checkpoint")).values[:, 0]
    expected = np.sort(mean_N)[::-1][:6]
    texts = opened.texts("#ranking > div:first-child .score")
    assert_shown(texts, opened.text("#ranking h3.help"), expected[expected > 0])
    assert not any("±" in text for text in texts)
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .panel") == 1)
    assert opened.count("#pair .sample") == NUM_CHECKPOINTS
    assert opened.text("#pair h4 small") == f"1 seed × {NUM_CHECKPOINTS} checkpoints"
    assert not opened.one("#max-q").is_displayed()  # no q is known
    assert not opened.one("#min-agreement").is_displayed()
    assert driver.get_log("browser") == []


def test_a_mean_that_is_stored_as_zero_is_in_a_list(driver, report, tmp_path):
    scores = report.methods["loo"].scores.copy()
    scores[:, :, 3] = 0
    opened = open_page(driver, tmp_path, one_method(report, scores))
    opened.one("#find-train").send_keys(str(report.train.index[3]))
    opened.until(lambda: opened.passing() == 1)
    opened.until(lambda: opened.count(".card") == 1)
    assert opened.text(".card .score").split()[0] == "0"


TEXTS = ("a film of 1984", "not bad", "2001 again", "it goes on")


def sentences(report):
    """The same scores as if they were about sentences, with two labels."""

    def of(examples):
        count = len(examples.index)
        label = [("unfavourable", "favourable")[place % 2] for place in range(count)]
        return Examples(np.arange(count), label, Texts([TEXTS[n % 4] for n in range(count)]))

    train, test = of(report.train), of(report.test)
    scores = report.methods["loo"].scores.assign_coords(train=train.index, test=test.index)
    methods = {"loo": replace(report.methods["loo"], scores=scores)}
    return replace(
        report, methods=methods, train=train, test=test, kind="sentence", predictions=None
    )


def test_sentences_are_found_by_a_whole_label_and_by_words(driver, report, tmp_path):
    opened = open_page(driver, tmp_path, sentences(report))
    for words, places in (
        ("favourable", range(1, 12, 2)), ("unfavourable", range(0, 12, 2)), ("favour", range(12)),
        ("label fav", range(1, 12, 2)), ("1984", (0, 4, 8)), ("goes", (3, 7, 11)), ("10", (10,)),
    ):  # fmt: skip
        opened.one("#find").clear()
        opened.one("#find").send_keys(words)
        expected = [f"test-{place}" for place in places]
        script = "return [...document.querySelectorAll('#tests [role=option]')].map((e) => e.id)"
        assert driver.execute_script(script) == expected, words


def test_a_page_of_names_alone_can_be_explored(driver, tmp_path):
    plain = {
        name: own.drop_vars(["train_label", "test_label"]).assign_coords(
            train=[f"{n}.png" for n in range(20)]
        )
        for name, own in planted_scores(['my "own"', "other's"]).items()
    }
    opened = open_page(driver, tmp_path, report_of(plain))
    assert opened.text("#query h3") == "Test example no. 7000"
    assert all(re.fullmatch(r"\d+\.png", name) for name in opened.texts(".card .what"))
    opened.one("#find-train").send_keys("17.PNG")
    opened.until(lambda: opened.passing() == 1)
    opened.visit("#explore?test=7003&method=other%27s&train=5.png")
    opened.until(lambda: "5.png" in opened.text("#pair-title"))
    assert opened.count("#pair .panel") == 2
    opened.click("button[type=reset]")
    opened.until(lambda: opened.passing() == 20)
    assert opened.one("input[name=method]").is_selected()
    assert driver.get_log("browser") == []


def test_a_page_of_rows_shows_them_side_by_side(driver, tmp_path):
    table = pd.DataFrame({"age": range(20), "town": ["Rome", "Oslo"] * 10})
    scores = planted_scores(["loo"])
    opened = open_page(driver, tmp_path, report_of(scores, (table, table[:12])))
    opened.click(".card")
    opened.until(lambda: opened.count("#pair .fields tr") == 3)
    assert opened.texts("#query .row-fields dt") == ["age", "town"]
    assert not opened.one("input[name=view]").is_displayed()  # there is one method
    assert driver.get_log("browser") == []


def test_training_examples_that_have_no_room_are_counted(driver, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3000, 12))
    scores = xr.DataArray(values, dims=("seed", "train", "test"), name="mine")
    report = report_of(scores, (planted_images(3000, (20, 20), 3), None))
    path = rendering.write(tmp_path / "page.html", report, max_mb=0.5)
    driver.get(path.as_uri())
    person = Person(driver)
    person.until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
    shown, left = map(
        int, re.findall(r"of (\d+) training.*\((\d+) more", person.text("#passed"))[0]
    )
    assert shown + left == 3000 and left > 0
    assert driver.get_log("browser") == []
