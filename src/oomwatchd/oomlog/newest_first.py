"""Recognizes logs whose newest line comes first (`journalctl -r`, cloud consoles, search engines), and turns them."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import datetime
from itertools import pairwise

from oomwatchd.oomlog import lines, prefix, times
from oomwatchd.oomlog.learned import Learned
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.named_dates import Calendar

_BLOCK = 1 << 18
# What a report's lines are in: each kind's place in it.
_PLACE = {"usage": 2, "stats": 2, "counters": 3, "swap": 4, "pages": 5, "table": 6, "summary": 7, "kill": 8}
_INDENT = 9
_MANY = 5


def is_newest_first(sample: Sequence[LogLine], reference: datetime) -> bool:
    """Whether the newest line comes first: times fall from line to line. If all times are the same, the order of the
    lines within a report tells."""
    calendar = Calendar()
    learned = Learned()
    stamps: list[str | float] = []
    places: list[int] = []
    split = [prefix.Line("", line.text) if line.verbatim else prefix.split(line.text) for line in sample]
    for parts in split:
        if parts.text is not None and not parts.sure:
            learned.learn(parts.text)
    for line, parts in zip(sample, split, strict=True):
        stamp = times.time_of(f"{line.time} " if isinstance(line.time, str) else parts.prefix, reference, calendar)
        stamp = line.time if isinstance(line.time, float) else stamp
        if stamp is not None:
            stamps.append(stamp)
        if parts.text is None:
            continue
        text = parts.text if parts.sure or (own := learned.split(parts)) is None else own.text or ""
        if (place := _place(text)) is not None:
            places.append(place)
    rises, falls = _steps(stamps)
    up, down = _steps(places)
    if rises + falls == 0:
        return down > up
    # Two programs may stamp their lines a moment apart: a few falls don't outweigh a report in its order.
    return falls > 2 * rises and (down >= up or falls >= _MANY)


def _place(text: str) -> int | None:
    if " invoked oom-killer" in text:
        return 0
    kind = lines.kind(text)
    return None if kind is None else _PLACE.get(kind)


def _steps(values: Sequence[str | float]) -> tuple[int, int]:
    """How often a value is above, and how often below, the one before it. A date isn't compared with an uptime."""
    pairs = [(one, other) for one, other in pairwise(values) if type(one) is type(other) and one != other]
    rises = sum((one, other) == tuple(sorted((one, other))) for one, other in pairs)
    return rises, len(pairs) - rises


def turned(log: Iterable[LogLine]) -> Iterator[LogLine]:
    """The lines from last to first. They are kept in a temporary file, so a log of any size takes no memory."""
    with tempfile.TemporaryFile() as file:
        for group in _groups(log):
            file.write(json.dumps([astuple(line) for line in group]).encode() + b"\n")
        file.flush()
        for row in _lines_backwards(file.fileno()):
            for values in json.loads(row):
                yield LogLine(*values)


def _groups(log: Iterable[LogLine]) -> Iterator[list[LogLine]]:
    """Each line with the indented lines below it: journalctl writes a record of several lines so."""
    group: list[LogLine] = []
    for line in log:
        if group and (not line.text.startswith(" " * _INDENT) or line.verbatim or len(group) > 1000):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _lines_backwards(descriptor: int) -> Iterator[bytes]:
    """The lines of a file, the last one first, without their line feeds."""
    position = os.fstat(descriptor).st_size
    rest = b""
    while position > 0:
        start = max(0, position - _BLOCK)
        first, *others = (os.pread(descriptor, position - start, start) + rest).split(b"\n")
        position, rest = start, first
        yield from (row for row in reversed(others) if row)
    if rest:
        yield rest
