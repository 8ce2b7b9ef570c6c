"""Finds the lineage of processes that no event has shown, by the parents and sessions that the kernel still shows."""

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice

from oomwatchd.base.clock import ticks_since_boot
from oomwatchd.kernel import procfs
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning import strays
from oomwatchd.pinning.descendants import Descendants
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.pid_table import OwnTable
from oomwatchd.pinning.tracking import Tracking

_THREADS = 256
"""How many threads of one process are asked for their children. If it has more, the next scan finds the rest."""


class Relatives:
    """Finds descendants of processes in the ledger. A scan calls gather(), and then adopt()."""

    def __init__(
        self, ledger: Ledger, view: View, family: Family, descendants: Descendants, tracking: Tracking
    ) -> None:
        self._ledger = ledger
        self._view = view
        self._proc = view.proc
        self._family = family
        self._descendants = descendants
        self._tracking = tracking
        self.unknown = True
        """Whether processes in the ledger may have descendants that no event has shown."""
        self._kin: dict[int, tuple[int, int]] | None = None
        """Parent and session of every process, by PID, from gather() to adopt(); None at other times."""
        self._lost_from: int | None = None
        """Since when fork events may be lost (clock ticks since boot); None: none are, or adopt() was called since."""

    def note_unheard_forks(self) -> None:
        """Note that fork events may be missing, so that the next scan has to find the lineage of all processes."""
        self.unknown = True

    def note_loss(self, from_ns: int) -> None:
        """Note that events since `from_ns` (CLOCK_MONOTONIC) may be lost."""
        # A process that was forked in the same tick as the last one that was read may have been read as well.
        lost_from = ticks_since_boot(from_ns) + 1
        self._lost_from = lost_from if self._lost_from is None else min(lost_from, self._lost_from)
        self.unknown = True

    def children(self, directory: ProcessDir, stat: Stat | None) -> list[int]:
        """The PIDs of the children that a process already has and that aren't in the ledger. The next scan finds those
        that are missing: if the kernel lists none (CONFIG_PROC_CHILDREN), or the process has more than 256 threads."""
        # The kernel lists a child at the thread that has forked it.
        threads = [str(directory.pid)]
        found = b""
        try:
            if stat is not None and stat.threads > 1:
                threads = list(islice(directory.threads(), _THREADS + 1))
            for thread in threads[:_THREADS]:
                found += directory.read_records(f"task/{thread}/children")
        except (Vanished, OSError):
            # Of one that is gone the kernel doesn't know any more whose children it had.
            self.unknown = self.unknown or not directory.is_gone()
        self.unknown = self.unknown or len(threads) > _THREADS
        return [int(pid) for pid in found.split() if int(pid) not in self._ledger.nodes]

    def gather(self, pids: Iterable[int]) -> Iterator[None]:
        """Read parent and session of all processes. Until adopt() is called, forked() adds new ones. It yields after
        each process, so that the caller may pause."""
        kin = self._kin = {}
        self.unknown = False
        for pid in pids:
            with contextlib.suppress(Vanished):
                stat = procfs.read_stat(pid, self._proc)
                if not stat.ended:  # an ended one is reaped at any moment, and its children are forgotten
                    kin.setdefault(pid, (stat.ppid, stat.session))
            yield

    def forked(self, pid: int, parent_pid: int) -> None:
        """Note a fork that comes between gather() and adopt()."""
        if self._kin is None:
            return
        session = 0
        with contextlib.suppress(Vanished):
            session = procfs.read_stat(pid, self._proc).session
        self._kin[pid] = parent_pid, session

    def give_up_gathering(self) -> None:
        """Note that the scan was given up, so that the next one has to gather again."""
        self._kin, self.unknown = None, True

    def adopt(self, members: Iterable[int]) -> Iterator[int | None]:
        """Find descendants of processes in the ledger that weren't known: among the `members` (PIDs) of the table, and
        among the processes of gather(). Yields the PIDs to look at, ancestors first, and None where the caller may
        pause."""
        yield from self._descendants.adopting(members)
        kin, self._kin = self._kin or {}, None
        yield from self._adopt_kin(kin)
        found = False
        for pid in self._adopt_strays(kin):
            found = found or pid is not None
            yield pid
        if found:
            yield from self._adopt_kin(kin)

    def _adopt_kin(self, kin: dict[int, tuple[int, int]]) -> Iterator[int | None]:
        """The PIDs of processes that descend from processes in the ledger by their parents and sessions."""
        nodes, nearest = self._ledger.nodes, dict[int, Node | None]()
        died_unseen = self._ledger.take_died_unseen()
        for pid in kin:
            line = list[int]()
            while pid in kin and pid not in nearest and (pid not in nodes or nodes[pid].parent is None):
                nearest[pid] = None
                line.append(pid)
                pid = kin[pid][0]
            above = nearest[pid] if pid in nearest else nodes.get(pid)
            for each in reversed(line):
                session = kin[each][1]
                # The kernel doesn't use the PID of a session leader again while the session has members.
                above = above or nodes.get(session) or died_unseen.get(session)
                if above is not None and above.pid != each and self._family.adopt(each, above) is not None:
                    yield each
                nearest[each] = above = nodes.get(each) or above
            yield None

    def _adopt_strays(self, pids: Iterable[int]) -> Iterator[int | None]:
        """After a loss: the PIDs of descendants whose lineage the kernel has forgotten. With the filter there are none,
        because the kernel keeps the table then, and the table has them."""
        lost_from, self._lost_from = self._lost_from, None
        if lost_from is None or not isinstance(self._tracking.table, OwnTable):
            return
        dead = (*self._ledger.dead_origins(), *self._family.died_since(lost_from))
        known = {id(node): node for node in (*self._ledger.pinned(), *dead)}
        pinned = [node for node in known.values() if strays.gives_away(node)]
        for pid in pids if pinned else ():
            if pid in self._ledger.nodes:
                continue
            origin = strays.ancestor_of(pid, pinned, lost_from, self._view)
            yield pid if origin is not None and self._family.adopt(pid, origin) is not None else None
