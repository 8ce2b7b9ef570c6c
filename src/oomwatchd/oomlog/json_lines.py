"""Log lines in JSON values: journald's `-o json`, dmesg's, container runtimes', shippers', cloud consoles' and search
engines' answers, a whole log in one string. Pure.

No table of products: a text stands under one of a few names, at any depth, and time, host and program beside it or
further out. Arrays of plain values are rows or lines.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from oomwatchd.oomlog.logline import LogLine

_MEMBER = re.compile(r'\s*"(?:message|MESSAGE|log|msg|text|textPayload|line|_raw)"\s*:\s*"(?P<text>.*?)"?,?\s*$')
_TEXT = (
    *("MESSAGE", "message", "@message", "full_message", "short_message", "log", "msg", "textPayload", "line"),
    *("text", "_raw", "stringValue", "rawLog", "event.original", "SyslogMessage", "content", "Line"),
)
_TIME = (
    *("@timestamp", "timestamp", "time", "ts", "_time", "__REALTIME_TIMESTAMP", "timeUnixNano", "TimeGenerated"),
    *(
        "timereported",
        "received_at",
        "lastTimestamp",
        "eventTime",
        "generated_at",
        "datetime",
        "date",
        "t",
        "Timestamp",
    ),
    *("DATE", "ISODATE", "timegenerated", "receiveTimestamp", "ingestionTime"),
)
_HOST = (
    *("_HOSTNAME", "host", "hostname", "HOST", "Computer", "HostName", "source_host", "beat.hostname", "host.name"),
    *("node", "node_name", "source"),
)
_PROGRAM = (
    *("SYSLOG_IDENTIFIER", "program", "PROGRAM", "appname", "app_name", "programname", "ident", "syslogtag"),
    *("ProcessName", "syslog_identifier", "process.name", "logger_name", "logger"),
)
_FACILITY = ("SYSLOG_FACILITY", "syslogfacility-text", "syslog_facility", "facility", "FACILITY", "Facility")
_KERNEL_FACILITY = ("0", "kern", "kernel", "kernel messages")
_INSIDE = (
    *("host", "hostname", "syslog", "process", "agent", "resource", "labels", "kubernetes", "log", "metadata"),
    *("stream", "attributes", "fields"),
)
"""Objects that tell of the record in which they stand."""
_INSIDE_NAMES = frozenset(_INSIDE)
_SERVICES = frozenset(
    ("systemd-oomd", "earlyoom", "nohang", "nohang-desktop", "oomd", "kubelet", "containerd", "dockerd")
)
"""Programs whose word is believed, and the units that they run in."""
_KILL_WORDS = ("invoked oom-killer", "Killed process", "Kill process", "oom-kill:", "ut of memory")
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Context:
    """What the objects around a text say of it."""

    time: str | float | None = None
    host: str | None = None
    program: str | None = None
    facility: str | None = None
    verbatim: bool = False


def unwrap(line: str) -> list[LogLine] | None:
    """The log lines in a line of JSON; None if this isn't JSON, or holds no text."""
    start = line.find("{")
    if start >= 0 and not line[:start].strip("\x1e \t").removeprefix("data:").strip():
        try:
            value = json.loads(line[start:])
        except (ValueError, RecursionError):
            return None
        return list(log_lines(value)) or None
    member = _MEMBER.match(line)
    return None if member is None else [LogLine(text) for text in _split(_unescape(member["text"]))]


def log_lines(value: object, around: Context | None = None, depth: int = 0) -> Iterator[LogLine]:
    """The log lines in a JSON value, in its order. `around`: what is known from further out."""
    around = around or Context()
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        yield from _of_object(value, around, depth)
    elif isinstance(value, list):
        yield from _of_array(value, around, depth)
    elif isinstance(value, str):
        yield from lines_of(value, around)


def _of_object(record: Mapping[str, object], around: Context, depth: int) -> Iterator[LogLine]:
    inner = known(record, around)
    key, text = _words(record)
    if text is not None:
        yield from _of_text(text, inner, depth)
    for name, value in record.items():
        if name == key or (text is not None and not isinstance(value, list)):
            continue
        if _may_hold_records(value, has_text=text is not None):
            yield from log_lines(value, inner, depth + 1)


def _of_text(text: str, context: Context, depth: int) -> Iterator[LogLine]:
    """A text, which may be JSON itself: a runtime's record of a program that writes JSON."""
    if text.startswith('{"') and not context.verbatim:
        try:
            inside = list(log_lines(json.loads(text), context, depth + 1))
        except (ValueError, RecursionError):
            inside = []
        if inside:
            yield from inside
            return
    yield from lines_of(text, context)


