"""The rooms of the house: which one may import which. Imports inside functions count."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src/oomwatchd"

ALLOWED: dict[str, set[str]] = {
    "base": set(),
    "control": {"base"},
    "rules": {"base"},
    "kernel": {"base", "rules"},
    "config": {"base", "rules", "kernel"},
    "oom": {"base", "rules", "kernel"},
    "oomlog": {"base", "rules"},
    "pinning": {"base", "rules", "kernel", "oom"},
    "doctor": {"base", "rules", "kernel", "oom"},
    "daemon": {"base", "control", "rules", "kernel", "config", "oom", "oomlog", "pinning"},
    "ctl": {"base", "control", "rules", "kernel", "config", "oom", "oomlog", "pinning", "doctor"},
}
"""Each room, and the rooms that it may import. The package itself (its version) is open to all."""


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below `node`. Unlike ast.walk() this leaves expressions out, and takes an eighth of the time."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, part, ()):
            yield child
            yield from statements(child)


@functools.cache
def imports(path: Path) -> set[str]:
    """The modules of ours that the module at `path` imports, by their full names."""
    found = set()
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return {name for name in found if name.startswith("oomwatchd.")}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


def test_imports_go_one_way() -> None:
    wrong = {}
    for path in MODULES:
        room = room_of(path)
        rooms = {name.split(".")[1] for name in imports(path)} & set(ALLOWED)
        wrong[path] = rooms - {room} - ALLOWED[room]
    assert not {path: rooms for path, rooms in wrong.items() if rooms}


def test_each_room_is_in_the_table() -> None:
    assert {room_of(path) for path in MODULES} == set(ALLOWED)


def test_no_circles_of_modules() -> None:
    names = {f"oomwatchd.{'.'.join(path.relative_to(SOURCE).with_suffix('').parts)}": path for path in MODULES}
    graph = {name: imports(path) & set(names) for name, path in names.items()}
    while graph:
        leaves = {name for name, wanted in graph.items() if not wanted & set(graph)}
        assert leaves, f"a circle of imports within {sorted(graph)}"
        graph = {name: wanted for name, wanted in graph.items() if name not in leaves}


GUIDES = [SOURCE.parent.parent / name for name in ("HACKING.md", "README.md")]
FOLDERS = (SOURCE, SOURCE.parent.parent)


def code(page: Path) -> set[str]:
    """What stands between single backquotes in a page."""
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text()))


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_files_that_a_guide_names_are_there(page: Path) -> None:
    named = {word for word in code(page) if re.fullmatch(r"[\w./-]+/[\w.-]+\.(?:py|c|scd|json|md)", word)}
    assert named
    assert not {word for word in named if not any((folder / word).exists() for folder in FOLDERS)}


@functools.cache
def classes_of_all_modules() -> dict[str, set[str]]:
    """The names of the methods of each class. No class stands in a function."""
    classes: dict[str, set[str]] = {}
    for node in (node for path in MODULES for node in tree(path).body):
        if isinstance(node, ast.ClassDef):
            names = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            classes.setdefault(node.name, set()).update(names)
    return classes


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_methods_that_a_guide_names_are_there(page: Path) -> None:
    classes = classes_of_all_modules()
    named = [word.split(".") for word in code(page) if re.fullmatch(r"[A-Z]\w+\.[a-z_]+", word)]
    assert not [(name, method) for name, method in named if name in classes and method not in classes[name]]
