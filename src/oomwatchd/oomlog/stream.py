"""A stream of bytes with a look ahead. If it ends early, what was read before is still delivered."""

import re
from collections.abc import Iterator

PIECE = 1 << 18
"""How much is read or unpacked at a time."""


class Damaged(Exception):
    """The bytes end too early, or can't be understood. The message is the reason, without a full stop."""


class Stream:
    """Joins pieces of bytes to a stream. `damage`: why it ended early; None: it didn't, as far as it was read. What
    came before the damage is delivered first."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0
        self._ended = False
        self.damage: str | None = None
        self.began = False
        """Whether the stream has had any byte."""

    def _fill(self, size: int) -> None:
        """Read pieces until `size` bytes are held, or the stream ends."""
        have = len(self._held) - self._at
        if have >= size or self._ended:
            return
        pieces = [self._held[self._at :]]
        while have < size:
            try:
                piece = next(self._pieces)
            except StopIteration:
                self._ended = True
                break
            except Damaged as damage:
                self._ended, self.damage = True, str(damage)
                break
            pieces.append(piece)
            have += len(piece)
            self.began = self.began or bool(piece)
        self._held, self._at = b"".join(pieces), 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end, without taking them."""
        self._fill(size)
        return self._held[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """Take the next `size` bytes, fewer at the end."""
        taken = self.peek(size)
        self._at += len(taken)
        return taken

    def read_some(self) -> bytes:
        """Take the bytes that are held, or the next piece; empty at the end."""
        self._fill(1)
        taken = self._held[self._at :] if self._at else self._held
        self._held, self._at = b"", 0
        return taken

    def unread(self, data: bytes) -> None:
        """Put back what was taken last."""
        self._held, self._at = data + self._held[self._at :], 0

    def skip(self, size: int) -> None:
        """Take `size` bytes and forget them."""
        while size > 0 and (taken := self.read(min(size, PIECE))):
            size -= len(taken)

    def next_not_in(self, characters: re.Pattern[bytes]) -> bytes:
        """Pass over what `characters` matches, and return the byte behind it without taking it; empty at the end."""
        while True:
            self._fill(1)
            match = characters.match(self._held, self._at)
            self._at = self._at if match is None else match.end()
            if self._at < len(self._held):
                return self._held[self._at : self._at + 1]
            if self._ended:
                return b""


def raise_damage(stream: Stream) -> None:
    """Raise Damaged if `stream` ended early. For code that makes another stream of it, and hands its damage on."""
    if stream.damage is not None:
        raise Damaged(stream.damage)
