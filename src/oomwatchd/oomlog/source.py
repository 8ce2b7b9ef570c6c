"""Where kernel logs lie: files plain or compressed, rotated, journal files, stdin, the journal. Read as a stream."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, cast

from oomwatchd.oomlog import lines, prefix
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill

BLOCK = 1 << 20
# How far before an anchor its event may begin: rows of a table whose header was cut off.
BEFORE = 64 << 10
# How much of a report is split into lines before asking whether that was all of it.
AT_ONCE = 4 << 10
_ANCHORS = tuple(anchor.encode() for anchor in Parser.ANCHORS)

_JOURNALCTL = ("journalctl", "--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,_TRANSPORT")
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"))
_JOURNAL_FILE = b"LPKSHHRH"
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)


class SourceError(Exception):
    """A log can't be read. The message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """A log file; `path` "-" is stdin."""

    path: str

    @property
    def family(self) -> str:
        """What rotation leaves of the name: kern.log, kern.log.1 and kern.log-20250101.gz are one log."""
        name = re.sub(r"\.(?:gz|xz|zst|bz2)$", "", self.path)
        return re.sub(r"(?:[.-]\d{8}(?:-\d+)?|\.\d{1,4})$", "", name)

    def changed(self) -> datetime:
        """When the log was last written, local."""
        if self.path == "-":
            return datetime.now()
        try:
            return datetime.fromtimestamp(os.stat(self.path).st_mtime)
        except (OSError, ValueError, OverflowError):
            return datetime.now()


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The log's text as bytes. Raises SourceError."""
    try:
        raw = sys.stdin.buffer if source.path == "-" else open(source.path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise SourceError(f"Failed to read {source.path}: {error.strerror}.") from error
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw), BLOCK)
    try:
        start = buffered.peek(8)[:8]
        if start.startswith(_JOURNAL_FILE):
            with _piped((*_JOURNALCTL, f"--file={source.path}", "_TRANSPORT=kernel"), None, source.path) as text:
                yield text
            return
        kind = next((kind for magic, kind in _MAGIC if start.startswith(magic)), None)
        if kind == "zstd":
            # Python has no zstd before 3.14.
            with _piped(("zstd", "-dcq"), buffered, source.path) as text:
                yield text
        elif kind == "gzip":
            yield cast(BinaryIO, gzip.GzipFile(fileobj=buffered))
        elif kind == "xz":
            yield cast(BinaryIO, lzma.LZMAFile(buffered))  # noqa: SIM115 (closing it closes nothing else)
        elif kind == "bzip2":
            yield cast(BinaryIO, bz2.BZ2File(buffered))
        else:
            yield buffered
    except OSError as error:
        raise SourceError(f"Failed to read {source.path}: {error.strerror or error}.") from error
    finally:
        if raw is not sys.stdin.buffer:
            raw.close()


@contextmanager
def _piped(command: Sequence[str], stdin: BinaryIO | None, path: str) -> Iterator[BinaryIO]:
    """What `command` makes of `stdin`."""
    if shutil.which(command[0]) is None:
        raise SourceError(f"Failed to read {path}: this takes the program {command[0]}, which isn't installed.")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    feeder = None if stdin is None else threading.Thread(target=_pour, args=(stdin, process.stdin), daemon=True)
    if feeder is not None:
        feeder.start()
    try:
        yield cast(BinaryIO, process.stdout)
    finally:
        process.stdout.close()
        process.kill()
        process.wait()
        if feeder is not None:
            feeder.join()


def _pour(source: BinaryIO, sink: BinaryIO) -> None:
    # Either end may go away: a damaged file ends the program, an impatient reader ends us.
    with contextlib.suppress(OSError, ValueError):
        shutil.copyfileobj(source, sink, BLOCK)
    with contextlib.suppress(OSError):
        sink.close()


def in_order(sources: Sequence[Source]) -> list[list[Source]]:
    """Rotated parts of one log together, the oldest first, whatever order they were given in (a shell sorts kern.log
    before kern.log.1)."""
    families: dict[str, list[Source]] = {}
    for source in sources:
        families.setdefault(source.family, []).append(source)
    for members in families.values():
        if len(members) < 2:
            continue
        begins = {source: _begin(source) for source in members}
        if all(begins.values()):
            members.sort(key=lambda source: begins[source] or "")
        else:
            members.sort(key=_rotation)
    return list(families.values())


def _begin(source: Source) -> str | None:
    """The first time in the log, if it has dates."""
    if source.path == "-":
        return None
    reference = source.changed()
    try:
        with opened(source) as stream:
            head = stream.read(BEFORE)
    except (SourceError, *_DAMAGED):
        return None
    for raw in head.split(b"\n"):
        time = prefix.time_of(prefix.split(raw.decode("utf-8", "backslashreplace")).prefix, reference)
        if isinstance(time, str):
            return time[:19]
    return None


def _rotation(source: Source) -> tuple[int, int]:
    suffix = source.path.removeprefix(source.family)
    number = re.search(r"\d+", suffix)
    if number is None:
        return (2, 0)
    # A count goes up with age, a date goes down.
    return (1, int(suffix[1:9])) if len(number[0]) == 8 else (0, -int(number[0]))


def kills(sources: Sequence[Source], failed: Callable[[SourceError], None]) -> Iterator[OomKill]:
    """The OOM events of some logs. What can't be read goes to `failed`, and the rest is read all the same."""
    for family in in_order(sources):
        parser = None
        for source in family:
            if parser is None:
                parser = Parser(source.changed())
            parser.reference = source.changed()
            try:
                with opened(source) as stream:
                    yield from scan(stream, parser)
            except SourceError as error:
                failed(error)
            except _DAMAGED as error:
                failed(SourceError(f"Failed to read all of {source.path}: {error}. What stands before that was read."))
        if parser is not None:
            yield from parser.flush()


def journal(failed: Callable[[SourceError], None]) -> Iterator[OomKill]:
    """The OOM events of the journal, of all boots. (`journalctl -k` would show the present one alone.)"""
    parser = Parser(datetime.now())
    try:
        with _piped((*_JOURNALCTL, "_TRANSPORT=kernel"), None, "the journal") as stream:
            yield from scan(stream, parser)
    except SourceError as error:
        failed(error)
    yield from parser.flush()


def feed(lines: Iterable[LogLine], parser: Parser) -> Iterator[OomKill]:
    """The events that lines out of a container complete."""
    for line in lines:
        yield from parser.feed(line)


def scan(stream: BinaryIO, parser: Parser) -> Iterator[OomKill]:
    """The events that `stream` completes. Most of a log is of no interest, so only the surroundings of anchors are
    split into lines at all. At most a block and `BEFORE` are held, whatever the lines are like."""
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
