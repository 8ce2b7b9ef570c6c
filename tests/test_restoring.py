"""What a process gets back when its pin ends, and what descendants of a lowered one get; over a made-up /proc."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.kernel.proc_connector import PROC_EVENT_EXIT, PROC_EVENT_FORK
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.pid_table import OwnTable
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import ALL_CAPS, Tree

PID, CHILD, OTHER = 10, 20, 30
LOWERING = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(-500, -500), children="reset")
CAP_SYS_RESOURCE = 1 << 24


@pytest.fixture(autouse=True)
def written(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """PID and value of each write. A file that is made up keeps the rest of a longer value, so it is emptied before."""
    really, made = ProcessDir.write_oom_score_adj, list[tuple[int, int]]()

    def write(directory: ProcessDir, value: int) -> None:
        made.append((directory.pid, value))
        os.truncate(tree.root / f"proc/{directory.pid}/oom_score_adj", 0)
        really(directory, value)

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", write)
    return made


def add(tree: Tree, pid: int, comm: bytes, adj: int, *, ppid: int = 1, uid: int = 0) -> None:
    """A process of a user, all of whose user IDs are `uid`."""
    tree.process(pid, comm, ppid=ppid, adj=adj)
    tree.write(f"proc/{pid}/comm", comm + b"\n")
    tree.write(f"proc/{pid}/status", Tree.status(pid, uid, 4096).replace("Uid:\t0", f"Uid:\t{uid}"))


def value(tree: Tree, pid: int) -> int:
    return int((tree.root / f"proc/{pid}/oom_score_adj").read_text())


def pinner_with(tree: Tree, *rules: Rule) -> Pinner:
    return Pinner(RuleSet(rules), Ledger(None, ""), proc=tree.proc)


@pytest.mark.parametrize(
    ("uid", "shown", "gets"),
    [
        (0, -500, 0),
        (0, -200, -200),  # root can take that itself
        (1000, -200, 0),  # only the lowered floor has let it
        (1000, -1, 0),
        (1000, 700, 700),
        (1000, -700, -700),  # the floor of the pin doesn't let it go there: somebody else has
        (1000, 0, 0),
    ],
)
def test_a_released_process_keeps_only_what_it_could_have_without_the_pin(
    tree: Tree, written: list[tuple[int, int]], uid: int, shown: int, gets: int
) -> None:
    """The value is written even if it is right already, since only a write by the daemon raises the floor."""
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    pinner.look(PID, SCAN)
    assert value(tree, PID) == -500
    pinner.writer.take_decisions()
    add(tree, PID, b"other", shown, uid=uid)
    written.clear()

    pinner.look(PID, Trigger("exec", 1))

    assert value(tree, PID) == gets
    assert written == [(PID, gets)]
    (decision,) = pinner.writer.take_decisions()
    assert (decision.event, decision.rule, decision.old, decision.new) == ("released", "r", shown, gets)
    assert pinner.writer.counters.releases == 1


def test_a_release_that_the_kernel_refuses_is_reported(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    pinner.look(PID, SCAN)
    pinner.writer.take_decisions()
    add(tree, PID, b"other", -500)

    def refuse(directory: ProcessDir, value: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", refuse)
    pinner.look(PID, Trigger("exec", 1))

    (decision,) = pinner.writer.take_decisions()
    assert (decision.event, decision.rule, decision.old, decision.new) == ("pin-failed", "r", -500, 0)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_daemon_that_lowers_no_floors_lets_each_value_be_the_process_own(tree: Tree, is_known: bool) -> None:
    """So does one that doesn't know whether it does."""
    tree.me(caps=ALL_CAPS & ~CAP_SYS_RESOURCE)
    if not is_known:
        (tree.root / "proc/self/status").unlink()
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    pinner.look(PID, SCAN)
    add(tree, PID, b"other", -200, uid=1000)

    pinner.look(PID, Trigger("exec", 1))

    assert value(tree, PID) == -200


