"""The index of functions: what it finds in code, and that both of its sides are in the book."""

from pathlib import Path

import pytest
from api_pages import page_of
from function_index import index_pages, pages_by_name, used_names

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"


@pytest.mark.parametrize(
    "code",
    [
        "from fpqvar_lab.formats import by_name\nby_name('E2M1')",
        "from fpqvar_lab.formats import by_name as named\nnamed('E2M1').levels",
        "from fpqvar_lab import formats\nformats.by_name('E2M1')",
        "import fpqvar_lab.formats\nfpqvar_lab.formats.by_name('E2M1')",
        "import fpqvar_lab.formats as f\nprint(f.by_name)",
    ],
)
def test_a_function_is_found_by_whatever_name_the_code_gives_it(code):
    assert used_names(code) == {"fpqvar_lab.formats.by_name"}


def test_a_class_is_named_where_it_is_imported_from():
    code = "from fpqvar_lab.formats import FloatFormat\nFloatFormat(2, 1)"
    assert used_names(code) == {"fpqvar_lab.formats.FloatFormat"}


@pytest.mark.parametrize(
    "code",
    [
        "from fpqvar_lab.formats import by_name",  # imported, not used
        "from fpqvar_lab.formats import E2M1\nE2M1.levels",  # a value
        "import torch\ntorch.zeros(1)",
        "by_name = len\nby_name('')",
        "from fpqvar_lab import formats\nformats._halves",
    ],
)
def test_what_the_api_pages_do_not_have_is_left_out(code):
    assert used_names(code) == set()


def test_both_sides_of_the_index_say_the_same():
    index = {"a": ["f", "g"], "b": ["g"], "c": []}
    assert pages_by_name(index) == {"f": ["a"], "g": ["a", "b"]}


@pytest.mark.book
@pytest.mark.skipif(not HTML.is_dir(), reason="there is no book in _build/html: make book")
def test_pages_and_api_link_to_each_other():
    for page, names in index_pages(ROOT).items():
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        for name in names:
            assert f'{page_of(name)}.html#{name}"' in text, (page, name)
            api = (HTML / f"{page_of(name)}.html").read_text(encoding="utf-8")
            assert f'{page}.html"><span class="doc">' in api, (page, name)