def _may_hold_records(value: object, *, has_text: bool) -> bool:
    """Whether a member of an object is to be looked into; beside a text only what is a list of further records."""
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        return True
    return not has_text and (isinstance(value, dict) or (isinstance(value, str | list) and _is_log(value)))


def _of_array(values: list[object], around: Context, depth: int) -> Iterator[LogLine]:
    pairs = _pairs(values)
    if pairs is not None:
        yield from _of_object(pairs, around, depth + 1)
        return
    if any(isinstance(one, dict | list) for one in values):
        for one in values:
            if isinstance(one, dict | list):
                yield from log_lines(one, around, depth + 1)
        return
    texts = [one for one in values if isinstance(one, str)]
    times = [found for one in values if (found := moment(one)) is not None]
    if times and len(texts) <= 8:
        # A row: a time, and a text among other columns.
        words = [text for text in texts if moment(text) is None]
        if words:
            yield from lines_of(max(words, key=len), replace(around, time=times[0]))
        return
    for text in texts:
        yield from lines_of(text, around)


def _pairs(values: list[object]) -> dict[str, object] | None:
    """An object that is written as a list of its members: [{"field": "@message", "value": "..."}, ...] (CloudWatch),
    [{"key": "host.name", "value": {"stringValue": "..."}}] (OpenTelemetry). None if it isn't one."""
    found: dict[str, object] = {}
    for one in values:
        if not isinstance(one, dict) or not 2 <= len(one) <= 3 or "value" not in one:
            return None
        name = next((one[key] for key in ("field", "key", "name") if isinstance(one.get(key), str)), None)
        if not isinstance(name, str):
            return None
        value = one["value"]
        found[name] = value["stringValue"] if isinstance(value, dict) and "stringValue" in value else value
    return found or None


# A text of so many lines is a log of its own, whose lines have their times, not that of the record around them.
_LOG_LINES = 5


def lines_of(text: str, context: Context) -> Iterator[LogLine]:
    """The lines in a text that stood in JSON. One of journald's records is one, though a name in it may hold a line
    feed."""
    texts = [text] if context.verbatim else _split(text)
    if len(texts) > _LOG_LINES and context.time is not None and _STAMPED.match(texts[1]) is not None:
        context = replace(context, time=None)
    for line in texts:
        yield LogLine(
            line,
            time=context.time,
            host=context.host,
            program=context.program,
            facility=context.facility,
            verbatim=context.verbatim,
        )


def known(record: Mapping[str, object], around: Context) -> Context:
    """What `record` says of its text, or else what is known from `around` it."""
    flat = _flat(record)
    journal = "__REALTIME_TIMESTAMP" in record
    time = next((found for key in _TIME if key in flat and (found := moment(_only(flat[key]))) is not None), None)
    facility = _name(flat, _FACILITY)
    if facility is not None and facility.lower() in _KERNEL_FACILITY:
        facility = "kern"
    return Context(
        time=around.time if time is None else time,
        host=_host(flat) or around.host,
        program=_program(flat) or around.program,
        facility=facility or around.facility,
        verbatim=journal and "MESSAGE" in record,
    )


