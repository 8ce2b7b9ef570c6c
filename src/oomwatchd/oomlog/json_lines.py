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
from dataclasses import replace

from oomwatchd.oomlog import json_cut
from oomwatchd.oomlog.json_record import Context, known, moment, pairs
from oomwatchd.oomlog.logline import LogLine

_MEMBER = re.compile(r'\s*"(?:message|MESSAGE|log|msg|text|textPayload|line|_raw)"\s*:\s*"(?P<text>.*?)"?,?$')
TEXTS = (
    *("MESSAGE", "message", "@message", "full_message", "short_message", "log", "msg", "textPayload", "line"),
    *("text", "_raw", "stringValue", "rawLog", "event.original", "SyslogMessage", "content", "Line"),
)
"""The names of members that are texts of a log."""
_OBJECT = re.compile(r'\{\s*"')
_KILL_WORDS = ("invoked oom-killer", "Killed process", "Kill process", "oom-kill:", "ut of memory")
_MAX_DEPTH = 64
_CUT_MAX = 16 * 1024
"""A line of a log in JSON is shorter; of a longer text it would take long to try what is missing."""


def unwrap(line: str) -> list[LogLine] | None:
    """The log lines in a line of JSON; None if this isn't JSON, or holds no text."""
    start = line.find("{")
    if start >= 0 and not line[:start].strip("\x1e \t").removeprefix("data:").strip():
        value, cut = _loaded(line[start:])
        found = [] if value is None else list(log_lines(value))
        if cut and found:
            found[-1] = replace(found[-1], cut=True)
        return found or ([] if cut and value is None else None)
    member = _MEMBER.match(line.rstrip())
    return None if member is None else [LogLine(text) for text in _split(_unescape(member["text"]))]


def _loaded(text: str) -> tuple[object, bool]:
    """A JSON value, also of a line that is cut, and whether it is; None if it isn't JSON. Where nothing can be told of
    a cut record, None and True."""
    try:
        return json.loads(text), False
    except (ValueError, RecursionError):
        if _OBJECT.match(text) is None or len(text) > _CUT_MAX:
            return None, False
    done = json_cut.completed(text, TEXTS)
    return (None if done is None else done[0]), True


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
    members = pairs(values)
    if members is not None:
        yield from _of_object(members, around, depth + 1)
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


# A text with more lines than this is a log of its own. Its lines have their own times, not that of the record
# around them.
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


def _words(record: Mapping[str, object]) -> tuple[str | None, str | None]:
    """The name and value of the member that is the text."""
    for key in TEXTS:
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
    """Whether a text under some name is a log, or a line of one, with an OOM in it."""
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


_STAMPED = re.compile(r"\s*(?:<\d{1,3}>)?(?:\[ *\d{1,12}\.\d{1,9}\]|[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\d[T ]\d)")


def _unescape(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
