"""Decides which processes an event or a scan has to look at. Most processes concern no rule."""

from collections.abc import Iterable, Mapping

from oomwatchd.kernel.exec_filter import Member
from oomwatchd.kernel.procfs import Vanished
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.pinning.tracking import Tracking


class Candidates:
    """Decides by the prefilter, and by the processes in the ledger."""

    def __init__(self, ledger: Ledger, tracking: Tracking, prefilter: Prefilter) -> None:
        self._ledger = ledger
        self._tracking = tracking
        self._prefilter = prefilter

    def concerns(self, pid: int) -> bool:
        """Whether an exec, comm, uid or gid event of the process needs a look."""
        table = self._tracking.table
        member = table.get(pid)
        try:
            if not self._asked_for(pid) and not self._prefilter.passes(pid):
                # A descendant whose fork event was lost stays in the table: the next scan finds it there.
                if member is not None and pid not in self._ledger.nodes and self._tracking.origin_of(member) is None:
                    table.remove(pid)
                return False
        except Vanished:
            concerned = False  # the process is gone, but a rule may concern its children
        else:
            concerned = True
        if member is None:
            table.set(pid, Member())
        return concerned

    def _asked_for(self, pid: int) -> bool:
        """Whether the process has to be looked at because of the ledger, whatever its executable and name are."""
        node = self._ledger.nodes.get(pid)
        return pid in self._ledger.runtime_pins if node is None else not node.settled

    def may_fit(self, pid: int, inode: int) -> bool:
        """Whether a scan has to open the process. `inode`: as for Prefilter.passes(). If the PID means another process
        by then, that one is looked at."""
        return self._asked_for(pid) or self._prefilter.passes(pid, inode)

    def doubtful(self, present: Mapping[int, int], scan: int) -> Iterable[int]:
        """The PIDs in `present` for which a scan has to call may_fit(). `scan`: the number of the scan. See
        Prefilter.doubtful()."""
        for pid in (*self._ledger.nodes, *self._ledger.runtime_pins):
            if self._asked_for(pid):
                self._prefilter.doubt(pid)
        return self._prefilter.doubtful(present, scan)