@pytest.mark.parametrize(
    ("uid", "shown", "gets"),
    [(0, -500, 0), (0, 0, 0), (0, -200, -200), (1000, -200, 0), (1000, -499, 0), (1000, 300, 300), (0, 300, 300)],
)
def test_a_descendant_of_a_lowered_process_gets_a_value_and_loses_the_floor_once(
    tree: Tree, written: list[tuple[int, int]], uid: int, shown: int, gets: int
) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    pinner.look(PID, SCAN)
    add(tree, CHILD, b"other", shown, ppid=PID, uid=uid)
    pinner.writer.take_decisions()
    written.clear()

    pinner.look(CHILD, SCAN)

    assert (value(tree, CHILD), written) == (gets, [(CHILD, gets)])
    (decision,) = pinner.writer.take_decisions()
    assert (decision.event, decision.rule, decision.old, decision.new) == ("reset-child", "r", shown, gets)
    assert decision.quiet is (shown == gets)
    tree.write(f"proc/{CHILD}/oom_score_adj", -500)

    pinner.look(CHILD, SCAN)

    assert value(tree, CHILD) == -500  # a later value is its own
    assert pinner.writer.take_decisions() == []


def test_a_settled_descendant_is_saved_as_settled(tree: Tree, tmp_path: Path) -> None:
    """So that a restart leaves alone the value that it is given later."""
    path = str(tmp_path / "ledger.json")
    pinner = Pinner(RuleSet([LOWERING]), Ledger(path, "boot"), proc=tree.proc)
    pinner.ledger.load(lambda _pid, _starttime: True)
    add(tree, PID, b"fits", 0)
    add(tree, CHILD, b"other", -500, ppid=PID)
    for pid in (PID, CHILD):
        pinner.look(pid, SCAN)
    pinner.ledger.flush()

    again = Ledger(path, "boot")
    assert again.load(lambda _pid, _starttime: True) is None

    assert [again.nodes[pid].settled for pid in (PID, CHILD)] == [False, True]
    for ledger in (pinner.ledger, again):
        ledger.close()


@pytest.mark.parametrize(("children", "is_left"), [("reset", True), (250, False)])
def test_a_settled_descendant_is_left_once_no_earlier_fork_can_come(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, children: str | int, is_left: bool
) -> None:
    """Not if a release will have to give it another value."""
    pinner = pinner_with(tree, replace(LOWERING, children=children))
    add(tree, PID, b"fits", 0)
    add(tree, CHILD, b"other", -500, ppid=PID)
    for pid in (PID, CHILD):
        pinner.look(pid, SCAN)
    assert value(tree, CHILD) == (0 if children == "reset" else children)

    monkeypatch.setattr("oomwatchd.pinning.tracking.FORK_NS", -1)
    pinner.tracking.expire()

    assert (CHILD not in pinner.ledger.nodes) is is_left


def test_each_release_and_each_reset_is_counted(tree: Tree) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    pinner.look(PID, SCAN)
    for pid in (CHILD, OTHER):
        add(tree, pid, b"other", -500, ppid=PID)
        pinner.look(pid, SCAN)
    assert pinner.writer.counters.resets == 2
    for pid in (CHILD, OTHER):
        add(tree, pid, b"fits", 0, ppid=PID)
        pinner.look(pid, SCAN)
        add(tree, pid, b"other", -500, ppid=PID)
        pinner.look(pid, SCAN)
    assert pinner.writer.counters.releases == 2


