"""OOM kills as they happen, as records: what the kernel's log tells, and how many it has kept to itself."""

import contextlib
from collections.abc import Iterator, Sequence

from oomwatchd.daemon.journal import WARNING, Record, of_kill
from oomwatchd.oomlog.kmsg import KernelLog, read_counters
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.oomlog.record import OomKill


class OomKills:
    """The OOM kills since the start. A kill that the log tells of is believed only if the kernel has counted it: each
    is told of once, by its report or, where there is none, by its number alone."""

    def __init__(self) -> None:
        self.total = 0
        self.log: KernelLog | None = None
        """None: it may not be read, and the counter alone tells of kills."""
        # Before the log is opened: what is counted from here on and not in the log is told of by its number.
        self._counters = read_counters()
        self._told = self._counters.kills or 0
        """As many of those that the kernel has counted since it booted are dealt with."""
        self._waiting = 0
        """As many had been counted and not told of when count() was called last."""
        self._victims: dict[int, Node | None] = {}
        with contextlib.suppress(OSError):
            self.log = KernelLog()

    def read(self, ledger: Ledger) -> bool:
        """Read what the log has to tell. Whether a report may be under way, which records() is to be asked for when
        the log has fallen silent."""
        if self.log is None:
            return False
        under_way = self.log.read()
        for pid in self.log.dying:
            # The next scan forgets it, and may come before the report has ended.
            self._victims[pid] = ledger.nodes.get(pid)
        self.log.dying.clear()
        return under_way

    def records(self) -> Iterator[Record]:
        """The kills whose reports are complete, as many of them as the kernel has counted."""
        if self.log is None:
            return
        counted = read_counters().kills
        for kill in believed(self.log.finish(), None if counted is None else counted - self._told):
            killed = 1 + len(kill.also_killed)
            self.total += killed
            self._told += 0 if counted is None else killed
            yield of_kill(kill, self._victims.get(kill.victim.pid) if kill.victim is not None else None)
        self._victims.clear()

    def count(self) -> bool:
        """Read what the kernel counts. Whether somebody has had to wait for memory since the last time."""
        before, self._counters = self._counters, read_counters()
        return self._counters.stalls > before.stalls

    @property
    def awaited(self) -> bool:
        """Whether kills have been counted that nothing has told of yet."""
        return self._counters.kills is not None and self._counters.kills > self._told

    def untold(self) -> Record | None:
        """The kills that the log, which is limited and can be closed to us, has not told of. As of the last count();
        not to be asked while a report is under way. The kernel counts a kill a moment before it writes its line: so
        this is about those that had been counted the time before."""
        if self._counters.kills is None:
            return None
        unseen = max(self._counters.kills - self._told, 0)
        overdue = min(unseen, self._waiting)
        self._waiting = unseen - overdue
        if overdue == 0:
            return None
        self._told += overdue
        self.total += overdue
        what = "a process" if overdue == 1 else f"{overdue} processes"
        message = f"The OOM killer has killed {what}; the kernel's log didn't tell which"
        return Record("oom-kill", WARNING, message, {"OOMWATCHD_COUNT": overdue})


def believed(kills: "Sequence[OomKill]", counted: int | None) -> "list[OomKill]":
    """Of `kills` as many as the kernel has counted; None: it counts none, and all are. Where there are too many, those
    with a whole report come first."""
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
