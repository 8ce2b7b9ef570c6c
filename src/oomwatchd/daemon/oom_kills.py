"""Makes records of the kernel's OOM kills as they happen, by the kernel's log and by its counter."""

import contextlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from oomwatchd.daemon.log_records import WARNING, Record, kill_records
from oomwatchd.oomlog.kernel_log import KernelLog, read_counters
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.oomlog.record import OomKill


class OomKills:
    """The OOM kills since the start. A report in the kernel's log is believed only if the kernel's counter has grown as
    well. Each kill is returned once: by its report, or only counted where there is no report."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter({("kernel", ""): 0})
        """How many processes were killed, by killer and by the rule that pinned them (empty: none did)."""
        self.log: KernelLog | None = None
        """The kernel's log; None: it may not be read, so that only the counter shows kills."""
        # The counter is read before the log is opened, so that no kill between the two is missed.
        self._counters = read_counters()
        self._reported = self._counters.kills or 0
        """How many of the kills on the kernel's counter were returned, or were there before the start."""
        self._waiting = 0
        """How many kills were on the counter and not returned when untold() was called last."""
        self._victims: dict[int, Node | None] = {}
        """The ledger's nodes of the processes that the log has named as killed, by PID, until their report ends."""
        self.recent: deque[Node] = deque(maxlen=64)
        """The last pinned processes that the log has named as killed."""
        with contextlib.suppress(OSError):
            self.log = KernelLog()

    def read(self, ledger: Ledger) -> bool:
        """Read the lines that wait in the kernel's log. Returns whether they may belong to a report, so that records()
        is to be called when no more lines come."""
        if self.log is None:
            return False
        under_way = self.log.read()
        for pid in self.log.dying:
            # The process may have died before the kernel wrote the line, or before it was read.
            self._victims[pid] = node = ledger.lately(pid)
            if node is not None:
                self.recent.append(node)
        self.log.dying.clear()
        return under_way

    def records(self) -> Iterator[list[Record]]:
        """The records of each kill whose report is complete, the victim's first. No more kills are returned than the
        kernel has counted."""
        if self.log is None:
            return
        counted = read_counters().kills
        for kill in believed(self.log.finish(), None if counted is None else counted - self._reported):
            killed = 1 + len(kill.also_killed)
            self._reported += 0 if counted is None else killed
            records = kill_records(kill, self._victims)
            self._count(records, killed)
            yield records
        self._victims.clear()

    def _count(self, records: list[Record], killed: int) -> None:
        """Count a kill of `killed` processes, of which some have records."""
        rules = [str(record.fields.get("OOMWATCHD_RULE", "")) for record in records]
        self.counts.update(("kernel", rule) for rule in rules)
        self.counts["kernel", ""] += max(killed - len(records), 0)

    def add(self, killer: str, rules: Sequence[str]) -> None:
        """Count kills by another killer than the kernel: one process for each of `rules`, which pinned it."""
        self.counts.update((killer, rule) for rule in rules)

    @property
    def total(self) -> int:
        """How many processes were killed."""
        return sum(self.counts.values())

    def count(self) -> bool:
        """Read the kernel's counters. Returns whether a process has had to wait for memory since the last call."""
        before, self._counters = self._counters, read_counters()
        return self._counters.stalls > before.stalls

    @property
    def awaited(self) -> bool:
        """Whether the kernel has counted kills that were not returned yet."""
        return self._counters.kills is not None and self._counters.kills > self._reported

    def untold(self) -> Record | None:
        """A record of the kills that the kernel has counted and that its log doesn't have: lines may be lost, and the
        log may not be readable. None: there are none. Called after count(), and never while a report is under way.

        The kernel counts a kill a moment before it writes the line. So only kills count that the counter showed at the
        previous call."""
        if self._counters.kills is None:
            return None
        unseen = max(self._counters.kills - self._reported, 0)
        overdue = min(unseen, self._waiting)
        self._waiting = unseen - overdue
        if overdue == 0:
            return None
        self._reported += overdue
        self.counts["kernel", ""] += overdue
        what = "a process" if overdue == 1 else f"{overdue} processes"
        message = f"The OOM killer has killed {what}; the kernel's log didn't tell which"
        return Record("oom-kill", WARNING, message, {"OOMWATCHD_KILLER": "kernel", "OOMWATCHD_COUNT": overdue})


def believed(kills: "Sequence[OomKill]", counted: int | None) -> "list[OomKill]":
    """Those of `kills` that are believed: as many processes as the kernel has `counted`. None: this kernel doesn't
    count kills, and all are believed. If there are too many, those with a complete report come first."""
    if counted is None:
        return list(kills)
    chosen = set[int]()
    for number, kill in sorted(
        enumerate(kills), key=lambda each: (each[1].scope is None, each[1].invoker.comm is None)
    ):
        counted -= 1 + len(kill.also_killed)
        if counted < 0:
            break
        chosen.add(number)
    return [kill for number, kill in enumerate(kills) if number in chosen]
