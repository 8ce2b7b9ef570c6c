"""Which CPU the daemon runs on while it pins a program."""

import os

_REAL_TIME = (os.SCHED_FIFO, os.SCHED_RR)


class Cpus:
    """Where all CPUs are taken, we take one from somebody wherever we run, at real-time priority. So let it be the
    program that is to be pinned: on its own CPU we keep it from running until it is. Elsewhere it would run on beside
    us, unpinned, and then wait its turn like the others. Where a CPU is free, nobody need wait."""

    def __init__(self) -> None:
        self._ours = os.sched_getaffinity(0)
        self._joined = False
        self._loadavg = -1
        self.taken = False
        """Whether more want to run than there are CPUs, when it was looked at last; at other priorities never."""
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK in _REAL_TIME:
            self._loadavg = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
            self._count = os.cpu_count() or 1

    def look(self) -> None:
        """See whether all CPUs are taken; to be done when there is time for it. The fourth field of proc_loadavg(5)
        tells how many run or wait to run, ourselves among them."""
        if self._loadavg >= 0:
            running = os.pread(self._loadavg, 128, 0).split()[3].partition(b"/")[0]
            self.taken = int(running) - 1 > self._count

    def join(self, cpu: int) -> None:
        """Go to that CPU and stay there, if it is one that we may run on."""
        if cpu not in self._ours:
            return
        try:
            os.sched_setaffinity(0, (cpu,))
            self._joined = True
        except OSError:
            self.taken = False  # it is being taken away, or a sandbox forbids it: then we run where we are

    def leave(self) -> None:
        """Run on any CPU again."""
        if self._joined:
            self._joined = False
            os.sched_setaffinity(0, self._ours)
