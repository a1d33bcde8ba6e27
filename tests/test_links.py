"""Every link within the rendered book leads to a file and a place that are there.

Reads the book of the last build; `make test` builds it first.
"""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

HTML = Path(__file__).parent.parent / "_build" / "html"
PAGES = [path for path in sorted(HTML.rglob("*.html")) if "_static" not in path.parts]

pytestmark = pytest.mark.book


class Links(HTMLParser):
    """What a page links to or shows, and the places in it that can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: set[str] = set()
        self.places: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.places.add(value)
            if name in ("href", "src") and value:
                self.addresses.add(value)


@cache
def links_of(page: Path) -> Links:
    return Links(page.read_text(encoding="utf-8"))


def is_sound(page: Path, address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True  # elsewhere
    path, place = urldefrag(address)
    path, place = unquote(urlsplit(path).path), unquote(place)
    target = (page.parent / path).resolve() if path else page
    if not target.is_file():
        return False
    return target.suffix != ".html" or place in links_of(target).places


@pytest.mark.skipif(not PAGES, reason="there is no book in _build/html: make book")
def test_every_link_within_the_book_leads_somewhere():
    broken = [
        f"{page.relative_to(HTML)}: {address}"
        for page in PAGES
        for address in sorted(links_of(page).addresses)
        if not is_sound(page, address)
    ]
    assert broken == []


@pytest.mark.parametrize("address", ["gone.html", "page.html#gone", "#gone", "gone.png"])
def test_a_broken_link_is_found(tmp_path, address):
    page = tmp_path / "page.html"
    page.write_text(f'<h1 id="here"><a href="#here"><a href="{address}">')
    assert is_sound(page, "#here")
    assert is_sound(page, "https://example.org/gone")
    assert not is_sound(page, address)
