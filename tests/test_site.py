"""The built website in a real browser, served from a local port: what readers, lecturers and machines rely on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

SITE = Path(__file__).resolve().parent.parent / "_build" / "html"
MEGABYTE = 1_000_000
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> list[str]:
    """The addresses of all pages, slides included, relative to the site."""
    if not (SITE / "index.html").exists():
        pytest.fail("the website is not built: run `make book` first")
    return sorted(
        path.relative_to(SITE).as_posix()
        for path in SITE.rglob("*.html")
        if "_static" not in path.relative_to(SITE).parts
    )


@pytest.fixture(scope="module")
def lectures(pages) -> list[str]:
    found = [page for page in pages if page.startswith("notebooks/")]
    assert found, "the site has no lecture"
    return found


@pytest.fixture(scope="module")
def slides(pages) -> list[str]:
    return [page for page in pages if page.startswith("slides/")]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.fail("no Chromium: install the chromium package, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser) -> Iterator[Page]:
    """A tab of a desktop browser, in light mode."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    yield context.new_page()
    context.close()


def open_page(tab: Page, url: str) -> None:
    """Open a page and wait until its formulas, or its slides, are set."""
    tab.goto(url)
    tab.wait_for_function("() => !window.MathJax || MathJax.startup?.promise")
    tab.evaluate("() => window.MathJax && MathJax.startup.promise")
    if "/slides/" in url:
        tab.wait_for_selector("body[data-ready]")


class Scan(HTMLParser):
    """The anchors, links, loaded addresses and images of a page as it is stored."""

    def __init__(self, page: str):
        super().__init__()
        self.anchors, self.links, self.loads, self.images = {""}, [], [], []
        self.feed((SITE / page).read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given.get("id", ""), given.get("name", "")}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in {"script", "link", "iframe", "source", "img"} and given.get("rel") not in ("next", "prev"):
            self.loads += [given[name] for name in ("src", "href") if name in given]
        if tag == "img":
            self.images.append(given)


def test_pages_load_without_errors_or_foreign_requests(pages, address, tab):
    problems, current = [], ""
    tab.on("console", lambda message: message.type in ("error", "warning") and problems.append((current, message.text)))
    tab.on("pageerror", lambda error: problems.append((current, str(error))))
    tab.on("requestfailed", lambda request: problems.append((current, f"failed: {request.url}")))
    tab.on(
        "response", lambda response: response.status >= 400 and problems.append((current, f"missing: {response.url}"))
    )
    tab.on(
        "request",
        lambda request: request.url.startswith((address, "data:", "blob:")) or problems.append((current, request.url)),
    )
    for current in pages:  # the handlers read it
        open_page(tab, address + current)
        tab.evaluate("scrollTo(0, document.body.scrollHeight)")
        tab.wait_for_load_state("networkidle")
    assert problems == []


def test_nothing_points_to_another_host_even_if_it_is_never_loaded(pages):
    foreign = {}
    for page in pages:
        away = [url for url in Scan(page).loads if urlsplit(url).netloc]
        text = (SITE / page).read_text(encoding="utf-8")
        away += [host for host in ("unpkg.com", "jsdelivr.net", "cdnjs.cloudflare", "googleapis.com") if host in text]
        if away:
            foreign[page] = away
    assert foreign == {}


