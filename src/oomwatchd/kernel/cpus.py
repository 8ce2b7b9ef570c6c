"""Which CPU the daemon runs on while it pins a program."""

import contextlib
import os

_REAL_TIME = (os.SCHED_FIFO, os.SCHED_RR)
_GIVING_WAY = (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)


class Cpus:
    """Where all CPUs are taken, we take one from somebody wherever we run, at real-time priority. So let it be the
    program that is to be pinned: on its own CPU we keep it from running until it is. Elsewhere it would run on beside
    us, unpinned, and then wait its turn like the others. Where a CPU is free, nobody need wait."""

    def __init__(self) -> None:
        self._ours: set[int] = set()
        self._count = 1
        self._joined = False
        self._loadavg = -1
        self.taken = False
        """Whether more want to run than there are CPUs, when it was looked at last; at other priorities never."""
        if _policy(0) in _REAL_TIME:
            with contextlib.suppress(OSError):  # a sandbox without it
                self._loadavg = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)

    def look_around(self) -> None:
        """See which CPUs there are, and whether they are taken."""
        self._ours = os.sched_getaffinity(0)
        self._count = os.cpu_count() or 1
        self.look()

    def look(self) -> None:
        """See whether all CPUs are taken; to be done when there is time for it. The fourth field of proc_loadavg(5)
        tells how many run or wait to run, ourselves among them."""
        if self._loadavg < 0:
            return
        try:
            running = os.pread(self._loadavg, 128, 0).split()[3].partition(b"/")[0]
            self.taken = int(running) - 1 > self._count
        except (OSError, ValueError, IndexError):
            self.taken = False

    def join(self, pid: int, cpu: int) -> None:
        """Go to that CPU, where the process runs, and stay there: if we may run there, and it can't keep us from it.
        Another at real-time priority still could, if it comes to run there just now."""
        if cpu not in self._ours:
            return
        try:
            if _policy(pid) in _GIVING_WAY:
                os.sched_setaffinity(0, (cpu,))
                self._joined = True
        except OSError:
            pass  # the process is gone, or the CPU is, or a sandbox forbids it: then we run where we are

    def leave(self) -> None:
        """Run on any CPU again."""
        if self._joined:
            self._joined = False
            with contextlib.suppress(OSError):  # others were set for us meanwhile
                os.sched_setaffinity(0, self._ours)


def _policy(pid: int) -> int:
    return os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
