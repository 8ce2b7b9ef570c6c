"""The facts of a process that records show, and which of them are read for that; over a made-up /proc."""

from collections.abc import Iterator

import pytest

from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import SCAN
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.look import KEPT_PATH, Look, describe
from tests.faketree import Tree

PID = 20


@pytest.fixture
def look(tree: Tree) -> Iterator[Look]:
    tree.process(PID, b"name", cgroup="/system.slice/a.service")
    with ProcessDir(PID, tree.proc) as directory:
        yield Look(directory, Node(PID, 200, None), SCAN, directory.read_stat())


def test_what_is_not_known_yet_is_read(tree: Tree, look: Look) -> None:
    (tree.root / f"proc/{PID}/exe").symlink_to("/srv/program (deleted)")

    describe(look, Ledger(None, ""), View(tree.proc))

    node = look.node
    assert (node.comm, node.exe, node.uid, node.unit) == ("name", "/srv/program", 0, "a.service")
    assert (look.exe, node.described) == ("/srv/program", True)


def test_where_there_is_no_executable_none_is_shown(tree: Tree, look: Look) -> None:
    describe(look, Ledger(None, ""), View(tree.proc))
    assert (look.node.exe, look.node.unit) == ("", "a.service")


def test_nothing_is_read_where_the_record_is_not_shown(tree: Tree, look: Look) -> None:
    look.exe = "/srv/known"

    describe(look, Ledger(None, ""), None)

    node = look.node
    assert (node.comm, node.exe, node.uid, node.unit) == ("name", "/srv/known", None, "")
    assert not node.described


@pytest.mark.parametrize(("length", "is_kept"), [(KEPT_PATH, True), (KEPT_PATH + 1, False)])
def test_a_very_long_path_is_shown_but_not_kept(tree: Tree, look: Look, length: int, is_kept: bool) -> None:
    look.exe = path = "/".ljust(length, "x")

    describe(look, Ledger(None, ""), View(tree.proc))

    assert (look.exe, look.node.exe) == (path, path if is_kept else "")
