"""The order of the transaction on one process, and which looks follow it; over a made-up /proc."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from oomwatchd.base.notyet import NotYet
from oomwatchd.base.uapi import PF_FORKNOEXEC
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning import tracking
from oomwatchd.pinning.decisions import SCAN, Decision, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

PARENT, PID, CHILD = 10, 20, 30
PROGRAM = "/srv/program"
SECOND_NS = 1_000_000_000
BY_COMM = Rule("named", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500), children="reset", guarded=False)
BY_EXE = Rule("program", (Criterion("exe", (Pattern(PROGRAM),)),), Action(500, 500), guarded=False)
BY_SESSION = Rule("member", (*BY_COMM.criteria, Criterion("session_leader", flag=False)), Action(500, 500))
"""A rule that can fit a fork of a process that it doesn't fit."""


def pinner_for(tree: Tree, *rules: Rule) -> Pinner:
    return Pinner(RuleSet(rules), Ledger(None, ""), proc=tree.proc)


def start(tree: Tree, pid: int, comm: bytes = b"fits", *, ppid: int = 1, adj: int = 100, exe: str = "") -> None:
    tree.process(pid, comm, ppid=ppid, adj=adj)
    tree.write(f"proc/{pid}/comm", comm + b"\n")
    tree.write(f"proc/{pid}/task/{pid}/children", b"")
    if exe:
        (tree.root / f"proc/{pid}/exe").symlink_to(exe)


def set_value(tree: Tree, pid: int, value: int) -> None:
    tree.write(f"proc/{pid}/oom_score_adj", value)


def value(tree: Tree, pid: int) -> int:
    return int((tree.root / f"proc/{pid}/oom_score_adj").read_text())


def taken(pinner: Pinner) -> list[tuple[str, int, str]]:
    """Of each decision since the last call: what it is, the PID, and why the process was looked at."""
    return [(each.event, each.pid, each.source) for each in pinner.writer.take_decisions()]


def the_decision(pinner: Pinner) -> Decision:
    (decision,) = pinner.writer.take_decisions()
    return decision


def a_second_ago() -> int:
    return time.monotonic_ns() - SECOND_NS


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The PIDs whose directories have been opened, in their order."""
    pids = list[int]()
    really = ProcessDir.__init__

    def opening(directory: ProcessDir, pid: int, proc: str = "/proc") -> None:
        pids.append(pid)
        really(directory, pid, proc)

    monkeypatch.setattr(ProcessDir, "__init__", opening)
    return pids


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lists of children that have been read."""
    names = list[str]()
    really = ProcessDir.read_records

    def reading(directory: ProcessDir, name: str) -> bytes:
        names.append(name)
        return really(directory, name)

    monkeypatch.setattr(ProcessDir, "read_records", reading)
    return names


# Which processes are looked at


@pytest.mark.parametrize("pid", [PID, 2])
def test_a_process_that_a_rule_fits_is_pinned(tree: Tree, pid: int) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, pid)

    pinner.look(pid, SCAN)

    assert taken(pinner) == [("pinned", pid, "scan")]


@pytest.mark.parametrize("exe_is_known", [False, True])
@pytest.mark.parametrize(("pid", "is_kernel_thread"), [(1, False), (PID, True)])
def test_init_and_kernel_threads_are_never_pinned(
    tree: Tree, pid: int, is_kernel_thread: bool, exe_is_known: bool
) -> None:
    pinner = pinner_for(tree, BY_COMM, BY_EXE) if not exe_is_known else pinner_that_knows_program(tree)
    tree.process(pid, b"fits", adj=100, kernel_thread=is_kernel_thread)
    tree.write(f"proc/{pid}/comm", b"fits\n")
    if not is_kernel_thread:
        (tree.root / f"proc/{pid}/exe").symlink_to(PROGRAM)

    assert not pinner.begin(pid, "exec", a_second_ago())
    pinner.finish()

    assert (value(tree, pid), pid in pinner.ledger.nodes) == (100, False)


