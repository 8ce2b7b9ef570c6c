"""Which processes an event or a scan has to look at: most concern no rule."""

from collections.abc import Iterable, Mapping

from oomwatchd.kernel.exec_filter import Member
from oomwatchd.kernel.procfs import Vanished
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.pinning.tracking import Tracking


class Candidates:
    """Goes by the prefilter, and by whom the ledger has."""

    def __init__(self, ledger: Ledger, tracking: Tracking, prefilter: Prefilter) -> None:
        self._ledger = ledger
        self._tracking = tracking
        self._prefilter = prefilter

    def concerns(self, pid: int) -> bool:
        """Whether an event of the process about itself is worth a look."""
        table = self._tracking.table
        member = table.get(pid)
        try:
            if not self._asked_for(pid) and not self._prefilter.passes(pid):
                if member is not None and pid not in self._ledger.nodes:
                    table.remove(pid)
                return False
        except Vanished:
            concerned = False  # but its children may be
        else:
            concerned = True
        self._prefilter.doubt(pid)
        if member is None:
            table.set(pid, Member())
        return concerned

    def _asked_for(self, pid: int) -> bool:
        """Whether the process is to be looked at, whatever its executable and name."""
        node = self._ledger.nodes.get(pid)
        return pid in self._ledger.runtime_pins if node is None else not node.settled

    def may_fit(self, pid: int, inode: int) -> bool:
        """Whether a scan has to open the process: by PID, which may mean another process by the time it is opened; then
        that one is looked at as itself. `inode` as for Prefilter.passes()."""
        if self._asked_for(pid) or self._prefilter.passes(pid, inode):
            self._prefilter.doubt(pid)
            return True
        return False

    def doubtful(self, present: Mapping[int, int], scan: int) -> Iterable[int]:
        """Those of all processes that a scan has to ask about, see Prefilter.doubtful()."""
        for pid in (*self._ledger.nodes, *self._ledger.runtime_pins):
            if self._asked_for(pid):
                self._prefilter.doubt(pid)
        return self._prefilter.doubtful(present, scan)
