"""Finds pinned processes that other killers than the kernel took, by the journal: systemd-oomd, earlyoom and nohang,
and systemd itself, which stops a unit after an OOM kill in it.

The journal is read only after a pinned process has died while one of these runs. A thread reads it, since its files may
lie on a disk that doesn't answer. journald alone writes fields that begin with an underscore, so users can't fake
them."""

import os
import re
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from oomwatchd.pinning.lineage import Node

_UNITS = {
    "systemd-oomd.service": "systemd-oomd",
    "earlyoom.service": "earlyoom",
    "nohang.service": "nohang",
    "nohang-desktop.service": "nohang",
}
_SLICES = ("system.slice", "hostcritical.slice")
_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
_UNIT_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
"""MESSAGE_ID of "the unit has entered the 'failed' state" (systemd's sd-messages.h)."""
_KEPT_SECONDS = 30.0
"""Seconds after a death for which an entry of the journal about it is awaited."""
_UNKNOWN_SECONDS = 10.0
"""Seconds after a death for which an entry is awaited where no other killer runs and no kill by the kernel is known. A
kill in the same unit may still become known."""
_ENTRIES = 2000
"""The most entries that are read at a time."""
_OOMD = re.compile(r"(?:Killed|Marked) (/.*?) (?:for killing )?due to ")
_EARLYOOM = re.compile(r"sending SIG[A-Z]+ to process (\d{1,10}) uid ")
_NOHANG_PID = re.compile(r"\s*PID:\s+(\d{1,10}),")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A journal entry of another killer or of systemd."""

    unit: str
    """The unit that has written it; of an entry of systemd, the unit that it is about."""
    message: str
    result: str = ""
    """UNIT_RESULT of an entry of systemd; empty: another program has written the entry."""
    time: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class OtherKill:
    """A kill by another killer than the kernel. One of `pid`, `cgroup` and `unit` is set."""

    killer: str
    pid: int | None = None
    """The process that it killed."""
    cgroup: str | None = None
    """The cgroup of which it killed all processes."""
    unit: str | None = None
    """The unit that systemd stopped."""
    time: float = 0.0
    """When the entry was written, seconds since the epoch."""


def kills_in(entries: Iterable[JournalEntry]) -> list[OtherKill]:
    """The kills in the entries, in their order."""
    found = []
    waits, pid = False, None  # nohang names its victim in one line, and writes in a later one that it kills
    for entry in entries:
        killer = _UNITS.get(entry.unit)
        if entry.result == "oom-kill":
            found.append(OtherKill("systemd", unit=entry.unit, time=entry.time))
        elif killer == "systemd-oomd" and (match := _OOMD.match(entry.message)):
            found.append(OtherKill(killer, cgroup=match[1], time=entry.time))
        elif killer == "earlyoom" and (match := _EARLYOOM.match(entry.message)):
            found.append(OtherKill(killer, pid=int(match[1]), time=entry.time))
        elif killer == "nohang":
            if "with highest badness" in entry.message:
                waits, pid = True, None
            elif waits and (match := _NOHANG_PID.match(entry.message)):
                waits, pid = False, int(match[1])
            elif pid is not None and entry.message.strip().startswith("Sending SIG"):
                found.append(OtherKill(killer, pid=pid, time=entry.time))
    return found


def took(kill: OtherKill, node: Node) -> bool:
    """Whether `kill` took the process of `node`, which is gone. A process that was pinned after the kill was not taken
    by it, even if it has the same PID or unit."""
    if node.pin is None or node.pin.since > kill.time:
        return False
    if kill.pid is not None:
        return kill.pid == node.pid
    if not node.unit:
        return False
    if kill.unit is not None:
        return kill.unit == node.unit
    return kill.cgroup is not None and node.unit in kill.cgroup.split("/")


class OtherKills:
    """Finds out which killer took pinned processes that have died. `read`: as read_entries()."""

    def __init__(self, read: Callable[[int], tuple[list[JournalEntry], int]] | None = None) -> None:
        self._read_entries = read or read_entries
        self._departed: deque[tuple[float, Node]] = deque(maxlen=1024)
        """Pinned processes that have died, and when that was found (CLOCK_MONOTONIC, seconds)."""
        self._found: deque[list[JournalEntry]] = deque()
        """Entries that the thread has read."""
        self._kills: deque[tuple[float, OtherKill]] = deque(maxlen=256)
        """Kills, and when their entry was read (CLOCK_MONOTONIC, seconds)."""
        self._looking = False
        """Whether the thread reads now."""
        self._error: Exception | None = None
        """What the thread has raised, for take(); None: nothing."""
        self._since_us = int(time.time() * 1e6)
        """Entries up to this time (realtime clock) have been read, or are from before the start."""

    def add_dead(
        self, departed: Sequence[Node], by_kernel: Collection[Node], now: float, *, kernel_killed: bool
    ) -> bool:
        """Add pinned processes that have died, except for those in `by_kernel`, which the kernel has killed.
        `kernel_killed`: whether the kernel has killed lately, so that systemd may stop a unit for it. Returns whether
        the journal has to be read."""
        if not self._departed and not departed:
            return False
        self._departed += [(now, node) for node in departed if not any(node is killed for killed in by_kernel)]
        killed = kernel_killed or others_run()
        kept_seconds = _KEPT_SECONDS if killed else _UNKNOWN_SECONDS
        while self._departed and self._departed[0][0] < now - kept_seconds:
            self._departed.popleft()
        return killed and bool(self._departed)

    def look(self) -> None:
        """Start a thread that reads the journal, if none reads it now. take() has the result."""
        if self._looking:
            return
        self._looking = True
        try:
            start_new_thread(self._read, ())
        except RuntimeError:  # no thread could be started; the next scan tries again
            self._looking = False

    def take(self, now: float) -> list[tuple[OtherKill, list[Node]]]:
        """The kills by which pinned processes died, and these processes. Each process is returned once.

        The entry of a kill may be read before the death of its victim is known, so kills are kept for a while. Raises
        what the thread has raised, except for OSError."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        while self._found:
            self._kills += [(now, kill) for kill in kills_in(self._found.popleft())]
        while self._kills and self._kills[0][0] < now - _KEPT_SECONDS:
            self._kills.popleft()
        taken = []
        for _, kill in self._kills:
            nodes = [node for _, node in self._departed if took(kill, node)]
            if nodes:
                taken.append((kill, nodes))
                left = [pair for pair in self._departed if pair[1] not in nodes]
                self._departed = deque(left, maxlen=self._departed.maxlen)
        return taken

    def _read(self) -> None:
        try:
            entries, self._since_us = self._read_entries(self._since_us)
            self._found.append(entries)
        except OSError:
            pass  # there is no journal, or it is damaged
        except Exception as error:
            self._error = error
        finally:
            self._looking = False


