"""OOM kills as they happen, as records: what the kernel's log tells, and how many it has kept to itself."""

import contextlib
from collections.abc import Iterator

from oomwatchd.daemon.journal import WARNING, Record, of_kill
from oomwatchd.oomlog.kmsg import KernelLog, read_counters
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node


class OomKills:
    """OomKills since the start."""

    def __init__(self) -> None:
        self.total = 0
        self.log: KernelLog | None = None
        """None: it may not be read, and the counter alone tells of kills."""
        self._counters = read_counters()
        self._counted = self._counters.kills or 0
        self._told = 0
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
            self._told += 1
            # The next scan forgets it, and may come before the report has ended.
            self._victims[pid] = ledger.nodes.get(pid)
        self.log.dying.clear()
        return under_way

    def records(self) -> Iterator[Record]:
        """The kills whose reports are complete."""
        if self.log is None:
            return
        for kill in self.log.finish():
            self.total += 1
            yield of_kill(kill, self._victims.get(kill.victim.pid) if kill.victim is not None else None)
        self._victims.clear()

    def count(self) -> bool:
        """Read what the kernel counts. Whether somebody has had to wait for memory since the last time."""
        before, self._counters = self._counters, read_counters()
        return self._counters.stalls > before.stalls

    def untold(self) -> Record | None:
        """OomKills that the log, which is limited and can be closed to us, has not told of; the counter is neither.
        As of the last count(); not to be asked while a report is under way."""
        counted = self._counters.kills
        if counted is None:
            return None
        unseen = counted - self._counted - self._told
        self._counted, self._told = counted, 0
        if unseen <= 0:
            return None
        self.total += unseen
        what = "a process" if unseen == 1 else f"{unseen} processes"
        message = f"The OOM killer has killed {what}; the kernel's log didn't tell which"
        return Record("oom-kill", WARNING, message, {"OOMWATCHD_COUNT": unseen})