def test_begin_says_whether_a_value_was_written(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)
    start(tree, CHILD, b"other")
    tree.process(PARENT, b"fits", adj=100)
    stat = tree.root / f"proc/{PARENT}/stat"
    stat.write_text(stat.read_text().replace(") S ", ") Z "))

    begun = [pinner.begin(pid, "scan", 0) for pid in (99, PARENT, CHILD, PID, PID)]
    pinner.finish()

    assert begun == [False, False, False, True, False]


def test_no_executable_is_read_where_no_rule_asks_for_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID, exe=PROGRAM)
    read = list[int]()
    monkeypatch.setattr(ProcessDir, "read_exe", lambda directory: read.append(directory.pid))

    pinner.look(PID, Trigger("exec", a_second_ago()))

    # The record of a pin shows the executable. It is read after the write, where no link is kept from before.
    assert (value(tree, PID), len(read)) == (500, 1)


# The short way of an exec event


def pinner_that_knows_program(tree: Tree, *rules: Rule) -> Pinner:
    """One that has met the program before."""
    pinner = pinner_for(tree, *(rules or (BY_EXE,)))
    start(tree, PARENT, b"program", exe=PROGRAM)
    pinner.look(PARENT, SCAN)
    assert pinner.prefilter.decided_by(PROGRAM.encode()) is not None
    pinner.writer.take_decisions()
    return pinner


def test_the_next_begin_finishes_the_one_before(tree: Tree) -> None:
    pinner = pinner_that_knows_program(tree)
    for pid in (PID, CHILD):
        start(tree, pid, b"program", exe=PROGRAM)

    pinner.begin(PID, "exec", a_second_ago())
    assert taken(pinner) == []
    pinner.begin(CHILD, "exec", a_second_ago())
    assert taken(pinner) == [("pinned", PID, "exec")]
    pinner.finish()

    assert taken(pinner) == [("pinned", CHILD, "exec")]


@pytest.mark.parametrize("source", ["exec", "scan"])
def test_the_latency_is_counted_from_the_event_on(tree: Tree, source: str) -> None:
    pinner = pinner_that_knows_program(tree)
    start(tree, PID, b"program", exe=PROGRAM)

    pinner.look(PID, Trigger(source, a_second_ago()))

    decision = the_decision(pinner)
    assert (decision.event, decision.source) == ("pinned", source)
    assert decision.latency_us is not None
    assert decision.latency_us >= 1_000_000


def test_what_is_known_of_a_process_counts_although_its_executable_decides(tree: Tree) -> None:
    pinner = pinner_that_knows_program(tree)
    set_value(tree, PARENT, 50)

    pinner.look(PARENT, Trigger("exec", a_second_ago()))

    pin = pinner.ledger.nodes[PARENT].pin
    assert pin is not None
    assert (value(tree, PARENT), pin.original) == (500, 100)
    assert taken(pinner) == [("drift", PARENT, "exec")]


def test_a_runtime_pin_counts_although_the_executable_decides(tree: Tree) -> None:
    pinner = pinner_that_knows_program(tree)
    start(tree, PID, b"program", exe=PROGRAM)
    pinner.ledger.add_pin(RuntimePin(PID, PID * 10, 300))

    pinner.look(PID, Trigger("exec", a_second_ago()))

    assert value(tree, PID) == 300
    assert taken(pinner) == [("pinned", PID, "exec")]


def test_an_early_pin_is_corrected_where_the_value_came_from_an_ancestor(tree: Tree) -> None:
    """The rule raises, so that it keeps a value above its own. The process would have one without its parent's pin."""
    lowers = Rule("lowers", (Criterion("comm", (Pattern("parent"),)),), Action(200, 200), children="reset")
    pinner = pinner_that_knows_program(tree, BY_EXE, lowers)
    start(tree, PID, b"parent", adj=900)
    pinner.look(PID, SCAN)
    start(tree, CHILD, b"child", ppid=PID, adj=200, exe=PROGRAM)
    pinner.writer.take_decisions()

    pinner.look(CHILD, Trigger("exec", a_second_ago()))

    assert value(tree, CHILD) == 900
    assert {each.source for each in pinner.writer.take_decisions()} == {"exec"}


