"""OOM kills as they happen: the kernel's log (/dev/kmsg, Documentation/ABI/testing/dev-kmsg) tells of each, and the
counter in /proc/vmstat whether it has told of all."""

import errno
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from datetime import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.oomlog.parser import Parser
    from oomwatchd.oomlog.record import OomKill

_KMSG = "/dev/kmsg"
_KMSG_DEVICE = os.makedev(1, 11)
_RECORD_BYTES = 8192
"""A read(2) with less room than the record wants fails."""
_BATCH = 1000
_SIGNS = (b"oom", b"OOM", b"Out of memory", b"ut of memory", b"Killed process", b"total_vm")
"""What a report begins with, or ends with where the kernel left it out. All else is dropped unread."""
_VMSTAT_BYTES = 1 << 16
_KILLS = re.compile(rb"\noom_kill (\d+)\n")
_STALLS = re.compile(rb"\nallocstall\w* (\d+)")
_KILLED = re.compile(rb"Killed process (\d{1,10}) ")


class KernelLog:
    """The kernel's log from now on. Raises OSError if it may not be read (dmesg_restrict, sysctl/kernel.rst).

    The unit opens it for us as standard input, so that the daemon needs no CAP_SYSLOG."""

    def __init__(self) -> None:
        if _is_kmsg(0):
            self._descriptor = os.dup(0)
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        else:
            self._descriptor = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self._parser: Parser | None = None
        self._kills: list[OomKill] = []
        self.dying: list[int] = []
        """Victims that the log has named, in order. They live for a moment yet, so that the ledger knows them."""

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self) -> bool:
        """Read what waits. Whether an OOM report may be under way, whose end finish() is to look for."""
        for _ in range(_BATCH):
            try:
                record = os.read(self._descriptor, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EPIPE:  # overwritten before we came: what is left follows
                    raise
                continue
            self._take(record)
        return self._parser is not None

    def _take(self, record: bytes) -> None:
        if self._parser is None:
            if not any(sign in record for sign in _SIGNS):
                return
            from oomwatchd.oomlog.parser import Parser  # as seldom needed as memory runs out

            self._parser = Parser(datetime.now())
        line = record.split(b"\n", 1)[0]
        if killed := _KILLED.search(line):
            self.dying.append(int(killed[1]))
        self._kills += self._parser.feed(line.decode("utf-8", "backslashreplace"))

    def finish(self) -> "list[OomKill]":
        """The kills told of since the last call, the one whose report ended just now included."""
        if self._parser is not None:
            self._kills += self._parser.flush()
            self._parser = None
        kills, self._kills = self._kills, []
        return [kill for kill in kills if kill.victim is not None]


def _is_kmsg(descriptor: int) -> bool:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _KMSG_DEVICE


@dataclass(frozen=True, slots=True)
class Counters:
    """What the kernel counts since boot, on the whole machine."""

    kills: int | None
    """Processes that the OOM killer has killed; None before Linux 4.13."""
    stalls: int
    """How often somebody had to wait for memory (direct reclaim)."""


def read_counters(proc: str = "/proc") -> Counters:
    """From /proc/vmstat."""
    pieces = []
    try:
        descriptor = os.open(f"{proc}/vmstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, _VMSTAT_BYTES):
                pieces.append(piece)
        finally:
            os.close(descriptor)
    except OSError:
        return Counters(None, 0)
    raw = b"".join(pieces)
    kills = _KILLS.search(raw)
    return Counters(None if kills is None else int(kills[1]), sum(map(int, _STALLS.findall(raw))))
