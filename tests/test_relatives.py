"""The lineage of processes that no event has shown, by what the kernel still shows of them; over a made-up /proc."""

import shutil
import time
from collections.abc import Iterable

import pytest

from oomwatchd.base import clock
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning import relatives
from oomwatchd.pinning.decisions import SCAN
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pid_table import OwnTable
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

TOP, PID, CHILD, GRANDCHILD = 10, 20, 30, 40
PINNED, NATURAL = -50, 100
"""Both have three characters, because a made-up file keeps the rest of a longer value."""
RULE = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(PINNED, PINNED))
SECOND = Rule("second", (Criterion("comm", (Pattern("second"),)),), Action(PINNED - 10, PINNED - 10))
UNIT = "/system.slice/a.service"


@pytest.fixture(autouse=True)
def fine_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start times are nanoseconds here, and the machine was never suspended."""
    monkeypatch.setattr(clock, "TICKS_PER_SECOND", 1_000_000_000)
    monkeypatch.setattr(relatives, "ticks_since_boot", lambda monotonic_ns: monotonic_ns)


@pytest.fixture
def pinner(tree: Tree) -> Pinner:
    return Pinner(RuleSet([RULE, SECOND]), Ledger(None, ""), proc=tree.proc)


def start(
    tree: Tree,
    pid: int,
    comm: bytes = b"other",
    *,
    ppid: int = 1,
    session: int = 0,
    adj: int = NATURAL,
    threads: int = 1,
    starttime: int | None = None,
) -> None:
    tree.process(pid, comm, ppid=ppid, adj=adj, cgroup=UNIT)
    begin = f"{pid} ({comm.decode()}) S {ppid} {pid} {session or pid} 0 -1 0 "
    begun = pid * 10 if starttime is None else starttime
    tree.write(f"proc/{pid}/stat", begin + "0 " * 10 + f"{threads} 0 {begun} 0")


def ended(tree: Tree, pid: int) -> None:
    shutil.rmtree(tree.root / f"proc/{pid}")


def scan(pinner: Pinner, pids: Iterable[int]) -> None:
    for _ in pinner.relatives.gather(pids):
        pass
    for _ in pinner.look_at_relatives(()):
        pass


def values(tree: Tree, *pids: int) -> list[int]:
    return [int((tree.root / f"proc/{pid}/oom_score_adj").read_text()) for pid in pids]


def ancestors(pinner: Pinner, pid: int) -> list[int]:
    """The PIDs of the known ancestors of a process, nearest first."""
    pids, node = list[int](), pinner.ledger.nodes[pid]
    while node.parent is not None:
        node = node.parent
        pids.append(node.pid)
    return pids


# When it has to be asked


def test_a_scan_has_to_gather_at_the_start_and_after_each_loss(pinner: Pinner) -> None:
    found = pinner.relatives
    assert found.unknown is True
    for lose in (found.note_unheard_forks, lambda: found.note_loss(1), found.give_up_gathering):
        list(found.gather([]))
        assert found.unknown is False
        lose()
        assert found.unknown is True


def test_what_a_scan_gathered_that_was_given_up_is_forgotten(tree: Tree, pinner: Pinner) -> None:
    start(tree, TOP, b"fits")
    start(tree, PID, ppid=TOP, adj=PINNED)
    list(pinner.relatives.gather([PID]))
    pinner.relatives.give_up_gathering()
    pinner.relatives.forked(PID, TOP)

    pinner.look(TOP, SCAN)
    list(pinner.look_at_relatives(()))

    assert values(tree, PID) == [PINNED]


# Children


def test_children_of_one_that_is_pinned_early_are_those_of_its_first_thread(tree: Tree, pinner: Pinner) -> None:
    """Its stat couldn't be read any more."""
    start(tree, TOP)
    tree.write(f"proc/{TOP}/task/{TOP}/children", f"{PID} {CHILD} ".encode())
    list(pinner.relatives.gather([]))

    with ProcessDir(TOP, tree.proc) as directory:
        assert pinner.relatives.children(directory, None) == [PID, CHILD]

    assert pinner.relatives.unknown is False