def _flat(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record's members, and those of the objects in it that tell of it."""
    if _INSIDE_NAMES.isdisjoint(record):
        return record
    inside = {name: found for name in _INSIDE if (found := _object(record.get(name)))}
    for value in list(inside.values()):
        # Of a resource.
        inside |= {name: found for name in ("attributes", "labels") if (found := _object(value.get(name)))}
    if not inside:
        return record
    flat = dict(record)
    for name, value in inside.items():
        flat.update((f"{name}.{key}", one) for key, one in value.items())
        for key, one in value.items():
            flat.setdefault(key, one)
    return flat


def _object(value: object) -> Mapping[str, object]:
    """A member that is an object, or a list of one's members; empty if it is neither."""
    if isinstance(value, list):
        return _pairs(value) or {}
    return value if isinstance(value, dict) else {}


def _only(value: object) -> object:
    """The one value of a list that has one (search engines answer so), any other value as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _name(record: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    return next((value for key in keys if isinstance(value := _only(record.get(key)), str) and value), None)


def _host(record: Mapping[str, object]) -> str | None:
    """The machine. "source" is one for some, for others a file or a program."""
    host = _name(record, _HOST)
    return None if host is not None and host == record.get("source") and not may_be_host(host) else host


def may_be_host(source: str) -> bool:
    """Whether a field named "source" tells of a machine."""
    return re.fullmatch(r"[\w.:-]{1,255}", source) is not None and source.lower() not in _NO_HOSTS


_NO_HOSTS = frozenset(
    ("kernel", "kern", "syslog", "journald", "journal", "stdout", "stderr", "file", "udp", "tcp", "kmsg")
)


def _program(record: Mapping[str, object]) -> str | None:
    """Who wrote the text. journald knows the kernel's records by their transport; a tag anybody can choose."""
    transport = record.get("_TRANSPORT")
    if transport == "kernel":
        return "kernel"
    program = _name(record, _PROGRAM)
    if program is not None:
        program = re.sub(r"(?:\[\d*\])?:?$", "", program)
    if isinstance(transport, str) and program in (None, "kernel"):
        return transport
    return program if program is None or _may_be(program, record) else f"not {program}"


def _may_be(program: str, record: Mapping[str, object]) -> bool:
    """Whether the fields that journald itself sets let a record be of that program: the identifier is anybody's."""
    unit, pid = record.get("_SYSTEMD_UNIT"), record.get("_PID")
    if program == "systemd":
        return pid in (None, "1") or (isinstance(unit, str) and unit.startswith("user@"))
    if program not in _SERVICES or not isinstance(unit, str):
        return True
    return unit.removesuffix(".service").startswith(program)


def _words(record: Mapping[str, object]) -> tuple[str | None, str | None]:
    """The name and value of the member that is the text."""
    for key in _TEXT:
        value = record.get(key)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            value = value[0]
        text = _text(value)
        if text is not None:
            return key, text
    return None, None


def _text(value: object) -> str | None:
    """A JSON member's text. journald writes what isn't clean UTF-8 as a list of bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    return None


def _is_log(value: object) -> bool:
    """Whether a text under some name is a log, or a line of one, that tells of an OOM."""
    if isinstance(value, list):
        return any(_is_log(one) for one in value if isinstance(one, str))
    assert isinstance(value, str)
    return any(words in value for words in _KILL_WORDS) or _decoded(value) is not None


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}\s?){32,}[A-Za-z0-9+/]{0,3}={0,2}\s*")


def _decoded(text: str) -> str | None:
    """A log in base64 (EC2's console output as its API gives it)."""
    if len(text) < 128 or _BASE64.fullmatch(text[:200].rstrip("=")) is None:
        return None
    try:
        found = base64.b64decode(text, validate=False).decode("utf-8", "backslashreplace")
    except (binascii.Error, ValueError):
        return None
    return found if any(words in found for words in _KILL_WORDS) else None


def _split(text: str) -> list[str]:
    """A text's lines. Some shippers escape line feeds twice."""
    text = _decoded(text) or text
    if "\n" not in text.rstrip("\r\n") and "\\n" in text:
        text = re.sub(r"(?:\\r)?\\n", "\n", text) if text.count("\\n") > 2 else re.sub(r"(?:\\r)?\\n$", "", text)
    return [line.rstrip("\r") for line in text.rstrip("\r\n").split("\n")]


_DIGITS = re.compile(r"\d{9,19}(?:\.\d{1,9})?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d")
_WEEKDAY_FIRST = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d(?: \d{4})?")
_LONGEST_DATE = 48
_STAMPED = re.compile(r"\s*(?:<\d{1,3}>)?(?:\[ *\d{1,12}\.\d{1,9}\]|[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\d[T ]\d)")
_YEAR_2001 = 978307200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(value: object) -> str | float | None:
    """A time: a date as it is; seconds, milli-, micro- or nanoseconds since 1970 as an ISO 8601 date; a small number
    is seconds since boot."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if len(value) <= _LONGEST_DATE and (_DATE.match(value) or _WEEKDAY_FIRST.fullmatch(value)):
            return value
        return _since_1970(value) if _DIGITS.fullmatch(value) else None
    if isinstance(value, float) and 0 <= value < _YEAR_2001:
        return value
    return _since_1970(repr(value)) if isinstance(value, int | float) else None


def _since_1970(number: str) -> str | None:
    whole, _, fraction = number.partition(".")
    if not whole.isdigit() or not 9 <= len(whole) <= 19:
        return None
    scale = 0 if len(whole) <= 11 else 3 if len(whole) <= 14 else 6 if len(whole) <= 17 else 9
    microseconds = int(whole) if scale == 6 else int(whole) * 10**6 // 10**scale
    if scale == 0 and fraction.isdigit():
        microseconds += int(fraction[:6].ljust(6, "0"))
    if microseconds < _YEAR_2001 * 10**6:
        return None
    return utc(microseconds)


def utc(microseconds: int) -> str | None:
    """Microseconds since 1970 in ISO 8601, UTC."""
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")
    except OverflowError:
        return None


def _unescape(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
