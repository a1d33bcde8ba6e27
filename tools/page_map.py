"""The map of the pages: a Sphinx directive, ``page-map``, that draws which page needs which.

Every page names what it needs in its line "**You need** {doc}`...`". The map lists the pages in
reading order and joins each by an arc to those; it is an SVG in the page, so that it follows the
colours of the theme and its titles are links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

LINE, CAPTION, LEFT, WIDTH = 26, 34, 118, 470  # heights of a line, left edge of titles, width
NEEDS = re.compile(r"^\*\*You need\*\*(.*?)(?:\n\n|\n:::)", re.DOTALL | re.MULTILINE)
REFERENCE = re.compile(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`")

Parts = list[tuple[str, list[str]]]


class PageMapNode(nodes.General, nodes.Element):
    """Stands for the map until all titles are known."""


class PageMap(SphinxDirective):
    """``{page-map}``, without arguments."""

    def run(self) -> list[nodes.Node]:
        return [PageMapNode()]


def read_parts(book: Path) -> Parts:
    """The captions of the book's numbered parts, each with its pages in reading order."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    return [
        (part["caption"], [chapter["file"] for chapter in part["chapters"]])
        for part in toc["parts"]
        if part.get("numbered")
    ]


def read_needs(book: Path, page: str) -> list[str]:
    """The pages that a page says it needs, as document names."""
    found = NEEDS.search((book / f"{page}.md").read_text(encoding="utf-8"))
    if found is None:
        return []
    folder = (book / page).parent
    paths = [(folder / name).resolve() for name in REFERENCE.findall(found[1])]
    return [path.relative_to(book.resolve()).as_posix() for path in paths]


def places(parts: Parts) -> dict[str, int]:
    """Height of the middle of each page's line."""
    heights, y = {}, 0
    for _, pages in parts:
        y += CAPTION
        for page in pages:
            heights[page] = y + LINE // 2
            y += LINE
    return heights


def draw(parts: Parts, needs: dict[str, list[str]], titles: dict[str, tuple[str, str]]) -> str:
    """The map as SVG.

    Args:
        parts: the book's parts and pages, from `read_parts`.
        needs: the pages that each page needs, by page.
        titles: each page's title and address, by page.
    """
    heights = places(parts)
    bottom = max(heights.values()) + LINE
    label = "The pages in reading order; arcs join each page to those it needs."
    size = f'viewBox="0 0 {WIDTH} {bottom}"'
    lines = [f'<svg class="page-map" {size} role="group" aria-label="{label}">']
    lines += _arcs(needs, heights)
    for number, (caption, pages) in enumerate(parts, 1):
        y = heights[pages[0]] - LINE // 2 - 8
        lines.append(f'<text class="part" x="{LEFT}" y="{y}">{number}. {escape(caption)}</text>')
        for page in pages:
            title, address = titles[page]
            lines.append(
                f'<circle cx="{LEFT - 12}" cy="{heights[page]}" r="3.5"/>'
                f'<a href="{escape(address)}"><text x="{LEFT}" y="{heights[page] + 5}">'
                f"{escape(title)}</text></a>"
            )
    return "\n".join([*lines, "</svg>"])


def _arcs(needs: dict[str, list[str]], heights: dict[str, int]) -> Iterator[str]:
    x = LEFT - 12
    for page, needed in needs.items():
        for other in needed:
            if other in heights:
                start, end = heights[other], heights[page]
                reach = min(LEFT - 20, 10 + abs(end - start) * 0.36)
                path = f"M{x} {start} C{x - reach:.0f} {start} {x - reach:.0f} {end} {x} {end}"
                yield f'<path d="{path}"/>'


def _resolve(app: Any, document: nodes.document, name: str) -> None:
    for node in list(document.findall(PageMapNode)):
        if app.builder.format != "html":
            node.parent.remove(node)
            continue
        book = Path(app.srcdir)
        parts = read_parts(book)
        pages = [page for _, listed in parts for page in listed]
        titles = {
            page: (app.env.titles[page].astext(), app.builder.get_relative_uri(name, page))
            for page in pages
        }
        svg = draw(parts, {page: read_needs(book, page) for page in pages}, titles)
        node.replace_self(nodes.raw("", svg, format="html"))


def setup(app: Any) -> dict[str, bool]:
    """Registers the directive with Sphinx."""
    app.add_node(PageMapNode)
    app.add_directive("page-map", PageMap)
    app.connect("doctree-resolved", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
