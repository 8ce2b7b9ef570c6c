"""Texts that aren't a log line by line, though they are no container either: the journal's export and verbose formats,
CSV. (For lines that a terminal or a mailer wrapped see `wrapped`.) Pure.
"""

import csv
import re
from collections.abc import Sequence

from oomwatchd.oomlog import columns, runtime_parts, times, wrapped, yaml_records
from oomwatchd.oomlog.json_record import may_be_host, moment
from oomwatchd.oomlog.logline import LogLine, Unwrapper

_FIELD = re.compile(r"([A-Z_][A-Z0-9_]{0,63})=(.*)", re.DOTALL)
_FIELD_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_SIZE = re.compile(r"(?:\\x[0-9a-f]{2}|[\s\S]){8}")
_VERBOSE = re.compile(r"(?P<date>\S.{10,60}) \[s=[0-9a-f]+;i=[0-9a-f]+;.*?\bt=(?P<microseconds>[0-9a-f]{1,16});.*\]$")
_KEPT = ("MESSAGE", "_TRANSPORT", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "_HOSTNAME", "__REALTIME_TIMESTAMP")
_TRANSPORT = re.compile(r"\s*_TRANSPORT=")
_TEXT_MAX = 64 * 1024
_RECORD_MAX = 150
"""The most lines of a record of the journal."""


def choose(head: str) -> Unwrapper | None:
    """How to read a text that begins so; None: line by line."""
    rows = [row.rstrip("\r") for row in head.lstrip("\ufeff\n\r").split("\n")[:400]]
    # The text may begin within a record.
    if any(_VERBOSE.match(row) is not None for row in rows[:_RECORD_MAX]):
        return JournalVerbose(any(_TRANSPORT.match(row) is not None for row in rows))
    if any(row.startswith("__REALTIME_TIMESTAMP=") for row in rows[:_RECORD_MAX]) or (
        _FIELD.match(rows[0]) is not None and any(row.startswith("MESSAGE=") for row in rows)
    ):
        return JournalExport(any(_TRANSPORT.match(row) is not None for row in rows))
    if runtime_parts.has_parts(rows):
        return runtime_parts.RuntimeParts()
    if yaml_records.are_records(rows):
        return yaml_records.YamlRecords()
    named = _csv_columns(rows[0])
    if named is not None:
        return Csv(*named)
    found = columns.by_content(rows)
    if found is not None:
        return Csv(*found, header=False)
    return wrapped.choose(rows)


class _Journal:
    """A record of the journal while its fields come in. `has_writers`: the text says who has written each record, so
    that one that doesn't is cut, and may be anybody's."""

    def __init__(self, has_writers: bool) -> None:
        self._has_writers = has_writers
        self._fields: dict[str, str] = {}

    def flush(self) -> Sequence[LogLine]:
        """The text ends here, perhaps within a record."""
        return self._record(at_end=True)

    def _record(self, *, at_end: bool = False) -> Sequence[LogLine]:
        """The record that was read."""
        found, self._fields = self._fields, {}
        text = found.get("MESSAGE")
        writer = found.get("_TRANSPORT")
        if text is None or (writer is None and (self._has_writers or (at_end and "__REALTIME_TIMESTAMP" in found))):
            return ()
        microseconds = found.get("__REALTIME_TIMESTAMP", "")
        program = _writer(found.get("_TRANSPORT"), found.get("SYSLOG_IDENTIFIER"))
        return (
            LogLine(
                text,
                time=times.utc(int(microseconds)) if microseconds.isdigit() and len(microseconds) < 18 else None,
                host=found.get("_HOSTNAME"),
                program=program,
                facility="kern" if program == "kernel" else None,
                verbatim=True,
            ),
        )

    def _take(self, name: str, value: str) -> None:
        if name in _KEPT:
            self._fields[name] = value[:_TEXT_MAX]


def _writer(transport: str | None, identifier: str | None) -> str | None:
    """journald sets the transport itself, and nobody else can; an identifier anybody can choose."""
    if transport is None:
        return identifier
    return "kernel" if transport == "kernel" else identifier if identifier not in (None, "kernel") else transport


