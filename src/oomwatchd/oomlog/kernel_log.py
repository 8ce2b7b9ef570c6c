"""Finds OOM kills as they happen.

The kernel's log (/dev/kmsg, Documentation/ABI/testing/dev-kmsg) has a report of each kill. The counter in /proc/vmstat
shows whether reports are missing."""

import fcntl
import os
import re
import stat
from dataclasses import dataclass
from datetime import datetime

from oomwatchd.base.kmsg import waiting_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.oomlog.parser import Parser
    from oomwatchd.oomlog.record import OomKill

_KMSG = "/dev/kmsg"
_KMSG_DEVICE = os.makedev(1, 11)
_BATCH = 1000
_SIGNS = (b"oom", b"OOM", b"Out of memory", b"ut of memory", b"Killed process", b"total_vm")
"""Bytes of the lines that a report begins with, and of the line that ends it. Where the kernel left the report out,
only the latter is there. Records without any of these are dropped unread."""
_KERN = 0
"""The facility of the kernel's own records, syslog(3). printk() of kernel/printk/printk.c refuses it to programs."""
_FACILITY_SHIFT = 3
_CHARACTER = r"(?:\\x[0-9a-f]{2}|[^\\\n])"
"""One byte of a name, as /dev/kmsg escapes it."""
_OF_A_REPORT = re.compile(
    rf"""
    {_CHARACTER}{{0,15}}\ (?:invoked\ oom-killer:\ |cpuset=.{{0,4096}}\ mems_allowed=[\d,-]+\s*$)
    | oom-kill:constraint=
    | oom_reaper:\ reaped\ process\ \d
    | (?:Memory\ cgroup\ out\ of\ memory|Out\ of\ memory(?:\ \(oom_kill_allocating_task\))?):\ Kill(?:ed)?\ process\ \d
    | Killed\ process\ \d
    | (?:Memory\ cgroup\ out|Out)\ of\ memory\ and\ no\ killable\ processes
    | Kernel\ panic\ -\ not\ syncing:
    | Memory\ cgroup\ stats\ for\ /
    | (?:memory|memory\+swap|swap|kmem):\ usage\ \d
    | Tasks?\ in\ /
    | CPU:\ \d+\ (?:UID:\ \d+\ )?PID:\ \d+\ Comm:\ | Pid:\ \d+,\ comm:
    | \ ?(?:in)?active_(?:anon|file):\d | \ ?slab_reclaimable:\d | \ ?(?:free|mapped|unevictable):\d
    | Node\ \d+\ \w+\ free:\d
    | (?:Free|Total)\ swap\ | \d+\ pages\ (?:RAM|reserved)
    | (?:total_rss|total_cache|total_shmem|anon|file|shmem|slab)\ \d+\s*$
    | \[\ *pid\ *\]\ +uid
    | \[\ *\d+\](?:\ +-?\d+){{6,10}}[ ]
    | (?i:sysrq)\ ?:
    | \ .{{0,40}}mem_cgroup_out_of_memory\+0x[0-9a-f]+/0x[0-9a-f]+\s*$
    """,
    re.VERBOSE,
)
"""How the lines of a report begin (mm/oom_kill.c, mm/memcontrol.c, mm/show_mem.c). In other records of the kernel a
user can have the name of a program or file, up to 255 bytes, but never that long at the beginning."""
_ABOUT_A_CRASH = re.compile(rf"{_CHARACTER}{{0,15}}\[\d+\][: ]")
"""How records about a program begin that has crashed: with its name, of at most 15 bytes."""
_VMSTAT_BYTES = 1 << 16
_KILLS = re.compile(rb"\noom_kill (\d+)\n")
_STALLS = re.compile(rb"\nallocstall\w* (\d+)")
_KILLED = re.compile(r"Killed process (\d{1,10}) ")


class KernelLog:
    """The kernel's log from now on. Raises OSError if it may not be read (dmesg_restrict, sysctl/kernel.rst).

    systemd opens it as standard input of the daemon (oomwatchd.service), so that the daemon needs no CAP_SYSLOG."""

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
        """The PIDs of victims that the log has named, in order. They live for a moment yet, so the ledger still has
        them."""

    def fileno(self) -> int:
        """The descriptor that is readable when records wait, for a loop."""
        return self._descriptor

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)

    def read(self) -> bool:
        """Read the records that wait, at most _BATCH of them. Returns whether an OOM report may be under way, so that
        finish() is to look for its end. Raises OSError."""
        for record in waiting_records(self._descriptor, _BATCH):
            self._take(record)
        return self._parser is not None

    def _take(self, record: bytes) -> None:
        if self._parser is None and not any(sign in record for sign in _SIGNS):
            return
        line = report_line(record)
        if line is None:
            return
        if self._parser is None:
            from oomwatchd.oomlog.parser import Parser  # imported here, since it is needed only when memory has run out

            self._parser = Parser(datetime.now())
        if killed := _KILLED.search(line):
            self.dying.append(int(killed[1]))
        self._kills += self._parser.feed(line)

    def finish(self) -> "list[OomKill]":
        """The kills whose reports have ended since the last call. A report that is still open is taken to have ended
        now."""
        if self._parser is not None:
            self._kills += self._parser.flush()
            self._parser = None
        kills, self._kills = self._kills, []
        return [kill for kill in kills if kill.victim is not None]


def report_line(record: bytes) -> str | None:
    """The first line of a record of /dev/kmsg, with its prefix, if the kernel wrote it as a part of an OOM report. None
    for any other record, above all for one that a program wrote, or that has the name of a user's program or file which
    looks like a part of a report."""
    line = record.split(b"\n", 1)[0].decode("utf-8", "backslashreplace")
    prefix, _, text = line.partition(";")
    priority = prefix.partition(",")[0]
    if not priority.isdecimal() or int(priority) >> _FACILITY_SHIFT != _KERN:
        return None
    if _OF_A_REPORT.match(text) is None or _ABOUT_A_CRASH.match(text) is not None:
        return None
    return line


def _is_kmsg(descriptor: int) -> bool:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _KMSG_DEVICE


@dataclass(frozen=True, slots=True)
class KillCounters:
    """Counters of the kernel since boot, for the whole machine."""

    kills: int | None
    """Processes that the OOM killer has killed; None before Linux 4.13."""
    stalls: int
    """How often a process had to wait for memory (direct reclaim)."""


def read_counters(proc: str = "/proc") -> KillCounters:
    """Read the counters in /proc/vmstat. Where it can't be read, the kills are None and the stalls 0."""
    pieces = []
    try:
        descriptor = os.open(f"{proc}/vmstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, _VMSTAT_BYTES):
                pieces.append(piece)
        finally:
            os.close(descriptor)
    except OSError:
        return KillCounters(None, 0)
    raw = b"".join(pieces)
    kills = _KILLS.search(raw)
    return KillCounters(None if kills is None else int(kills[1]), sum(map(int, _STALLS.findall(raw))))
