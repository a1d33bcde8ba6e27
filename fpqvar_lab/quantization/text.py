"""Quantizers as one line of text, for recipes: `E2M1 per-group-128 scale=mse scale-dtype=e4m3`.

The format's name and the granularity come first; options follow, each where it is not the default.
What concerns a computation rather than its result (`gradient`, `check`, `compile`) is not spelled.
"""

from fpqvar_lab.formats import FORMATS, Format, IntFormat, Rounding, by_name
from fpqvar_lab.quantization.granularity import (
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    PerGroup,
)
from fpqvar_lab.quantization.quantizer import Quantizer
from fpqvar_lab.quantization.scales import (
    ABSMAX,
    MSE,
    MseSearch,
    Percentile,
    ScaleDtype,
    ScaleMethod,
    ratio,
)

_GRANULARITIES: dict[str, Granularity] = {
    "per-tensor": PER_TENSOR,
    "per-channel": PER_CHANNEL,
    "per-token": PER_TOKEN,
}
_ASYMMETRIC = "-ASYMMETRIC"


def spell(quantizer: Quantizer) -> str:
    """The text of a quantizer, from which `read_quantizer` makes it again.

    Raises:
        ValueError: when its format, granularity or scale method has no name.
    """
    words = [spell_format(quantizer.format), _spell_granularity(quantizer.granularity)]
    if quantizer.scale != ABSMAX:
        words.append(f"scale={_spell_method(quantizer.scale)}")
    if quantizer.scale_dtype is not ScaleDtype.FLOAT32:
        words.append(f"scale-dtype={quantizer.scale_dtype.value}")
    if quantizer.rounding is not Rounding.TIES_TO_EVEN:
        words.append(f"rounding={quantizer.rounding.value}")
    return " ".join(words)


def read_quantizer(text: str) -> Quantizer:
    """The quantizer of a text such as `INT4 per-channel` or `E2M1 per-group-128 scale=mse`.

    Raises:
        ValueError: when a word is not understood; the message says what is.
    """
    words = text.split()
    if len(words) < 2:
        raise ValueError(f"{text!r}: write a format and a granularity, as in 'E2M1 per-group-128'")
    options = dict(word.partition("=")[::2] for word in words[2:])
    unknown = options.keys() - {"scale", "scale-dtype", "rounding"}
    if unknown:
        raise ValueError(f"{text!r}: option {min(unknown)!r}; use scale, scale-dtype or rounding")
    return Quantizer(
        read_format(words[0]),
        _read_granularity(words[1]),
        scale=_read_method(options.get("scale", "absmax")),
        scale_dtype=ScaleDtype(options.get("scale-dtype", "float32")),
        rounding=Rounding(options.get("rounding", Rounding.TIES_TO_EVEN.value)),
    )


def spell_format(fmt: Format) -> str:
    """The name of a format: as in `FORMATS`, or `INT4-ASYMMETRIC` for two's complement.

    Raises:
        ValueError: when it has none.
    """
    if isinstance(fmt, IntFormat):
        return f"INT{fmt.bits}" + ("" if fmt.symmetric else _ASYMMETRIC)
    names = [name for name, named in FORMATS.items() if named == fmt]
    if not names:
        raise ValueError(f"format {fmt} has no name; named are {', '.join(FORMATS)}")
    return names[0]


def read_format(name: str) -> Format:
    """The format of a name. Raises `ValueError` as `by_name` does."""
    base = name.upper().removesuffix(_ASYMMETRIC)
    if base.startswith("INT") and base[3:].isdigit():
        return IntFormat(int(base[3:]), symmetric=base == name.upper())
    return by_name(name)


def _spell_granularity(granularity: Granularity) -> str:
    if isinstance(granularity, PerGroup):
        if granularity.dim != -1:
            raise ValueError(f"{granularity} has no text; only groups of the last dimension have")
        return f"per-group-{granularity.size}"
    return next(name for name, value in _GRANULARITIES.items() if value == granularity)


def _read_granularity(word: str) -> Granularity:
    prefix, _, size = word.rpartition("-")
    if prefix == "per-group" and size.isdigit():
        return PerGroup(int(size))
    if word not in _GRANULARITIES:
        allowed = ", ".join([*_GRANULARITIES, "per-group-128"])
        raise ValueError(f"granularity {word!r}; use {allowed} (or another size)")
    return _GRANULARITIES[word]


def _spell_method(method: ScaleMethod) -> str:
    if isinstance(method, Percentile):
        return f"percentile-{method.percent:g}"
    if isinstance(method, MseSearch) and len(method.ratios) == 1:
        return f"ratio-{method.ratios[0]:g}"
    if method != MSE:
        raise ValueError(f"{method} has no text; use ABSMAX, MSE, a percentile or a ratio")
    return "mse"


def _read_method(word: str) -> ScaleMethod:
    methods: dict[str, ScaleMethod] = {"absmax": ABSMAX, "mse": MSE}
    prefix, _, number = word.partition("-")
    if prefix in ("percentile", "ratio") and number.replace(".", "", 1).isdigit():
        return Percentile(float(number)) if prefix == "percentile" else ratio(float(number))
    if word not in methods:
        raise ValueError(f"scale {word!r}; use absmax, mse, percentile-99.9 or ratio-0.9")
    return methods[word]
