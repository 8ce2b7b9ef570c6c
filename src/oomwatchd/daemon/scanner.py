"""Scans: a look at all processes, in slices, so that events don't wait for it."""

import time
from collections.abc import Callable, Iterator

from oomwatchd.daemon.event_source import EventSource
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.kernel import procfs
from oomwatchd.kernel.exec_filter import Member
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.pinner import Pinner

_SLICE_SECONDS = 0.003
"""How long a scan goes on before it pauses for events."""
_BREATH_SECONDS = 0.0005
"""How long a pause lets other programs run: the daemon runs at real-time priority, and a program that begins on its CPU
gets nothing else of it until the kernel moves it to another."""
_LISTED = 64
"""So many processes are listed between two looks at the clock."""


class Scanner:
    """Looks at all processes: at the start, at each interval, and when somebody asks for it.

    `seconds_between` gives the interval. `before` is called with the time (CLOCK_MONOTONIC, seconds) when a scan
    begins; `read_events` deals with all events up to now; `after` is called when a scan has ended."""

    def __init__(
        self,
        loop: Loop,
        pinner: Pinner,
        source: EventSource,
        report: Reporter,
        *,
        seconds_between: Callable[[], float],
        before: Callable[[float], None],
        read_events: Callable[[], None],
        after: Callable[[], None],
    ) -> None:
        self.scans = 0
        """Scans that have ended since the start."""
        self.seconds = 0.0
        """How long they took, taken together."""
        self._loop = loop
        self._pinner = pinner
        self._source = source
        self._report = report
        self._seconds_between = seconds_between
        self._before = before
        self._read_events = read_events
        self._after = after
        self._scan: Iterator[None] | None = None
        self._again = False
        self._begun = 0
        self._pause_at = 0.0
        """When the slice ends that is under way, CLOCK_MONOTONIC."""
        self._trigger = "scan"
        """Why processes are looked at until a scan has ended, see Trigger."""

    @property
    def under_way(self) -> bool:
        """Whether a scan has begun and not ended."""
        return self._scan is not None

    @property
    def has_work(self) -> bool:
        """Whether slice() is to be called: a scan is under way, or looks at relatives wait (Pinner.catching_up())."""
        return self._scan is not None or self._pinner.agenda.behind

    def whole(self) -> None:
        """Scan now, without a pause for anything else."""
        scan = self._scanning()
        while self._advance(scan):
            pass

    def wait(self) -> None:
        """Scan after the interval."""
        self._loop.later(self._seconds_between(), self._begin)

    def begin(self, trigger: str) -> None:
        """Scan from now on; a scan under way begins anew. `trigger` says why, see Trigger."""
        self._trigger = trigger
        self._begin()

    def soon(self) -> None:
        """Begin a scan now, or, if one is under way, another one after it."""
        if self._scan is None:
            self._begin()
        else:
            self._again = True

    def _begin(self) -> None:
        self._loop.cancel(self._begin)
        self._again = False
        self._scan = self._scanning()

    def slice(self) -> None:
        """Look at relatives that wait, and go on with the scan, until each pauses or ends."""
        if self._pinner.agenda.behind:
            self._catch_up()
        if self._scan is not None:
            self._go_on(self._scan)

    def _catch_up(self) -> None:
        self._advance(self._paced(self._pinner.catching_up()))
        self._pinner.ledger.flush()
        self._report.decisions()

    def _go_on(self, scan: Iterator[None]) -> None:
        """Go on with the scan. One that fails is tried again after the interval."""
        going_on = False
        try:
            going_on = self._advance(scan)
        finally:
            if not going_on:
                self._scan = None
                self._loop.later(0.0 if self._again else self._seconds_between(), self._begin)

    def _advance(self, scan: Iterator[None]) -> bool:
        """Go on with a scan until it pauses or ends. Whether it has only paused."""
        self._pause_at = time.monotonic() + _SLICE_SECONDS
        return next(scan, self) is not self

    def _scanning(self) -> Iterator[None]:
        """One scan; pauses after each slice. Events were subscribed before, so that what starts meanwhile is seen."""
        started = time.monotonic()
        trigger = Trigger(self._trigger)
        self._begun += 1
        self._before(started)
        pinner = self._pinner
        present: dict[int, int] = {}
        members = pinner.tracking.table.items()
        yield from self._find_present(present, members)
        yield from self._look_at_all(present, members, trigger)
        pinner.tracking.expire()
        yield from self._paced(pinner.catching_up())
        pinner.refresh_dead()
        yield from self._paced(pinner.catching_up())
        pinner.ledger.flush()
        yield from self._paced(pinner.ledger.tidying(time.monotonic()))
        self.scans += 1
        self.seconds += time.monotonic() - started
        self._trigger = "scan"
        self._after()

    def _find_present(self, present: dict[int, int], members: dict[int, Member]) -> Iterator[None]:
        """Find all processes that there are, and forget those that are gone. `members`: of the table, before."""
        pinner = self._pinner
        known = pinner.ledger.nodes.copy()
        yield from self._paced(_listing(present))
        self._read_events()  # of what is gone: whose children it had, and its end
        yield from self._paced(self._forget_dead(known, present))
        pinner.tracking.prune(members, present.keys())
        pinner.prefilter.prune(present)

    def _forget_dead(self, known: dict[int, Node], present: dict[int, int]) -> Iterator[None]:
        """Forget those in the ledger that aren't `present`; pauses after each."""
        pinner = self._pinner
        for pid in known.keys() - present.keys():
            if pinner.ledger.nodes.get(pid) is known[pid]:  # else it is another process, forked since
                pinner.family.died(known[pid])
            yield

    def _look_at_all(self, present: dict[int, int], members: dict[int, Member], trigger: Trigger) -> Iterator[None]:
        """Look at all processes, and where lineage isn't known, find it out and look at the descendants."""
        pinner, relatives = self._pinner, self._pinner.relatives
        gathering = relatives.unknown or not self._source.on
        try:
            if gathering:
                # Forks must be heard of from before it is read who descends from whom.
                self._source.let_all_through("scan", True)
                yield from self._paced(relatives.gather(present))
            yield from self._paced(self.looking(present, trigger))
            self._read_events()
            yield from self._paced(pinner.look_at_relatives(members))
        except BaseException:
            relatives.give_up_gathering()
            raise
        finally:
            self._source.let_all_through("scan", False)

    def looking(self, present: dict[int, int], trigger: Trigger) -> Iterator[None]:
        """Look at those of the processes that rules may fit; `present` is the inode of /proc/PID by PID. Pauses after
        each. An exception in dealing with one process is logged, and the next is dealt with."""
        pinner = self._pinner
        for pid in pinner.candidates.doubtful(present, self._begun) if self._source.on else present:
            try:
                if pinner.candidates.may_fit(pid, present[pid]):
                    pinner.look(pid, trigger)
            except Exception as error:
                self._report.internal_error(error)
            yield

    def _paced(self, work: Iterator[None]) -> Iterator[None]:
        """Do `work`, and pause after each slice of time."""
        for _ in work:
            if time.monotonic() >= self._pause_at:
                self._report.decisions()
                # Waiting, however short, lets others run and ends the time that the unit's LimitRTTIME= counts.
                time.sleep(_BREATH_SECONDS)
                yield


def _listing(present: dict[int, int]) -> Iterator[None]:
    """Add all processes to `present`, as procfs.processes() has them; pauses after some."""
    for pid, inode in procfs.processes():
        present[pid] = inode
        if len(present) % _LISTED == 0:
            yield
