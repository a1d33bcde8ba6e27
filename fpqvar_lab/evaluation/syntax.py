"""Digests of source code that change when the code does, and only then.

A digest is of the syntax tree. Layout, comments, docstrings and the order of adjacent imports are
not in it, nor is anything that differs between the versions of Python that this package runs on.
"""

import ast
import hashlib
from itertools import groupby
from typing import Any

_IGNORED = ("ctx", "kind", "type_comment")
"""Fields that follow from where a node stands, or that have no effect."""


def source_digest(source: str) -> str:
    """Compute a digest (16 hexadecimal digits) of what a module's source does."""
    return hashlib.sha256(_text(ast.parse(source)).encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    if isinstance(value, ast.JoinedStr):
        return f"JoinedStr([{', '.join(_pieces(value))}])"
    if isinstance(value, ast.AST):
        return f"{type(value).__name__}({', '.join(_fields(value))})"
    if isinstance(value, list):
        is_block = bool(value) and isinstance(value[0], ast.stmt)
        items = _statements(value) if is_block else map(_text, value)
        return f"[{', '.join(items)}]"
    return ascii(value)  # repr would leave to the version which characters can be printed


def _fields(node: ast.AST) -> list[str]:
    """The fields of a node that hold something; newer versions of Python know more of them."""
    found = ((name, getattr(node, name, None)) for name in sorted(node._fields))
    return [
        f"{name}={_text(value)}"
        for name, value in found
        if name not in _IGNORED and value is not None and value != []
    ]


def _pieces(string: ast.JoinedStr) -> list[str]:
    """The pieces of an f-string; versions differ in how they cut the text between its fields."""
    found = []
    for is_text, run in groupby(string.values, lambda piece: isinstance(piece, ast.Constant)):
        if is_text:
            text = "".join(str(piece.value) for piece in run if isinstance(piece, ast.Constant))
            found += [ascii(text)] if text else []
        else:
            found += [_text(piece) for piece in run]
    return found


def _statements(block: list[ast.stmt]) -> list[str]:
    """The statements of a block that do something, imports that stand together in order."""
    found: list[str] = []
    kept = [node for node in block if not _does_nothing(node)]
    for are_imports, run in groupby(
        kept, lambda node: isinstance(node, ast.Import | ast.ImportFrom)
    ):
        if are_imports:
            found += sorted({name for node in run for name in _imports(node)})
        else:
            found += [_text(node) for node in run]
    return found


def _does_nothing(node: ast.stmt) -> bool:
    """Whether a statement is `pass`, a docstring, or another string beside the code."""
    if isinstance(node, ast.Pass):
        return True
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(node: ast.stmt) -> list[str]:
    """What a statement imports, a text per name."""
    assert isinstance(node, ast.Import | ast.ImportFrom)
    source = ""
    if isinstance(node, ast.ImportFrom):
        source = f"from {'.' * node.level}{node.module or ''} "
    return [f"{source}import {a.name} as {a.asname or a.name}" for a in node.names]
