"""The rendered book, read in a real browser as a reader has it: every page, both colour modes, a
telephone's width, the search and the figures with controls.

Reads the book of the last build; `make test` builds it first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from axe_playwright_python.base import AXE_SCRIPT
from browser import NOT_FOUND, find_chromium, open_chromium, serve
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Response,
    ViewportSize,
)

from fpqvar_lab.figures.minifloat_explorer import minifloat_explorer, quantiles_of
from fpqvar_lab.formats import FloatFormat, round_to

HTML = Path(__file__).parent.parent / "_build" / "html"
DESK = ViewportSize(width=1280, height=900)
TELEPHONE = ViewportSize(width=390, height=844)

# All listings of modules come from one template, and so do all entries of the API pages: a few of
# them stand for the rest, which would take minutes.
LISTINGS = ("_modules/index.html", "_modules/fpqvar_lab/formats/codec.html")
PAGES = sorted(
    name
    for name in (path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
    if not name.startswith(("_static/", "_modules/")) or name in LISTINGS
    if name != "index.html"  # which only redirects
)
READ_BY_AXE = [page for page in PAGES if page != LISTINGS[0]]
LEFT_OUT_OF_API_BY_AXE = (
    "article > section > section:nth-of-type(n + 2), article dl.py:nth-of-type(n + 4),"
    " .page-toc li li:nth-child(n + 4)"
)
SERIOUS = ("serious", "critical")

pytestmark = [pytest.mark.book, pytest.mark.skipif(find_chromium() is None, reason=NOT_FOUND)]


@dataclass  # not frozen: Playwright keeps its wrappers on the listener
class Visit:
    """A page that is open, and what went wrong while it opened."""

    name: str
    page: Page
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def listen(self, site: str) -> None:
        self.page.on("console", self._note_error)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.failed.append(request.url))
        self.page.on("response", self._note_refusal)
        self.page.on("request", lambda request: self._note_foreign(request, site))

    def _note_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _note_refusal(self, response: Response) -> None:
        if response.status >= 400:
            self.failed.append(response.url)

    def _note_foreign(self, request: Request, site: str) -> None:
        if not request.url.startswith((site, "data:", "blob:")):
            self.foreign.append(request.url)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not PAGES:
        pytest.skip("there is no book in _build/html: make book")
    with serve(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=DESK, color_scheme="light")
    yield context
    context.close()


@pytest.fixture(scope="module")
def visit(request: pytest.FixtureRequest, context: BrowserContext, site: str) -> Iterator[Visit]:
    visit = Visit(request.param, context.new_page())
    visit.listen(site)
    visit.page.goto(site + visit.name)
    wait_for_formulas(visit.page)
    yield visit
    visit.page.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESK, color_scheme="light")  # which remembers nothing
    yield context.new_page()
    context.close()


def wait_for_formulas(page: Page) -> None:
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def visits(pages: list[str]) -> pytest.MarkDecorator:
    """A test of each page; one worker has all tests of a page, so that it opens only once."""
    marked = [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in pages]
    return pytest.mark.parametrize("visit", marked, indirect=True)


every_page = visits(PAGES)


@every_page
def test_page_opens_without_an_error(visit):
    assert visit.errors == []
    assert visit.failed == []
    assert visit.page.locator("mjx-merror, .MathJax_Error").count() == 0


@every_page
def test_page_fetches_nothing_from_elsewhere(visit):
    assert visit.foreign == []


@every_page
def test_page_shows_all_its_pictures(visit):
    visit.page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    visit.page.wait_for_function("[...document.images].every(i => i.complete)")
    empty = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
    assert visit.page.evaluate(empty) == []


@every_page
def test_page_fits_a_telephone(visit):
    visit.page.set_viewport_size(TELEPHONE)
    visit.page.evaluate("() => new Promise(requestAnimationFrame)")
    width = visit.page.evaluate("document.documentElement.scrollWidth")
    visit.page.set_viewport_size(DESK)
    assert width <= TELEPHONE["width"]


@visits(READ_BY_AXE)
def test_page_has_no_serious_fault_of_accessibility(visit):
    """Judged by axe-core, with all that is folded unfolded; colours in both modes."""
    page = visit.page
    still = "* {transition: none !important; animation: none !important}"  # no colours on their way
    page.add_style_tag(content=still)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    if visit.name.startswith("api/"):
        drop = "s => document.querySelectorAll(s).forEach(e => e.remove())"
        page.evaluate(drop, LEFT_OUT_OF_API_BY_AXE)
    page.evaluate(AXE_SCRIPT)
    faults = serious_faults(page, {})
    page.emulate_media(color_scheme="dark")
    page.locator("html[data-theme=dark]").wait_for(state="attached")
    faults += serious_faults(page, {"runOnly": ["color-contrast"]})
    page.emulate_media(color_scheme="light")
    page.locator("html[data-theme=light]").wait_for(state="attached")
    assert faults == []


def serious_faults(page: Page, options: dict[str, object]) -> list[str]:
    """What axe finds, and text in the very colour of its ground, which axe takes for hidden."""
    found = page.evaluate("options => axe.run(document, options)", options)
    faults = [
        f"{fault['id']}: {node['html'][:150]}: {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]
    return faults + [
        f"no contrast: {node['html'][:150]}"
        for doubt in found["incomplete"]
        for node in doubt["nodes"]
        if any((check["data"] or {}).get("messageKey") == "equalRatio" for check in node["any"])
    ]


def test_the_front_door_leads_to_the_first_page(page, site):
    page.goto(site)
    page.wait_for_url("**/intro.html")
    assert page.locator("h1:visible").inner_text().startswith("FPQVAR Lab")


@pytest.mark.parametrize("reader", ["light", "dark"])
def test_colours_follow_the_reader_and_switch(page, site, reader):
    page.emulate_media(color_scheme=reader)
    page.goto(site + "intro.html")
    seen = {page.locator("html").get_attribute("data-theme"): background(page)}
    assert list(seen) == [reader]
    for _ in range(2):  # of the three modes, one follows the reader
        page.locator(".theme-switch-button:visible").click()
        seen[page.locator("html").get_attribute("data-theme")] = background(page)
    assert seen.keys() == {"light", "dark"}
    assert len(set(seen.values())) == 2


def test_search_finds_a_page_by_a_word_in_it(page, site):
    page.goto(site + "intro.html")
    page.keyboard.press("Control+k")
    page.locator("input[type=search]:visible").fill("Hadamard")
    page.keyboard.press("Enter")
    # Results come one after the other: wait for this one, which fails when it does not come.
    page.locator("#search-results li a[href*='hadamard-and-ght']").first.wait_for()


def test_outlier_map_follows_the_keyboard(page, site):
    page.goto(site + "observations/time-varying-outlier-channels.html")
    figure = page.locator("[id^=explorer-]")
    summary, slider = figure.locator("p[aria-live]"), figure.locator("input[type=range]")
    before, drawn = summary.inner_text(), figure.locator("svg").inner_html()
    assert "step 1:" in before
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert "step 2:" in summary.inner_text()
    assert figure.locator("svg").inner_html() != drawn
    figure.locator("select").first.select_option(index=1)
    assert "step 2:" in summary.inner_text()
    assert summary.inner_text() != before


FORMATS_OF_AT_MOST_8_BITS = [
    FloatFormat(exponent_bits, mantissa_bits)
    for exponent_bits in range(1, 8)
    for mantissa_bits in range(8 - exponent_bits)
]
SAMPLES = {
    "a Gaussian": torch.special.ndtri((torch.arange(4096, dtype=torch.float64) + 0.5) / 4096),
    "halves, for ties": torch.arange(4096) / 2,
}


@pytest.fixture
def explorer(page: Page) -> Locator:
    page.set_content(minifloat_explorer(SAMPLES).html)
    return page.locator(".minifloat-explorer")


def choose(explorer: Locator, kind: str, value: int) -> None:
    control = explorer.locator(f"[data-choice={kind}]")
    control.evaluate("(control, value) => { control.value = value }", value)
    control.dispatch_event("input", {"bubbles": True})


def test_explorer_shows_the_levels_that_the_package_has(explorer):
    for fmt in FORMATS_OF_AT_MOST_8_BITS:
        choose(explorer, "exponent", fmt.exponent_bits)
        choose(explorer, "mantissa", fmt.mantissa_bits)
        shown = explorer.locator("[data-levels]").text_content() or ""
        assert tuple(float(level) for level in shown.split(", ")) == fmt.magnitudes.levels
        assert f"{fmt!r}, {fmt.bits} bits, {len(fmt.levels)} levels" in explorer.inner_text()


@pytest.mark.parametrize("place", [0, 40, 64, 112])
@pytest.mark.parametrize("sample", range(len(SAMPLES)))
def test_explorer_rounds_as_the_package_does(explorer, sample, place):
    values = quantiles_of(list(SAMPLES.values())[sample]).double()
    choose(explorer, "data", sample)
    choose(explorer, "scale", place)
    for fmt in FORMATS_OF_AT_MOST_8_BITS:
        choose(explorer, "exponent", fmt.exponent_bits)
        choose(explorer, "mantissa", fmt.mantissa_bits)
        scale = 2 ** (place / 16 - 1) / fmt.max
        error = (round_to(values / scale, fmt) * scale - values).square().sum()
        expected = (error / values.square().sum()).item()
        shown = float(explorer.get_attribute("data-error") or "nan")
        assert shown == pytest.approx(expected, rel=1e-9), fmt


def test_explorer_follows_the_keyboard_and_stays_within_8_bits(explorer, page):
    page.keyboard.press("Tab")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert "E7M0, 8 bits" in explorer.inner_text()
    page.keyboard.press("Tab")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert "E1M6, 8 bits" in explorer.inner_text()


def test_explorer_finds_the_best_scale(explorer):
    before = float(explorer.get_attribute("data-error") or "nan")
    explorer.get_by_role("button", name="best scale").focus()
    explorer.page.keyboard.press("Enter")
    best = float(explorer.get_attribute("data-error") or "nan")
    place = int(explorer.locator("[data-choice=scale]").input_value())
    assert best < before
    for other in (place - 1, place + 1):
        choose(explorer, "scale", other)
        assert float(explorer.get_attribute("data-error") or "nan") >= best