@pytest.mark.parametrize(("source", "noted"), [("exec", [PID]), ("comm", [])])
def test_after_an_exec_nothing_is_remembered_of_the_program_before(
    tree: Tree, source: str, noted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)
    told = list[int]()
    monkeypatch.setattr(pinner.view.command_lines, "executed", lambda pid, _at: told.append(pid))

    pinner.look(PID, Trigger(source, a_second_ago()))

    assert told == noted


# Forks


def test_a_fork_that_a_rule_decides_on_is_pinned_by_its_event(tree: Tree, read: list[str]) -> None:
    pinner = pinner_for(tree, BY_SESSION)
    start(tree, PID)
    stat = tree.root / f"proc/{PID}/stat"
    stat.write_text(stat.read_text().replace(f" 1 {PID} {PID} ", f" 1 {PID} {PARENT} "))

    pinner.forked(PID, PARENT, a_second_ago())

    decision = the_decision(pinner)
    assert (decision.event, decision.source) == ("pinned", "fork")
    assert decision.latency_us is not None
    assert decision.latency_us >= 1_000_000
    assert read == []  # it has no children yet


def test_a_fork_that_no_rule_can_fit_is_not_even_opened(tree: Tree, opened: list[int]) -> None:
    pinner = pinner_for(tree, BY_SESSION)
    start(tree, PID, b"other")

    pinner.forked(PID, PARENT, a_second_ago())

    assert opened == []


def test_a_fork_of_one_that_is_settled_for_long_is_not_looked_at(tree: Tree, opened: list[int]) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PARENT)
    pinner.look(PARENT, SCAN)
    start(tree, PID, b"other", ppid=PARENT, adj=500)
    pinner.forked(PID, PARENT, time.monotonic_ns())
    assert pinner.ledger.nodes[PID].settled
    opened.clear()

    start(tree, CHILD, b"other", ppid=PID)
    pinner.forked(CHILD, PID, time.monotonic_ns() + 60 * SECOND_NS)

    assert (opened, pinner.ledger.nodes[CHILD].settled) == ([], True)


def test_a_fork_while_a_scan_gathers_is_found_by_the_scan(tree: Tree) -> None:
    """The parent isn't in the ledger yet when its fork event is read, and is gone when the scan looks at relatives."""
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PARENT)
    gathering = pinner.relatives.gather([PARENT])
    list(gathering)
    start(tree, PID, b"other", ppid=1, adj=500)
    pinner.forked(PID, PARENT, time.monotonic_ns())

    pinner.look(PARENT, SCAN)
    assert value(tree, PID) == 500
    list(pinner.look_at_relatives(()))

    assert value(tree, PID) == 100


# What follows


def test_the_looks_that_follow_have_the_source_of_the_first(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PARENT)
    start(tree, PID, b"other", ppid=PARENT, adj=500)
    tree.write(f"proc/{PARENT}/task/{PARENT}/children", f"{PID} ".encode())

    pinner.look(PARENT, Trigger("exec", a_second_ago()))

    assert taken(pinner) == [("pinned", PARENT, "exec"), ("reset-child", PID, "exec")]


def test_a_rule_is_counted_once_for_each_process_that_it_comes_to_fit(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)

    for _ in range(3):
        pinner.look(PID, SCAN)

    assert pinner.writer.hits == {"named": 1}


def test_a_pinned_process_is_asked_for_its_children_once(tree: Tree, read: list[str]) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)

    for _ in range(3):
        pinner.look(PID, SCAN)

    assert read == [f"task/{PID}/children"]


def test_the_children_of_all_threads_are_found(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)
    for thread, child in ((PID, PID + 1), (CHILD, CHILD + 1)):
        tree.write(f"proc/{PID}/task/{thread}/children", f"{child} ".encode())
        start(tree, child, b"other", ppid=PID, adj=500)
    stat = tree.root / f"proc/{PID}/stat"
    stat.write_text(f"{PID} (fits) S 1 {PID} {PID} 0 -1 0 " + "0 " * 10 + f"2 0 {PID * 10} 0\n")

    pinner.look(PID, SCAN)

    assert [value(tree, child) for child in (PID + 1, CHILD + 1)] == [100, 100]


