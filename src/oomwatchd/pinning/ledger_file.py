"""The ledger's file: appended to before each write of oom_score_adj, and written anew when most of it is superseded.
A disk that is full, or can't be written, is a state that ends, not an error."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice

_PIECE_LINES = 256
_SLACK_BYTES = 1 << 16
"""So much besides twice what it needs may stand in the file."""
_LONGEST_LINE = 1 << 20
_LARGEST_FILE = 64 << 20
"""No more is read: a ledger of 30,000 processes has 10 MB at most."""


class LedgerFile:
    """A file of lines at `path`; its directory is made where there is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.trouble = ""
        """Why nothing is saved at present; empty: everything is."""
        self._descriptor = -1
        self._size = 0
        self._needed = 0
        """The size of the file when it was written anew last."""
        self._meanwhile: list[bytes] | None = None
        """What was appended since it began to be written anew."""

    @property
    def wasteful(self) -> bool:
        """Whether most of it is superseded."""
        return self._size > 2 * self._needed + _SLACK_BYTES

    @property
    def is_gone(self) -> bool:
        """Whether someone has removed it, or put another in its place: what is appended would be lost."""
        if self._descriptor < 0:
            return False
        try:
            return not os.path.samestat(os.fstat(self._descriptor), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return True

    def read(self) -> Iterator[bytes]:
        """The lines that there are; one that is too long is cut. Raises OSError."""
        left = _LARGEST_FILE
        with open(self.path, "rb") as file:
            while left > 0 and (line := file.readline(_LONGEST_LINE)):
                left -= len(line)
                yield line.rstrip(b"\n")

    def append(self, lines: bytes) -> None:
        """Save whole lines, or take note of why that can't be: then the file has to be written anew."""
        if self._meanwhile is not None:
            self._meanwhile.append(lines)
        if self._descriptor < 0:
            return
        try:
            self._size += _write(self._descriptor, lines)
        except OSError as error:
            self._fail(error)

    def writing_anew(self, lines: Iterable[str]) -> Iterator[None]:
        """Write the file anew, with `lines`; pauses after each piece. What is appended meanwhile comes after them."""
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
        except BaseException:  # the scan that this is a part of is given up
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
            with contextlib.suppress(OSError):  # it takes room that others may want
                os.unlink(f"{self.path}.new")

    def _fail(self, error: OSError) -> None:
        self.close()
        self.trouble = error.strerror or str(error)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _pieces(lines: Iterable[str]) -> Iterator[bytes]:
    rest = iter(lines)
    while piece := "".join(f"{line}\n" for line in islice(rest, _PIECE_LINES)):
        yield piece.encode()


def _write(descriptor: int, data: bytes) -> int:
    """Write all of it. Returns its length. Raises OSError."""
    left = data
    while left:
        left = left[os.write(descriptor, left) :]
    return len(data)
