"""Which of the machine's processes are worth a look. There is one to be asked about for every exec, and all of them for
every scan, so that the answer for most has to come from one system call, or four where rules ask for names; and scans
don't ask again each time what only an event can have changed."""

from collections.abc import Mapping

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel import procfs
from oomwatchd.kernel.executable import split_deleted
from oomwatchd.kernel.procfs import Vanished
from oomwatchd.rules.criteria import Source
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet

ROUNDS = 12
"""A process that is ruled out is asked about again in one of so many scans: the kernel drops an event in silence if it
has no memory for it (cn_netlink_send_mult() of drivers/connector/connector.c), and to rename a file raises none."""

_NO_INODE = 1
"""What /proc lists where the kernel had no memory for an inode (proc_fill_cache() of fs/proc/base.c); 0 is none too."""

_REMEMBERED = 8192
"""Links, and names: whoever invents them without end must not make us grow."""

Sifted = tuple[int, bool, Rule | None]
"""The rules that are not ruled out, as bits; whether one of them names the executable, so that it matters if its path
can be believed; the rule that fits whatever else the process is, see RuleSet.decided_by_exe()."""


class Prefilter:
    """What exe link and name alone don't rule out, remembered by both as they are."""

    def __init__(self, rules: RuleSet, proc: str) -> None:
        self._rules = rules
        self._proc = proc.encode()
        self.asks_exe = Source.EXE in rules.needs.reads
        self._asks_comm = rules.asks_comm
        self._by_link: dict[bytes | None, Sifted] = {}
        self._by_comm: dict[bytes, int] = {}
        self.ruled_out: dict[int, int] = {}
        """Processes that don't pass, and the inode of /proc/PID that tells that one is still the same. To be taken out
        when an event tells that it may pass now, and to be cleared when events were lost, or when there were none."""

    def passes(self, pid: int, inode: int = 0) -> bool:
        """Whether a rule may fit the process. By its inode a scan has it remembered if not. Raises Vanished; not for
        scans, which ask about kernel threads too."""
        possible = 0
        try:
            link = procfs.read_exe_link(pid, self._proc) if self.asks_exe else None
            sifted = self._by_link.get(link) or self._sift_link(link)
            possible = sifted[0]
            if possible != 0 and self._asks_comm:
                comm = procfs.read_comm(pid, self._proc)
                bits = self._by_comm.get(comm)
                possible &= self._sift_comm(comm) if bits is None else bits
        except NotYet:
            return True
        except Vanished:
            if procfs.has_lost_leader(pid, self._proc.decode()):
                return True
            if inode == 0:
                raise
        except OSError:
            self.ruled_out.pop(pid, None)  # too many open files, no memory: that says nothing of the process
            return False
        if not possible and inode > _NO_INODE:
            self.ruled_out[pid] = inode
        return possible != 0

    def doubtful(self, present: Mapping[int, int], scan: int) -> list[int]:
        """Those of all processes, by PID the inode of /proc/PID, that the scan of that number has to ask about, where
        events tell of every exec, and of every change of name if rules ask for names."""
        known = self.ruled_out.get
        return [pid for pid, inode in present.items() if known(pid) != inode or (pid + scan) % ROUNDS == 0]

    def doubt(self, pid: int) -> None:
        """A process may pass now: the next scan asks about it."""
        self.ruled_out.pop(pid, None)

    def doubt_all(self) -> None:
        """Events may be missing: the next scan asks about every process."""
        self.ruled_out.clear()

    def prune(self, present: Mapping[int, int]) -> None:
        """Forget all PIDs but these, once more of the others are remembered."""
        if len(self.ruled_out) > 2 * len(present):
            for pid in self.ruled_out.keys() - present.keys():
                del self.ruled_out[pid]

    def decided_by(self, link: bytes | None) -> Rule | None:
        """The rule that fits every process with this exe link but those in containers; None: more has to be known."""
        sifted = self._by_link.get(link)
        return None if sifted is None else sifted[2]

    def sift(self, link: bytes | None, comm: bytes) -> tuple[int, bool]:
        """The rules that an exe link and a name that have been read leave in question, and whether it matters if the
        path can be believed."""
        sifted = self._by_link.get(link) or self._sift_link(link)
        if not sifted[0] or not self._asks_comm:
            return sifted[:2]
        bits = self._by_comm.get(comm)
        return sifted[0] & (self._sift_comm(comm) if bits is None else bits), sifted[1]

    def may_be_renamed(self, link: bytes | None) -> bool:
        """Whether a rule asks for this executable, so that the process may come to fit it by another name."""
        sifted = self._by_link.get(link) or self._sift_link(link)
        return sifted[0] & self._rules.by_exe != 0

    def _sift_link(self, link: bytes | None) -> Sifted:
        if len(self._by_link) >= _REMEMBERED:
            self._by_link.clear()
        path = None if link is None else procfs.text(split_deleted(link)[0])
        possible = self._rules.possible_exe(path)
        named = possible != 0 and path is not None and self._rules.names_exe(path)
        sifted = self._by_link[link] = possible, named, self._rules.decided_by_exe(possible)
        return sifted

    def _sift_comm(self, comm: bytes) -> int:
        if len(self._by_comm) >= _REMEMBERED:
            self._by_comm.clear()
        possible = self._by_comm[comm] = self._rules.possible_comm(procfs.text(comm))
        return possible
