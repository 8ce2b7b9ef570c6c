"""The OOM events in a stream of log text. Most of a log is of no interest, so only the surroundings of anchors are
split into lines at all."""

from collections.abc import Generator, Iterator

from oomwatchd.oomlog import lines, prefix
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.stream import Stream

BLOCK = 1 << 20
# How far before an anchor its event may begin: rows of a table whose header was cut off.
BEFORE = 64 << 10
# How much of a report is split into lines before asking whether that was all of it.
AT_ONCE = 4 << 10
_ANCHORS = tuple(anchor.encode() for anchor in Parser.ANCHORS)


def scan(stream: Stream, parser: Parser) -> Iterator[OomKill]:
    """The events that `stream` completes. At most a block and `BEFORE` are held, whatever the lines are like."""
    held = b""
    while block := stream.read(BLOCK):
        data = held + block
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) > prefix.LONGEST:
            held = data[: prefix.LONGEST]
            continue
        read = yield from _scan_lines(data, end, parser)
        held = data[read : read + BEFORE + prefix.LONGEST]
    yield from _scan_lines(held, len(held), parser)


def _scan_lines(data: bytes, end: int, parser: Parser) -> Generator[OomKill, None, int]:
    """Feed what matters of data[:end]. Returns where to go on: before the end where an event yet to come may begin."""
    position, upcoming = 0, [-1] * len(_ANCHORS)
    while position < end:
        if parser.busy:
            stop = position + AT_ONCE
        else:
            anchor = _next_anchor(data, position, end, upcoming)
            if anchor < 0:
                return max(position, data.rfind(b"\n", 0, max(0, end - BEFORE)) + 1)
            position = max(position, data.rfind(b"\n", 0, max(0, anchor - BEFORE)) + 1)
            stop = anchor + 1
        line_end = data.find(b"\n", stop - 1, end)
        stop = end if line_end < 0 else line_end + 1
        for raw in data[position:stop].removesuffix(b"\n").split(b"\n"):
            position += len(raw) + 1
            if b"+0x" in raw and lines.is_trace(raw):
                continue
            line = raw if len(raw) < prefix.LONGEST else raw[: prefix.LONGEST]
            done = parser.feed(line.decode("utf-8", "backslashreplace").rstrip("\r"))
            if done:
                yield from done
            if parser.at_row and (rows_end := parser.feed_rows(data, position, end)) > position:
                position = rows_end
                break
    return min(position, end)


def _next_anchor(data: bytes, position: int, end: int, upcoming: list[int]) -> int:
    """The first anchor from `position` on, or -1. `upcoming` remembers where the next one of each kind is."""
    first = end
    for kind, anchor in enumerate(_ANCHORS):
        at = upcoming[kind]
        if at < position:
            at = data.find(anchor, position, end)
            upcoming[kind] = at = end if at < 0 else at
        first = min(first, at)
    return first if first < end else -1