@pytest.mark.parametrize(("threads", "asked"), [(256, True), (257, False)])
def test_not_all_of_very_many_threads_are_asked(tree: Tree, pinner: Pinner, threads: int, asked: bool) -> None:
    start(tree, TOP, threads=threads)
    for thread in range(threads):
        tree.write(f"proc/{TOP}/task/{1000 + thread}/children", f"{5000 + thread} ".encode())
    list(pinner.relatives.gather([]))

    with ProcessDir(TOP, tree.proc) as directory:
        children = pinner.relatives.children(directory, directory.read_stat())

    assert (len(set(children)), pinner.relatives.unknown) == (256, not asked)


# Parents and sessions


@pytest.mark.parametrize("order", [(TOP, PID, CHILD, GRANDCHILD), (GRANDCHILD, CHILD, PID, TOP), (99, CHILD)])
def test_descendants_are_found_in_any_order(tree: Tree, pinner: Pinner, order: tuple[int, ...]) -> None:
    """The process 99 has ended meanwhile."""
    start(tree, TOP, b"fits")
    start(tree, PID, ppid=TOP, adj=PINNED)
    start(tree, CHILD, ppid=PID, adj=PINNED)
    start(tree, GRANDCHILD, ppid=CHILD, adj=PINNED)
    pinner.look(TOP, SCAN)
    pinner.forked(PID, TOP, time.monotonic_ns())

    scan(pinner, order)

    shown = values(tree, CHILD, GRANDCHILD)
    assert shown == [NATURAL, NATURAL if GRANDCHILD in order else PINNED]
    assert ancestors(pinner, CHILD) == [PID, TOP]


def test_a_pinned_parent_that_was_found_after_its_pinned_child(tree: Tree, pinner: Pinner) -> None:
    start(tree, PID, b"fits", ppid=TOP)
    pinner.look(PID, SCAN)
    start(tree, TOP, b"fits")
    pinner.look(TOP, SCAN)
    assert ancestors(pinner, PID) == []

    scan(pinner, (PID, TOP))

    assert ancestors(pinner, PID) == [TOP]


@pytest.mark.parametrize("order", [(TOP, PID, CHILD), (CHILD, PID, TOP)])
def test_a_child_of_one_that_ends_during_the_scan(tree: Tree, pinner: Pinner, order: tuple[int, ...]) -> None:
    start(tree, TOP, b"fits")
    start(tree, PID, ppid=TOP, adj=PINNED)
    start(tree, CHILD, ppid=PID, adj=PINNED)
    pinner.look(TOP, SCAN)

    list(pinner.relatives.gather(order))
    ended(tree, PID)
    start(tree, CHILD, adj=PINNED)
    list(pinner.look_at_relatives(()))

    assert values(tree, CHILD) == [NATURAL]
    assert ancestors(pinner, CHILD) == [TOP]


def test_a_child_whose_parent_ends_after_it_was_found(tree: Tree, pinner: Pinner) -> None:
    start(tree, TOP, b"fits")
    pinner.look(TOP, SCAN)
    start(tree, PID, ppid=TOP, adj=PINNED)
    start(tree, CHILD, ppid=PID, adj=PINNED)
    list(pinner.relatives.gather([TOP, PID, CHILD]))

    for _ in pinner.look_at_relatives(()):
        if PID in pinner.ledger.nodes and CHILD not in pinner.ledger.nodes:
            start(tree, CHILD, adj=PINNED)
            shutil.rmtree(tree.root / f"proc/{PID}", ignore_errors=True)

    assert values(tree, CHILD) == [NATURAL]
    assert ancestors(pinner, CHILD) == [PID, TOP]


def test_an_orphan_in_the_session_of_a_pinned_process(tree: Tree, pinner: Pinner) -> None:
    start(tree, TOP, b"fits")
    start(tree, PID, session=TOP, adj=PINNED)
    start(tree, CHILD, adj=PINNED)
    list(pinner.relatives.gather([TOP, PID, CHILD]))
    pinner.look(TOP, SCAN)
    list(pinner.look_at_relatives(()))

    assert values(tree, PID, CHILD) == [NATURAL, PINNED]


