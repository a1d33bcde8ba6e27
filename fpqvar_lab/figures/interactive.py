"""Figures with controls that work in the rendered page: one piece of HTML each, without server,
network or library.

What such a figure shows at first is drawn by its script; readers without scripts are told so, and
find the same data in a plain figure beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template


@dataclass(frozen=True)
class Interactive:
    """HTML with a script, which a notebook shows and a static page keeps working."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def interactive(kind: str, name: str, body: str, data: str) -> Interactive:
    """A figure from its parts: the style sheet and the script that lie beside this file as
    `<kind>.css` and `<kind>.js`, a body of HTML, and the data that the script reads.

    The script finds its figure's `id` in `document.currentScript.dataset.figure`. In the style
    sheet NAME stands for it.

    Args:
        kind: the name of the two files.
        name: the `id` of this figure; no other figure of a page may have it.
        body: controls and drawing, hidden until the script shows them, and what `noscript` says.
        data: what the script draws; it is handed over as JSON.

    Raises:
        FileNotFoundError: there is no such style sheet or script.
    """
    html = Template(_HTML).substitute(
        kind=kind.replace("_", "-"),
        name=name,
        style=_read(f"{kind}.css").replace("NAME", name),
        body=body,
        data=data,
        script=_read(f"{kind}.js"),
    )
    return Interactive(html)


def radio_buttons(name: str, titles: Sequence[str]) -> str:
    """One button for each title, whose value is its index; the last is chosen."""
    return "".join(
        f'<label><input type="radio" name="{name}" value="{index}"'
        f"{' checked' if index == len(titles) - 1 else ''}> {escape(title)}</label>"
        for index, title in enumerate(titles)
    )


def options(titles: Sequence[str]) -> str:
    """The entries of a list to choose from, whose values are their indices."""
    return "".join(
        f'<option value="{index}">{escape(title)}</option>' for index, title in enumerate(titles)
    )


def _read(name: str) -> str:
    return (files("fpqvar_lab.figures") / name).read_text(encoding="utf-8")


_HTML = """
<div class="$kind" id="$name">
<style>$style</style>
$body<script type="application/json">$data</script>
<script data-figure="$name">$script</script>
</div>
"""
