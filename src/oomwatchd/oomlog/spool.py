"""Keeps the contents of archives in temporary files while they are read, up to a limit."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

from oomwatchd.oomlog.stream import PIECE, Damaged, Stream

SPOOL_BYTES = 8 << 30


class Spool:
    """Holds what archives contain, in one temporary file without a name. Journal files get files of their own, since
    journalctl(1) wants a path. close() removes them all.

    `limit`: the most bytes in all; None: SPOOL_BYTES, or half of what the disk has free, whichever is less."""

    def __init__(self, limit: int | None = None) -> None:
        self._file: BinaryIO | None = None
        self._used = 0
        self._limit = limit
        self._journals: list[str] = []
        self._kept: list[BinaryIO] = []

    def close(self) -> None:
        """Close and remove all files."""
        for file in (*self._kept, self._file):
            if file is not None:
                file.close()
        for path in self._journals:
            with suppress(OSError):
                os.unlink(path)

    def keep(self, descriptor: int) -> BinaryIO:
        """Another descriptor of a pipe, open until close(): a pipe can't be opened a second time."""
        kept = open(os.dup(descriptor), "rb", buffering=0)  # noqa: SIM115 (closed by close())
        self._kept.append(kept)
        return kept

    def add(self, stream: Stream) -> Callable[[], Stream]:
        """Keep all of `stream`. Returns how to read it. Raises Damaged where there is no more room."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=_directory())  # noqa: SIM115 (closed by close())
        file, start = self._file, self._used
        while piece := stream.read_some():
            self._take(len(piece))
            os.pwrite(file.fileno(), piece, self._used - len(piece))
        length = self._used - start
        return lambda: Stream(_part_of(file.fileno(), start, length))

    def add_journal(self, stream: Stream) -> str:
        """Keep all of `stream` in a file of its own. Returns its path. Raises Damaged where there is no more room."""
        with tempfile.NamedTemporaryFile(dir=_directory(), suffix=".journal", delete=False) as out:
            self._journals.append(out.name)
            while piece := stream.read_some():
                self._take(len(piece))
                out.write(piece)
        return out.name

    def _take(self, size: int) -> None:
        if self._limit is None:
            self._limit = min(SPOOL_BYTES, shutil.disk_usage(_directory()).free // 2)
        if self._used + size > self._limit:
            raise Damaged(f"it unpacks to more than {self._limit >> 20} MiB, and {_directory()} shall keep some room")
        self._used += size


def _directory() -> str:
    """Where large temporary files go (file-hierarchy(7)): /tmp may be memory."""
    named = os.environ.get("TMPDIR")
    return named if named and os.path.isdir(named) else "/var/tmp" if os.path.isdir("/var/tmp") else "/tmp"


def _part_of(descriptor: int, start: int, length: int) -> Iterator[bytes]:
    while length > 0:
        piece = os.pread(descriptor, min(length, PIECE), start)
        if not piece:
            return
        start += len(piece)
        length -= len(piece)
        yield piece
