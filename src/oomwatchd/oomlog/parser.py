"""Parses the lines of a log into OOM kill records. Pure.

A log may have several streams (`streams`). The prefix of each line (`prefix`) shows which stream it belongs to. Each
stream is read by itself (`kernel_stream`), one report at a time.
"""

import re
from dataclasses import replace
from datetime import datetime

from oomwatchd.oomlog import alike, json_lines, lines, quotes
from oomwatchd.oomlog import prefix as line_prefix
from oomwatchd.oomlog.clean import clean, completed_row
from oomwatchd.oomlog.kernel_stream import KernelStream
from oomwatchd.oomlog.learned import Learned
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.named_dates import Calendar
from oomwatchd.oomlog.prefix import Line
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.report import LineOrigin
from oomwatchd.oomlog.streams import PATIENCE, Key, Streams

_UNKNOWN_MAX = 8
"""The most lines with an unknown prefix that are kept until one of them shows where the prefix ends."""

_REPEATED = re.compile(r"message repeated \d{1,9} times: \[ ?(.*)\]")
_NO_LINE = Line("", "")


class Parser:
    """Reads the lines of a log in their order. feed() and flush() return the events that have become complete.

    For a live log, flush() is called when no more lines come. While `busy` is False, only rows of a task table and
    lines with one of `lines.ANCHORS` can matter, so that a reader of large logs may skip the others."""

    def __init__(self, reference: datetime, file: str | None = None, *, keep_text: bool = False) -> None:
        """`reference` (naive, local time): a date without a year means the last such date up to then. `file`: the path
        of the log, for the events. `keep_text`: the events keep their lines."""
        self._keep_text = keep_text
        self.reference = reference
        self.file = file
        self.calendar = Calendar()
        self._streams = Streams(self.calendar, keep_text=keep_text)
        self._learned = Learned()
        self._unknown: list[tuple[str, Line]] = []
        """Lines with an unknown prefix that wait to be read."""
        self._done: list[OomKill] = []
        """Complete events that weren't returned yet."""
        self._number = 0
        """The number of the present line, from 1."""
        self._stream = self._streams.of((None, None, "", False), 0, reference)
        self._last = _NO_LINE
        """The last line whose prefix was taken off; see _like_last()."""
        self._alike: re.Pattern[str] | None = None
        """Matches prefixes that differ from that line's only in the time; None: no other prefix is alike."""
        self._noise: re.Pattern[bytes] | None = None
        """Matches lines with such a prefix that say nothing of an OOM."""
        self._shape: str | None = None
        """The shape of the last line's prefix; None: that prefix tells nothing of others."""
        self._as_is = False
        """Whether the last line could be read without cleaning: it has no colours, markup and the like."""
        self._origin = LineOrigin()
        self._other_width = 0
        """How far journalctl sets in what follows of another program's record, whose first line was read; 0: none."""
        self._writers_are_named = False
        """Whether the log's container says who has written its records."""
        self._cut = False
        """Whether the log ends within the present line."""
        self._before = ""
        """The line that was fed last, as it stands in the log."""

    @property
    def busy(self) -> bool:
        """Whether each line must be fed now, not only lines with an anchor."""
        return bool(self._unknown) or self._streams.waits()

    def feed(self, line: str | LogLine) -> list[OomKill]:
        """Read one line, without its line feed. Returns the events that have become complete."""
        self._number += 1
        self._stream.assembly.at_row = False
        self._cut = isinstance(line, LogLine) and line.cut
        if isinstance(line, LogLine) and (line.verbatim or line != LogLine(line.text, cut=line.cut)):
            self._unwrapped(line)
        else:
            line = line.text if isinstance(line, LogLine) else line
            cleaned = clean(completed_row(self._before, line) if self._cut else line)
            self._before = line
            self._as_is = cleaned == line
            if self._unknown or self._cut or not self._like_last(cleaned):
                self._plain(cleaned)
        if self._number - self._stream.last_number > PATIENCE:
            self._done += self._stream.give_up(self._number)
        if not self._done:
            return []
        done, self._done = self._done, []
        return done

    def feed_run(self, data: bytes, start: int, end: int) -> int:
        """Read the lines of `data` from `start` on, after the line that was fed last, as far as they are rows of a
        table, or lines that say nothing of an OOM. They are read at once, since a large log mostly has such lines.
        Returns the offset of the next line."""
        if self._stream.assembly.at_row:
            return self._feed_rows(data, start, end)
        return self._skip_noise(data, start, end)

    def _feed_rows(self, data: bytes, start: int, end: int) -> int:
        """Read the rows from `start` on, after a header or a row. Returns the offset of the next line."""
        assembly = self._stream.assembly
        report = assembly.report
        if report is None or report.layout is None or report.past_table() or assembly.broken is not None:
            return start
        if not self._as_is or data.startswith(b"{", start):
            return start  # the rows can't be read without cleaning either
        if not alike.may_follow(self._last, data, start):
            return start
        layout = report.layout
        rows, raw = alike.rows_pattern(layout, alike.shape(self._last)).read(data, start, end)
        if not rows:
            return start
        tasks = layout.raw_rows(rows)
        report.add_all(tasks)
        # If the name of the last row has a line feed, the next line has the rest of the name.
        assembly.previous = tasks[-1].comm or ""
        if self._keep_text:
            assembly.keep_rows(raw)
        self._number += len(tasks)
        self._stream.last_number = self._number
        return start + len(raw)

    def _skip_noise(self, data: bytes, start: int, end: int) -> int:
        """Skip the lines from `start` on that have the prefix of the line before and say nothing of an OOM: half of a
        report's lines are registers, addresses and headings. Returns the offset of the next line."""
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
        """Complete the open events, since the log ends or no more lines come. Returns them."""
        self._drain()
        self._done += self._streams.flush()
        self._last, self._alike, self._noise, self._origin = _NO_LINE, None, None, LineOrigin()
        done, self._done = self._done, []
        return done

    # From a line to its stream

    def _like_last(self, line: str) -> bool:
        """Read a line if its prefix differs from the last one's only in the time, as nearly all lines of a log do.
        Returns whether it does."""
        match = None if self._alike is None else self._alike.match(line)
        if match is None or line_prefix.goes_on(line, match.end()):
            return False
        self._other_width = 0
        prefix = match[0]
        if prefix != self._origin.prefix:
            self._origin = LineOrigin(prefix, None, self._last.host, self.file)
        self._take_text(line[match.end() :])
        return True

    def _plain(self, line: str) -> None:
        """Read a line of a text file."""
        end = line_prefix.plain_prefix(line)
        if end > 0:
            self._drain()
            self._other_width = 0
            self._take(Line(line[:end], line[end:], sure=True))
            return
        if line.lstrip("\x1e \t")[:1] in ("{", '"', "d") and (unwrapped := json_lines.unwrap(line)) is not None:
            for one in unwrapped:
                self._unwrapped(one)
            return
        if self._other_width and line.startswith(self._other_width * " "):
            return  # the rest of another program's record
        parts = line_prefix.split(line)
        self._other_width = line.find(": ") + 2 if parts.text is None and ": " in line else 0
        if parts.text is None:
            return
        if parts.text.startswith('{"') and (unwrapped := json_lines.unwrap(parts.text)) is not None:
            if len(unwrapped) == 1 and unwrapped[0].time is None and parts.dated:
                unwrapped = [replace(unwrapped[0], time=parts.prefix)]
            for one in unwrapped:
                self._unwrapped(one)
            return
        self._known_or_not(line, parts)

    def _known_or_not(self, line: str, parts: Line) -> None:
        """Read a line whose prefix was split by the known kinds of prefixes; `parts` is the result."""
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
        """Read the lines that wait, by the prefixes that were learned since."""
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
            text = (parts.text or "").lstrip()
            self._done += self._stream.take_bare(self._number, text, line, cut=self._cut)

    def _unwrapped(self, line: LogLine) -> None:
        """Read a line of which a container (JSON, CSV, the journal) knows more than its text."""
        if self._unknown:
            self._drain()
        names_writer = line.program is not None or line.facility is not None
        if line.cut and not names_writer and self._writers_are_named:
            return  # the record ends before its writer's name
        self._writers_are_named = self._writers_are_named or names_writer
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
        self._origin = LineOrigin(parts.prefix, line.time, host, file, line.cut)
        self._done += self._stream.take(self._number, self._origin, parts.text or "")

    def _take(self, parts: Line) -> None:
        if (quoted := quotes.unquoted(parts)) is not None:
            parts, self._as_is = quoted, False
        self._last = parts
        self._alike = self._noise = None
        shape = alike.shape(parts) if quoted is None and alike.is_alike(parts) else None
        # To compile the patterns takes as long as to read tens of lines. Where the lines of many hosts are mixed, no
        # two in a row have one shape.
        if shape is not None and shape == self._shape:
            self._alike, self._noise = alike.alike_pattern(shape), alike.noise_pattern(shape)
        self._shape = shape
        key = (None, parts.host, parts.lead, parts.dated)
        self._stream = self._streams.below_first(parts, self._number) or self._stream_of(key)
        self._origin = LineOrigin(parts.prefix, None, parts.host, self.file, self._cut)
        self._take_text(parts.text or "")

    def _take_text(self, text: str) -> None:
        if text.startswith("message repeated "):
            # rsyslog writes this for a line that it has written before. At the beginning of a log, that line is in the
            # log before.
            repeated = _REPEATED.fullmatch(text)
            if repeated is None or not self._streams.begun_at(self._number):
                return
            text = line_prefix.split(repeated[1]).text or ""
        stream = self._stream
        if stream.assembly.broken is None and lines.is_noise(text):
            # Nearly all lines of a log end here, so this is the quick way.
            stream.pass_over(self._origin, text)
            return
        self._done += stream.take(self._number, self._origin, text)

    def _stream_of(self, key: Key) -> KernelStream:
        stream = self._streams.of(key, self._number, self.reference, self._stream)
        self._done += self._streams.take_ended()
        return stream
