"""Parses /proc/PID/stat: proc_pid_stat(5). Pure."""

from dataclasses import dataclass

from oomwatchd.base.uapi import PF_EXITING

_SIGKILL_BIT = 1 << 8
"""SIGKILL in a set of signals, signal(7)."""


@dataclass(slots=True)
class Stat:
    """The fields of /proc/PID/stat that are used here.

    It isn't changed once it is made. It isn't frozen, because a frozen one takes four times as long to make, and each
    write waits for that."""

    comm: bytes
    """The task's name, which may hold any bytes."""
    zombie: bool
    """Whether the first thread has ended."""
    ppid: int
    session: int
    """PID of the session's leader."""
    flags: int
    """PF_* of include/linux/sched.h."""
    threads: int
    """How many threads the process has, the first one included also when it has ended."""
    starttime: int
    """Clock ticks since boot."""

    @property
    def leader_ended(self) -> bool:
        """Whether the first thread has ended, or is being ended. The files of the process that come from its memory are
        empty then. The files of its other threads, below /proc/PID/task, aren't."""
        return self.zombie or self.flags & PF_EXITING != 0

    @property
    def ended(self) -> bool:
        """Whether all threads have ended, so that the process only waits to be reaped."""
        return self.zombie and self.threads < 2


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name stands in parentheses and may hold parentheses itself, so it ends at the last one
    of the file. Raises ValueError."""
    opening, closing = raw.index(b"("), raw.rindex(b")")
    fields = raw[closing + 2 :].split(b" ", 20)
    if len(fields) < 20:
        raise ValueError(f"not a stat file: {raw[:80]!r}")
    return Stat(
        raw[opening + 1 : closing],
        zombie=fields[0] in (b"Z", b"X"),
        ppid=int(fields[1]),
        session=int(fields[3]),
        flags=int(fields[6]),
        threads=int(fields[17]),
        starttime=int(fields[19]),
    )


def parse_arguments_length(raw: bytes) -> int:
    """The length of the arguments in bytes, by /proc/PID/stat; 0 if the kernel doesn't show it. Raises ValueError."""
    fields = raw[raw.rindex(b")") + 2 :].split()
    return int(fields[46]) - int(fields[45])


def parse_start_stack(raw: bytes) -> int:
    """The address at which the stack begins, by /proc/PID/stat; 0 if the kernel doesn't show it. A forked process has
    the address of its maker. Each execve(2) sets another one, on machines where randomize_va_space (proc_sys_kernel(5))
    is on, which is the default. Raises ValueError."""
    fields = raw[raw.rindex(b")") + 2 :].split(b" ", 26)
    return int(fields[25]) if len(fields) > 25 else 0


def parse_killed(raw: bytes) -> bool:
    """Whether SIGKILL is pending for the thread of /proc/PID/stat, so that it executes no more of its program. That
    stays so for as long as the thread waits in the kernel and can't be interrupted. Meanwhile the kernel may take the
    memory of the process: process_mrelease(2), and the OOM killer (mm/oom_kill.c). Raises ValueError."""
    fields = raw[raw.rindex(b")") + 2 :].split(b" ", 29)
    return len(fields) > 28 and int(fields[28]) & _SIGKILL_BIT != 0
