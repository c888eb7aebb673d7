"""The rooms of the tree, held by machine: how many modules each has, what its table of contents names, how long a
class may be, and that what says it is pure is held to that by import-linter."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(TREE)
    for folder in ("kernel", "services")
    for path in (TREE / folder).rglob("*.py")
    if "generated" not in path.parts
)
ROOMS = sorted({module.parent for module in MODULES if module.parent != Path("services")})
MOST_MODULES = 15
MOST_CLASS_LINES = 200
"""Longer only if the docstring of the class says why it is one thing."""
IMPURE = {"os", "socket", "subprocess", "asyncio", "time", "threading", "zmq", "grpc", "sqlite3"}


def name(path: Path) -> str:
    return str(path)


def stems(room: Path) -> list[str]:
    return [module.stem for module in MODULES if module.parent == room and module.stem != "__init__"]


def docstring(module: Path) -> str:
    return ast.get_docstring(ast.parse((TREE / module).read_text())) or ""


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_a_room_can_be_taken_in_at_a_glance(room: Path) -> None:
    assert len(stems(room)) <= MOST_MODULES, f"{room}: find the noun by which it splits into folders"


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_no_module_repeats_its_rooms_name(room: Path) -> None:
    repeated = [stem for stem in stems(room) if stem.rstrip("s") == room.name.rstrip("s")]
    assert not repeated, f"{room}: say what is special about {repeated}"


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_a_rooms_docstring_is_its_table_of_contents(room: Path) -> None:
    folders = {module.parts[len(room.parts)] for module in MODULES if module.is_relative_to(room)}
    wanted = {entry.removesuffix(".py") for entry in folders} - {"__init__"}
    text = docstring(room / "__init__.py")
    missing = sorted(entry for entry in wanted if not re.search(rf"\b{re.escape(entry)}\b", text))
    assert not missing, f"{room}/__init__.py does not say what is in {missing}"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_class_is_one_thing(module: Path) -> None:
    for node in ast.walk(ast.parse((TREE / module).read_text())):
        if not isinstance(node, ast.ClassDef) or node.end_lineno is None:
            continue
        lines = node.end_lineno - node.lineno + 1
        reason = re.search(r"\bone (thing|class)\b", ast.get_docstring(node) or "")
        assert lines <= MOST_CLASS_LINES or reason, f"{module}: {node.name} has {lines} lines; split it by noun"


def held_pure() -> list[str]:
    """The modules and packages in the contract of what is pure."""
    settings = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["importlinter"]
    [contract] = [one for one in settings["contracts"] if one["name"] == "What is pure decides, and does not act"]
    assert set(contract["forbidden_modules"]) == IMPURE
    sources: list[str] = contract["source_modules"]
    return sources


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_what_says_it_is_pure_is_held_to_it(module: Path) -> None:
    if module.stem == "__init__" or not re.search(r"\bPure[.:;]", docstring(module)):
        return
    dotted = ".".join(module.with_suffix("").parts)
    assert any(dotted == held or dotted.startswith(f"{held}.") for held in held_pure()), (
        f"{module} says that it is pure: name it in the contract of what is pure, in pyproject.toml"
    )
