"""Logs the kills of the kernel and of other killers, and writes the last one to a file."""

import contextlib
import math
import time
from collections.abc import Mapping

from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.last_kill import write_last_kill
from oomwatchd.daemon.log_records import Record, other_kill_record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.oom_kills import OomKills
from oomwatchd.daemon.other_kills import OtherKills
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.pinning.pinner import Pinner

_REPORT_SECONDS = 0.3
"""Seconds without a line after which an OOM report is complete. The kernel writes a report without a pause."""
_JOURNAL_SECONDS = 0.5
"""Seconds from the start of the thread that reads the journal until its result is taken."""
_STOP_SECONDS = 120.0
"""Seconds within which systemd stops a unit after a kill in it, if TimeoutStopSec= isn't longer than the default."""


class KillReports:
    """Watches the kernel's log, its counters and the journal for kills, and logs each kill once."""

    def __init__(self, loop: Loop, pinner: Pinner, in_force: InForce, report: Reporter, directory: str) -> None:
        """`directory`: the runtime directory, where the file of the last kill is written."""
        self._loop = loop
        self._pinner = pinner
        self._in_force = in_force
        self._report = report
        self._directory = directory
        self._kills = OomKills()
        self._other_kills = OtherKills()
        self._kernel_killed_at = -math.inf
        """When the kernel has killed last, CLOCK_MONOTONIC, seconds."""

    def start(self) -> None:
        """Have the loop wake up for the kernel's log, if that may be read."""
        if self._kills.log is not None:
            self._loop.add(self._kills.log.fileno(), self._on_kernel_log)

    @property
    def total(self) -> int:
        """How many processes were killed since the start."""
        return self._kills.total

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many processes were killed since the start, by killer and by the rule that pinned them (empty: none
        did)."""
        return self._kills.counts

    # Kills by the kernel

    def _on_kernel_log(self) -> None:
        if self._kills.read(self._pinner.ledger):
            self._kernel_killed_at = time.monotonic()
            self._loop.later(_REPORT_SECONDS, self._log_reports)

    def _log_reports(self) -> None:
        """Log the kills whose reports are complete."""
        for records in self._kills.records():
            self._kernel_killed_at = time.monotonic()
            self._log_kill(records)

    def _log_kill(self, records: list[Record]) -> None:
        """Log a kill, and write it to the file of the last kill."""
        for record in records:
            self._report.emit(record)
        if not self._in_force.dry_run:
            with contextlib.suppress(OSError):  # for instance a full disk; the journal has the kill
                write_last_kill(self._directory, records, time.time())

    def count(self) -> None:
        """Compare the kills in the kernel's log with the kernel's counter, and log those that are missing in its log.
        Called at each scan."""
        # The counter is read before the log, since the kernel counts a kill before it writes the log.
        if self._kills.count():
            self._pinner.prefilter.doubt_all()  # the kernel may have had no memory for events
        self._on_kernel_log()
        if self._loop.awaits(self._log_reports):
            return
        if (record := self._kills.untold()) is not None:
            self._kernel_killed_at = time.monotonic()
            self._log_kill([record])
        if self._kills.awaited:
            self._loop.later(_REPORT_SECONDS, self.count)

    # Kills by others

    def look_for_others(self) -> None:
        """If pinned processes have died: find out whether another killer than the kernel took them. Called at each
        scan."""
        now = time.monotonic()
        departed = self._pinner.ledger.take_departed()
        stopping = now - self._kernel_killed_at < _STOP_SECONDS
        if self._other_kills.add_dead(departed, self._kills.recent, now, kernel_killed=stopping):
            self._other_kills.look()
            self._loop.later(_JOURNAL_SECONDS, self._log_others)

    def _log_others(self) -> None:
        # The part of the journal that isn't read yet is taken after the next scan.
        for kill, nodes in self._other_kills.take(time.monotonic()):
            self._kills.add(kill.killer, [node.rule for node in nodes])
            self._log_kill([other_kill_record(kill.killer, node, kill.cgroup) for node in nodes])
