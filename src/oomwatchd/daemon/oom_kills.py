"""OOM kills as they happen, as records: what the kernel's log tells, and how many it has kept to itself."""

import contextlib
from collections import Counter, deque
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
        self.counts: Counter[tuple[str, str]] = Counter({("kernel", ""): 0})
        """Processes killed, by killer and the rule that held them (empty: none did)."""
        self.log: KernelLog | None = None
        """None: it may not be read, and the counter alone tells of kills."""
        # Before the log is opened: what is counted from here on and not in the log is told of by its number.
        self._counters = read_counters()
        self._told = self._counters.kills or 0
        """As many of those that the kernel has counted since it booted are dealt with."""
        self._waiting = 0
        """As many had been counted and not told of when count() was called last."""
        self._victims: dict[int, Node | None] = {}
        self.recent: deque[Node] = deque(maxlen=64)
        """The last ones in the ledger whom the log named as killed."""
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
            self._victims[pid] = node = ledger.nodes.get(pid)
            if node is not None:
                self.recent.append(node)
        self.log.dying.clear()
        return under_way

    def records(self) -> Iterator[list[Record]]:
        """The kills whose reports are complete, as many of them as the kernel has counted: of each the records, the
        victim's first."""
        if self.log is None:
            return
        counted = read_counters().kills
        for kill in believed(self.log.finish(), None if counted is None else counted - self._told):
            killed = 1 + len(kill.also_killed)
            self._told += 0 if counted is None else killed
            records = of_kill(kill, self._victims)
            self._count(records, killed)
            yield records
        self._victims.clear()

    def _count(self, records: list[Record], killed: int) -> None:
        """Count a kill of so many processes; some of them have records of their own."""
        rules = [str(record.fields.get("OOMWATCHD_RULE", "")) for record in records]
        self.counts.update(("kernel", rule) for rule in rules)
        self.counts["kernel", ""] += max(killed - len(records), 0)

    def add(self, killer: str, rules: Sequence[str]) -> None:
        """Count what somebody else than the kernel has killed: a process for each of `rules`, which held it."""
        self.counts.update((killer, rule) for rule in rules)

    @property
    def total(self) -> int:
        """Processes killed."""
        return sum(self.counts.values())

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
        self.counts["kernel", ""] += overdue
        what = "a process" if overdue == 1 else f"{overdue} processes"
        message = f"The OOM killer has killed {what}; the kernel's log didn't tell which"
        return Record("oom-kill", WARNING, message, {"OOMWATCHD_KILLER": "kernel", "OOMWATCHD_COUNT": overdue})


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
