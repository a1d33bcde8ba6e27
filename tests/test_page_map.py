"""The map of the pages: complete, in an order in which pages need only earlier ones."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
page_map = pytest.importorskip("page_map")

BOOK = ROOT / "book"
PARTS = page_map.read_parts(BOOK)
PAGES = [page for _, pages in PARTS for page in pages]


def test_every_page_needs_only_earlier_pages():
    for place, page in enumerate(PAGES):
        text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
        assert "**You need**" in text, page
        assert set(page_map.read_needs(BOOK, page)) <= set(PAGES[:place]), page


def test_every_page_but_the_first_ones_of_a_subject_needs_another():
    free = [page for page in PAGES if not page_map.read_needs(BOOK, page)]
    assert free == ["model/next-scale-prediction", "formats/minifloats-from-bits"]


def test_needs_are_read_from_the_line_alone(tmp_path):
    (tmp_path / "part").mkdir()
    text = (
        "**You need** {doc}`one` and {doc}`two <../other/two>`,\nand {doc}`three`.\n\n{doc}`four`\n"
    )
    (tmp_path / "part/page.md").write_text(text)
    assert page_map.read_needs(tmp_path, "part/page") == ["part/one", "other/two", "part/three"]


def test_the_drawing_has_a_link_for_each_page_and_an_arc_for_each_need():
    needs = {page: page_map.read_needs(BOOK, page) for page in PAGES}
    titles = {page: (f"{page} & more", f"{page}.html") for page in PAGES}
    svg = ElementTree.fromstring(page_map.draw(PARTS, needs, titles))
    assert [link.get("href") for link in svg.iter("a")] == [f"{page}.html" for page in PAGES]
    assert len(list(svg.iter("path"))) == sum(map(len, needs.values()))
    assert svg.find("a/text").text == f"{PAGES[0]} & more"
