"""Kills by others than the kernel, as far as they took somebody whom a rule held: what the journal says of
systemd-oomd, earlyoom and nohang, and of units that systemd stopped after an OOM kill in them.

The journal is looked at only after a held process has died while one of them runs, in a thread: its files may lie on
a disk that doesn't answer. Fields that begin with an underscore are journald's own, so no user can fake one."""

import os
import re
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Collection, Iterable, Sequence
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
"""So long after a death the journal may still come to tell of it."""
_UNTOLD_SECONDS = 10.0
"""So long after a death it may become known that the kernel had killed in its unit before."""
_ENTRIES = 2000
"""So many entries of theirs are read at a time."""
_OOMD = re.compile(r"(?:Killed|Marked) (/.*?) (?:for killing )?due to ")
_EARLYOOM = re.compile(r"sending SIG[A-Z]+ to process (\d{1,10}) uid ")
_NOHANG_PID = re.compile(r"\s*PID:\s+(\d{1,10}),")


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal entry of one of them."""

    unit: str
    """Whose it is; of systemd's own entries the unit that it is about."""
    message: str
    result: str = ""
    """UNIT_RESULT, of systemd's own entries; empty: it isn't one."""
    time: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class OtherKill:
    """What one of them did: it killed a process, or all of a cgroup, or stopped a unit."""

    killer: str
    pid: int | None = None
    cgroup: str | None = None
    unit: str | None = None
    time: float = 0.0
    """When it was written of: seconds since the epoch."""


def kills_in(entries: Iterable[Entry]) -> list[OtherKill]:
    """The kills that they tell of, in order."""
    found = []
    waits, pid = False, None  # nohang says whom it chose in one line, and that it kills in a later one
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
    """Whether `kill` took the process of `node`, which is gone. A process that was pinned after it is another one: the
    PID's or the unit's next."""
    if node.hold is None or node.hold.since > kill.time:
        return False
    if kill.pid is not None:
        return kill.pid == node.pid
    if not node.unit:
        return False
    if kill.unit is not None:
        return kill.unit == node.unit
    return kill.cgroup is not None and node.unit in kill.cgroup.split("/")


class OtherKills:
    """Finds out who took held processes that have died."""

    def __init__(self) -> None:
        self._departed: deque[tuple[float, Node]] = deque(maxlen=1024)
        """When each was found to be gone (CLOCK_MONOTONIC, seconds)."""
        self._found: deque[list[Entry]] = deque()
        """What the thread has read."""
        self._kills: deque[tuple[float, OtherKill]] = deque(maxlen=256)
        """When each was read of (CLOCK_MONOTONIC, seconds)."""
        self._looking = False
        self._since_us = int(time.time() * 1e6)
        """Realtime clock: what the journal had before has been told of, or is from before the start."""

    def note(self, departed: Sequence[Node], told_of: Collection[Node], now: float, *, kernel_killed: bool) -> bool:
        """Take in held processes that have died, without those in `told_of`, whom the kernel has killed. Whether the
        journal has to be looked at: somebody else may have killed them, or, where the kernel has killed, systemd may
        have stopped their unit."""
        if not self._departed and not departed:
            return False
        self._departed += [(now, node) for node in departed if not any(node is known for known in told_of)]
        killed = kernel_killed or others_run()
        kept_seconds = _KEPT_SECONDS if killed else _UNTOLD_SECONDS
        while self._departed and self._departed[0][0] < now - kept_seconds:
            self._departed.popleft()
        return killed and bool(self._departed)

    def look(self) -> None:
        """Begin to read the journal, if that isn't under way. take() has what it says."""
        if self._looking:
            return
        self._looking = True
        try:
            start_new_thread(self._read, ())
        except RuntimeError:  # no memory for a thread, or no more of them are allowed: the next scan tries again
            self._looking = False

    def take(self, now: float) -> list[tuple[OtherKill, list[Node]]]:
        """The kills that the journal tells of and that took somebody held, with those whom they took. Each of these is
        told of once. A kill may be read of before it is known who is gone, so it is kept for a while."""
        while self._found:
            self._kills += [(now, kill) for kill in kills_in(self._found.popleft())]
        while self._kills and self._kills[0][0] < now - _KEPT_SECONDS:
            self._kills.popleft()
        told = []
        for _, kill in self._kills:
            nodes = [node for _, node in self._departed if took(kill, node)]
            if nodes:
                told.append((kill, nodes))
                left = [pair for pair in self._departed if pair[1] not in nodes]
                self._departed = deque(left, maxlen=self._departed.maxlen)
        return told

    def _read(self) -> None:
        try:
            entries, self._since_us = read_entries(self._since_us)
            self._found.append(entries)
        except Exception:  # no journal, or a damaged one: nothing is known
            self._found.clear()
        finally:
            self._looking = False


def others_run() -> bool:
    """Whether one of them runs as the service that Debian, Fedora and their own packages make it: by its cgroup."""
    return any(
        os.path.exists(f"{root}/{above}/{unit}/cgroup.procs") for unit in _UNITS for above in _SLICES for root in _ROOTS
    )


def read_entries(since_us: int) -> tuple[list[Entry], int]:
    """What they and systemd have written since then, and the time of the last entry (microseconds since the epoch).
    Raises OSError."""
    from systemd import _reader  # type: ignore[attr-defined]  # no stubs. 0.4 MiB, and needed as seldom as somebody held is killed

    reader = _reader._Reader(1)  # SD_JOURNAL_LOCAL_ONLY
    try:
        for unit in _UNITS:
            reader.add_match(f"_SYSTEMD_UNIT={unit}")
        reader.add_disjunction()
        reader.add_match("_PID=1")
        reader.add_match(f"MESSAGE_ID={_UNIT_FAILED}")
        reader.seek_realtime(since_us + 1)
        entries: list[Entry] = []
        while len(entries) < _ENTRIES and reader._next():
            at = reader._get_realtime()
            if at > since_us:
                since_us = at
                entries.append(replace(_entry(reader), time=at / 1e6))
        return entries, since_us
    finally:
        reader.close()


def _entry(reader: object) -> Entry:
    def field(name: str) -> str:
        try:
            raw: bytes = reader._get(name)  # type: ignore[attr-defined]
        except (KeyError, OSError):
            return ""
        return raw.decode("utf-8", "backslashreplace")

    result = field("UNIT_RESULT")
    unit = field("UNIT") if result else field("_SYSTEMD_UNIT")
    return Entry(unit, field("MESSAGE"), result)
