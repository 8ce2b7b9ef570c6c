"""What is kept of written and refused values, for records and counters; on a made-up /proc."""

import errno
import os
from collections.abc import Iterator

import pytest

from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import Decision, PinCounters, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.look import Look, Written
from oomwatchd.pinning.writer import Writer
from oomwatchd.rules.criteria import Process
from tests.faketree import Tree

PID = 20


@pytest.fixture
def look(tree: Tree) -> Iterator[Look]:
    """A look at a process with the value 100."""
    tree.process(PID, b"program", uid=7, adj=100)
    with ProcessDir(PID, tree.proc) as directory:
        directory.open_oom_score_adj()
        yield Look(directory, Node(PID, 200, None), Trigger("comm", 5), stat=directory.read_stat())


@pytest.fixture
def writer(tree: Tree) -> Writer:
    return Writer(Ledger(None, ""), View(tree.proc), dry_run=False)


def value(look: Look) -> int:
    return look.directory.read_oom_score_adj()


def test_a_written_value_makes_up_for_a_refusal(look: Look, writer: Writer) -> None:
    look.node.refused = ("r", 1)

    assert writer.write(look, 300, "r", 100)

    assert value(look) == 300
    assert look.node.refused is None
    assert writer.take_decisions() == []


def test_a_dry_run_writes_nothing(look: Look, writer: Writer) -> None:
    other = Ledger(None, "")
    writer.use(other, dry_run=True)
    look.node.refused = ("r", 1)

    assert writer.write(look, 300, "r", 100)
    assert (value(look), look.node.refused) == (100, ("r", 1))

    writer.use(other, dry_run=False)
    assert writer.write(look, 300, "r", 100)
    assert value(look) == 300


def test_a_refusal_is_reported_once_for_each_rule_and_reason(
    look: Look, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(errno.EACCES, ""), OSError(errno.EACCES, ""), OSError(errno.EPERM, ""), OSError(errno.EACCES, "")]

    def refuse(directory: ProcessDir, value: int) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", refuse)

    assert not writer.write(look, 300, "r", 100)
    assert look.node.refused == ("r", errno.EACCES)
    (decision,) = writer.take_decisions()
    assert (decision.event, decision.rule, decision.old, decision.new) == ("pin-failed", "r", 100, 300)
    assert decision.error == os.strerror(errno.EACCES)
    assert not writer.write(look, 300, "r", 100)
    assert writer.take_decisions() == []
    assert not writer.write(look, 300, "r", 100)
    assert look.node.refused == ("r", errno.EPERM)
    assert not writer.write(look, 300, "another", 100)
    assert [(d.rule, d.error) for d in writer.take_decisions()] == [
        ("r", os.strerror(errno.EPERM)),
        ("another", os.strerror(errno.EACCES)),
    ]
    assert writer.counters == PinCounters(failures=4)

    errors.append(OSError(errno.EACCES, ""))
    writer.forgive()
    assert not writer.write(look, 300, "r", 100)
    assert len(writer.take_decisions()) == 1


@pytest.mark.parametrize(
    ("same", "latency_us", "event", "counters", "sum_us"),
    [
        (False, 700, "pinned", PinCounters(pins=2), 1400),
        (False, None, "pinned", PinCounters(pins=2), 0),
        (True, 700, "drift", PinCounters(drifts=2), 0),
    ],
)
def test_what_is_counted(
    look: Look,
    writer: Writer,
    same: bool,
    latency_us: int | None,
    event: str,
    counters: PinCounters,
    sum_us: int,
) -> None:
    for _ in range(2):
        writer.tell_pin(look, Written("r", 100, 300, same, latency_us))

    assert [(d.event, d.rule, d.old, d.new, d.latency_us) for d in writer.take_decisions()] == [
        (event, "r", 100, 300, latency_us)
    ] * 2
    assert writer.counters == counters
    assert writer.latencies.sum_us == sum_us


def test_how_often_each_rule_came_to_fit(writer: Writer) -> None:
    for rule in ("a", "b", "a"):
        writer.count_hit(rule)

    assert writer.hits == {"a": 2, "b": 1}


def test_a_decision_shows_the_facts_of_the_process(look: Look, writer: Writer) -> None:
    look.process = Process(PID, 200, 1, "program", False, exe="/srv/program", uid=7, unit="a.service")

    writer.decided("released", look, "r", 500, 100, 9, error="no")

    assert writer.take_decisions() == [
        Decision("released", PID, "r", 500, 100, "comm", "program", "/srv/program", 7, "a.service", 9, "no")
    ]
    assert writer.take_decisions() == []


def test_a_quiet_decision_reads_nothing(look: Look, writer: Writer) -> None:
    writer.decided("reset-child", look, "r", 100, 100, quiet=True)
    writer.decided("reset-child", look, "r", 100, 100)

    quiet, loud = writer.take_decisions()
    assert (quiet.quiet, quiet.uid, quiet.comm) == (True, None, "program")
    assert (loud.quiet, loud.uid, loud.error, loud.latency_us) == (False, 0, "", None)


def test_a_path_that_is_too_long_to_keep_is_in_the_record(look: Look, writer: Writer) -> None:
    path = "/" + "a" * 300
    look.process = Process(PID, 200, 1, "program", False, exe=path)

    writer.decided("pinned", look, "r", 100, 300)

    (decision,) = writer.take_decisions()
    assert (decision.exe, look.node.exe) == (path, "")
