"""Keeps pieces of text in a temporary file without a name until all are known, so that they take no memory."""

import tempfile
from collections.abc import Iterator
from types import TracebackType


class Pieces:
    """A list of texts in a file. Texts can be appended, and read in either direction. A context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._ends = [0]

    def __enter__(self) -> "Pieces":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, text: str) -> None:
        """Append a piece."""
        raw = text.encode("utf-8", "backslashreplace")
        self._file.write(raw)
        self._ends.append(self._ends[-1] + len(raw))

    def read(self, *, reverse: bool = False) -> Iterator[str]:
        """All pieces, the last first if `reverse`."""
        numbers = range(len(self) - 1, -1, -1) if reverse else range(len(self))
        for number in numbers:
            self._file.seek(self._ends[number])
            yield self._file.read(self._ends[number + 1] - self._ends[number]).decode()
