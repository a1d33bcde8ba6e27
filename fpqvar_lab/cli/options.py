"""The options that commands share, and the types of their values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

_LAST_LABEL = 99_999  # beyond the classes of any model; a typing error must not fill the memory


def between(low: float, high: float) -> Parameter:
    """A number from `low` to `high`, both allowed; "not a number" is neither."""

    def check(_: Any, value: float | None) -> None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"allowed are {_shown(low)} to {_shown(high)}")

    return Parameter(validator=check)


def positive(high: float = math.inf) -> Parameter:
    """A finite number above 0, and at most `high`."""

    def check(_: Any, value: float | None) -> None:
        if value is not None and not (0 < value <= high and math.isfinite(value)):
            end = f" and at most {_shown(high)}" if math.isfinite(high) else ""
            raise ValueError(f"allowed are numbers above 0{end}")

    return Parameter(validator=check)


def _finite(_: Any, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise ValueError("allowed are finite numbers")


def _shown(number: float) -> str:
    return str(number) if isinstance(number, float) else f"{number:,}"


def parse_labels(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    """`0-9`, `3`, `0,2,5-7` -> the numbers, in the order given.

    Raises:
        ValueError: for what is no label.
    """
    return tuple(
        label for part in tokens[-1].value.split(",") for label in _labels_of(part.strip())
    )


def _labels_of(part: str) -> range:
    first, dash, last = part.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise ValueError(f"{part!r} is no label; write for example 0-9 or 1,3,7")
    if max(len(first), len(last)) > 9 or max(int(first), int(last or 0)) > _LAST_LABEL:
        raise ValueError(f"{part!r} is beyond the last label allowed, {_LAST_LABEL}")
    return range(int(first), int(last or first) + 1)


Count = Annotated[int, between(1, 1_000_000_000)]
Size = Annotated[int, between(1, 65_536)]
Seed = Annotated[int, between(-(2**63), 2**63 - 1)]
Fraction = Annotated[float, positive(1)]
Positive = Annotated[float, positive()]
Finite = Annotated[float, Parameter(validator=_finite)]
Labels = Annotated[
    tuple[int, ...],
    Parameter(converter=parse_labels, n_tokens=1, metavar="LABELS", show_default="0-9"),
]
Execution = Literal["auto", "reference", "float32", "bfloat16", "int8"]
"""How quantized layers are computed; the values are `fpqvar_lab.execution.EXECUTIONS`."""
CommandLine = Annotated[str, Parameter(parse=False)]
"""Filled in with the whole command line, for files that say how they were made."""


@Parameter(name="*", group=Group("Model", sort_key=1))
@dataclass(frozen=True)
class Source:
    """Which model.

    Args:
        model: a model that comes with the data
        weights: a VAR checkpoint (.pth or .safetensors) instead
        vqvae: the VQVAE's checkpoint, with --weights
    """

    model: Literal["mini", "mini-outlier"] | None = None
    weights: Path | None = None
    vqvae: Path | None = None


@Parameter(name="*", group=Group("Sampling", sort_key=3))
@dataclass(frozen=True)
class Sampling:
    """How images are sampled.

    Args:
        cfg: guidance strength
        top_k: codes kept; 0 keeps all
        top_p: probability kept; 0 keeps all
        seed: of the random numbers
    """

    cfg: Finite = 1.5
    top_k: Annotated[int, between(0, 1_000_000_000)] = 900
    top_p: Annotated[float, between(0, 1)] = 0.96
    seed: Seed = 0


@Parameter(name="*", group=Group("Computation", sort_key=4))
@dataclass(frozen=True)
class Computation:
    """Where and in what precision.

    Args:
        device: cpu, cuda, cuda:1, ...
        dtype: of weights and activations
    """

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@Parameter(name="*", group=Group("Processes", sort_key=5))
@dataclass(frozen=True)
class Cluster:
    """On how many processes, and where.

    Args:
        workers: run in so many processes here
        scheduler: run on the Dask cluster at this address
    """

    workers: Annotated[int | None, between(1, 1024)] = None
    scheduler: Annotated[str | None, Parameter(metavar="ADDRESS")] = None
