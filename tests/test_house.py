"""The rooms of the house: which one may import which. Imports inside functions count."""

import ast
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


def imports(path: Path) -> set[str]:
    """The modules of ours that the module at `path` imports, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return {name for name in found if name.startswith("oomwatchd.")}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imports(path)} & set(ALLOWED)
    assert rooms - {room} <= ALLOWED[room]


def test_each_room_is_in_the_table() -> None:
    assert {room_of(path) for path in MODULES} == set(ALLOWED)


def test_no_circles_of_modules() -> None:
    names = {f"oomwatchd.{'.'.join(path.relative_to(SOURCE).with_suffix('').parts)}": path for path in MODULES}
    graph = {name: imports(path) & set(names) for name, path in names.items()}
    while graph:
        leaves = {name for name, wanted in graph.items() if not wanted & set(graph)}
        assert leaves, f"a circle of imports within {sorted(graph)}"
        graph = {name: wanted for name, wanted in graph.items() if name not in leaves}
