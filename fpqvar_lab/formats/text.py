"""Formats as one word of text: a name such as `E2M1` or `DUAL_FP4`, or what the format is made of.

    E3M4    E4M3(bias=8,num_high_nans=1)    INT5    INT4-ASYMMETRIC    GRID(0...32)    GRID(0,1,5)
    E1M2|E2M1    GRID(0...31)|E2M3|power-of-two

`INTn` is sign and magnitude, `-ASYMMETRIC` two's complement. A dual format is its negative half,
its positive half, and its scale ratio where that is not free.
"""

import re

import numpy as np

from fpqvar_lab.formats.named import FORMATS
from fpqvar_lab.formats.types import DualFormat, FloatFormat, Format, GridFormat, IntFormat

_ASYMMETRIC = "-ASYMMETRIC"
_MINIFLOAT = re.compile(r"E(\d+)M(\d+)(?:\((.*)\))?")
_INTEGER = re.compile(rf"INT(\d+)({_ASYMMETRIC})?")
_GRID = re.compile(r"GRID\((.*)\)")
_WHOLE = re.compile(r"-?\d+")
_RUN = re.compile(r"0\.\.\.(\d+)")


def format_to_text(fmt: Format) -> str:
    """The text of any format, without spaces, from which `format_from_text` makes it again.

    It is the name in `FORMATS` where the format has one.
    """
    names = [name for name, named in FORMATS.items() if named == fmt]
    return names[0] if names else _structure(fmt)


def format_from_text(text: str) -> Format:
    """The format of a text such as `E2M1`, `dual-fp4`, `E3M4`, `INT5` or `GRID(0,1,5)`, in any
    case.

    Raises:
        ValueError: when the text is not understood, or describes no format.
    """
    named = FORMATS.get(text.upper().replace("-", "_"))
    if named is not None:
        return named
    if "|" in text:
        return _dual(text)
    return _signed(text)


def _structure(fmt: Format) -> str:
    if isinstance(fmt, DualFormat):
        ratio = [] if fmt.scale_ratio == "free" else [fmt.scale_ratio]
        halves = (format_to_text(half) for half in (fmt.negative, fmt.positive))
        return "|".join([*halves, *ratio])
    if isinstance(fmt, IntFormat):
        return f"INT{fmt.bits}" + ("" if fmt.symmetric else _ASYMMETRIC)
    if isinstance(fmt, GridFormat):
        return f"GRID({_values_to_text(fmt.values)})"
    return repr(fmt).replace(" ", "")


def _values_to_text(values: tuple[float, ...]) -> str:
    if values == tuple(range(len(values))):
        return f"0...{len(values) - 1}"
    # They are float32 numbers, whose shortest decimals are shorter than those of a Python float.
    return ",".join(str(np.float32(value)).removesuffix(".0") for value in values)


def _dual(text: str) -> DualFormat:
    negative, positive, *ratio = text.split("|")
    halves = format_from_text(negative), format_from_text(positive)
    if len(ratio) > 1 or any(isinstance(half, DualFormat) for half in halves):
        raise ValueError(f"format {text!r}: write two halves and a scale ratio, as E1M2|E2M1|free")
    return DualFormat(*halves, *(word.lower() for word in ratio))  # type: ignore[arg-type]


def _signed(text: str) -> FloatFormat | IntFormat | GridFormat:
    word = text.upper()
    if match := _MINIFLOAT.fullmatch(word):
        return FloatFormat(int(match[1]), int(match[2]), **_options(match[3], text))
    if match := _INTEGER.fullmatch(word):
        return IntFormat(int(match[1]), symmetric=match[2] is None)
    if match := _GRID.fullmatch(word):
        return _grid(match[1].lower())
    raise ValueError(
        f"format {text!r}; use one of {', '.join(FORMATS)}, or write it as E3M4, "
        "E4M3(bias=8,num_high_nans=1), INT5, INT4-ASYMMETRIC, GRID(0,1,5) or E1M2|E2M1"
    )


def _options(words: str | None, text: str) -> dict[str, int]:
    pairs = [word.partition("=") for word in words.split(",")] if words else []
    options = {name.lower(): value.lower() for name, _, value in pairs}
    if options.keys() - {"bias", "num_high_nans"}:
        raise ValueError(f"format {text!r}: a minifloat's options are bias and num_high_nans")
    for name, value in options.items():
        if not _WHOLE.fullmatch(value):
            raise ValueError(f"format {text!r}: {name} is {value!r}; use a whole number")
    return {name: int(value) for name, value in options.items()}


def _grid(words: str) -> GridFormat:
    if run := _RUN.fullmatch(words):
        return GridFormat.integers(int(run[1]))
    return GridFormat(tuple(_magnitude(word) for word in words.split(",")))


def _magnitude(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"magnitude {word!r} of a grid; use a number") from None
