"""What is a container by the ancestors of a process, over a made-up /proc."""

import pytest

from oomwatchd.kernel import containers
from oomwatchd.kernel.containers import in_container
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.kernel.systemd_cgroups import Hierarchy
from tests.faketree import Tree

INIT = 1
SYSTEMD = Hierarchy.find("/nothing")
Line = list[tuple[int, str]]
"""From PID 1 down: how many PID namespaces each process lives below the daemon's, and its cgroup."""


def asked(tree: Tree, line: Line) -> bool | None:
    """What in_container() says of the last process of the line."""
    for i, (depth, cgroup) in enumerate(line, INIT):
        tree.process(i, nspid=" ".join(["7"] * (depth + 1)), cgroup=cgroup)
        status = tree.root / f"proc/{i}/status"
        status.write_text(status.read_text().replace("PPid:\t1", f"PPid:\t{i - 1}"))
    with ProcessDir(len(line), tree.proc) as directory:
        return in_container(directory, tree.proc, SYSTEMD)


@pytest.mark.parametrize(
    ("line", "is_container"),
    [
        ([(0, "/"), (0, "/a"), (1, "/a")], False),
        ([(0, "/"), (0, "/a"), (1, "/b")], True),
        ([(0, "/"), (0, "/a"), (0, "/b"), (1, "/a")], False),  # as an ancestor farther up
        ([(0, "/"), (0, "/a"), (1, "/b"), (1, "/a")], True),  # what it does inside doesn't count
        ([(0, "/"), (0, "/a"), (1, "/a"), (2, "/b"), (2, "/b")], True),
        ([(0, "/"), (0, "/a"), (1, "/b"), (2, "/b")], True),
        ([(0, "/"), (0, "/a"), (1, "/a"), (2, "/a")], False),
        ([(0, "/init"), (1, "/x.service"), (1, "/x.service")], False),
        ([(0, "/init"), (1, "/x.scope")], True),
        ([(0, "/init"), (0, "/a"), (1, "/x.service")], True),
        ([(1, "/a"), (1, "/a")], None),  # the outermost isn't seen
    ],
)
def test_what_is_a_container(tree: Tree, line: Line, is_container: bool | None) -> None:
    assert asked(tree, line) is is_container


def test_each_ancestor_is_read_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with cgroups of his own can have each of 31 namespaces in another one, and the only ancestor outside in
    the same one as far up as he likes."""
    really, read = containers._read, list[tuple[int, str]]()

    def counting(proc: str, pid: int, name: str) -> bytes:
        read.append((pid, name))
        return really(proc, pid, name)

    monkeypatch.setattr(containers, "_read", counting)
    levels = range(1, 32)
    line: Line = [(0, "/"), *((0, f"/{i}") for i in levels), *[(0, "/far")] * 100, *((i, f"/{i}") for i in levels)]

    assert asked(tree, line) is False

    assert len(read) == len(set(read))


def test_more_generations_than_are_looked_at(tree: Tree) -> None:
    assert asked(tree, [(0, "/"), (0, "/a"), (1, "/b"), *[(1, "/b")] * 300]) is False
