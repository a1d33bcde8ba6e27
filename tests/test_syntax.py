"""Digests of source: code changes them; layout, comments and Python's version do not."""

import sys
from textwrap import dedent

import pytest

from fpqvar_lab.evaluation.syntax import source_digest

SAMPLE = '''
"""What it is for."""

import os
from math import pi, sqrt

import numpy as np

LIMIT = 1_000
"""A string beside the code."""


def cached(function):
    return function


@cached
class Shape(np.ndarray):
    """A docstring, and nothing else."""


def area(radius: float, *, unit: str = "m\\N{SUPERSCRIPT TWO}", **more: int) -> str:
    """Compute it."""
    if (square := radius**2) > LIMIT:
        raise ValueError(f"{radius=:>{len(unit)}.2f} " "is too large" f" for {unit!r}")
    match more:
        case {"kind": "circle", **rest} if rest:
            return f"{pi * square:,.1f} {unit}"
        case {"kind": "square" | "box"}:
            return f"{square}{''}{unit}"
        case _:
            pass
    try:
        return f"{sqrt(square)}"
    except* ValueError:
        return os.sep.join({**more, "x": -1.5e-3j})
'''


def test_the_digest_is_the_same_in_every_version_of_python():
    """Recorded with 3.11, and seen with 3.12 and 3.13."""
    assert source_digest(SAMPLE) == "f2e3c0ab358272a6"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older versions lack the syntax")
def test_newer_syntax_has_a_digest_too():
    source = "type Pair[T] = tuple[T, T]\ndef swap[T](pair: Pair[T]) -> Pair[T]: return pair[::-1]"
    assert source_digest(source) == "8357bda143e8b031"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it is for."""', '"""Another purpose."""'),
        ('"""A string beside the code."""', ""),
        ('    """A docstring, and nothing else."""', "    pass"),
        ("import os\nfrom math import pi, sqrt", "from math import sqrt, pi\nimport os"),
        ("from math import pi, sqrt", "from math import pi\nfrom math import sqrt"),
        ("LIMIT = 1_000", "LIMIT = 1000  # metres"),
        ('return f"{sqrt(square)}"', "return (\n            f'{sqrt(square)}'\n        )"),
    ],
)
def test_layout_comments_and_the_order_of_imports_do_not_count(old, new):
    assert old in SAMPLE
    assert source_digest(SAMPLE.replace(old, new)) == source_digest(SAMPLE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 1_000", "LIMIT = 1_001"),
        ("1_000", "1_000.0"),
        ("> LIMIT", ">= LIMIT"),
        ("@cached\n", ""),
        ("pi, sqrt", "pi, cbrt as sqrt"),
        ("radius=:>", "radius=:<"),
        ("{unit!r}", "{unit!s}"),
        ("is too large", "is large"),
        (":,.1f", ":,.2f"),
        ('"square" | "box"', '"square"'),
        ("except* ", "except "),
        ("-1.5e-3j", "1.5e-3j"),
        ('"x": -1.5', '"y": -1.5'),
        ("*, unit", "unit"),
        ("import os", "import sys as os"),
    ],
)
def test_code_counts(old, new):
    assert old in SAMPLE
    assert source_digest(SAMPLE.replace(old, new)) != source_digest(SAMPLE)


def test_statements_of_a_block_keep_their_order():
    assert source_digest("a = 1\nb = 2") != source_digest("b = 2\na = 1")
    inside = dedent("""
        import a
        x = 1
        import b
    """)
    assert source_digest(inside) != source_digest("import a\nimport b\nx = 1")
