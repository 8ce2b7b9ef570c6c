"""The kernel's OOM kills, each told once: by its report in the log, or by the kernel's counter where there is none."""

from datetime import datetime

import pytest

from oomwatchd.daemon import oom_kills
from oomwatchd.daemon.oom_kills import OomKills
from oomwatchd.oomlog.kernel_log import KillCounters
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin

PID = 94
LINE = f"Out of memory: Killed process {PID} (journald) total-vm:4kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"


class Log:
    """The kernel's log, with what a test puts there."""

    def __init__(self) -> None:
        self.dying: list[int] = []
        self.kills: list[OomKill] = []

    def report(self, *pids: int) -> None:
        """The kernel kills these processes, and writes a line for each."""
        parser = Parser(datetime(2026, 1, 1))
        for pid in pids:
            line = f"3,815,1234567,-;{LINE}".replace(f"process {PID}", f"process {pid}")
            self.kills += parser.feed(line)
        self.kills += parser.flush()
        self.dying += pids

    def read(self) -> bool:
        return bool(self.kills)

    def finish(self) -> list[OomKill]:
        taken, self.kills = self.kills, []
        return taken


class Kernel:
    """The counters, which a test changes; and the log, unless it may not be read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, readable: bool = True, kills: int | None = 7) -> None:
        self.kills, self.stalls = kills, 0
        self.log = Log()

        def opened() -> Log:
            if not readable:
                raise PermissionError
            return self.log

        monkeypatch.setattr(oom_kills, "read_counters", lambda: KillCounters(self.kills, self.stalls))
        monkeypatch.setattr(oom_kills, "KernelLog", opened)
        self.seen = OomKills()

    def kill(self, *pids: int, counted: int | None = None) -> None:
        self.kills = (self.kills or 0) + (len(pids) if counted is None else counted)
        self.log.report(*pids)

    def told(self) -> list[tuple[object, ...]]:
        """What a scan tells: PID and rule of each kill with a report, and the number of those without."""
        self.seen.count()
        self.seen.read(Ledger(None, ""))
        found: list[tuple[object, ...]] = [
            (record.fields.get("OBJECT_PID"), record.fields.get("OOMWATCHD_RULE"))
            for records in self.seen.records()
            for record in records
        ]
        untold = self.seen.untold()
        return found + ([] if untold is None else [(untold.fields["OOMWATCHD_COUNT"],)])


def test_a_kill_with_a_report_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.kill(PID)

    assert kernel.told() == [(PID, None)]
    assert not kernel.seen.awaited
    assert kernel.told() == kernel.told() == []
    assert (kernel.seen.total, kernel.seen.counts["kernel", ""]) == (1, 1)


def test_kills_without_a_report_are_told_when_they_were_seen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.kill(counted=2)

    assert kernel.told() == []
    assert kernel.seen.awaited
    assert kernel.told() == [(2,)]
    assert not kernel.seen.awaited
    assert kernel.told() == []
    kernel.kill(counted=1)
    assert [kernel.told() for _ in range(3)] == [[], [(1,)], []]
    assert kernel.seen.total == 3


def test_only_what_the_counter_showed_before_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts a kill a moment before it writes the line."""
    kernel = Kernel(monkeypatch)
    kernel.kill(counted=1)
    assert kernel.told() == []
    kernel.kill(counted=1)

    assert kernel.told() == [(1,)]
    kernel.log.report(PID)
    assert kernel.told() == [(PID, None)]
    assert kernel.told() == []


def test_a_report_of_a_kill_that_the_kernel_has_not_counted_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.kill(PID, counted=0)

    assert kernel.told() == []
    assert kernel.seen.total == 0


def test_a_kernel_without_a_counter_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, kills=None)
    kernel.log.report(PID)

    assert kernel.told() == [(PID, None)]
    assert not kernel.seen.awaited
    assert kernel.told() == []


def test_without_a_log_kills_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, readable=False)
    assert kernel.seen.log is None
    kernel.kill(PID)

    assert [kernel.told() for _ in range(3)] == [[], [(1,)], []]


def test_the_rule_of_a_victim_is_known_after_a_scan_has_forgotten_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, ledger = Kernel(monkeypatch), Ledger(None, "")
    node = Node(PID, 1, None)
    node.pin = Pin("r", 0, 500, 500, 0.0, "scan")
    ledger.add(node)
    kernel.kill(PID)

    assert kernel.seen.read(ledger)
    ledger.died(PID)
    assert not kernel.log.dying
    ((record,),) = kernel.seen.records()

    assert record.fields["OOMWATCHD_RULE"] == "r"
    assert list(kernel.seen.recent) == [node]
    assert kernel.seen.counts == {("kernel", ""): 0, ("kernel", "r"): 1}
    assert list(kernel.seen.records()) == []


def test_other_killers_are_counted_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)

    kernel.seen.add("earlyoom", ["a", "b", "a"])

    assert kernel.seen.counts == {("kernel", ""): 0, ("earlyoom", "a"): 2, ("earlyoom", "b"): 1}
    assert kernel.seen.total == 3


def test_a_process_has_waited_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)

    assert not kernel.seen.count()
    kernel.stalls = 1
    assert kernel.seen.count()
    assert not kernel.seen.count()
