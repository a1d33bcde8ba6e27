"""From the quotients of a group's peaks to the scales that its thresholds use and that are sent."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from fpqvar_lab.formats import DualFormat, Format
from fpqvar_lab.hardware.rtl.scale_divider import SCALE, bfloat16, rounded


def group_scales(
    m: Module, fmt: Format, quotients: list[Value]
) -> tuple[list[Value], dict[str, Value]]:
    """The scale of each half's thresholds, and the fields that `quantized_beat` sends.

    Args:
        m: where the logic goes.
        fmt: of the codes.
        quotients: one `QUOTIENT`, or (positive, negative) for a dual format.
    """
    scales = [rounded(m, quotient, f"scale{i}") for i, quotient in enumerate(quotients)]
    if not isinstance(fmt, DualFormat):
        return list(scales), {"scale": bfloat16(scales[0])}
    if fmt.scale_ratio == "free":
        return list(scales), {"scale": bfloat16(scales[0]), "negative": bfloat16(scales[1])}
    return _with_ratio(m, quotients[1], *scales)


def _with_ratio(
    m: Module, quotient: Value, above: Signal, below: Signal
) -> tuple[list[Value], dict[str, Value]]:
    """The negative half's scale as the least `main * 2^shift` that is not below its quotient.

    A group without positive elements takes the negative half's scale as its main one.
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
    return [above, shifted], {"scale": bfloat16(main), "negative": shift}
