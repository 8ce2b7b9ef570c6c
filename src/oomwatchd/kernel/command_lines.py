"""Reads command lines, without waiting for a process that keeps its memory locked.

Reading /proc/PID/cmdline takes the mmap_lock of the process (get_mm_cmdline() of fs/proc/base.c). Threads that map and
unmap without end hold it for seconds, and so does a thread that waits for a file system in mmap(2). So a helper reads
the command lines of other users' processes. It can be killed while it waits."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel.proc_stat import parse_arguments_length
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.rules.criteria import COMMAND_LINE_PART

_KNOWN_SECONDS = 0.1
"""How long a helper's answer is used. It is needed only once: when the answer comes, the process is looked at again."""
_RETRY_SECONDS = 10.0
"""How long a command line that couldn't be read is left alone."""
_KNOWN_LIMIT = 1024
"""The most answers that are kept."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The arguments of a process."""

    raw: bytes
    """Each argument ends with a NUL."""
    cut: bool
    """Whether the middle has been left out."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A helper's answer about one process."""

    starttime: int
    """Of the process, in clock ticks since boot."""
    asked_ns: int
    """When the helper was asked, CLOCK_MONOTONIC."""
    until: float
    """How long the answer is used, in seconds of the clock of CommandLines."""
    line: CommandLine | None
    """None: the command line can't be read."""
    overdue: bool = False
    """Whether the helper has not answered in its time."""


def read_arguments(directory: ProcessDir) -> CommandLine | None:
    """Read a command line; None: the kernel refused it. This may wait for a long time. Raises Vanished."""
    try:
        raw = directory.read("cmdline", 2 * COMMAND_LINE_PART + 1)
        if not raw and directory.leader_has_ended():
            raw = directory.read("cmdline", 2 * COMMAND_LINE_PART + 1)
        if len(raw) <= 2 * COMMAND_LINE_PART:
            return CommandLine(raw, cut=False)
        length = parse_arguments_length(directory.read("stat"))
        end = directory.read("cmdline", COMMAND_LINE_PART, max(length - COMMAND_LINE_PART, COMMAND_LINE_PART))
    except PermissionError:
        return None
    return CommandLine(raw[:COMMAND_LINE_PART].rstrip(b"\0") + b"\0" + end, cut=True)


def read_command_line(pid: int, starttime: int, proc: str) -> tuple[bytes, bool] | tuple[()]:
    """The bytes of a command line, and whether its middle was left out; an empty tuple: it can't be read. `starttime`:
    clock ticks since boot. This may wait for a long time, so it is called in a helper."""
    try:
        with ProcessDir(pid, proc) as directory:
            if directory.read_stat().starttime != starttime:
                return ()
            found = read_arguments(directory)
    except (Vanished, OSError, ValueError):
        return ()
    return () if found is None else (found.raw, found.cut)


class CommandLines:
    """Reads command lines. They aren't kept for long, because processes change them. `clock` gives seconds."""

    def __init__(self, proc: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._clock = clock
        self._trusted = {0, os.geteuid()}
        self._known: dict[int, _Known] = {}
        self._news: list[int] = []

    def read(self, directory: ProcessDir, starttime: int) -> CommandLine | None:
        """The command line of a process; None: it can't be read. Raises NotYet and Vanished."""
        if os.fstat(directory.descriptor).st_uid in self._trusted:
            return read_arguments(directory)
        pid, asked_ns = directory.pid, time.monotonic_ns()
        known = self._known.get(pid)
        if known is not None and known.starttime == starttime and self._clock() < known.until:
            return known.line
        arguments = (pid, starttime, self._proc)
        raise NotYet(read_command_line, arguments, lambda answer: self._learn(pid, starttime, asked_ns, answer))

    def _learn(self, pid: int, starttime: int, asked_ns: int, answer: object) -> None:
        if len(self._known) >= _KNOWN_LIMIT:
            self._known.clear()
        now = self._clock()
        if isinstance(answer, tuple):
            line = CommandLine(*answer) if answer else None
            self._known[pid] = _Known(starttime, asked_ns, now + _KNOWN_SECONDS, line)
            return
        before = self._known.get(pid)
        if before is None or before.starttime != starttime or not before.overdue:
            self._news.append(pid)
        self._known[pid] = _Known(starttime, asked_ns, now + _RETRY_SECONDS, None, overdue=True)

    def executed(self, pid: int, event_ns: int) -> None:
        """Note that a process has executed another program at `event_ns` (CLOCK_MONOTONIC): forget a command line that
        a helper was asked for before."""
        known = self._known.get(pid)
        if known is not None and known.asked_ns < event_ns:
            del self._known[pid]

    def take_news(self) -> list[int]:
        """The PIDs of the processes whose command line could not be read since the last call."""
        taken, self._news = self._news, []
        return taken
