"""The printed book: one PDF whose links and outline work, from a small rendered book."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from browser import NOT_FOUND, find_chromium
from print_pdf import print_book
from pypdf import PdfReader

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=NOT_FOUND)

NAVIGATION = """<nav class="bd-links">
<a class="reference internal" href="one.html">One</a>
<a class="reference internal" href="part/two.html">Two</a>
<a class="reference internal" href="api.html">API</a>
<a class="reference internal" href="api/room.html">A room</a></nav>
<script>window.MathJax = {startup: {promise: Promise.resolve()}, typesetPromise: async () => {}}
</script>"""
PAGES = {
    "index.html": '<meta http-equiv="Refresh" content="0; url=one.html">',
    "one.html": NAVIGATION
    + """<article id="a"><h1>One</h1><p>the first page</p><h2 id="same">A part
    <a class="headerlink" href="#same">#</a></h2>
    <a href="#same">here</a> <a href="part/two.html#same">there</a> <a href="part/two.html">Two</a>
    <a href="https://example.org/">elsewhere</a> <a href="api.html#f">API</a>
    <details><summary>Show solution 1 Hide solution 1</summary>the solution</details></article>""",
    "part/two.html": """<article><h1>Two</h1><h2 id="same">The same</h2>
    <p class="written"></p>
    <script>document.querySelector(".written").textContent = "a script ran"</script></article>""",
    "api.html": "<article><h1>API</h1>every room</article>",
    "api/room.html": "<article><h1>A room</h1>every function</article>",
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    folder = tmp_path_factory.mktemp("html")
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    print_book(folder, folder / "book.pdf", without=("api.html", "api/"))
    return PdfReader(folder / "book.pdf")


def links(printed: PdfReader) -> list[Mapping[str, Any]]:
    found = [page.get("/Annots", []) for page in printed.pages]
    return [annotation.get_object() for page in found for annotation in page]


def test_pages_follow_the_navigation_without_what_is_left_out(printed):
    texts = [page.extract_text() for page in printed.pages]
    assert len(texts) == 2
    assert "the first page" in texts[0]
    assert "Two" in texts[1]
    assert not any("every room" in text or "every function" in text for text in texts)


def test_links_between_pages_lead_within_the_pdf(printed):
    places = printed.named_destinations
    targets = [str(link["/Dest"]) for link in links(printed) if "/Dest" in link]
    found = [printed.get_destination_page_number(places[target]) for target in targets]
    assert found == [0, 1, 1]


def test_other_links_lead_outside_and_never_to_the_machine_that_printed(printed):
    addresses = [link["/A"]["/URI"] for link in links(printed) if "/A" in link]
    assert addresses == ["https://example.org/"]


def test_the_outline_holds_the_headings(printed):
    def titles(entries):
        return [titles(e) if isinstance(e, list) else str(e.title) for e in entries]

    assert titles(printed.outline) == ["One", ["A part"], "Two", ["The same"]]


def test_what_is_folded_or_drawn_by_a_script_is_printed(printed):
    text = "".join(page.extract_text() for page in printed.pages)
    assert "Solution 1" in text
    assert "the solution" in text
    assert "a script ran" in text


def test_a_book_without_a_browser_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("browser.find_chromium", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"no Chromium.*install"):
        print_book(Path(tmp_path), tmp_path / "book.pdf")
