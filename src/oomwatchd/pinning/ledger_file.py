"""The ledger's file. Lines are appended before each write of oom_score_adj, and the file is written anew when most of
its lines are superseded. If the disk is full, nothing is raised: `trouble` says so until it is over."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice

_PIECE_LINES = 256
_SLACK_BYTES = 1 << 16
"""The file may have twice the bytes that its last lines need, and this much more, before it is written anew."""
_LONGEST_LINE = 1 << 20
_LARGEST_FILE = 64 << 20
"""The most bytes that are read. A ledger of 30,000 processes has at most 10 MB."""


class LedgerFile:
    """A file of lines at `path`. Its directory is made if there is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.trouble = ""
        """Why nothing is saved at present; empty: everything is saved."""
        self._descriptor = -1
        self._size = 0
        self._needed = 0
        """The size of the file when it was written anew last."""
        self._meanwhile: list[bytes] | None = None
        """What was appended since writing anew began; None: the file isn't being written anew."""

    @property
    def wasteful(self) -> bool:
        """Whether most lines of the file are superseded by later ones."""
        return self._size > 2 * self._needed + _SLACK_BYTES

    @property
    def was_changed(self) -> bool:
        """Whether someone else has removed, replaced, cut or extended the file. Its lines are lost then, in part or
        all."""
        if self._descriptor < 0:
            return False
        try:
            ours, there = os.fstat(self._descriptor), os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        return not os.path.samestat(ours, there) or ours.st_size != self._size

    def read(self) -> Iterator[bytes]:
        """The lines of the file. A line that is too long is cut. Raises OSError."""
        left = _LARGEST_FILE
        with open(self.path, "rb", opener=_open_at_once) as file:
            while left > 0 and (line := file.readline(_LONGEST_LINE)):
                left -= len(line)
                yield line.rstrip(b"\n")

    def append(self, lines: bytes) -> None:
        """Append whole lines. If that fails, `trouble` says why, and the file has to be written anew."""
        if self._meanwhile is not None:
            self._meanwhile.append(lines)
        if self._descriptor < 0:
            return
        try:
            self._size += _write(self._descriptor, lines)
        except OSError as error:
            self._fail(error)

    def writing_anew(self, lines: Iterable[str]) -> Iterator[None]:
        """Write the file anew, with `lines`. It yields after each piece, so that the caller may pause. Lines that are
        appended meanwhile come after `lines`."""
        self._meanwhile = []
        descriptor = -1
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            temporary = f"{self.path}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600)
            size = 0
            for piece in _pieces(lines):
                size += _write(descriptor, piece)
                yield
            size += _write(descriptor, b"".join(self._meanwhile))
            os.rename(temporary, self.path)
        except OSError as error:
            self._give_up(descriptor)
            self._fail(error)
            return
        except BaseException:  # the scan that runs this was given up
            self._give_up(descriptor)
            raise
        self.close()
        self._descriptor, self._size, self._needed = descriptor, size, size
        self._meanwhile = None
        self.trouble = ""

    def _give_up(self, descriptor: int) -> None:
        self._meanwhile = None
        if descriptor >= 0:
            os.close(descriptor)
            with contextlib.suppress(OSError):  # it takes room on the disk
                os.unlink(f"{self.path}.new")

    def _fail(self, error: OSError) -> None:
        self.close()
        self.trouble = error.strerror or str(error)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_at_once(path: str, flags: int) -> int:
    """For open(): a FIFO in the place of the file must not make us wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def _pieces(lines: Iterable[str]) -> Iterator[bytes]:
    rest = iter(lines)
    while piece := "".join(f"{line}\n" for line in islice(rest, _PIECE_LINES)):
        yield piece.encode()


def _write(descriptor: int, data: bytes) -> int:
    """Write all of `data`. Returns its length. Raises OSError."""
    left = data
    while left:
        left = left[os.write(descriptor, left) :]
    return len(data)
