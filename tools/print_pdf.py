"""Prints the rendered book into one PDF, through the browser in which it is read.

All pages are gathered, in the order of the navigation, into one document in the browser, so that
links between pages become links within the PDF and its headings the PDF's outline.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from browser import open_chromium, serve
from playwright.sync_api import ViewportSize
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject, TextStringObject

WIDTH_OF_TEXT = ViewportSize(width=665, height=940)  # in CSS pixels: A4 less the margins
FOOTER = (
    '<div style="font-size: 7pt; width: 100%; text-align: center">'
    '<span class="pageNumber"></span></div>'
)
STYLE = """
@page {size: A4}
html, body {background: #fff !important; font-size: 10.5pt}
body {display: block !important}
article {break-before: page; max-width: none; overflow: visible}
article:first-of-type {break-before: auto}
a {overflow-wrap: anywhere}
figure, table, .admonition, div.math {break-inside: avoid}
h1, h2, h3, summary {break-after: avoid}
pre {white-space: pre-wrap; overflow-wrap: anywhere}
.headerlink, .copybtn, .viewcode-link, form {display: none !important}
"""

# Runs on the first page: replaces its body by the articles of all pages. An id that occurs on one
# page only stays as it is; the others get their page's name in front, and links follow.
GATHER = """
async (paths) => {
  const base = location.href.slice(0, location.href.lastIndexOf("/") + 1);
  const parse = async path =>
    new DOMParser().parseFromString(await (await fetch(base + path)).text(), "text/html");
  const pages = await Promise.all(paths.map(async path => {
    const article = document.importNode((await parse(path)).querySelector("article"), true);
    return {path, article, ids: [...article.querySelectorAll("[id]")].map(e => e.id)};
  }));
  const count = new Map();
  for (const id of pages.flatMap(page => page.ids)) count.set(id, (count.get(id) || 0) + 1);
  const renamed = (path, id) => count.get(id) > 1 ? `${path}:${id}` : id;
  const known = new Map(pages.map(page => [page.path, new Set(page.ids)]));

  function rewrite(link, path) {
    const url = new URL(link.getAttribute("href"), base + path);
    const target = url.href.split("#")[0].slice(base.length);
    const id = decodeURIComponent(url.hash.slice(1));
    if (!url.href.startsWith(base)) return;
    if (!known.has(target)) link.removeAttribute("href");  // a listing, a download
    else link.href = "#" + (known.get(target).has(id) ? renamed(target, id) : "page:" + target);
  }

  for (const {path, article} of pages) {
    article.querySelectorAll("a[href]").forEach(link => rewrite(link, path));
    article.querySelectorAll("[id]").forEach(e => { e.id = renamed(path, e.id); });
    article.querySelectorAll("[src]").forEach(e => {
      e.src = new URL(e.getAttribute("src"), base + path).href;
      e.loading = "eager";
    });
    article.querySelectorAll("details").forEach(fold => {
      const summary = fold.querySelector("summary");
      const solution = /solution \\d+/i.exec(summary.textContent);
      fold.open = true;
      if (solution) summary.textContent = solution[0].replace(/^s/, "S");
      else if (summary.textContent.includes("Hide code")) summary.style.display = "none";
    });
    article.querySelectorAll("script:not([type='application/json'])").forEach(dead => {
      const live = document.createElement("script");  // a parsed script would not run
      [...dead.attributes].forEach(a => live.setAttribute(a.name, a.value));
      live.textContent = dead.textContent;
      dead.replaceWith(live);
    });
    article.id = "page:" + path;
  }
  document.documentElement.dataset.theme = "light";
  document.body.replaceChildren(...pages.map(page => page.article));
  await MathJax.typesetPromise();
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  document.querySelectorAll(".headerlink").forEach(link => link.remove());
  return [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
    .map(heading => heading.textContent.trim().replace(/\\s+/g, " "));
}
"""
ORDER = """
[...new Set([...document.querySelectorAll("nav.bd-links a.reference.internal")]
  .map(link => link.href.split("#")[0]))]
"""


def print_book(html: Path, pdf: Path, without: tuple[str, ...] = ()) -> None:
    """Print the pages of a rendered book, in the order of its navigation.

    Args:
        html: the folder of the rendered book.
        pdf: the file to write.
        without: how the names of pages begin that are left out, as in `api.html` and `api/`.
    """
    with serve(html) as site, open_chromium() as browser:
        page = browser.new_page(color_scheme="light", viewport=WIDTH_OF_TEXT)
        page.set_default_timeout(600_000)
        page.goto(site)
        page.wait_for_url("**/*.html")
        page.evaluate("() => MathJax.startup.promise.then(() => null)")
        first = page.url
        found = [address.removeprefix(site) for address in (first, *page.evaluate(ORDER))]
        paths = [path for path in dict.fromkeys(found) if not path.startswith(without)]
        titles = page.evaluate(GATHER, paths)
        page.add_style_tag(content=STYLE)
        page.pdf(
            path=pdf,
            format="A4",
            margin={"top": "18mm", "bottom": "18mm", "left": "17mm", "right": "17mm"},
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            print_background=True,
            outline=True,
            tagged=True,
        )
    _name_outline(pdf, titles)


def _name_outline(pdf: Path, titles: list[str]) -> None:
    """Give the outline the titles of the headings: Chromium joins lines, and doubles a heading that
    it moved to the next page.
    """
    writer = PdfWriter(clone_from=pdf)
    items = list(_outline_items(writer.root_object["/Outlines"].get_object()))
    if len(items) != len(titles):
        raise ValueError(f"the outline of {pdf} has {len(items)} entries, not {len(titles)}")
    for item, title in zip(items, titles, strict=True):
        item[NameObject("/Title")] = TextStringObject(title)
    writer.write(pdf)


def _outline_items(parent: Any) -> Iterator[Any]:
    item = parent.get("/First")
    while item is not None:
        yield item.get_object()
        yield from _outline_items(item.get_object())
        item = item.get_object().get("/Next")


if __name__ == "__main__":
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it remarks on how Chromium counts objects
    root = Path.cwd()
    output = root / "_build" / "book.pdf"
    try:
        print_book(root / "_build" / "html", output, without=("api.html", "api/"))
    except FileNotFoundError as error:
        sys.exit(str(error))
    pages, size = len(PdfReader(output).pages), output.stat().st_size / 1e6
    print(f"The book: {output}, {pages} pages, {size:.1f} MB")