def test_a_descendant_that_comes_to_be_pinned_is_asked_for_its_children(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM, Rule("second", (Criterion("comm", (Pattern("second"),)),), Action(300, 300)))
    start(tree, PARENT)
    pinner.look(PARENT, SCAN)
    start(tree, PID, b"other", ppid=PARENT, adj=100)
    pinner.forked(PID, PARENT, time.monotonic_ns())
    start(tree, CHILD, b"other", ppid=PID, adj=500)  # its fork event was lost
    tree.write(f"proc/{PID}/task/{PID}/children", f"{CHILD} ".encode())

    tree.process(PID, b"second", ppid=PARENT, adj=100)
    pinner.look(PID, Trigger("exec", a_second_ago()))

    assert value(tree, CHILD) == 300


def test_descendants_are_looked_at_with_the_source_of_the_release(tree: Tree) -> None:
    pinner = pinner_for(tree, replace(BY_COMM, children="inherit"))
    start(tree, PARENT)
    pinner.look(PARENT, SCAN)
    start(tree, PID, b"other", ppid=PARENT, adj=500)
    pinner.forked(PID, PARENT, time.monotonic_ns())
    pinner.writer.take_decisions()

    tree.process(PARENT, b"other", adj=500)
    pinner.look(PARENT, Trigger("comm", a_second_ago()))

    assert taken(pinner) == [("released", PARENT, "comm"), ("reset-child", PID, "comm")]
    assert pinner.writer.hits == {"named": 1}


