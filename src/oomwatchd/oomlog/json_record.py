"""Reads what the objects of a JSON log say of a text in them: when it was written, on which machine, by whom. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_TIME = (
    *("@timestamp", "timestamp", "time", "ts", "_time", "__REALTIME_TIMESTAMP", "timeUnixNano", "TimeGenerated"),
    *(
        "timereported",
        "received_at",
        "lastTimestamp",
        "deprecatedLastTimestamp",
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
WRITERS = ("_TRANSPORT", *_PROGRAM, *_FACILITY, "process")
"""Members that may tell who has written a text."""
_KERNEL_FACILITY = ("0", "kern", "kernel", "kernel messages")
_INSIDE = (
    *("host", "hostname", "syslog", "process", "agent", "resource", "labels", "kubernetes", "log", "metadata"),
    *("stream", "attributes", "fields"),
)
"""Names of objects whose members belong to the record in which they stand."""
_INSIDE_NAMES = frozenset(_INSIDE)
_SERVICES = frozenset(
    ("systemd-oomd", "earlyoom", "nohang", "nohang-desktop", "oomd", "kubelet", "containerd", "dockerd")
)
"""Programs whose word is believed, and the units that they run in."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the objects around a text say of it."""

    time: str | float | None = None
    host: str | None = None
    program: str | None = None
    facility: str | None = None
    verbatim: bool = False


def known(record: Mapping[str, object], around: Context) -> Context:
    """What `record` says of its text, or else what is known from `around` it."""
    flat = _flat(record)
    journal = "__REALTIME_TIMESTAMP" in record
    time = next((found for key in _TIME if key in flat and (found := moment(only(flat[key]))) is not None), None)
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
    """The record's members, and those of the objects in it whose members belong to it."""
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
        return pairs(value) or {}
    return value if isinstance(value, dict) else {}


def only(value: object) -> object:
    """The one value of a list that has one (search engines answer so), any other value as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def pairs(values: list[object]) -> dict[str, object] | None:
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


def _name(record: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    return next((value for key in keys if isinstance(value := only(record.get(key)), str) and value), None)


def _host(record: Mapping[str, object]) -> str | None:
    """The machine. "source" is one for some, for others a file or a program."""
    host = _name(record, _HOST)
    source = record.get("source")
    if host is None and isinstance(source, dict) and "component" in source:  # an event of Kubernetes
        return _name(source, ("host",))
    return None if host is not None and host == record.get("source") and not may_be_host(host) else host


def may_be_host(source: str) -> bool:
    """Whether the value of a field named "source" may be the name of a machine."""
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


# Times

_DIGITS = re.compile(r"\d{9,19}(?:\.\d{1,9})?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d")
_WEEKDAY_FIRST = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d(?: \d{4})?")
_LONGEST_DATE = 48
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
