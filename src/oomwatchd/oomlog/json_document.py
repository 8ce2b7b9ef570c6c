"""Reads a file that is JSON over many lines: pretty-printed, one array, one object with all in it, or several of these.

It is read as a stream. A small value is decoded as a whole; of a large one the members are read one by one."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from oomwatchd.oomlog import json_cut
from oomwatchd.oomlog.json_lines import TEXTS, lines_of, log_lines
from oomwatchd.oomlog.json_record import Context, known
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.stream import PIECE, Stream

WHOLE = 4 << 20
"""The most bytes of a value that is decoded as a whole."""
_MAX_DEPTH = 32
_NESTED_MAX = 500
"""Values may be nested so deep. json.loads() gives up at about a thousand."""
_START = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]])")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]]|"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}\"{\[]{1,64}")
_ESCAPED_LINE_FEED = re.compile(rb"(?<!\\)(?:\\\\)*\\n")
_BLANKS = re.compile(rb"[\s,:\x1e]*+")


def is_document(start: bytes) -> bool:
    """Whether a file that begins so is JSON that can't be read line by line."""
    if _START.match(start) is None:
        return False
    first, _, rest = start.lstrip().partition(b"\n")
    if first[:1] == b"[" or not rest.lstrip().startswith(b"{"):
        return True
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return True
    return False


def read_document(stream: Stream) -> Iterator[LogLine]:
    """The log lines in a JSON document. Lines that aren't JSON are lines of the log. Sets the stream's `damage` only
    where the stream does; a document that ends early is told by `Cut`."""
    yield from _Reader(stream).read()


class Cut(Exception):
    """The document ends in the middle of a value."""


class _Reader:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self) -> Iterator[LogLine]:
        while start := self._next():
            if start in b"{[":
                yield from self._value(Context(), 0)
            else:
                yield from self._plain_line()

    def _next(self) -> bytes:
        """The next byte that isn't a blank, without taking it."""
        return self._stream.next_not_in(_BLANKS)

    def _plain_line(self) -> Iterator[LogLine]:
        held = self._stream.peek(PIECE)
        end = held.find(b"\n")
        taken = self._stream.read(end + 1 if end >= 0 else len(held))
        yield LogLine(taken.decode("utf-8", "backslashreplace").strip("\r\n"))

    def _value(self, around: Context, depth: int) -> Iterator[LogLine]:
        """Read an object or array."""
        length = self._length()
        if length is not None:
            raw = self._stream.read(length)
            try:
                value = json.loads(raw.decode("utf-8", "backslashreplace"), strict=False)
            except (ValueError, RecursionError):
                return  # damaged; what follows may be whole
            yield from log_lines(value, around)
            return
        if len(rest := self._stream.peek(WHOLE)) < WHOLE:
            self._stream.read(len(rest))
            yield from _of_cut(rest.decode("utf-8", "backslashreplace"), around)
            raise Cut
        if depth >= _MAX_DEPTH:
            raise Cut
        opened = self._stream.read(1)
        yield from self._members(around, depth) if opened == b"{" else self._elements(around, depth)

    def _length(self) -> int | None:
        """The length of the value that begins here; None: it is longer than WHOLE, or cut."""
        size = PIECE >> 6
        while True:
            data = self._stream.peek(size)
            level = 0
            for token in _TOKEN.finditer(data):
                character = token[0]
                if character in (b"{", b"["):
                    level += 1
                    if level > _NESTED_MAX:
                        raise Cut
                elif character in (b"}", b"]"):
                    level -= 1
                    if level == 0:
                        return token.end()
                elif character == b'"' and len(character) == 1:
                    break  # a string that goes on behind `data`
            if len(data) < size or size >= WHOLE:
                return None
            size *= 8

    def _members(self, around: Context, depth: int) -> Iterator[LogLine]:
        """Read the members of an object that is too large to be decoded as a whole."""
        scalars: dict[str, object] = {}
        while (start := self._next()) and start != b"}":
            if start != b'"':
                self._stream.read(1)
                continue
            key = self._string()
            start = self._next()
            inner = known(scalars, around)
            if start and start in b"{[":
                yield from self._value(inner, depth + 1)
            elif start == b'"':
                yield from self._text_member(key, scalars, around)
            elif start:
                scalars[key] = self._scalar()
        if not start:
            raise Cut
        self._stream.read(1)

    def _text_member(self, key: str, scalars: dict[str, object], around: Context) -> Iterator[LogLine]:
        data = self._stream.peek(WHOLE)
        token = _TOKEN.match(data)
        if token is not None and token.end() < PIECE:
            if len(scalars) < 1000:
                scalars[key] = self._string()
                yield from log_lines({key: scalars[key]}, known(scalars, around))
            else:
                self._string()
            return
        yield from self._long_string(known(scalars, around))

    def _elements(self, around: Context, depth: int) -> Iterator[LogLine]:
        while (start := self._next()) and start != b"]":
            if start in b"{[":
                yield from self._value(around, depth + 1)
            elif start == b'"':
                yield from self._long_string(around)
            else:
                self._scalar()
        if not start:
            raise Cut
        self._stream.read(1)

    def _string(self) -> str:
        data = self._stream.peek(PIECE)
        token = _TOKEN.match(data)
        if token is None or len(token[0]) < 2:
            self._stream.read(len(data))
            raise Cut
        return _decode(self._stream.read(token.end())[1:-1])

    def _long_string(self, around: Context) -> Iterator[LogLine]:
        """Read a string of any length line by line: a log in one string."""
        self._stream.read(1)
        while data := self._stream.peek(WHOLE):
            token = _TOKEN.match(b'"' + data)
            if token is not None and len(token[0]) > 1:
                raw = self._stream.read(token.end() - 1)[:-1]
                yield from lines_of(_decode(raw), around)
                return
            ends = [found.end() for found in _ESCAPED_LINE_FEED.finditer(data)]
            if not ends:
                self._stream.read(len(data))
                continue
            yield from lines_of(_decode(self._stream.read(ends[-1])), around)
        raise Cut

    def _scalar(self) -> object:
        match = _SCALAR.match(self._stream.peek(64))
        raw = self._stream.read(match.end() if match is not None else 1)
        try:
            return json.loads(raw)
        except ValueError:
            return None


def _of_cut(text: str, around: Context) -> Iterator[LogLine]:
    """The log lines in a value that is cut."""
    value = json_cut.completed(text, TEXTS)
    found = [] if value is None else list(log_lines(value[0], around))
    if value is not None and value[1] and found:
        found[-1] = replace(found[-1], cut=True)
    yield from found


def _decode(raw: bytes) -> str:
    text = raw.decode("utf-8", "backslashreplace")
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
