"""Finds the OOM events in a stream of log text. Most of a log has nothing of an OOM, so only the text around anchors is
split into lines."""

import re
from collections.abc import Generator, Iterator

from oomwatchd.oomlog import lines, prefix
from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.stream import Stream
from oomwatchd.oomlog.words import Block, Search, Words

BLOCK = 1 << 20
# How far before an anchor its event may begin: rows of a table whose header was cut off.
BEFORE = 64 << 10
# How much of a report is split into lines before asking whether that was all of it.
AT_ONCE = 4 << 10
_NULS = re.compile(rb"\0+\n?")
_ANCHORS = Words(lines.ANCHORS)


def scan(stream: Stream, parser: Parser, beside: Beside | None = None) -> Iterator[OomKill]:
    """The events that `stream` completes; `beside` sees all lines that may be of others. At most a block and `BEFORE`
    are held, whatever the lines are like."""
    held, seen = b"", 0
    while more := stream.read(BLOCK):
        if b"\0" in more:
            more = _NULS.sub(b"\n", more)  # where power failed, a file has NULs instead of what was to be written
        data = held + more
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) > prefix.LONGEST:
            held = data[: prefix.LONGEST]
            continue
        read = yield from _scan_block(Block(data, seen, end), parser, beside)
        held = data[read : read + BEFORE + prefix.LONGEST]
        seen = max(0, end - read)
    yield from _scan_block(Block(held, seen, len(held)), parser, beside)


def _scan_block(block: Block, parser: Parser, beside: Beside | None) -> Generator[OomKill, None, int]:
    """Feed what matters of the block, and of what was held before it. Returns where to go on: before the end where an
    event yet to come may begin."""
    if beside is not None:
        beside.take_block(block)
    data, end = block.data, block.end
    anchors = Search(_ANCHORS, block)
    position = 0
    while position < end:
        if parser.busy:
            stop = position + AT_ONCE
        else:
            anchor = anchors.next(max(position, block.start))
            if anchor < 0:
                return max(position, data.rfind(b"\n", 0, max(0, end - BEFORE)) + 1)
            position = max(position, data.rfind(b"\n", 0, max(0, anchor - BEFORE)) + 1)
            stop = anchor + 1
        line_end = data.find(b"\n", stop - 1, end)
        stop = end if line_end < 0 else line_end + 1
        while position < stop:
            line_end = data.find(b"\n", position, end)
            raw = data[position : line_end if line_end >= 0 else end]
            position += len(raw) + 1
            if b"+0x" in raw and lines.is_trace(raw):
                continue
            line = raw if len(raw) < prefix.LONGEST else raw[: prefix.LONGEST]
            text = line.decode("utf-8", "backslashreplace").rstrip("\r")
            done = parser.feed(text if line_end >= 0 else LogLine(text, cut=True))
            if done:
                yield from done
            position = parser.feed_run(data, position, end)
    return min(position, end)