def test_links_and_anchors_resolve(pages):
    anchors = {page: Scan(page).anchors for page in pages}
    broken = []
    for page in pages:
        for link in Scan(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (SITE / page).parent / unquote(parts.path) if parts.path else SITE / page
            name = target.resolve().relative_to(SITE.resolve()).as_posix()
            if not target.is_file() or (name in anchors and unquote(parts.fragment) not in anchors[name]):
                broken.append((page, link))
    assert broken == []


def test_math_is_set_and_fits_the_column_of_a_laptop(pages, address, tab):
    with_math, cut = 0, {}
    for page in pages:
        open_page(tab, address + page)
        wanted = tab.locator(".bd-article .math").count()
        assert tab.locator(".bd-article .math mjx-container").count() == wanted, page
        assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0, page
        with_math += wanted > 0
        wide = tab.evaluate(
            """() => [...document.querySelectorAll(".bd-article mjx-math")].filter(formula => {
                const column = formula.closest("div.math, p, li, dd, td, .bd-article");
                return formula.getBoundingClientRect().right > column.getBoundingClientRect().right + 2;
            }).map(formula => formula.textContent)"""
        )
        cut |= {page: wide} if wide else {}
    assert with_math >= 3
    assert cut == {}


def test_images_say_what_they_show(pages):
    silent = []
    for page in pages:
        for image in Scan(page).images:
            if not image.get("alt", "").strip() and "logo" not in image.get(
                "class", ""
            ):  # the title is beside the logo
                silent.append((page, image.get("src", "")[:60]))
    assert silent == []


def test_pages_are_light(lectures, slides):
    heavy = {page: (SITE / page).stat().st_size for page in lectures + slides}
    assert {page: size for page, size in heavy.items() if size >= 3 * MEGABYTE} == {}


def test_explore_follows_mouse_and_keyboard(lectures, address, tab):
    for lecture in lectures:
        open_page(tab, address + lecture)
        assert tab.locator(".course-explore").count() >= 1, f"{lecture} has no interactive figure"
        for figure in tab.locator(".course-explore").all():
            image, output = figure.locator("img"), figure.locator("output").first
            slider = figure.locator("input[type=range]").first
            seen = [(image.get_attribute("src"), image.get_attribute("alt"), output.inner_text())]
            slider.scroll_into_view_if_needed()
            box = slider.bounding_box()
            tab.mouse.click(box["x"] + box["width"] - 6, box["y"] + box["height"] / 2)
            seen.append((image.get_attribute("src"), image.get_attribute("alt"), output.inner_text()))
            slider.press("ArrowLeft")
            seen.append((image.get_attribute("src"), image.get_attribute("alt"), output.inner_text()))
            slider.press("Home")
            assert (image.get_attribute("src"), image.get_attribute("alt"), output.inner_text()) == seen[0], lecture
            sources, alts, values = map(set, zip(*seen, strict=True))
            assert len(sources) == len(values) >= 2, f"{lecture}: the figure does not follow the slider"
            assert len(alts) >= 2, f"{lecture}: the alt text does not follow the slider"
            assert slider.get_attribute("aria-valuetext") == output.inner_text()


def test_search_finds_a_word(address, tab):
    open_page(tab, address + "index.html")
    tab.keyboard.press("Control+k")
    tab.keyboard.type("perplexity")
    tab.keyboard.press("Enter")
    results = tab.locator("#search-results li a")
    expect(results.first).to_be_visible()
    assert any("glossary" in link.get_attribute("href") for link in results.all())


def test_dark_mode_toggles_and_figures_stay_readable(lectures, address, tab):
    open_page(tab, address + lectures[0])
    modes = set()
    for _ in range(3):
        tab.locator(".theme-switch-button").first.click()
        modes.add(tab.evaluate("document.documentElement.dataset.theme"))
        image = tab.locator("figure.course-figure img").first
        looks = image.evaluate("node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).filter]")
        assert looks == ["rgb(255, 255, 255)", "none"]
    assert modes == {"light", "dark"}


def test_phones_need_no_sideways_scroll(pages, address, browser):
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    tab, wide = context.new_page(), {}
    for page in pages:
        open_page(tab, address + page)
        width = tab.evaluate("Math.max(document.documentElement.scrollWidth, visualViewport.width)")
        cut = tab.evaluate(
            """() => [...document.querySelectorAll(".bd-article :is(mjx-container, pre, img, table, svg, input)")].filter(node => {
                if (!node.checkVisibility() || node.getBoundingClientRect().right <= 361) return false;
                for (let box = node.parentElement; box.className !== "bd-article"; box = box.parentElement)
                    if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return false;
                return true;
            }).map(node => node.outerHTML.slice(0, 100))"""
        )
        if width > 360 or cut:
            wide[page] = (width, cut)
    context.close()
    assert wide == {}


def test_the_map_shows_every_lecture_once_per_drawing(lectures, address, tab):
    open_page(tab, address + "index.html")
    for drawing in tab.locator(".course-map svg").all():
        assert drawing.locator(".map-number").count() == 24
        assert drawing.locator("a").count() == len(lectures)
    assert [svg.is_visible() for svg in tab.locator(".course-map svg").all()] == [True, False]


def test_status_page_has_every_lecture(lectures, address, tab):
    open_page(tab, address + "status.html")
    rows = tab.locator("table", has_text="Run Time").locator("tbody tr")
    assert rows.count() == len(lectures)


# axe takes minutes for a page of 30,000 elements. Most of them say the same again: the colored words of code, of which
# one of each color and background is kept, and the strokes of formulas, of which one formula is kept.
THIN_OUT = """() => {
    const seen = new Set();
    for (const word of document.querySelectorAll("div.highlight pre span")) {
        const kind = word.className + " in " + word.closest("div.highlight").parentElement.className;
        if (seen.has(kind)) word.replaceWith(word.textContent);
        seen.add(kind);
    }
    [...document.querySelectorAll("mjx-container")].slice(1).forEach(formula => formula.replaceChildren());
}"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_no_serious_barrier(mode, pages, address, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=mode, reduced_motion="reduce")
    tab, found = context.new_page(), []
    for page in pages:
        if mode == "dark" and page.startswith("slides/"):  # slides look the same in both modes
            continue
        open_page(tab, address + page)
        tab.evaluate(THIN_OUT)
        for violation in Axe().run(tab).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                found += [(page, violation["id"], node["html"][:150]) for node in violation["nodes"]]
    context.close()
    assert found == []


def test_each_lecture_links_to_its_slides(lectures, slides, address, tab):
    assert [page.replace("notebooks/", "slides/") for page in lectures] == slides
    for lecture in lectures:
        open_page(tab, address + lecture)
        tab.get_by_role("link", name="Slides", exact=True).click()
        tab.wait_for_selector("body[data-ready]")
        before = tab.url
        tab.keyboard.press("ArrowRight")
        tab.wait_for_function("before => location.href !== before", arg=before)


def test_slides_fit_the_screen(slides, address, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    tab, cut = context.new_page(), []
    for deck in slides:
        open_page(tab, address + deck)
        for index in range(tab.evaluate("Reveal.getSlides().length")):
            size, zoom = tab.evaluate(
                """index => {
                    const slide = Reveal.getSlides()[index], {h, v} = Reveal.getIndices(slide);
                    Reveal.slide(h, v, 99);
                    const boxes = [...slide.querySelectorAll("p, li, pre, img, table, mjx-container, input")]
                        .filter(node => !node.closest("aside, details:not([open]), mjx-assistive-mml"))
                        .map(node => node.getBoundingClientRect());
                    const right = Math.max(...boxes.map(box => box.right)), bottom = Math.max(...boxes.map(box => box.bottom));
                    const shrunk = [...slide.querySelectorAll("mjx-container")].map(node => parseFloat(node.style.fontSize || 100) / 100);
                    return [[Math.round(right), Math.round(bottom)], Math.min(Number(slide.style.zoom || 1), ...shrunk)];
                }""",
                index,
            )
            if size[0] > 1280 or size[1] > 720 or zoom < 0.7:  # 0.7: body text of 18 pixels is the least
                cut.append((deck, index + 1, size, zoom))
    context.close()
    assert cut == []


def test_paper_is_white_even_from_dark_mode(lectures, address, browser):
    context = browser.new_context(color_scheme="dark")
    tab = context.new_page()
    open_page(tab, address + lectures[0])
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.emulate_media(media="print")
    tab.wait_for_function("document.documentElement.dataset.theme === 'light'")
    assert not tab.locator(".course-slides").is_visible()
    tab.emulate_media(media="screen")
    tab.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    context.close()
