"""Decides whether any rule can fit a process, by its executable and its name. That takes one readlink(2) for each exec,
and three more system calls if rules ask for names. Most scans don't ask again, because an event shows a change of the
answer."""

from collections.abc import Mapping

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel import procfs
from oomwatchd.kernel.executable import split_deleted
from oomwatchd.kernel.procfs import Vanished
from oomwatchd.rules.criteria import Source
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet

ROUNDS = 12
"""A process that no rule can fit is asked about again in each ROUNDS-th scan. The kernel drops an event without notice
if it has no memory for it (cn_netlink_send_mult() of drivers/connector/connector.c), and renaming a file causes no
event."""

_NO_INODE = 1
"""The inode number that /proc lists if the kernel had no memory for an inode (proc_fill_cache() of fs/proc/base.c). 0
is no inode number, either."""

_REMEMBERED = 8192
"""The most links and names that are remembered. Users can invent them without end."""

Sifted = tuple[int, bool, Rule | None]
"""The answer for one exe link: the rules that may still fit, as bits; whether one of them names the executable, so that
its path must be verified; and the result of RuleSet.decided_by_exe()."""


class Prefilter:
    """Finds the rules that may still fit when the exe link and the name are known. It remembers the answers."""

    def __init__(self, rules: RuleSet, proc: str) -> None:
        self._rules = rules
        self._proc = proc.encode()
        self.asks_exe = Source.EXE in rules.needs.reads
        self._asks_comm = rules.asks_comm
        self._by_link: dict[bytes | None, Sifted] = {}
        self._by_comm: dict[bytes, int] = {}
        self.ruled_out: dict[int, int] = {}
        """The processes that no rule can fit: by PID the inode number of /proc/PID, which shows whether it is still the
        same process. doubt() removes one if an event shows that it may pass now; doubt_all() removes all after a
        loss."""

    def passes(self, pid: int, inode: int = 0) -> bool:
        """Whether a rule may fit the process. The next scan asks again about a process that passes. Scans give `inode`,
        the inode number of /proc/PID: then a process that doesn't pass is remembered, and nothing is raised. Without
        `inode`, raises Vanished."""
        try:
            link = procfs.read_exe_link(pid, self._proc) if self.asks_exe else None
            sifted = self._by_link.get(link) or self._sift_link(link)
            passes = sifted[0] != 0
            if passes and self._asks_comm:
                passes = sifted[0] & self._sift_comm(procfs.read_comm(pid, self._proc)) != 0
        except NotYet:
            passes = True
        except Vanished:
            # A process that didn't pass before still doesn't, as it has executed nothing since. Most are kernel
            # threads.
            known = inode != 0 and self.ruled_out.get(pid) == inode
            passes = not known and procfs.has_lost_leader(pid, self._proc.decode())
            if not passes and inode == 0:
                raise
        except OSError:
            # Too many open files, or no memory: it isn't known whether the process passes.
            self.doubt(pid)
            return False
        if passes:
            self.doubt(pid)
        elif inode > _NO_INODE:
            self.ruled_out[pid] = inode
        return passes

    def doubtful(self, present: Mapping[int, int], scan: int) -> list[int]:
        """The PIDs for which a scan has to call passes(). `present`: all processes, by PID the inode number of
        /proc/PID. `scan`: the number of the scan. This may be used only while events report every exec, and every
        change of a name if rules ask for names."""
        known = self.ruled_out.get
        return [pid for pid, inode in present.items() if known(pid) != inode or (pid + scan) % ROUNDS == 0]

    def doubt(self, pid: int) -> None:
        """Have the next scan ask about a process, because it may pass now."""
        self.ruled_out.pop(pid, None)

    def doubt_all(self) -> None:
        """Have the next scan ask about every process, because events may be missing."""
        self.ruled_out.clear()

    def prune(self, present: Mapping[int, int]) -> None:
        """Forget the PIDs that aren't in `present`, if there are more of these than of the others."""
        if len(self.ruled_out) > 2 * len(present):
            for pid in self.ruled_out.keys() - present.keys():
                del self.ruled_out[pid]

    def decided_by(self, link: bytes | None) -> Rule | None:
        """The rule that fits every process with this exe link, except in containers; None: other facts decide, or the
        link wasn't asked about before."""
        sifted = self._by_link.get(link)
        return None if sifted is None else sifted[2]

    def sift(self, link: bytes | None, comm: bytes) -> tuple[int, bool]:
        """The rules that may still fit a process with this exe link and this name, as bits; and whether one of them
        needs the path to be verified."""
        sifted = self._by_link.get(link) or self._sift_link(link)
        if not sifted[0] or not self._asks_comm:
            return sifted[:2]
        return sifted[0] & self._sift_comm(comm), sifted[1]

    def may_be_renamed(self, link: bytes | None) -> bool:
        """Whether a rule asks for this executable, so that it may fit the process after a change of its name."""
        sifted = self._by_link.get(link) or self._sift_link(link)
        return sifted[0] & self._rules.by_exe != 0

    def _sift_link(self, link: bytes | None) -> Sifted:
        if len(self._by_link) >= _REMEMBERED:
            self._by_link.clear()
        path = None if link is None else procfs.text(split_deleted(link)[0])
        possible = self._rules.possible("exe", path)
        named = possible != 0 and path is not None and self._rules.names_exe(path)
        sifted = self._by_link[link] = possible, named, self._rules.decided_by_exe(possible)
        return sifted

    def _sift_comm(self, comm: bytes) -> int:
        possible = self._by_comm.get(comm)
        if possible is None:
            if len(self._by_comm) >= _REMEMBERED:
                self._by_comm.clear()
            possible = self._by_comm[comm] = self._rules.possible("comm", procfs.text(comm))
        return possible
