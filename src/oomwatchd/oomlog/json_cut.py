"""Completes JSON that begins or ends in the middle of a value, as far as it can be told. Pure.

At the end, a text is kept as far as it goes; any other value that isn't whole is left out with its name. At the start,
the members behind the cut are kept, and the rest of a text whose name the next record tells."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice

from oomwatchd.oomlog.json_record import WRITERS

_TOKEN = re.compile(r'\s*+("(?:[^"\\]|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]+)', re.DOTALL)
_ESCAPE_CUT = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?$")
_MEMBER = re.compile(r'(?:^|[,{])\s*(?="(?:[^"\\]|\\.){1,64}"\s*:)')
_PRETTY = re.compile(r'\s*"[^"]{1,64}"\s*:\s|\s*[}\]],?\s*$')
_OPENING = re.compile(r"\s*(?:\},?\s*)?\{\s*$")
_CLOSED = re.compile(r"\s*\}")
_IN_ONE_LINE = re.compile(r'[^{]{0,2000}"\s*:\s?"|:? "[^"]*"\}\s*$')
_ENDS = ("}", "},", "}]")
_LONGEST = 64 * 1024
_TRIES = 20
_BETWEEN = re.compile(r'\}\s*,\s*(?=\{\s*")')
_CLOSING = {"{": "}", "[": "]"}
_DEPTH_MAX = 500
_JOURNAL = ("__REALTIME_TIMESTAMP", "__CURSOR", "_BOOT_ID")


def completed(text: str, texts: Sequence[str]) -> tuple[object, bool] | None:
    """The value that `text` begins with, and whether the cut is in a text, a member with a name in `texts`. None: there
    is nothing of it, or it is a record of the journal whose writer isn't told."""
    reader = _Reader(text)
    reader.read()
    of_list = reader.key is None and reader.stack[-1:] == ["["]
    in_text = reader.open_string is not None and (of_list or reader.key in texts)
    for kept, within in ((reader.open_string, True), (None, False)) if in_text else ((None, False),):
        whole = text[: reader.safe] if kept is None else text[: reader.begin] + _ESCAPE_CUT.sub(r"\1", kept) + '"'
        closing = "".join(_CLOSING[one] for one in reversed(reader.safe_stack if kept is None else reader.stack))
        try:
            value: object = json.loads(whole + closing, strict=False)
        except (ValueError, RecursionError):
            continue
        return None if _is_anybodys(_innermost(value, len(closing))) else (value, within)
    return None


def mended(head: str, texts: Sequence[str]) -> tuple[int, str] | None:
    """How to mend a text that begins with `head`, within a record: how many characters to leave out, what to put before
    the rest. None: it needs nothing."""
    first, *rows = head.split("\n")
    if _begins_whole(first):
        return None
    following = _loaded(rows[0].strip().rstrip(",")) if rows else None
    if following is not None or (_IN_ONE_LINE.match(first) is not None and first.rstrip().endswith(_ENDS)):
        between = _BETWEEN.search(head) if following is None else None
        if between is not None:
            return between.end(), ""
        if first.rstrip().endswith(_ENDS):
            return len(first), _as_text(begun_within(first.strip().rstrip(",]"), following, texts))
    return _pretty(first, rows, texts) if any(_PRETTY.match(row) is not None for row in rows[:2]) else None


def _begins_whole(line: str) -> bool:
    """Whether the line begins with a value. A member may be one, too, but then more follows."""
    start = line.lstrip("\x1e \t")
    if not start.startswith(("{", "[", "data: {")) or len(line) > _LONGEST:
        return start[:1] in ("{", "[")
    try:
        json.loads(start)
    except (ValueError, RecursionError) as error:
        return not (isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and start.endswith("}"))
    return True