def others_run() -> bool:
    """Whether another killer runs, as a service with the name that distributions give it. The cgroup of the service
    shows that."""
    return any(
        os.path.exists(f"{root}/{above}/{unit}/cgroup.procs") for unit in _UNITS for above in _SLICES for root in _ROOTS
    )


def read_entries(since_us: int) -> tuple[list[JournalEntry], int]:
    """The entries of the other killers and of systemd since `since_us`, and the time of the last one (microseconds
    since the epoch). Raises OSError."""
    from systemd import _reader  # type: ignore[attr-defined]  # no stubs. Imported here: 0.4 MiB, and seldom needed

    reader = _reader._Reader(1)  # SD_JOURNAL_LOCAL_ONLY
    try:
        for unit in _UNITS:
            reader.add_match(f"_SYSTEMD_UNIT={unit}")
        reader.add_disjunction()
        reader.add_match("_PID=1")
        reader.add_match(f"MESSAGE_ID={_UNIT_FAILED}")
        reader.seek_realtime(since_us + 1)
        entries: list[JournalEntry] = []
        while len(entries) < _ENTRIES and reader._next():
            at = reader._get_realtime()
            if at > since_us:
                since_us = at
                entries.append(replace(_entry(reader), time=at / 1e6))
        return entries, since_us
    finally:
        reader.close()


def _entry(reader: object) -> JournalEntry:
    def field(name: str) -> str:
        try:
            raw: bytes = reader._get(name)  # type: ignore[attr-defined]
        except (KeyError, OSError):
            return ""
        return raw.decode("utf-8", "backslashreplace")

    result = field("UNIT_RESULT")
    unit = field("UNIT") if result else field("_SYSTEMD_UNIT")
    return JournalEntry(unit, field("MESSAGE"), result)