def test_a_fork_that_has_ended_while_a_scan_gathers_leads_to_its_children(tree: Tree, pinner: Pinner) -> None:
    start(tree, TOP, b"fits")
    start(tree, CHILD, adj=PINNED)
    list(pinner.relatives.gather([TOP]))
    pinner.relatives.forked(PID, TOP)
    pinner.relatives.forked(CHILD, PID)

    pinner.look(TOP, SCAN)
    list(pinner.look_at_relatives(()))

    assert values(tree, CHILD) == [NATURAL]


# After a loss of events


@pytest.mark.parametrize(
    ("losses", "starttime", "found"),
    [
        ((1000,), 1001, True),
        ((1000,), 1000, False),
        ((5000, 1000, 9000), 1001, True),
        ((5000, 1000, 9000), 1000, False),
        ((), 1001, False),
    ],
)
@pytest.mark.parametrize("lives", [True, False])
def test_an_orphan_of_the_time_of_the_loss_is_found_by_its_value(
    tree: Tree, pinner: Pinner, losses: tuple[int, ...], starttime: int, found: bool, lives: bool
) -> None:
    """And what it has forked is found after that."""
    start(tree, TOP, b"fits")
    pinner.look(TOP, SCAN)
    start(tree, PID, adj=PINNED, starttime=starttime)
    start(tree, CHILD, ppid=PID, adj=PINNED, starttime=starttime + 5)
    tree.process(50, adj=NATURAL)
    for loss in losses:
        pinner.relatives.note_loss(loss)
    if not lives:
        ended(tree, TOP)
        pinner.family.exited(TOP, time.monotonic_ns())

    scan(pinner, [TOP, 50, CHILD, PID])

    assert values(tree, PID, CHILD) == ([NATURAL, NATURAL] if found else [PINNED, PINNED])
    if found:
        assert ancestors(pinner, CHILD) == [PID, TOP]
    start(tree, GRANDCHILD, adj=PINNED, starttime=starttime)
    scan(pinner, [GRANDCHILD])
    assert values(tree, GRANDCHILD) == [PINNED]  # the loss is over


def test_who_is_looked_at_after_a_loss(tree: Tree, pinner: Pinner) -> None:
    for pid, comm in ((TOP, b"fits"), (50, b"second"), (60, b"other")):
        start(tree, pid, comm)
        pinner.look(pid, SCAN)
    for pid, adj in ((PID, PINNED), (CHILD, PINNED - 10)):
        start(tree, pid, adj=adj, starttime=1001)
    start(tree, GRANDCHILD, ppid=CHILD, adj=PINNED, starttime=1002)
    pinner.relatives.note_loss(1000)
    list(pinner.relatives.gather([TOP, 50, 60, PID, CHILD, GRANDCHILD]))

    assert [pid for pid in pinner.relatives.adopt(()) if pid is not None] == [PID, CHILD, GRANDCHILD]


def test_a_stray_of_one_whose_descendants_are_known_is_found_after_its_death(tree: Tree, pinner: Pinner) -> None:
    """It died before the loss."""
    start(tree, TOP, b"fits")
    pinner.look(TOP, SCAN)
    start(tree, PID, ppid=TOP, adj=PINNED)
    pinner.forked(PID, TOP, time.monotonic_ns())
    ended(tree, TOP)
    pinner.family.exited(TOP, time.monotonic_ns())
    now = time.monotonic_ns()
    pinner.relatives.note_loss(now)
    start(tree, CHILD, adj=PINNED, starttime=now + 5)

    scan(pinner, [PID, CHILD])

    assert values(tree, CHILD) == [NATURAL]


class KernelTable:
    """Stands for the table that the kernel keeps, which knows all descendants."""

    def __init__(self) -> None:
        self._own = OwnTable()

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)


def test_with_the_kernels_table_nothing_is_guessed(tree: Tree, pinner: Pinner) -> None:
    pinner.tracking.use(KernelTable())  # type: ignore[arg-type]
    start(tree, TOP, b"fits")
    pinner.look(TOP, SCAN)
    start(tree, PID, adj=PINNED, starttime=5000)
    pinner.relatives.note_loss(1000)

    scan(pinner, [TOP, PID])

    assert values(tree, PID) == [PINNED]