def _pretty(first: str, rows: Sequence[str], texts: Sequence[str]) -> tuple[int, str] | None:
    """How to mend a text with a member of a record in each row."""
    start = next((number for number, row in enumerate(rows) if _OPENING.match(row) is not None), len(rows))
    end = next((number for number, row in enumerate(rows[:start]) if _CLOSED.match(row) is not None), None)
    if end is None:
        return None
    left_out = len(first) + sum(len(row) + 1 for row in rows[:start]) + (start < len(rows))
    value, _ = completed("\n".join(rows[start:]).lstrip("}, \t"), texts) or (None, False)
    line = f"{first.rstrip(', ')}, {' '.join(row.strip() for row in rows[:end])}".rstrip(", ")
    record = begun_within(line + "}", value if isinstance(value, dict) else None, texts)
    return left_out, "" if record is None else json.dumps(record, indent=1) + "\n"


def _as_text(record: Mapping[str, object] | None) -> str:
    return "" if record is None else json.dumps(record)


def _loaded(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def begun_within(line: str, following: Mapping[str, object] | None, texts: Sequence[str]) -> dict[str, object] | None:
    """The record whose end is `line`; `following` is the next one, if any. None: it isn't one, or it doesn't name its
    writer, though the next one does, or though it is journald's."""
    for member in islice(_MEMBER.finditer(line[:_LONGEST]), _TRIES):
        record = _loaded("{" + line[member.end() :])
        if record is not None:
            break
    else:
        return None
    needed = [name for name in WRITERS if name in (following or ())]
    if following is None and "MESSAGE" in record:
        needed = ["_TRANSPORT"]
    if any(name not in record for name in needed):
        return None
    names = list(following or ())
    first = next(iter(record))
    before = names[names.index(first) - 1] if first in names[1:] else None
    rest = line[: member.start()]
    if before is not None and before in texts and rest.endswith('"') and '": ' not in rest:
        try:
            record[before] = json.loads(f'"{rest}', strict=False)
        except ValueError:
            record[before] = rest[:-1]
    return record


def _innermost(value: object, depth: int) -> object:
    """The object that was cut: the last member of the last member."""
    for _ in range(depth - 1):
        members = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(members, list) or not members or not isinstance(members[-1], dict | list):
            break
        value = members[-1]
    return value


def _is_anybodys(record: object) -> bool:
    """Whether a record of the journal was cut before it tells who has written it."""
    return isinstance(record, dict) and any(name in record for name in _JOURNAL) and "_TRANSPORT" not in record


class _Reader:
    """Finds where JSON that is cut can be closed. safe: the end of the last whole member, with the open brackets there.
    open_string, begin: a text that is cut, and where it begins; key: its name."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.stack: list[str] = []
        self.safe = 0
        self.safe_stack: list[str] = []
        self.key: str | None = None
        self.open_string: str | None = None
        self.begin = 0
        self._keys: list[str | None] = []
        self._awaits_key = False

    def read(self) -> None:
        at = 0
        while (token := _TOKEN.match(self._text, at)) is not None:
            at = token.end()
            if at == len(self._text) and token[1][:1] not in '"{}[],:':
                return  # a number may lack digits
            self._take(token[1], at)
            if len(self.stack) > _DEPTH_MAX:
                return
        rest = self._text[at:].lstrip()
        if rest.startswith('"') and not self._awaits_key:
            self.begin = len(self._text) - len(rest)
            self.open_string = rest

    def _take(self, token: str, at: int) -> None:
        if token in "{[":
            self.stack.append(token)
            self._keys.append(self.key)
            self.key, self._awaits_key = None, token == "{"
            self._keep(at)
        elif token in "}]":
            if self.stack:
                self.stack.pop()
                self.key = self._keys.pop()
            self._keep(at)
        elif token == ",":
            self._awaits_key = self.stack[-1:] == ["{"]
            self.key = None
        elif token == ":":
            self._awaits_key = False
        elif self._awaits_key:
            self.key = token[1:-1]
        else:
            self._keep(at)

    def _keep(self, at: int) -> None:
        self.safe, self.safe_stack = at, list(self.stack)
