"""/proc/PID/stat, parsed: proc_pid_stat(5). Pure."""

from dataclasses import dataclass

PF_KTHREAD = 0x00200000
"""include/linux/sched.h: the process is a kernel thread."""


@dataclass(slots=True)
class Stat:
    """/proc/PID/stat, what we use of it. Not frozen, as `Process` isn't."""

    comm: bytes
    leader_ended: bool
    """Whether the first thread has ended. The files of the process that come from its memory are empty then; those of
    its other threads, below /proc/PID/task, are as ever."""
    ppid: int
    session: int
    flags: int
    """PF_* of include/linux/sched.h."""
    threads: int
    starttime: int
    """Clock ticks since boot."""

    @property
    def ended(self) -> bool:
        """Whether all threads have, and the process just waits to be reaped."""
        return self.leader_ended and self.threads < 2


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name in parentheses may hold anything, so it ends at the last one. Raises
    ValueError."""
    opening, closing = raw.index(b"("), raw.rindex(b")")
    fields = raw[closing + 2 :].split(b" ", 20)
    if len(fields) < 20:
        raise ValueError(f"not a stat file: {raw[:80]!r}")
    return Stat(
        raw[opening + 1 : closing],
        leader_ended=fields[0] in (b"Z", b"X"),
        ppid=int(fields[1]),
        session=int(fields[3]),
        flags=int(fields[6]),
        threads=int(fields[17]),
        starttime=int(fields[19]),
    )


def parse_arguments_length(raw: bytes) -> int:
    """Of /proc/PID/stat how many bytes the arguments have; 0 where the kernel doesn't tell. Raises ValueError."""
    fields = raw[raw.rindex(b")") + 2 :].split()
    return int(fields[46]) - int(fields[45])
