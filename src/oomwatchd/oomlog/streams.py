"""The streams of a log: several hosts on a log server, or syslog and console of one machine. Pure."""

from datetime import datetime

from oomwatchd.oomlog.assembly import Assembly
from oomwatchd.oomlog.kernel_stream import KernelStream
from oomwatchd.oomlog.named_dates import Calendar
from oomwatchd.oomlog.prefix import Line
from oomwatchd.oomlog.record import OomKill

PATIENCE = 2000
"""The number of lines without a part of the report after which it ends: the log has lost its end."""
_MOST = 64
"""The most streams that are read at a time. For one more, the stream that was silent for longest ends."""

Key = tuple[str | None, str | None, str, bool]
"""What tells streams apart: file, host, lead of the prefix, and whether the prefix has a date."""


class Streams:
    """The streams that are read at a time."""

    def __init__(self, calendar: Calendar, *, keep_text: bool) -> None:
        self._calendar = calendar
        self._keep_text = keep_text
        self._by_key: dict[Key, KernelStream] = {}
        self._begun: tuple[int, Key] | None = None
        """The number of the last line that began a stream, and that stream; None: no line has yet."""
        self._ended: list[OomKill] = []

    def begun_at(self, number: int) -> bool:
        """Whether the line with this number has begun a stream."""
        return self._begun is not None and self._begun[0] == number

    def waits(self) -> bool:
        """Whether a stream waits for the rest of a report."""
        return any(stream.assembly.waits() for stream in self._by_key.values())

    def of(self, key: Key, number: int, reference: datetime, present: KernelStream | None = None) -> KernelStream:
        """The stream of a line, or a new one. `number`: the line's. `reference`: see Assembly. `present`: the stream of
        the line before; None: there is none."""
        stream = self._by_key.get(key)
        if stream is None:
            if len(self._by_key) >= _MOST:
                oldest = min(self._by_key, key=lambda one: self._by_key[one].last_number)
                self._ended += self._by_key.pop(oldest).flush()
            if present is not None and number == 2:
                present.mend()
                report = present.assembly.report
                if report is not None and not report.origin.prefix:
                    # The log begins in the middle of a line, which lacks the prefix of the others.
                    self._by_key[key] = present
                    return present
            assembly = Assembly(reference, self._calendar, keep_text=self._keep_text)
            stream = self._by_key[key] = KernelStream(assembly, PATIENCE)
            stream.last_number = number
            self._begun = (number, key)
        stream.assembly.reference = reference
        return stream

    def below_first(self, parts: Line, number: int) -> KernelStream | None:
        """The stream that the line before has begun, if its prefix differs from this one's only by a lead. Copied text
        may have a lead before its first line alone, such as "[code]". None: there is no such stream."""
        key = (None, parts.host, parts.lead, parts.dated)
        if parts.lead or self._begun is None or number - self._begun[0] > 1:
            return None
        _, begun = self._begun
        known = self._by_key.get(key)
        if begun not in self._by_key or (*begun[:2], "", begun[3]) != key:
            return None
        if begun == key or (known is not None and known.assembly.report is not None):
            return None
        stream = self._by_key[key] = self._by_key.pop(begun)
        return stream

    def take_ended(self) -> list[OomKill]:
        """The events of streams that were ended for others, once."""
        ended, self._ended = self._ended, []
        return ended

    def flush(self) -> list[OomKill]:
        """Complete the open events of all streams. Returns them."""
        done = self.take_ended()
        for stream in self._by_key.values():
            done += stream.flush()
        return done
