"""Sphinx extension: the API pages, one for each room of the package.

`book/api/hardware/rtl.md` documents `fpqvar_lab.hardware.rtl`, and so on; such a page holds a
title, and the rest is written here. A room with a door (an `__init__` with `__all__`) is documented
by the names of the door, under which users import them, in the order of the modules that define
them; a room without one, module by module. Classes that a door does not offer, but that its
functions take or return, stand there too, under their module's name. There is nothing to maintain
but the pages' titles.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

from sphinx.addnodes import desc_signature
from sphinx.pycode import ModuleAnalyzer

PACKAGE = "fpqvar_lab"

# Modules that are doors of their own, beside that of their room, because their functions have plain
# names, as `total` and `read`, that say what they are only after the module's.
SIDE_DOORS = ("fpqvar_lab.hardware.accelerator.results", "fpqvar_lab.var.operations")

LONGEST_VALUE = 60


# Which name is whose


@cache
def modules() -> dict[str, ModuleType]:
    """All modules of the package but private ones, by name."""
    package = importlib.import_module(PACKAGE)
    names = (found.name for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."))
    return {name: importlib.import_module(name) for name in names if "._" not in name}


def is_door(module: ModuleType) -> bool:
    return hasattr(module, "__path__") and bool(getattr(module, "__all__", ()))


@cache
def rooms() -> tuple[str, ...]:
    """What has an API page: rooms with a door, rooms of modules that are doors, single modules."""
    doors = [name for name, module in modules().items() if is_door(module)]
    rest = [name for name in modules() if not any(_lies_in(name, door) for door in doors)]
    holders = [name for name in rest if any(_lies_in(door, name) for door in doors)]
    parts = [name for name in rest if name not in holders]
    return tuple(doors + [name for name in parts if name.rpartition(".")[0] not in parts])


def _lies_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@cache
def public_names() -> dict[str, str]:
    """Where a function or class is defined -> the name under which it is imported."""
    return {
        f"{found.__module__}.{found.__qualname__}": f"{door}.{name}"
        for door, module in modules().items()
        if is_door(module)
        for name in module.__all__
        if inspect.isroutine(found := inspect.unwrap(getattr(module, name)))
        or inspect.isclass(found)
    }


def page_of(name: str) -> str:
    """The API page of a public name or a module, by its name in Sphinx."""
    return "api/" + room_of(name).removeprefix(f"{PACKAGE}.").replace(".", "/")


def room_of(name: str) -> str:
    """The room, of those that have a page, in which a name or a module lies."""
    return max((room for room in rooms() if _lies_in(name, room)), key=len, default=PACKAGE)


# What a page says


def page_text(room: str) -> str:
    """The text of a room's page below its title, in MyST Markdown."""
    module = modules()[room]
    if is_door(module):
        return "".join(_door_sections(module))
    inside = [name for name in modules() if _lies_in(name, room) and name != room]
    return _module(room) + "".join(f"\n## `{name}`\n{_module(name)}" for name in inside)


def _door_sections(door: ModuleType) -> Iterator[str]:
    yield _rst(f".. automodule:: {door.__name__}\n   :no-members:")
    for name, members in _members_by_module(door).items():
        entries = "\n".join(
            [_entry(door.__name__, name, member) for member in members]
            + [f".. autoclass:: {name}.{other}\n" for other in _other_classes(name, members)]
        )
        yield f"\n## {name.rpartition('.')[2].replace('_', ' ').capitalize()}\n"
        yield _rst(f".. automodule:: {name}\n   :no-members:\n   :no-index:\n\n{entries}")
    for name in SIDE_DOORS:
        if _lies_in(name, door.__name__):
            yield f"\n## `{name}`\n{_module(name)}"


def _members_by_module(door: ModuleType) -> dict[str, list[str]]:
    """The names of a door by the module that defines them, both in the order of the source."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(inspect.getsource(door)).body:
        if isinstance(node, ast.ImportFrom) and _lies_in(node.module or "", door.__name__):
            defined = list(_definitions(node.module or ""))
            names = (alias.asname or alias.name for alias in node.names)
            found[node.module or ""] = sorted(names, key=defined.index)
    inside = (name for name in modules() if _lies_in(name, door.__name__))
    unseen = (name for name in inside if name not in (door.__name__, *found, *SIDE_DOORS))
    return found | {name: [] for name in unseen if _other_classes(name, [])}


def _other_classes(module: str, offered: list[str]) -> list[str]:
    """The public classes of a module that the door does not offer."""
    return [
        name
        for name, node in _definitions(module).items()
        if isinstance(node, ast.ClassDef) and not name.startswith("_") and name not in offered
    ]


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The statements of a module that define a name, in their order."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(inspect.getsource(modules()[module])).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (
                n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)
            )
            found.update(dict.fromkeys(names, node))
    return found


def _entry(door: str, module: str, name: str) -> str:
    found = getattr(modules()[door], name)
    if inspect.isclass(found):
        return f".. autoclass:: {door}.{name}\n"
    if inspect.isroutine(inspect.unwrap(found)):
        return f".. autofunction:: {door}.{name}\n"
    return _constant(door, module, name)


def _constant(door: str, module: str, name: str) -> str:
    """A constant, its value and its docstring, which `autodata` finds in its own module only."""
    statement = _definitions(module)[name]
    value = getattr(statement, "value", None)
    text = ast.unparse(value) if value is not None else ""
    lines = [f".. py:data:: {door}.{name}"]
    if text and len(text) <= LONGEST_VALUE:
        lines.append(f"   :value: {text}")
    comment = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name), [])
    return "\n".join([*lines, "", *(f"   {line}" for line in comment), ""])


def _module(name: str) -> str:
    return _rst(f".. automodule:: {name}")


def _rst(text: str) -> str:
    return f"\n```{{eval-rst}}\n{text}\n```\n"


# Sphinx extension


def setup(app: Any) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("source-read", _write_page)
    app.connect("missing-reference", _follow_to_door)
    app.connect("viewcode-follow-imported", _source_of)
    app.connect("doctree-read", _add_places)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_page(app: Any, page: str, source: list[str]) -> None:
    if page.startswith("api/"):
        source[0] += page_text(f"{PACKAGE}." + page.removeprefix("api/").replace("/", "."))


def _follow_to_door(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Signatures name a class by where it is defined; link it where it is documented."""
    target = node.get("reftarget", "")
    module, _, last = target.rpartition(".")
    if isinstance(getattr(modules().get(module), last, None), TypeVar):
        return text
    name = public_names().get(target)
    if name is None:
        return None
    python = env.get_domain("py")
    kind = node.get("reftype", "obj")
    return python.resolve_xref(env, node["refdoc"], app.builder, kind, name, node, text)


def _source_of(app: Any, module: str, name: str) -> str | None:
    """The module whose source has this; a door has none of what it offers."""
    found = getattr(modules().get(module), name.partition(".")[0], None)
    found = inspect.unwrap(found) if callable(found) else found
    if inspect.isclass(found) or inspect.isroutine(found):
        return found.__module__
    return module


def _add_places(app: Any, document: Any) -> None:
    """Give an entry a place by both of its names; the source listings know one per module."""
    for entry in document.findall(desc_signature):
        module, name = entry.get("module"), entry.get("fullname")
        if module in modules() and name:
            holders = {_source_of(app, module, name), room_of(module)}
            places = {f"{holder}.{name}" for holder in holders}
            entry["ids"] += sorted(places - {*document.ids, *entry["ids"]})