def test_a_descendant_whose_write_is_refused_is_tried_again_only_after_a_reload(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    pinner.look(PID, SCAN)
    add(tree, CHILD, b"other", -500, ppid=PID)
    pinner.writer.take_decisions()
    tried = 0

    def refuse(directory: ProcessDir, value: int) -> None:
        nonlocal tried
        tried += 1
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(ProcessDir, "write_oom_score_adj", refuse)
        for _ in range(3):
            pinner.look(CHILD, SCAN)
    (decision,) = pinner.writer.take_decisions()
    assert (tried, decision.event, decision.rule, decision.old, decision.new) == (1, "pin-failed", "r", -500, 0)

    pinner.look(CHILD, SCAN)
    assert value(tree, CHILD) == -500
    pinner.set_rules(RuleSet([LOWERING]))
    pinner.look(CHILD, SCAN)

    assert value(tree, CHILD) == 0


@pytest.mark.parametrize(("enabled", "ignored", "gets"), [(True, False, 0), (False, False, 100), (True, True, 100)])
def test_a_dead_process_leaves_what_the_rules_of_today_say(
    tree: Tree, tmp_path: Path, enabled: bool, ignored: bool, gets: int
) -> None:
    """Its child has 250 by `children`. Then the rule says 0, or is disabled, or ignores."""
    criteria = (Criterion("comm", (Pattern("fits"),)),)
    pinner = pinner_with(tree, Rule("r", criteria, Action(500, 500), children=250))
    for pid in (PID, PID + 1):
        add(tree, pid, b"fits", 100)
        pinner.look(pid, SCAN)
        add(tree, pid + 10, b"other", 500, ppid=pid)
        pinner.look(pid + 10, SCAN)
    for pid in (PID, PID + 1):
        (tree.root / f"proc/{pid}").rename(tmp_path / f"gone {pid}")
        pinner.family.exited(pid, 1)
    assert [value(tree, pid + 10) for pid in (PID, PID + 1)] == [250, 250]

    action = Action(ignore=True) if ignored else Action(500, 500)
    pinner.set_rules(RuleSet([Rule("r", criteria, action, children=0, enabled=enabled)]))
    pinner.refresh_dead()

    assert [value(tree, pid + 10) for pid in (PID, PID + 1)] == [gets, gets]


def test_another_table_is_given_all_who_are_tracked(tree: Tree) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    add(tree, CHILD, b"other", -500, ppid=PID)
    for pid in (PID, CHILD):
        pinner.look(pid, SCAN)

    table = OwnTable()
    pinner.tracking.use(table)

    origin = pinner.ledger.nodes[PID].number
    heard = {PID: ALL_KINDS, CHILD: ALL_KINDS if pinner.ledger.nodes[CHILD].nameable else _FORKS_AND_EXIT}
    assert table.items() == {pid: Member(0, origin, kinds) for pid, kinds in heard.items()}
    assert pinner.tracking.origin_of(Member(0, origin)) is pinner.ledger.nodes[PID]


_FORKS_AND_EXIT = PROC_EVENT_FORK | PROC_EVENT_EXIT


def test_one_that_no_rule_can_fit_any_more_is_no_member(tree: Tree) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, OTHER, b"other", 0)
    pinner.tracking.table.set(OTHER, Member())
    assert not pinner.candidates.concerns(OTHER)
    assert pinner.tracking.table.items() == {}


def test_one_with_a_runtime_pin_concerns_whatever_its_name_is(tree: Tree) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, OTHER, b"other", 0)
    pinner.ledger.add_pin(RuntimePin(OTHER, OTHER * 10, 300))
    assert pinner.candidates.may_fit(OTHER, 5)
    assert pinner.candidates.concerns(OTHER)
    assert pinner.tracking.table.get(OTHER) == Member()


def test_one_that_is_gone_concerns_by_its_children_alone(tree: Tree) -> None:
    pinner = pinner_with(tree, LOWERING)
    assert not pinner.candidates.concerns(OTHER)
    assert pinner.tracking.table.get(OTHER) == Member()


def test_a_settled_descendant_is_looked_at_only_if_its_name_fits(tree: Tree) -> None:
    pinner = pinner_with(tree, LOWERING)
    add(tree, PID, b"fits", 0)
    add(tree, CHILD, b"other", -500, ppid=PID)
    for pid in (PID, CHILD):
        pinner.look(pid, SCAN)
    assert [pinner.candidates.may_fit(pid, 5) for pid in (PID, CHILD)] == [True, False]
    add(tree, CHILD, b"fits", 0, ppid=PID)
    assert pinner.candidates.may_fit(CHILD, 5)
