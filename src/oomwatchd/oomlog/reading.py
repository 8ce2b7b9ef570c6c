"""Reads the text of one log: as lines, as JSON, or in one of the journal's formats, from first to last or turned."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice

from oomwatchd.oomlog import first_line, json_cut, json_lines, prefix, shapes
from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.clean import without_colours
from oomwatchd.oomlog.json_document import Cut, is_document, read_document
from oomwatchd.oomlog.logline import LogLine, Unwrapper
from oomwatchd.oomlog.newest_first import is_newest_first, turned
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.scan import scan
from oomwatchd.oomlog.stream import PIECE, Stream

# The number of bytes at the beginning of a log that show what it is.
_LOOK = 64 << 10
_SAMPLE = 400


def events(stream: Stream, parser: Parser, beside: Beside, reference: datetime) -> Iterator[OomKill]:
    """The events of the kernel in a log. `beside` is shown all lines that may be of other programs. Raises Cut where
    JSON ends early, after the events before that."""
    how = json_cut.mended(stream.peek(_LOOK).decode("utf-8", "surrogateescape"), json_lines.TEXTS)
    if how is not None:
        _mend(stream, *how)
    head = stream.peek(_LOOK)
    cut: list[Cut] = []
    if is_document(head):
        log = _whole(stream, cut)
    else:
        text = _plain(head.decode("utf-8", "surrogateescape"))
        unwrapper = shapes.choose(text)
        if (unwrapper is None or shapes.is_bare_table(unwrapper)) and b"\x1b" not in head:
            text = _with_first_line_mended(stream, text)
        if unwrapper is None:
            rows = list(_in_json(f"{row}\n" for row in text.split("\n")[:_SAMPLE]))[:_SAMPLE]
            parser.calendar.observe(prefix.split(row.text).prefix for row in rows)
            if not is_newest_first(rows, reference):
                yield from scan(stream, parser, beside)
                return
            log = _in_json(_lines(stream))
        else:
            log = _unwrapped(map(_plain, _lines(stream)), unwrapper)
    yield from _of_lines(log, parser, beside, reference)
    if cut:
        raise cut[0]


def _of_lines(log: Iterator[LogLine], parser: Parser, beside: Beside, reference: datetime) -> Iterator[OomKill]:
    sample = list(islice(log, _SAMPLE))
    whole = chain(sample, log)
    for line in turned(whole) if is_newest_first(sample, reference) else whole:
        beside.take_line(line)
        yield from parser.feed(line)


def _whole(stream: Stream, cut: list[Cut]) -> Iterator[LogLine]:
    """The lines in a JSON document. If it is cut, that is added to `cut` at the end, after all lines before it."""
    try:
        yield from read_document(stream)
    except Cut as error:
        cut.append(error)


def _with_first_line_mended(stream: Stream, text: str) -> str:
    """`text`, with which `stream` begins, without the first line's fault where it is cut. The stream is changed too."""
    how = first_line.mended(text.split("\n")[:_SAMPLE])
    if how is None:
        return text
    _mend(stream, *how)
    return how[1] + text[how[0] :]


def _mend(stream: Stream, left_out: int, before: str) -> None:
    """Leave out the first characters of the text, and put others in their place."""
    start = stream.peek(_LOOK).decode("utf-8", "surrogateescape")[:left_out]
    stream.skip(len(start.encode("utf-8", "surrogateescape")))
    stream.unread(before.encode("utf-8", "surrogateescape"))


def _plain(text: str) -> str:
    """`text` without the colours of a terminal."""
    return without_colours(text) if "\x1b" in text else text


def _in_json(rows: Iterable[str]) -> Iterator[LogLine]:
    """Each row as a line, or the lines in it where it is JSON. Rows have their line feeds."""
    for row in rows:
        found = json_lines.unwrap(row) if row.lstrip("\x1e \t").startswith(("{", "data: {")) else None
        yield from found or (LogLine(row.rstrip("\r\n"), cut=not row.endswith("\n")),)


def _unwrapped(lines: Iterable[str], unwrapper: Unwrapper) -> Iterator[LogLine]:
    """The lines of the log in `lines`, which have their line feeds."""
    found: Sequence[LogLine] = ()
    line = "\n"
    for line in lines:
        yield from found
        found = unwrapper.feed(line.rstrip("\r\n"))
    rest = unwrapper.flush()
    if line.endswith("\n"):
        yield from (*found, *rest)
        return
    # The log ends within the line that was completed last.
    *whole, last = (*found, *rest) or (LogLine(""),)
    yield from (*whole, replace(last, cut=True))


def _lines(stream: Stream) -> Iterator[str]:
    """The lines of a text with their line feeds. The last has none if the text ends within it."""
    rest = b""
    while piece := stream.read(PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[: prefix.LONGEST]
        for raw in whole:
            yield raw[: prefix.LONGEST].decode("utf-8", "backslashreplace") + "\n"
    if rest:
        yield rest.decode("utf-8", "backslashreplace")
