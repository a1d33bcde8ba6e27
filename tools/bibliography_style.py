"""The bibliography as the text cites it, by author and year instead of an abbreviation, and marked
up as the list that it is.
"""

from collections.abc import Iterator
from typing import Any

from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.alpha import Style
from pybtex.style.labels import BaseLabelStyle


class AuthorYearLabels(BaseLabelStyle):
    """`Tian et al., 2024`; a letter after the year where two entries would share a label."""

    def format_labels(self, entries: list[Any]) -> Iterator[str]:
        seen: dict[str, int] = {}
        for entry in entries:
            label = f"{_names(entry)}, {entry.fields.get('year', 'undated')}"
            count = seen[label] = seen.get(label, 0) + 1
            yield label if count == 1 else label + chr(ord("a") + count - 1)


class AuthorYearStyle(Style):
    """The alpha style, sorted by author, with `AuthorYearLabels`."""

    default_label_style = AuthorYearLabels


def _names(entry: Any) -> str:
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    if not people:
        return entry.fields.get("organization") or entry.fields.get("key") or entry.key
    parts = [" ".join([*person.prelast_names, *person.last_names]) for person in people]
    surnames = [str(Text.from_latex(name)) for name in parts]
    if len(surnames) == 2:
        return " and ".join(surnames)
    return surnames[0] + (" et al." if len(surnames) > 2 else "")


def _mark_entries_as_items(
    app: Any, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Docutils gives the items of its list a role that ARIA has dropped."""
    if "citation-list" in (body := context.get("body", "")):
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Any) -> dict[str, Any]:
    app.connect("html-page-context", _mark_entries_as_items)
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
