"""Every public name of the package has one door: its room's own `__init__`, or the module where the
room has no door. The layers of the rooms are held by `lint-imports` (pyproject.toml).
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from api_pages import SIDE_DOORS
from build_book import find_pages, read_page

ROOT = Path(__file__).parent.parent
PACKAGE = "fpqvar_lab"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def offered(module: str) -> frozenset[str]:
    """What a module's `__all__` lists."""
    lists = (
        ast.literal_eval(node.value)
        for node in parsed(module).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return frozenset(next(lists, []))


DOORS = [module for module, path in FILES.items() if path.stem == "__init__" and offered(module)]


def room_of(module: str) -> str | None:
    """The room with a door in which a module lies."""
    return next((d for d in DOORS if module == d or module.startswith(f"{d}.")), None)


def door_of(module: str) -> str | None:
    """Through which door a module's names are taken; None if through the module itself."""
    return None if module in SIDE_DOORS else room_of(module)


@cache
def defined(module: str) -> frozenset[str]:
    """The names that a module itself defines, not those that it imports."""
    names: set[str] = set()
    for node in parsed(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            stored = (n for n in ast.walk(node) if isinstance(n, ast.Name))
            names.update(n.id for n in stored if isinstance(n.ctx, ast.Store))
    return frozenset(names)


def public_names(module: str) -> frozenset[str]:
    """What code outside its room may take from a module: nothing, where the room has a door."""
    if (door := door_of(module)) is None:
        return frozenset(name for name in defined(module) if not name.startswith("_"))
    return offered(module) if module == door else frozenset()


def imports(code: ast.AST) -> Iterator[tuple[str, str]]:
    """Each import from the package, as the module and the name that is taken from it."""
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            yield from ((node.module or "", alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            found = (a.name.rpartition(".") for a in node.names if a.name.startswith(f"{PACKAGE}."))
            yield from ((module, name) for module, _, name in found)


def fault(module: str, name: str, inside: str = "") -> str | None:
    """What is wrong with this import in the module `inside`; None if nothing is."""
    whole = f"{module}.{name}"
    if module not in FILES:
        return f"there is no {module}"
    door = door_of(whole if whole in FILES else module)
    if name in public_names(module):
        at_home = door_of(module) == room_of(inside) == module
        return f"{whole}: take it from the module beside, not from the door" if at_home else None
    if door is None:
        return None if whole in FILES else f"{whole} is not defined there"
    if door in (whole, room_of(inside)):
        return None
    return f"{whole} lies behind {door}; import what it offers from there"


def faults(code: str, inside: str = "") -> list[str]:
    found = (fault(module, name, inside) for module, name in imports(ast.parse(code)))
    return [f"{inside}: {text}" if inside else text for text in found if text]


def texts(*folders: str) -> dict[str, str]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def cells(page: Path) -> str:
    return "\n".join(cell.source for cell in read_page(page).cells if cell.cell_type == "code")


def test_the_package_takes_names_through_their_doors():
    modules = (m for m, path in FILES.items() if path.stem != "__init__")
    found = [text for module in modules for text in faults(ast.unparse(parsed(module)), module)]
    assert found == []


@pytest.mark.parametrize("folder", ["benchmarks", "tools"])
def test_scripts_take_names_through_their_doors(folder):
    found = {name: faults(code) for name, code in texts(folder).items()}
    assert {name: text for name, text in found.items() if text} == {}


def test_pages_take_names_through_their_doors():
    found = {page.stem: faults(cells(page)) for page in find_pages(ROOT)}
    assert {page: text for page, text in found.items() if text} == {}


def test_the_readme_takes_names_through_their_doors():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert blocks
    assert [text for block in blocks for text in faults(block)] == []


def test_tests_take_what_a_door_offers_from_the_door():
    """The inside of a module is theirs to reach."""
    found = {
        name: [
            text
            for module, taken in imports(ast.parse(code))
            if taken in offered(door_of(module) or module) and (text := fault(module, taken))
        ]
        for name, code in texts("tests").items()
    }
    assert {name: text for name, text in found.items() if text} == {}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_offers_all_that_it_imports_and_only_from_its_own_room(door):
    taken = list(imports(parsed(door)))
    assert {name for _, name in taken} == offered(door)
    assert {module for module, _ in taken if not module.startswith(f"{door}.")} == set()


@pytest.mark.parametrize("module", [module for module in FILES if module not in DOORS])
def test_no_module_offers_what_it_imports(module):
    assert offered(module) <= defined(module)


@pytest.mark.parametrize(
    ("code", "inside"),
    [
        ("from fpqvar_lab.formats.codec import encode", ""),
        ("from fpqvar_lab.formats import nothing_of_this_name", ""),
        ("from fpqvar_lab.formats import codec", ""),
        ("import fpqvar_lab.formats.codec", ""),
        ("from fpqvar_lab.data import digest", ""),
        ("from fpqvar_lab.nowhere import anything", ""),
        ("from fpqvar_lab.formats.codec import encode", "fpqvar_lab.quantization.scales"),
        ("from fpqvar_lab.formats import encode", "fpqvar_lab.formats.packing"),
    ],
)
def test_an_import_beside_the_door_is_found(code, inside):
    assert len(faults(code, inside)) == 1


@pytest.mark.parametrize(
    ("code", "inside"),
    [
        ("from fpqvar_lab.formats import encode", ""),
        ("from fpqvar_lab import data, formats", ""),
        ("from fpqvar_lab.figures import style", ""),
        ("from fpqvar_lab.formats.codec import encode", "fpqvar_lab.formats.packing"),
    ],
)
def test_an_import_through_the_door_is_sound(code, inside):
    assert faults(code, inside) == []
