"""Logs kills of the OOM killer and of others, and leaves the last one in a file."""

import contextlib
import math
import time
from collections.abc import Mapping

from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.journal import Record, of_other_kill
from oomwatchd.daemon.last_kill import write_last_kill
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.oom_kills import OomKills
from oomwatchd.daemon.other_kills import OtherKills
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.pinning.pinner import Pinner

_REPORT_SECONDS = 0.3
"""The kernel writes an OOM report in one go; after so long without a line it is complete."""
_JOURNAL_SECONDS = 0.5
"""So long the journal has to be read, before it is asked what it says."""
_STOP_SECONDS = 120.0
"""After a kill in it, systemd stops a unit within this time, if TimeoutStopSec= isn't longer than by default."""


class KillReports:
    """Reads of kills when the kernel's log or the journal tells of them, and logs each once."""

    def __init__(self, loop: Loop, pinner: Pinner, in_force: InForce, report: Reporter, directory: str) -> None:
        """`directory` is the runtime directory, where the file of the last kill goes."""
        self._loop = loop
        self._pinner = pinner
        self._in_force = in_force
        self._report = report
        self._directory = directory
        self._kills = OomKills()
        self._other_kills = OtherKills()
        self._kernel_killed_at = -math.inf
        """When the last kill of the kernel was logged: CLOCK_MONOTONIC, seconds."""

    def start(self) -> None:
        """Wake up for the kernel's log from now on, if it may be read."""
        if self._kills.log is not None:
            self._loop.add(self._kills.log.fileno(), self._on_kernel_log)

    @property
    def total(self) -> int:
        """Processes killed since the start."""
        return self._kills.total

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """Processes killed since the start, by killer and the rule that held them (empty: none did)."""
        return self._kills.counts

    # The kernel's

    def _on_kernel_log(self) -> None:
        if self._kills.read(self._pinner.ledger):
            self._kernel_killed_at = time.monotonic()
            self._loop.later(_REPORT_SECONDS, self._tell)

    def _tell(self) -> None:
        """Log the kills whose reports are complete."""
        for records in self._kills.records():
            self._kernel_killed_at = time.monotonic()
            self._tell_one(records)

    def _tell_one(self, records: list[Record]) -> None:
        """Log a kill, and leave it in a file for whoever acts upon it."""
        for record in records:
            self._report.emit(record)
        if not self._in_force.dry_run:
            with contextlib.suppress(OSError):  # a full disk: the journal has it
                write_last_kill(self._directory, records, time.time())

    def count(self) -> None:
        """Compare with what the kernel counts, and log the kills that its log kept to itself. For each scan."""
        # In this order: the kernel counts a kill before it writes it to the log.
        if self._kills.count():
            self._pinner.prefilter.doubt_all()  # the kernel may have had no memory for events
        self._on_kernel_log()
        if self._loop.awaits(self._tell):
            return
        if (record := self._kills.untold()) is not None:
            self._kernel_killed_at = time.monotonic()
            self._tell_one([record])
        if self._kills.awaited:
            self._loop.later(_REPORT_SECONDS, self.count)

    # Others'

    def look_for_others(self) -> None:
        """After held processes have died: whether somebody else than the kernel has killed them. For each scan."""
        now = time.monotonic()
        departed = self._pinner.ledger.take_departed()
        stopping = now - self._kernel_killed_at < _STOP_SECONDS
        if self._other_kills.note(departed, self._kills.recent, now, kernel_killed=stopping):
            self._other_kills.look()
            self._loop.later(_JOURNAL_SECONDS, self._tell_others)

    def _tell_others(self) -> None:
        # What isn't read yet is asked for after the next scan.
        for kill, nodes in self._other_kills.take(time.monotonic()):
            self._kills.add(kill.killer, [node.rule for node in nodes])
            self._tell_one([of_other_kill(kill.killer, node, kill.cgroup) for node in nodes])
