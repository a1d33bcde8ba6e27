"""What a result file says of how it came about: digests of code, versions, the machine."""

import ast
import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parent.parent
ROOTS = ("method/ptq", "evaluation/tasks", "evaluation/metrics")
"""Modules that quantize, sample and score; what they import of this package counts too."""


@cache
def code_digests() -> dict[str, str]:
    """Digest of every module that has a part in a result, by its name.

    The digest is of the syntax tree without docstrings, so that comments, layout and documentation
    do not change it.
    """
    found: dict[str, str] = {}
    waiting = [PACKAGE / f"{name}.py" for name in ROOTS]
    while waiting:
        file = waiting.pop()
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if name not in found:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found[name] = _digest(tree)
            waiting += _imported(tree)
    return dict(sorted(found.items()))


def _digest(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _imported(tree: ast.Module) -> list[Path]:
    """Files of this package that a module imports."""
    files = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            base = PACKAGE.joinpath(*(node.module or "").split(".")[1:])
            names = [base / alias.name for alias in node.names]
            for path in (base, *names):
                files += [f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()]
    return files


def versions() -> dict[str, str]:
    """Of Python and of the packages whose arithmetic counts."""
    packages = ("torch", "numpy", "torch-fidelity")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


def machine(device: str) -> str:
    """The processor that does the work, by its maker's name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
