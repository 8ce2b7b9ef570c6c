"""Finds logs: in files and folders, plain or compressed, in archives, in archives inside these, on standard input.

The kind of a file is told by its content. In a folder or an archive, links aren't followed, and only regular files are
read. The contents of archives are kept in a temporary file without a name: nothing is written under their names."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO

from oomwatchd.oomlog import mail
from oomwatchd.oomlog.archive import ARCHIVES, ArchiveEntry, entries
from oomwatchd.oomlog.charset import as_utf8, is_text, why_no_text
from oomwatchd.oomlog.line_breaks import with_line_feeds
from oomwatchd.oomlog.spool import Spool
from oomwatchd.oomlog.stream import PIECE, Damaged, Stream, raise_damage
from oomwatchd.oomlog.unpack import MAX_DEPTH, UNREADABLE, is_compressed, kind_of, unpacked

STDIN = "-"
MAX_FILES = 100_000
_LOOK = 4096


class SourceError(Exception):
    """A log can't be read, or not all of it (`partial`). The message says which, why, and what to do."""

    def __init__(self, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        self.partial = partial


def partly_read(name: str, why: str) -> SourceError:
    """The error about a log that ends early."""
    return SourceError(f"Failed to read all of {name}: {why}. What stands before that was read.", partial=True)


Failed = Callable[[SourceError], None]


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log that can be opened.

    name: as people name it: "kern.log", "logs.tar.gz/var/log/messages.1.gz". changed: when it was last written, local
    time. journal: it is one of journald's files, and `path` leads to it."""

    name: str
    changed: datetime
    journal: bool = False
    path: str | None = None
    _open: Callable[[], Stream] | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def opened(self) -> Iterator[Stream]:
        """Its text, unpacked, as UTF-8. Raises SourceError if it can't be opened."""
        if self._open is not None:
            yield with_line_feeds(as_utf8(self._open()))
            return
        with _opened_file(self.name) as raw:
            try:
                stream, _ = _peeled(_pieces_of(raw), 0)
            except Damaged as damage:
                raise SourceError(f"Failed to read {self.name}: {damage}.") from None
            yield with_line_feeds(as_utf8(stream))


def find_logs(paths: Iterable[str], spool: Spool, failed: Failed) -> Iterator[LogFile]:
    """The logs at `paths` ("-": standard input). Those in folders and archives come one by one, each file once.
    `failed` is called for each that can't be read."""
    finder = _Finder(spool, failed)
    for path in paths:
        yield from finder.at(path)


class _Finder:
    def __init__(self, spool: Spool, failed: Failed) -> None:
        self._spool = spool
        self._failed = failed
        self._seen: set[tuple[int, int]] = set()

    def at(self, path: str) -> Iterator[LogFile]:
        if path == STDIN:
            yield from self._look(STDIN, _pieces_of(sys.stdin.buffer), datetime.now(), path=None)
        elif os.path.isdir(path):
            yield from self._folder(path)
        else:
            yield from self._file(path, in_folder=False)

    def _folder(self, path: str) -> Iterator[LogFile]:
        count = 0

        def unreadable(error: OSError) -> None:
            self._failed(SourceError(f"Failed to read {error.filename or path}: {error.strerror}."))

        for directory, subdirectories, names in os.walk(path, onerror=unreadable):
            subdirectories.sort()
            for name in sorted(names):
                count += 1
                if count > MAX_FILES:
                    self._failed(partly_read(path, f"it has more than {MAX_FILES} files"))
                    return
                inside = os.path.join(directory, name)
                with suppress(OSError):
                    if stat.S_ISREG(os.lstat(inside).st_mode):
                        yield from self._file(inside, in_folder=True)

    def _file(self, path: str, *, in_folder: bool) -> Iterator[LogFile]:
        try:
            with _opened_file(path, follow=not in_folder) as raw:
                status = os.fstat(raw.fileno())
                if not stat.S_ISREG(status.st_mode):
                    # A pipe can't be opened a second time.
                    kept = self._spool.keep(raw.fileno())
                    yield from self._look(path, _pieces_of(kept), datetime.now(), path=None)
                    return
                if (status.st_dev, status.st_ino) in self._seen:
                    return
                self._seen.add((status.st_dev, status.st_ino))
                changed = _local(status.st_mtime)
                if in_folder and not _is_log(raw):
                    return
                yield from self._look(path, _pieces_of(raw), changed, path=path, asked_for=not in_folder)
        except SourceError as error:
            self._failed(error)

    def _look(
        self, name: str, stream: Stream, changed: datetime, *, path: str | None, asked_for: bool = True
    ) -> Iterator[LogFile]:
        """The logs in a file: itself, or those in it. `path`: it can be opened again by this path. `asked_for`: it was
        named, not found in a folder, so that it is told if it is no log."""
        try:
            stream, kind = _peeled(stream, 0)
            if kind in ARCHIVES:
                yield from self._archive(name, stream, kind, 1)
            elif kind == "journal":
                yield LogFile(name, changed, True, path or self._spool.add_journal(stream))
            elif asked_for and (start := stream.peek(_LOOK)) and (why := why_no_text(start)) is not None:
                raise Damaged(why)
            elif path is not None:
                yield LogFile(name, changed)
            else:
                yield LogFile(name, changed, _open=lambda: stream)
        except Damaged as damage:
            self._failed(SourceError(f"Failed to read {name}: {damage}."))

    def _archive(self, name: str, stream: Stream, kind: str, depth: int) -> Iterator[LogFile]:
        """The logs in an archive. They are yielded when it has been read as a whole, so that all can be sorted."""
        try:
            for entry in entries(stream, kind):
                inside = f"{name}/{_shown(entry.name)}"
                try:
                    yield from self._entry(inside, entry, depth)
                except Damaged as damage:
                    if entry.body.damage is None:
                        self._failed(SourceError(f"Failed to read {inside}: {damage}."))
        except Damaged as damage:
            self._failed(partly_read(name, str(damage)))

    def _entry(self, name: str, entry: ArchiveEntry, depth: int) -> Iterator[LogFile]:
        stream, kind = _peeled(entry.body, depth)
        changed = datetime.now() if not entry.changed else _local(entry.changed)
        if kind in ARCHIVES:
            if depth >= MAX_DEPTH:
                raise Damaged("it is packed too often, one thing inside another")
            yield from self._archive(name, stream, kind, depth + 1)
            return
        if kind == "journal":
            yield LogFile(name, changed, True, self._spool.add_journal(stream))
        elif (start := stream.peek(_LOOK)) and is_text(start):
            yield LogFile(name, changed, _open=self._spool.add(stream))
        if stream.damage is not None and entry.body.damage is None:
            self._failed(partly_read(name, stream.damage))


def _peeled(stream: Stream, depth: int) -> tuple[Stream, str | None]:
    """`stream` without its compressions, and the kind of its content. Raises Damaged."""
    for _ in range(depth, MAX_DEPTH):
        kind = kind_of(stream.peek(512))
        if kind is None and mail.is_mail(stream.peek(mail.LOOK)):
            kind = "mail"
        if kind in UNREADABLE:
            raise Damaged(f"it is a {kind} archive; unpack it first")
        if not is_compressed(kind):
            return stream, kind
        assert kind is not None
        below, stream = stream, unpacked(stream, kind)
        if not stream.peek(1):
            raise_damage(stream)
            raise_damage(below)
    raise Damaged("it is packed too often, one thing inside another")


def _is_log(raw: BinaryIO) -> bool:
    """Whether a file in a folder may be a log at all, by its first bytes. `raw` is left where it was."""
    start = os.pread(raw.fileno(), _LOOK, 0)
    return bool(start) and (kind_of(start) is not None or is_text(start))


@contextmanager
def _opened_file(path: str, *, follow: bool = True) -> Iterator[BinaryIO]:
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise SourceError(f"Failed to read {path}: {error.strerror}.") from error
    with open(descriptor, "rb", buffering=0) as raw:
        mode = os.fstat(descriptor).st_mode
        device = stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor))
        if device and not os.path.samestat(os.fstat(descriptor), os.stat(os.devnull)):
            hint = "For the kernel's log: dmesg | oomwatchctl postmortem -"
            raise SourceError(f"Failed to read {path}: it is a device. {hint}")
        yield raw


def _pieces_of(raw: BinaryIO) -> Stream:
    def pieces() -> Iterator[bytes]:
        while True:
            try:
                piece = raw.read1(PIECE) if hasattr(raw, "read1") else raw.read(PIECE)
            except OSError as error:
                raise Damaged(error.strerror or str(error)) from None
            if not piece:
                return
            yield piece

    return Stream(pieces())


def _local(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return datetime.now()


def _shown(name: str) -> str:
    """The name of a member, for people. Nothing is opened by it."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))
