"""A group's scales from its quotients: rounded to bfloat16, one per branch of a dual format."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.data import StructLayout

from fpqvar_lab.formats import DualFormat, Format
from fpqvar_lab.hardware.rtl.scale_divider import EXPONENT, SIGNIFICAND_BITS

SCALE = StructLayout({"significand": SIGNIFICAND_BITS, "exponent": EXPONENT})


def group_scales(
    m: Module, fmt: Format, quotients: list[Value]
) -> tuple[list[Value], dict[str, Value]]:
    """The scale of each branch's thresholds, and the fields that `quantized_beat` sends.

    Args:
        m: The module that the logic is added to.
        fmt: The format of the codes.
        quotients: One `QUOTIENT`, or (positive, negative) for a dual format.
    """
    scales = [_rounded(m, quotient, f"scale{i}") for i, quotient in enumerate(quotients)]
    if not isinstance(fmt, DualFormat):
        return list(scales), {"scale": _bfloat16(scales[0])}
    if fmt.scale_ratio == "free":
        return list(scales), {"scale": _bfloat16(scales[0]), "negative": _bfloat16(scales[1])}
    return _with_ratio(m, quotients[1], *scales)


def _with_ratio(
    m: Module, quotient: Value, above: Signal, below: Signal
) -> tuple[list[Value], dict[str, Value]]:
    """The negative branch's scale as the least `main * 2^shift` that is not below its quotient.

    A group without positive elements takes the negative branch's scale as its main one.
    """
    has_above, has_below = above.significand != 0, quotient.digits != 0
    main, shifted = Signal(SCALE, name="main"), Signal(SCALE, name="shifted")
    exceeds = Cat(quotient.round | quotient.sticky, quotient.digits) > (main.significand << 1)
    shift = Signal(SCALE["exponent"].shape, name="shift")
    m.d.comb += main.eq(Mux(has_above, above.as_value(), below.as_value()))
    with m.If(has_below):
        m.d.comb += [
            shift.eq(quotient.exponent - main.exponent + exceeds),
            shifted.significand.eq(main.significand),
            shifted.exponent.eq(main.exponent + shift),
        ]
    return [above, shifted], {"scale": _bfloat16(main), "negative": shift}


def _rounded(m: Module, quotient: Value, name: str) -> Signal:
    """The quotient rounded to 8 significant bits, ties to even, as a `SCALE`."""
    scale = Signal(SCALE, name=name)
    up = quotient.round & (quotient.sticky | quotient.digits[0])
    total = Signal(SIGNIFICAND_BITS + 1, name=f"{name}_total")
    overflows = total[-1]
    m.d.comb += [
        total.eq(quotient.digits + up),
        scale.significand.eq(Mux(overflows, 2 ** (SIGNIFICAND_BITS - 1), total)),
        scale.exponent.eq(quotient.exponent + overflows),
    ]
    return scale


def _bfloat16(scale: Value) -> Value:
    """The 16 bits of bfloat16 for a `SCALE`: 0 for a significand of 0."""
    field = (scale.exponent + (127 + SIGNIFICAND_BITS - 1))[:8]
    return Mux(scale.significand == 0, 0, Cat(scale.significand[:-1], field))
