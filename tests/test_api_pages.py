"""The API pages: one for each room, with every public name under the name that users import."""

import re
from pathlib import Path

import pytest
import yaml
from api_pages import PACKAGE, is_door, modules, page_of, page_text, rooms

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
PAGES = {page_of(room): room for room in rooms()}


def test_every_room_has_a_page_and_every_page_a_room():
    files = {
        path.relative_to(BOOK).with_suffix("").as_posix() for path in BOOK.rglob("api/**/*.md")
    }
    assert files == PAGES.keys()


def test_the_contents_and_the_overview_name_every_page():
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text())["parts"]
    chapters = [chapter for part in parts for chapter in part["chapters"]]
    (listed,) = [chapter["sections"] for chapter in chapters if chapter["file"] == "api"]
    assert {section["file"] for section in listed} == PAGES.keys()
    links = re.findall(r"\{doc\}`(\S+) <(\S+)>`", (BOOK / "api.md").read_text())
    assert {page: name for name, page in links} == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_every_name_of_its_door(page):
    room = PAGES[page]
    assert room in (BOOK / f"{page}.md").read_text()
    text = page_text(room)
    if is_door(modules()[room]):
        entries = set(re.findall(r"\.\. (?:autoclass|autofunction|py:data):: (\S+)", text))
        assert entries >= {f"{room}.{name}" for name in modules()[room].__all__}


def test_a_name_has_the_page_of_its_room():
    assert page_of(f"{PACKAGE}.formats.by_name") == "api/formats"
    assert page_of(f"{PACKAGE}.hardware.rtl.MatrixUnit") == "api/hardware/rtl"
    assert page_of(f"{PACKAGE}.figures.style.table") == "api/figures"
    assert page_of(f"{PACKAGE}.var.operations.total") == "api/var"


def test_a_constant_has_its_value_and_its_docstring():
    text = page_text(f"{PACKAGE}.formats")
    assert ".. py:data:: fpqvar_lab.formats.E2M1\n   :value: FloatFormat(2, 1)\n" in text