class JournalExport(_Journal):
    """`journalctl -o export`: a line a field, an empty one between records (systemd.io/JOURNAL_EXPORT_FORMATS). A value
    with a line feed or a byte that isn't text follows its name on the next line, behind its size in eight bytes."""

    def __init__(self, has_writers: bool) -> None:
        super().__init__(has_writers)
        self._binary: str | None = None

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the record that it ends."""
        field = _FIELD.match(line)
        if self._binary is not None and self._binary not in self._fields:
            self._fields[self._binary] = _SIZE.sub("", line, count=1)
        elif not line:
            self._binary = None
            return self._record()
        elif field is not None:
            self._binary = None
            # Where the empty lines are gone (grep), a field that comes again begins a record.
            done = self._record() if field[1] in self._fields else ()
            self._take(field[1], field[2])
            return done
        elif _FIELD_NAME.fullmatch(line) is not None:
            self._fields.pop(line, None)
            self._binary = line
        elif self._binary is not None and len(self._fields[self._binary]) < _TEXT_MAX:
            self._fields[self._binary] += f"\n{line}"
        return ()


class JournalVerbose(_Journal):
    """`journalctl -o verbose`: a line with the date and the cursor, the fields below it, indented."""

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the record that it ends."""
        head = _VERBOSE.match(line)
        if head is not None:
            done = self._record()
            self._take("__REALTIME_TIMESTAMP", str(int(head["microseconds"], 16)))
            return done
        field = _FIELD.match(line.lstrip(" "))
        if field is not None and line.startswith(" "):
            self._take(field[1], field[2])
        return ()


# Columns of CSV by what they tell, as shippers and search engines name them.
_COLUMNS = {
    "text": (
        "message",
        "@message",
        "syslogmessage",
        "msg",
        "log",
        "_raw",
        "line",
        "textpayload",
        "payload",
        "content",
        "text",
    ),
    "time": ("@timestamp", "timestamp", "_time", "time", "timegenerated", "eventtime", "date", "datetime"),
    "host": ("host", "hostname", "computer", "host.name", "_hostname", "node", "source_host", "source"),
    "program": ("processname", "program", "syslog_identifier", "process", "appname", "ident", "process.name", "tag"),
    "facility": ("facility", "syslog_facility"),
}


def _cells(lines: list[str], delimiter: str) -> list[str]:
    """The fields of a record; none if it isn't one."""
    try:
        return next(csv.reader(lines, delimiter=delimiter), [])
    except csv.Error:
        return []


def _csv_columns(head: str) -> tuple[str, dict[str, int]] | None:
    """The delimiter and the columns of a table whose first line is `head`; None if it has no column for a text."""
    for delimiter in (",", ";", "\t"):
        if delimiter not in head or len(head) > 4096:
            continue
        names = [re.sub(r" \[.*\]$", "", name.strip().lower()) for name in _cells([head], delimiter)]
        ends = [name.rpartition(".")[2] for name in names]  # "jsonPayload.message"
        at = {
            what: (names if found in names else ends).index(found)
            for what, known in _COLUMNS.items()
            if (found := next((name for name in known if name in names or name in ends), None)) is not None
        }
        if "text" in at and all(re.fullmatch(r"[@\w. -]{1,64}", name) for name in names if name):
            return delimiter, at
    return None


def is_bare_table(unwrapper: Unwrapper) -> bool:
    """Whether it reads a table without a header, so that the first line is a row, and may be cut."""
    return isinstance(unwrapper, Csv) and not unwrapper.header


class Csv:
    """A table, as CloudWatch, Kibana, Splunk and Log Analytics give it. `header`: whether its first line is one."""

    def __init__(self, delimiter: str, at: dict[str, int], *, header: bool = True) -> None:
        self._delimiter = delimiter
        self._at = at
        self._rows: list[str] = []
        """The lines of the present row, which has a line feed in a cell."""
        self._length = 0
        """The number of their characters."""
        self._whole = True
        """Whether they end outside of a cell in quotes."""
        self.header = header
        self._first = True

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the row that it ends."""
        if self._first:
            self._first = False
            if self.header or not columns.is_whole(line):
                return ()
        self._rows.append(line)
        self._length += len(line) + 1
        self._whole = self._whole == columns.is_whole(line)
        return self._row() if self._whole or self._length > _TEXT_MAX else ()

    def flush(self) -> Sequence[LogLine]:
        """The text ends here, perhaps within a row."""
        if not self._rows:
            return ()
        self._rows[-1] += '"'
        return self._row()

    def _row(self) -> Sequence[LogLine]:
        cells = _cells(self._rows, self._delimiter)
        self._rows, self._length, self._whole = [], 0, True
        values = {what: cells[number].strip() for what, number in self._at.items() if number < len(cells)}
        words = values.get("text", "")
        return [
            LogLine(
                one,
                time=moment(values.get("time")) or values.get("time") or None,
                host=host if (host := values.get("host")) and may_be_host(host) else None,
                program=values.get("program", "").partition("[")[0].rstrip(":") or None,
                facility=values.get("facility", "").replace("0", "kern") or None,
            )
            for one in words.split("\n")
            if one
        ]
