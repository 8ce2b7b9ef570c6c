"""Puts the reports of one stream together: to which report a line belongs, and where one report ends and another
begins. Pure.

A stream is what one kernel wrote to one log. It has at most one open report. A line of a kind that the open report
already has begins another report."""

from collections import deque
from collections.abc import Callable
from datetime import datetime

from oomwatchd.oomlog.named_dates import Calendar
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.report import LineOrigin, Report, finish
from oomwatchd.oomlog.times import seconds_of, time_of, uptime_of

_SYSRQ_LINES = 50
"""The most lines between the line of sysrq-f and the report or the panic that it asks for."""
_VICTIMS = 16

Reader = Callable[["Assembly", str], bool]


class SysrqKey:
    """Whether sysrq-f was pressed within the last few lines, so that the next report is due to it."""

    def __init__(self) -> None:
        self._lines = 0

    def press(self) -> None:
        """Note that the log says that sysrq-f was pressed."""
        self._lines = _SYSRQ_LINES

    def pass_lines(self, count: int = 1) -> None:
        """Note that `count` lines say nothing of an OOM."""
        if self._lines > 0:
            self._lines = max(0, self._lines - count)

    def take_press(self) -> bool:
        """Whether the key was pressed just before. One press leads to one report, so the press is forgotten."""
        pressed, self._lines = self._lines > 0, 0
        return pressed


class Assembly:
    """The open report of a stream, and the events that have become complete.

    `origin`: where the line came from that is read now. `at_row`: that line was a row or the header of a table, so
    that rows may follow. `broken`: a line of which a part is missing, and how to read it. `previous`: the text of the
    line before."""

    def __init__(self, reference: datetime, calendar: Calendar, *, keep_text: bool = False) -> None:
        self._keep_text = keep_text
        self.reference = reference
        self.calendar = calendar
        self.report: Report | None = None
        self.origin = LineOrigin()
        self.at_row = False
        self.broken: tuple[Reader, str] | None = None
        self.previous = ""
        self._done: list[OomKill] = []
        self._victims: deque[int] = deque(maxlen=_VICTIMS)
        self._closed_any = False
        self.sysrq_key = SysrqKey()

    def new(self) -> Report:
        """Begin another report."""
        self.close()
        self.report = Report(self.origin)
        return self.report

    def keep(self, text: str, *, read: bool) -> None:
        """Keep a line for the event's original text. `read`: a reader understood it."""
        report = self.report
        if self._keep_text and report is not None and (read or not report.decided()):
            report.keep(f"{self.origin.prefix}{text}")

    def keep_rows(self, rows: bytes) -> None:
        """Keep rows of the table that were read as a whole."""
        if self._keep_text and self.report is not None:
            for row in rows.splitlines():
                self.report.keep(row.decode("utf-8", "backslashreplace"))

    def open(self, *, another: bool = False) -> Report:
        """The open report; a new one if there is none, or if this line begins `another`."""
        return self.new() if self.report is None or another else self.report

    def before_table(self) -> Report:
        """The report to which a line belongs that stands before the table."""
        report = self.report
        return self.open(another=report is not None and (report.past_table() or report.tasks is not None))

    def close(self) -> None:
        """Complete the open report: it becomes an event, if it is about an OOM."""
        report, self.report = self.report, None
        if report is None or not report.is_oom():
            return
        kill = finish(report, self.reference, self.calendar)
        if kill.victim is not None:
            self._victims.append(kill.victim.pid)
        self._closed_any = True
        self._done.append(kill)

    def end(self) -> None:
        """Complete the open report, since the log ends, or no more lines come."""
        self.close()
        self.origin = LineOrigin()
        self.previous = ""
        self._closed_any = False

    def take_done(self) -> list[OomKill]:
        """The events that have become complete since the last call."""
        done, self._done = self._done, []
        return done

    def await_rest(self, read: Reader, text: str) -> bool:
        """Keep a line that a name, a mailer or an editor has broken, and its reader, since the other part may follow.
        Returns True: the line is understood so far."""
        self.broken = (read, text)
        return True

    def died_before(self, pid: int) -> bool:
        """Whether `pid` is the victim of an event that is complete already."""
        return pid in self._victims

    def waits(self) -> bool:
        """Whether every line has to be read now, since a broken line or the open report may go on in any form."""
        return self.broken is not None or (self.report is not None and self.report.awaits_more())

    def same_group(self, words: str, most: int) -> bool:
        """Whether a further kill line, with these words before it, belongs to the open report. memory.oom.group kills
        several processes, and the kernel writes so, but a log that begins in the middle may lack that line. Otherwise
        each kill line is an event of its own, since the kernel limits the rate of reports, not of kills."""
        report = self.report
        if report is None or not report.killed or words != report.words:
            return False
        if report.group is not None:
            return len(report.killed) < most
        if report.invoker is not None or report.tasks is not None or report.summary is not None or self._closed_any:
            return False
        before, now = (self._time(origin) for origin in (report.origin, self.origin))
        if isinstance(before, float) and isinstance(now, float):
            return words.startswith("Memory") and 0 <= now - before < 0.05
        return words.startswith("Memory") and before is not None and before == now

    def is_later(self, origin: LineOrigin) -> bool:
        """Whether `origin` is certainly later than the line before. Copies of a line may have a second between them."""
        before, now = uptime_of(self.origin.prefix), uptime_of(origin.prefix)
        if before is not None and now is not None:
            return now != before
        before, now = (seconds_of(self._time(one)) for one in (self.origin, origin))
        return before is not None and now is not None and abs(now - before) > 1

    def _time(self, origin: LineOrigin) -> str | float | None:
        return origin.time if origin.time is not None else time_of(origin.prefix, self.reference, self.calendar)
