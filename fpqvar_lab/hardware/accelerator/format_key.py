"""A format's text in the table of unit costs, in result files and in messages."""

from fpqvar_lab.formats import Format, format_to_text


def format_key(fmt: Format) -> str:
    """The text of a format in lower case with dashes, such as `e2m1` or `dual-fp4-pow2`.

    `fpqvar_lab.formats.format_from_text` reads it.
    """
    return format_to_text(fmt).lower().replace("_", "-")