@pytest.mark.parametrize("may_be_named", [False, True])
def test_one_that_is_released_for_long_is_forgotten(
    tree: Tree, may_be_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filter's table keeps it where a rule fits its executable and may come to fit its name."""
    named = replace(BY_COMM, criteria=(*BY_COMM.criteria, *BY_EXE.criteria))
    pinner = pinner_for(tree, named if may_be_named else BY_COMM)
    start(tree, PID, exe=PROGRAM)
    monkeypatch.setattr(tracking, "FORK_NS", 0)
    pinner.look(PID, SCAN)
    pinner.tracking.expire()
    tree.process(PID, b"other", adj=500)
    pinner.look(PID, Trigger("comm", a_second_ago()))
    assert (value(tree, PID), list(pinner.ledger.nodes)) == (100, [PID])

    pinner.tracking.expire()
    pinner.look(PID, SCAN)

    assert pinner.ledger.nodes == {}
    assert (pinner.tracking.table.get(PID) is not None) is may_be_named


def test_a_process_that_a_rule_ignores_counts_as_an_ancestor(tree: Tree) -> None:
    ignored = Rule("ignored", BY_COMM.criteria, Action(ignore=True))
    below = Rule("below", (Criterion("descendant_of", names=("ignored",)),), Action(300, 300), guarded=False)
    pinner = pinner_for(tree, ignored, below)
    start(tree, PARENT)
    pinner.look(PARENT, SCAN)
    start(tree, PID, b"other", ppid=PARENT)

    pinner.look(PID, SCAN)

    assert [value(tree, pid) for pid in (PARENT, PID)] == [100, 300]
    assert pinner.writer.hits == {"ignored": 1, "below": 1}


def test_one_that_a_rule_ignores_no_more_is_forgotten(tree: Tree) -> None:
    pinner = pinner_for(tree, Rule("ignored", BY_COMM.criteria, Action(ignore=True)))
    start(tree, PID)
    pinner.look(PID, SCAN)
    assert (list(pinner.ledger.nodes), pinner.tracking.table.get(PID) is not None) == ([PID], True)

    start(tree, PID, b"other")
    pinner.look(PID, Trigger("comm", a_second_ago()))

    assert (pinner.ledger.nodes, pinner.tracking.table.get(PID)) == ({}, None)


@pytest.mark.parametrize("shows_namespace", [False, True])
@pytest.mark.parametrize(
    ("comm", "adj", "pinned_by"),
    [
        (b"fits", 500, None),  # its value may be a manager's
        (b"fits", 100, "named"),  # this value can't stay
        (b"second", 500, "second"),
        (b"other", 500, None),
    ],
)
def test_a_fork_in_a_pid_namespace_may_become_a_container(
    tree: Tree, comm: bytes, adj: int, pinned_by: str | None, shows_namespace: bool
) -> None:
    """So it waits, unless another rule than its parent's fits it."""
    second = Rule("second", (Criterion("comm", (Pattern("second"),)),), Action(500, 500), containers=True)
    pinner = pinner_for(tree, BY_COMM, second)
    tree.process(1, b"init", ppid=0, uid=0, cgroup="/init.scope")
    tree.process(PARENT, b"fits", uid=0, adj=100, cgroup="/init.scope")
    tree.write(f"proc/{PARENT}/task/{PARENT}/children", b"")
    pinner.look(PARENT, SCAN)
    tree.process(PID, comm, ppid=PARENT, uid=0, adj=adj, nspid=f"{PID} 1", cgroup="/init.scope")
    forked_only = f"{PID} ({comm.decode()}) S {PARENT} {PID} {PID} 0 -1 {PF_FORKNOEXEC} " + "0 " * 12
    tree.write(f"proc/{PID}/stat", forked_only + f"{PID * 10} 0")
    if shows_namespace:
        (tree.root / f"proc/{PID}/ns").mkdir()
        (tree.root / f"proc/{PID}/ns/pid").symlink_to("pid:[5]")

    pinner.look(PID, SCAN)

    pin = pinner.ledger.nodes[PID].pin
    assert (None if pin is None else pin.rule) == pinned_by
    assert (value(tree, PID), pinner.ledger.nodes[PID].settled) == (500, False)


def test_a_pinned_fork_in_a_pid_namespace_is_released_at_once(tree: Tree) -> None:
    second = Rule("second", (Criterion("comm", (Pattern("second"),)),), Action(500, 500), containers=True)
    pinner = pinner_for(tree, BY_COMM, second)
    tree.process(PARENT, b"fits", uid=0, adj=100)
    tree.write(f"proc/{PARENT}/task/{PARENT}/children", b"")
    pinner.look(PARENT, SCAN)
    for comm, pinned in (("second", True), ("other", False)):
        tree.process(PID, comm.encode(), ppid=PARENT, uid=0, adj=500, nspid=f"{PID} 1")
        stat = f"{PID} ({comm}) S {PARENT} {PID} {PID} 0 -1 {PF_FORKNOEXEC} " + "0 " * 12 + f"{PID * 10} 0"
        tree.write(f"proc/{PID}/stat", stat)

        pinner.look(PID, Trigger("comm", a_second_ago()))

        assert (pinner.ledger.nodes[PID].pin is not None) is pinned


def test_a_fork_of_one_that_is_not_pinned_never_waits(tree: Tree) -> None:
    pinner = pinner_for(tree, replace(BY_COMM, containers=True))
    tree.process(PID, b"fits", uid=0, adj=100, nspid=f"{PID} 1")
    tree.write(f"proc/{PID}/stat", f"{PID} (fits) S 1 {PID} {PID} 0 -1 {PF_FORKNOEXEC} " + "0 " * 12 + f"{PID * 10} 0")

    pinner.look(PID, SCAN)

    assert value(tree, PID) == 500


def test_one_whose_descendants_are_looked_at_waits_unless_the_user_asks(tree: Tree) -> None:
    """A second change of its pin would be mixed up with the first."""
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)
    pinner.look(PID, SCAN)
    node = pinner.ledger.nodes[PID]
    node.descending = True
    pinner.ledger.add_pin(RuntimePin(PID, PID * 10, 300))

    assert not pinner.begin(PID, "scan", 0)
    assert (value(tree, PID), node.missed_look) == (500, True)
    assert pinner.begin(PID, "control", 0)
    assert value(tree, PID) == 300
    pinner.finish()


# Questions that a helper answers


class Question(NotYet):
    """A question that is answered at once."""

    def __init__(self, answered: list[int]) -> None:
        super().__init__(os.getpid, (), lambda _: None)
        self._answered = answered

    def find_out(self) -> None:
        self._answered.append(1)


