"""Which of the machine's processes are worth a look. There is one to be asked about for every exec, and all of them for
every scan, so that the answer for most has to come from one system call, or four where rules ask for names."""

from oomwatchd import procfs
from oomwatchd.procfs import Vanished
from oomwatchd.rules import RuleSet

_REMEMBERED = 8192
"""Links, and names: whoever invents them without end must not make us grow."""


class Sieve:
    """What exe link and name alone don't rule out, remembered by both as they are."""

    def __init__(self, rules: RuleSet, proc: str) -> None:
        self._rules = rules
        self._proc = proc.encode()
        self._asks_exe = rules.needs.exe
        self._asks_comm = rules.asks_comm
        self._by_link: dict[bytes | None, int] = {}
        self._by_comm: dict[bytes, int] = {}

    def passes(self, pid: int) -> bool:
        """Whether a rule may fit the process."""
        try:
            link = procfs.read_exe_link(pid, self._proc) if self._asks_exe else None
            possible = self._by_link.get(link)
            if possible is None:
                possible = self._possible_by_link(link)
            if possible != 0 and self._asks_comm:
                comm = procfs.read_comm(pid, self._proc)
                bits = self._by_comm.get(comm)
                possible &= self._possible_by_comm(comm) if bits is None else bits
        except Vanished:
            return False
        return possible != 0

    def _possible_by_link(self, link: bytes | None) -> int:
        """The rules that an exe link doesn't rule out, as bits."""
        if len(self._by_link) >= _REMEMBERED:
            self._by_link.clear()
        path = None if link is None else procfs.text(procfs.split_deleted(link)[0])
        possible = self._by_link[link] = self._rules.possible_exe(path)
        return possible

    def _possible_by_comm(self, comm: bytes) -> int:
        """The same for a name."""
        if len(self._by_comm) >= _REMEMBERED:
            self._by_comm.clear()
        possible = self._by_comm[comm] = self._rules.possible_comm(procfs.text(comm))
        return possible
