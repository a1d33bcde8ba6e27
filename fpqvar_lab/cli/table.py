"""Tables of text, for people to read."""

from collections.abc import Collection, Iterable, Sequence

from tabulate import tabulate


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = ()) -> str:
    """A table with aligned columns: names to the left, numbers to the right.

    Args:
        titles: titles of the columns.
        rows: texts, one for each title.
        left: the titles of the columns that are aligned to the left.
    """
    alignment = ["left" if title in left else "right" for title in titles]
    return tabulate(
        rows,
        titles,
        tablefmt="plain",
        colalign=alignment,
        headersalign=alignment,
        disable_numparse=True,
    )
