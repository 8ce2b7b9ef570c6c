"""Reports what the daemon does: to the log, to monitors, and in the status line of `systemctl status`."""

import time
from collections.abc import Callable, Iterable

from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.internal_errors import InternalErrors
from oomwatchd.daemon.log import Log
from oomwatchd.daemon.log_records import NOTICE, WARNING, PinLog, Record, decision_record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.monitor_stream import MonitorStream
from oomwatchd.daemon.put_off import OverdueLog, file_system_record
from oomwatchd.daemon.sd_notify import SdNotify
from oomwatchd.kernel.proc_connector import Event
from oomwatchd.pinning.pinner import Pinner


class Reporter:
    """Logs records and decisions. No other part of the daemon logs.

    `status` returns the status line for `systemctl status`. `answers_again` is called when a file system answers that
    had not answered before."""

    def __init__(
        self,
        log: Log,
        loop: Loop,
        pinner: Pinner,
        in_force: InForce,
        stream: MonitorStream,
        manager: SdNotify,
        *,
        status: Callable[[], str],
        answers_again: Callable[[], None],
    ) -> None:
        self._log = log
        self._loop = loop
        self._pinner = pinner
        self._in_force = in_force
        self._stream = stream
        self._manager = manager
        self._status = status
        self._answers_again = answers_again
        self._pin_log = PinLog(in_force.config.settings.log_pins)
        self._errors = InternalErrors()
        self._overdue_log = OverdueLog()
        self._unread_log = OverdueLog()
        self._notes: list[str] = []
        self._ledger_trouble = ""
        """The trouble of the ledger that was logged last; empty: none, or its end was logged."""

    # Records

    def emit(self, record: Record) -> None:
        """Log a record."""
        self._log.write(record)
        self._await_log()
        self._stream.record(record)

    def emit_and_show(self, record: Record) -> None:
        """Log a record, and bring the status line of `systemctl status` up to date."""
        self.emit(record)
        self.show_status()

    def keep_warning(self, text: str) -> None:
        """Keep a warning for the next emit_with_notes()."""
        self._notes.append(text)

    def emit_with_notes(self, event: str, priority: int, message: str) -> None:
        """Log a record about the whole daemon, together with the warnings of keep_warning() and those of the
        configuration."""
        notes = [*self._notes, *map(str, self._in_force.config.warnings)]
        self._notes.clear()
        text = "\n".join([message, *(f"Warning: {note}" for note in notes)])
        self.emit(Record(event, WARNING if notes else priority, text))

    def internal_error(self, error: Exception, doing: str = "") -> None:
        """Log an unexpected exception, or count it if its kind was logged before. `doing`: during what it was raised,
        as the end of a phrase, such as " in answering a client"."""
        record = self._errors.record_or_count(error, time.monotonic(), doing)
        if record is not None:
            self.emit(record)

    def summaries(self, now: float, *, final: bool = False) -> None:
        """Log how many decisions and exceptions were only counted. `now` is CLOCK_MONOTONIC in seconds. `final`: there
        will be no later call."""
        for record in (*self._pin_log.summaries(now, final=final), *self._errors.summaries(now, final=final)):
            self.emit(record)

    def _await_log(self) -> None:
        """If the log keeps records that weren't taken: send them later."""
        seconds = self._log.retry_seconds()
        if seconds is not None and not self._loop.awaits(self.flush):
            self._loop.later(seconds, self.flush)

    def flush(self) -> None:
        """Send the records that the log has kept, until its reader takes no more."""
        self._log.flush()
        self._await_log()

    # Decisions

    @property
    def watched(self) -> bool:
        """Whether anybody monitors, so that decisions() needs the events, too."""
        return self._stream.watched

    def log_pins(self, mode: str) -> None:
        """Take another value of `log_pins` of the configuration."""
        self._pin_log.go_by(mode)

    def decisions(self, events: Iterable[Event] = ()) -> None:
        """Log the pinner's decisions since the last call, and send them to monitors. `events`: the events that were
        dealt with since then."""
        pinner = self._pinner
        if pinner.ledger.trouble != self._ledger_trouble:
            self._log_ledger_trouble()
        now = time.monotonic()
        decisions = pinner.writer.take_decisions()
        self._log_file_systems()
        self._log_overdue(now)
        for decision in decisions:
            if self._pin_log.admits(decision, now):
                self.emit(decision_record(decision, dry_run=self._in_force.dry_run))
        self._stream.decisions(decisions, events, pinner.ledger)

    def _log_file_systems(self) -> None:
        """Log which file systems have stopped answering, and which answer again."""
        for path, answers in self._pinner.view.namespaces.files.take_news():
            self.emit(file_system_record(path, self._in_force.config.rules, answers=answers))
            if answers:
                self._answers_again()

    def _log_overdue(self, now: float) -> None:
        """Log which command lines can't be read, and which searches took too long."""
        unread = [(pid, "") for pid in self._pinner.view.command_lines.take_news()]
        for record in self._unread_log.records(unread, now) if unread else ():
            self.emit(record)
        overdue = self._pinner.rules.searches.take_news()
        for record in self._overdue_log.records(overdue, now) if overdue else ():
            self.emit(record)

    def _log_ledger_trouble(self) -> None:
        ledger = self._pinner.ledger
        self._ledger_trouble = ledger.trouble
        if ledger.trouble:
            message = (
                f"Failed to write the ledger '{ledger.path}': {ledger.trouble}; going on without, and trying again. If "
                "the daemon is killed before that succeeds, it won't know the original values of pinned processes"
            )
            self.emit(Record("summary", WARNING, message))
        else:
            self.emit(Record("summary", NOTICE, f"The ledger '{ledger.path}' is written again"))
        self.show_status()

    # The service manager

    def show_status(self) -> None:
        """Bring the status line of `systemctl status` up to date."""
        self._manager.show(self._status())