@pytest.mark.parametrize("puts_off", [True, False])
def test_a_look_that_has_to_wait_for_an_answer_is_put_off(
    tree: Tree, puts_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, raised, answered = list[object](), list[int](), list[int]()
    question = Question(answered)

    def defer(pid: int, trigger: Trigger, owner: int, about: NotYet) -> bool:
        asked.append((pid, trigger.source, owner, about))
        return puts_off

    pinner = Pinner(RuleSet([BY_COMM]), Ledger(None, ""), proc=tree.proc, defer=defer)
    start(tree, PID)
    os.chown(tree.root / f"proc/{PID}", 1234, -1)
    decide: Callable[..., object] = pinner.decider.decide

    def deciding(*arguments: object) -> object:
        if not raised:
            raised.append(1)
            raise question
        return decide(*arguments)

    monkeypatch.setattr(pinner.decider, "decide", deciding)

    pinner.look(PID, Trigger("exec", a_second_ago()))

    assert asked == [(PID, "exec", 1234, question)]
    assert (value(tree, PID), answered) == ((100, []) if puts_off else (500, [1]))
    if not puts_off:
        decision = the_decision(pinner)
        assert decision.source == "exec"
        assert decision.latency_us is not None
        assert decision.latency_us >= 1_000_000


# All of them


def test_another_ledger_begins_empty_and_goes_on_with_the_table(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PID)
    pinner.look(PID, SCAN)
    pinner.agenda.add([PID], SCAN)
    table, ledger = pinner.tracking.table, Ledger(None, "")
    assert table.get(PID) is not None
    pinner.writer.take_decisions()

    pinner.change_ledger(ledger, dry_run=True)

    assert (pinner.tracking.table, table.items(), pinner.agenda.empty) == (table, {}, True)
    assert (pinner.ledger, ledger.nodes) == (ledger, {})
    set_value(tree, PID, 100)
    pinner.look(PID, SCAN)
    assert (value(tree, PID), ledger.pinned()[0].pid) == (100, PID)
    assert taken(pinner) == [("pinned", PID, "scan")]
    assert table.get(PID) is not None


def test_a_fork_that_was_not_looked_at_yet_is_identified_before_the_end(tree: Tree) -> None:
    pinner = pinner_for(tree, BY_COMM)
    start(tree, PARENT)
    pinner.look(PARENT, SCAN)
    start(tree, PID, b"other", ppid=PARENT)
    pinner.family.forked(PID, PARENT, time.monotonic_ns())
    assert pinner.ledger.nodes[PID].starttime is None

    pinner.descendants.identify_all()

    assert pinner.ledger.nodes[PID].starttime == PID * 10


def test_in_the_end_all_get_their_original_values_back(tree: Tree) -> None:
    """That is so also for a runtime pin, for descendants that only the table has, and for those of the dead."""
    pinner = pinner_for(tree, replace(BY_COMM, children="inherit"))
    for pid in (PID, 60):
        pinner.ledger.add_pin(RuntimePin(pid, pid * 10, 300))
    for pid in (PARENT, PID, 40, 60):
        start(tree, pid, b"fits" if pid in (PARENT, 40) else b"other")
        pinner.look(pid, SCAN)
    start(tree, CHILD, b"other", ppid=PARENT, adj=500)
    pinner.tracking.table.forked(PARENT, CHILD)
    for parent in (40, 60):
        start(tree, parent + 1, b"other", ppid=parent, adj=value(tree, parent))
        pinner.forked(parent + 1, parent, time.monotonic_ns())
        (tree.root / f"proc/{parent}").rename(tree.root / f"ended{parent}")
        pinner.family.exited(parent, time.monotonic_ns())
    pids = (PARENT, PID, CHILD, 41, 61)
    assert [value(tree, pid) for pid in pids] == [500, 300, 500, 500, 300]
    pinner.writer.take_decisions()

    pinner.release_all()

    assert [value(tree, pid) for pid in pids] == [100] * 5
    assert ("released", PARENT, "control") in taken(pinner)
    assert pinner.agenda.empty
    for pid in pids:
        pinner.look(pid, SCAN)
    assert [value(tree, pid) for pid in pids] == [100] * 5
