"""Log lines that are JSON, one object a line: journald's `-o json`, container runtimes, log shippers. Pure."""

import json
import re
from datetime import UTC, datetime

from oomwatchd.oomlog.logline import LogLine

_MEMBER = re.compile(r'\s*"(?:message|MESSAGE|log|msg|text)"\s*:\s*"(?P<text>.*?)"?,?\s*$')
_TEXT = ("MESSAGE", "message", "log", "msg", "textPayload", "line", "text", "_raw")
_TIME = ("time", "timestamp", "@timestamp", "ts")


def unwrap(line: str) -> LogLine | None:
    """The log line in a line of JSON; None if this isn't JSON, or holds no text."""
    start = line.find("{")
    if start >= 0 and not line[:start].strip("\x1e \t").removeprefix("data:").strip():
        return _object(line[start:])
    member = _MEMBER.match(line)
    return None if member is None else LogLine(_unescape(member["text"]))


def _object(text: str) -> LogLine | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if isinstance(record.get("jsonPayload"), dict):
        record = {**record, **record["jsonPayload"]}
    words = next((value for key in _TEXT if (value := _text(record.get(key))) is not None), None)
    if words is None:
        return None
    program = record.get("_TRANSPORT", record.get("SYSLOG_IDENTIFIER"))
    program = program if isinstance(program, str) else None
    microseconds = record.get("__REALTIME_TIMESTAMP")
    host = record.get("_HOSTNAME")
    host = host if isinstance(host, str) else None
    if isinstance(microseconds, str) and "MESSAGE" in record:
        return LogLine(words, time=utc(microseconds), host=host, program=program, verbatim=True)
    time = next((value for key in _TIME if isinstance(value := record.get(key), str)), None)
    return LogLine(words.rstrip("\n"), time=time, host=host, program=program)


def utc(microseconds: str) -> str | None:
    """journald's __REALTIME_TIMESTAMP (microseconds since 1970) in ISO 8601, UTC."""
    try:
        return datetime.fromtimestamp(int(microseconds[:18]) / 1e6, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object) -> str | None:
    """A JSON member's text. journald writes what isn't clean UTF-8 as a list of bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    return None


def _unescape(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
