"""Kernel log text to OOM kill records. Pure; fed line by line.

A log may hold several streams: hosts on a log server, syslog and console of one machine. Each line is taken apart
(`prefix`), its stream found, and read there (`kernel_stream`). So many streams are held, one report each.
"""

import re
from datetime import datetime

from oomwatchd.oomlog import alike, json_lines, lines, quotes
from oomwatchd.oomlog import prefix as line_prefix
from oomwatchd.oomlog.assembly import Assembly
from oomwatchd.oomlog.clean import clean
from oomwatchd.oomlog.kernel_stream import KernelStream
from oomwatchd.oomlog.learned import Learned
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.prefix import Line
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.report import Origin
from oomwatchd.oomlog.times import Calendar

# A report of which so many lines show nothing more was cut off.
PATIENCE = 2000
# Hosts that write to one log at the same time. Of more, the one longest silent ends.
_STREAMS_MAX = 64
# So many lines are kept until one of them shows what a prefix is that nobody knows.
_UNKNOWN_MAX = 8

_NO_LINE = Line("", "")

_Key = tuple[str | None, str | None, str, bool]


class Parser:
    """Feed it the lines of a log in order; `feed` and `flush` return the events that have become complete.

    Who follows a live log calls `flush` once it falls silent. `busy` is false while only a line with one of `ANCHORS`,
    or rows before it, can matter: a reader of large logs skips to these."""

    ANCHORS = (
        "invoked oom-killer",
        "oom-kill:con",
        "ill process ",
        "Killed process",
        "OOM killed process",
        "ut of memory: Killed",
        "oom_reaper: reaped",
        " total_vm ",
        "result of limit of",
        "memory: usage ",
        "Memory cgroup stats for",
        "memory.oom.group set",
        "no killable processes",
        "deadlocked on memory",
        "panic_on_oom is",
        "Manual OOM execution",
        '"MESSAGE":[',  # journald's way with a record that isn't clean UTF-8
        '"MESSAGE" : [',
        '"MESSAGE": [',
    )

    def __init__(self, reference: datetime, file: str | None = None, *, keep_text: bool = False) -> None:
        """`reference` (naive, local): dates without a year are the last such date not after it. `file`: where the
        log is read, for the events. `keep_text`: have the events keep their lines."""
        self._keep_text = keep_text
        self.reference = reference
        self.file = file
        self.calendar = Calendar()
        self._streams: dict[_Key, KernelStream] = {}
        self._begun: tuple[int, _Key] | None = None
        """The number of the last line that began a stream, and which one."""
        self._learned = Learned()
        self._unknown: list[tuple[str, Line]] = []
        self._done: list[OomKill] = []
        self._number = 0
        self._stream = self._stream_of((None, None, "", False))
        self._last = _NO_LINE
        """The last line's prefix, for a next one that has the same. Its text isn't kept."""
        self._alike: re.Pattern[str] | None = None
        self._noise: re.Pattern[bytes] | None = None
        """Matches prefixes that differ from the last line's in the time alone."""
        self._as_is = False
        """Whether the last line was free of colours, markup and the like."""
        self._origin = Origin()

    @property
    def busy(self) -> bool:
        """Whether any line may matter now."""
        return bool(self._unknown) or any(stream.assembly.waits() for stream in self._streams.values())

    def feed(self, line: str | LogLine) -> list[OomKill]:
        """Take in one line, without its line feed."""
        self._number += 1
        self._stream.assembly.at_row = False
        if isinstance(line, LogLine) and (line.verbatim or line != LogLine(line.text)):
            self._unwrapped(line)
        else:
            line = line.text if isinstance(line, LogLine) else line
            cleaned = clean(line)
            self._as_is = cleaned == line
            if self._unknown or not self._like_last(cleaned):
                self._plain(cleaned)
        if self._number - self._stream.last_number > PATIENCE:
            self._done += self._stream.give_up(self._number)
        if not self._done:
            return []
        done, self._done = self._done, []
        return done

    def feed_run(self, data: bytes, start: int, end: int) -> int:
        """Take in lines at `start`, behind the line just fed, that can be read as a whole: rows of a table, or lines
        that say nothing of an OOM. A large log is mostly these. Returns where they end."""
        if self._stream.assembly.at_row:
            return self._feed_rows(data, start, end)
        return self._skip_noise(data, start, end)

    def _feed_rows(self, data: bytes, start: int, end: int) -> int:
        """Take in the rows at `start` that follow a header or row just fed."""
        assembly = self._stream.assembly
        report = assembly.report
        if report is None or report.layout is None or report.past_table() or assembly.broken is not None:
            return start
        if not self._as_is or data.startswith(b"{", start):
            return start  # so the rows aren't either
        layout = report.layout
        rows, raw = alike.rows_pattern(layout, alike.shape(self._last)).read(data, start, end)
        if not rows:
            return start
        tasks = layout.raw_rows(rows)
        report.add_all(tasks)
        # Where a line feed is in the name, the next line has the rest.
        assembly.previous = tasks[-1].comm
        if self._keep_text:
            assembly.keep_rows(raw)
        self._number += len(tasks)
        self._stream.last_number = self._number
        return start + len(raw)

    def _skip_noise(self, data: bytes, start: int, end: int) -> int:
        """Pass over the lines at `start` that have the prefix of the line just fed: half of a report's lines are
        registers, addresses, headings."""
        assembly = self._stream.assembly
        if self._noise is None or not self._as_is or self._unknown or self._keep_text or assembly.broken is not None:
            return start
        found = self._noise.match(data, start, end)
        if found is None:
            return start
        stop = found.end()
        count = data.count(b"\n", start, stop)
        self._number += count
        assembly.previous = ""
        assembly.sysrq_key.pass_lines(count)
        return stop

    def flush(self) -> list[OomKill]:
        """The log ends here, or is silent: close the events that are open."""
        self._drain()
        for stream in self._streams.values():
            self._done += stream.flush()
        self._last, self._alike, self._noise, self._origin = _NO_LINE, None, None, Origin()
        done, self._done = self._done, []
        return done

    # From a line to its stream.

    def _like_last(self, line: str) -> bool:
        """Take a line whose prefix is the last one's but for the time: nearly all lines of a log are such."""
        match = None if self._alike is None else self._alike.match(line)
        if match is None or line_prefix.goes_on(line, match.end()):
            return False
        prefix = match[0]
        if prefix != self._origin.prefix:
            self._origin = Origin(prefix, None, self._last.host, self.file)
        self._take_text(line[match.end() :])
        return True

    def _plain(self, line: str) -> None:
        end = line_prefix.plain_prefix(line)
        if end > 0:
            self._drain()
            self._take(Line(line[:end], line[end:], sure=True))
            return
        if line.lstrip("\x1e \t")[:1] in ("{", '"', "d") and (unwrapped := json_lines.unwrap(line)) is not None:
            for one in unwrapped:
                self._unwrapped(one)
            return
        parts = line_prefix.split(line)
        if parts.text is None:
            return
        if parts.text.startswith('{"') and (unwrapped := json_lines.unwrap(parts.text)) is not None:
            for one in unwrapped:
                self._unwrapped(one)
            return
        self._known_or_not(line, parts)

    def _known_or_not(self, line: str, parts: Line) -> None:
        """A line whose prefix is taken off as far as it is known."""
        text = parts.text or ""
        if parts.sure or lines.begins(text) or not text.strip() or self._stream.is_below(line):
            self._drain()
            self._take_apart(line, parts)
            return
        begins = self._learned.learn(text)
        learned = self._learned.split(parts)
        if learned is not None:
            self._drain()
            self._take(learned)
        elif "invoked oom-killer" in text or self._unknown:
            self._unknown.append((line, parts))
            if begins or len(self._unknown) >= _UNKNOWN_MAX:
                self._drain()
        else:
            self._take_apart(line, parts)

    def _drain(self) -> None:
        """Read the lines that were kept, with what was learned since."""
        unknown, self._unknown = self._unknown, []
        for line, parts in unknown:
            learned = self._learned.split(parts)
            if learned is not None:
                self._take(learned)
            else:
                self._take_apart(line, parts)

    def _take_apart(self, line: str, parts: Line) -> None:
        if parts.prefix.strip("> \t"):
            self._take(parts)
        else:
            self._done += self._stream.take_bare(self._number, (parts.text or "").lstrip(), line)

    def _unwrapped(self, line: LogLine) -> None:
        """A line out of a container."""
        if self._unknown:
            self._drain()
        if line.program is not None and line.program != "kernel":
            return
        if line.facility is not None and line.facility != "kern":
            return
        parts = Line("", line.text, line.host) if line.verbatim else line_prefix.split(clean(line.text))
        if parts.text is None:
            return
        if not parts.sure and not line.verbatim:
            self._learned.learn(parts.text)
            parts = self._learned.split(parts) or parts
        host = line.host or parts.host
        file = line.file or self.file
        self._stream = self._stream_of((line.file, host, parts.lead, True))
        self._last, self._alike, self._noise = _NO_LINE, None, None
        self._origin = Origin(parts.prefix, line.time, host, file)
        self._done += self._stream.take(self._number, self._origin, parts.text or "")

    def _take(self, parts: Line) -> None:
        if (quoted := quotes.unquoted(parts)) is not None:
            parts, self._as_is = quoted, False
        self._last = parts
        self._alike = self._noise = None
        if quoted is None and alike.is_alike(parts):
            shape = alike.shape(parts)
            self._alike, self._noise = alike.alike_pattern(shape), alike.noise_pattern(shape)
        self._stream = self._stream_below_first(parts) or self._stream_of((None, parts.host, parts.lead, parts.dated))
        self._origin = Origin(parts.prefix, None, parts.host, self.file)
        self._take_text(parts.text or "")

    def _take_text(self, text: str) -> None:
        if text.startswith("message repeated "):
            return  # rsyslog tells again what it has written
        stream = self._stream
        if stream.assembly.broken is None and lines.is_noise(text):
            # Nearly all lines end here.
            stream.pass_over(self._origin, text)
            return
        self._done += stream.take(self._number, self._origin, text)

    def _stream_below_first(self, parts: Line) -> KernelStream | None:
        """The stream that the line before began, if that differs only by a lead: what stands before the first line of
        something copied ("[code]", an instance's name) is in none of the others."""
        key = (None, parts.host, parts.lead, parts.dated)
        if parts.lead or self._begun is None or self._number - self._begun[0] > 1:
            return None
        _, begun = self._begun
        known = self._streams.get(key)
        if begun not in self._streams or (*begun[:2], "", begun[3]) != key:
            return None
        if begun == key or (known is not None and known.assembly.report is not None):
            return None
        stream = self._streams[key] = self._streams.pop(begun)
        return stream

    def _stream_of(self, key: _Key) -> KernelStream:
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= _STREAMS_MAX:
                oldest = min(self._streams, key=lambda one: self._streams[one].last_number)
                self._done += self._streams.pop(oldest).flush()
            if self._number == 2 and (first := self._stream.assembly.report) is not None and not first.origin.prefix:
                # The log begins within a line, without the prefix of the others.
                self._streams[key] = self._stream
                return self._stream
            stream = self._streams[key] = KernelStream(
                Assembly(self.reference, self.calendar, keep_text=self._keep_text), PATIENCE
            )
            stream.last_number = self._number
            self._begun = (self._number, key)
        stream.assembly.reference = self.reference
        return stream
