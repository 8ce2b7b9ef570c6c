"""Command lines, without waiting for a process that keeps its memory locked.

To read /proc/PID/cmdline takes the mmap_lock of the process (get_mm_cmdline() of fs/proc/base.c). Threads that map and
unmap without end, or one that waits for a file system in mmap(2), hold it for seconds. So the command lines of other
users' processes are read by a helper, which can be killed while it waits."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel.proc_stat import parse_arguments_length
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.rules.criteria import COMMAND_LINE_PART

_KNOWN_SECONDS = 0.1
"""How long an answer is good for: it has been asked for because somebody wants it now."""
_RETRY_SECONDS = 10.0
_KNOWN_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The arguments, as the kernel has them."""

    raw: bytes
    cut: bool
    """Whether the middle has been left out."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer."""

    starttime: int
    asked_ns: int
    until: float
    line: CommandLine | None
    overdue: bool = False


def read_arguments(directory: ProcessDir) -> CommandLine | None:
    """Read a command line; None: we may not. May wait for long. Raises Vanished."""
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
    """The same for a helper; empty: there is none to be had."""
    try:
        with ProcessDir(pid, proc) as directory:
            if directory.read_stat().starttime != starttime:
                return ()
            found = read_arguments(directory)
    except (Vanished, OSError, ValueError):
        return ()
    return () if found is None else (found.raw, found.cut)


class CommandLines:
    """Reads command lines, each when it is asked for, since processes change them."""

    def __init__(self, proc: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._clock = clock
        self._trusted = {0, os.geteuid()}
        self._known: dict[int, _Known] = {}
        self._news: list[int] = []

    def read(self, directory: ProcessDir, starttime: int) -> CommandLine | None:
        """The command line; None: it can't be had. Raises NotYet, and Vanished."""
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
        """The process has executed another program at that time: forget what was asked for before."""
        known = self._known.get(pid)
        if known is not None and known.asked_ns < event_ns:
            del self._known[pid]

    def take_news(self) -> list[int]:
        """Processes whose command line could not be read, since the last call."""
        taken, self._news = self._news, []
        return taken
