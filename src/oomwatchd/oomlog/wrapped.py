"""Joins lines that a terminal wrapped at its width, or a mailer between words. Pure."""

import re
from collections.abc import Sequence
from itertools import pairwise

from oomwatchd.oomlog import lines, prefix
from oomwatchd.oomlog.logline import LogLine, Unwrapper

_TEXT_MAX = 64 * 1024
_WIDTHS = range(56, 133)
"""Where mailers and forums wrap."""
_ENOUGH = 3
_MOST_RESTS = 8
"""Into how many further lines a line of the kernel's is wrapped on average, at most. Where more lines have no prefix,
the text isn't wrapped, but comes without prefixes."""
_COLUMN = 14
_DICTIONARY = re.compile(r" [A-Z][A-Z_]{0,40}=")
"""A line below a record of /dev/kmsg."""


def choose(rows: Sequence[str]) -> Unwrapper | None:
    """How to read a text that begins with `rows`; None if they aren't wrapped."""
    width = _wrapped_at(rows)
    if width is not None:
        return HardWrapped(width)
    width = _wrapped_between_words(rows)
    return None if width is None else SoftWrapped(width)


def _wrapped_at(rows: Sequence[str]) -> int | None:
    """The width at which a terminal wrapped these lines within words; None if none did."""
    width = max(map(len, rows), default=0)
    if not 60 <= width <= 250:
        return None
    full = [(row, following) for row, following in pairwise(rows) if len(row) == width and following]
    going_on = {row for row, following in full if not _begins(following)}
    # Without prefixes the next line can't be told from a rest, so it takes more of them.
    enough = 2 if any(prefix.split(row).sure for row in going_on) else 4
    if len(going_on) < enough or len(going_on) <= 2 * (len(full) - len(going_on)):
        return None
    # A mailer's lines, which end with words, seldom fill the width.
    shorter = sum(len(row) < width - 1 and _goes_on_after(row, following) for row, following in pairwise(rows))
    return width if shorter <= len(full) or enough > 2 else None


def _begins(row: str) -> bool:
    """Whether a line of the log begins here."""
    parts = prefix.split(row)
    known = (
        lines.kind(row) is not None
        or _DICTIONARY.match(row) is not None
        or " invoked oom-killer" in row
        or row.startswith(("{", '"'))
    )
    return known or bool(parts.prefix.strip()) or parts.text is None


class HardWrapped:
    """Lines that a terminal wrapped at its width, in the middle of words; blanks at the end may have been dropped."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._open: str | None = None
        self._last = 0

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the one before it, if this doesn't go on with it."""
        if self._open is not None and self._goes_on(line) and len(self._open) < _TEXT_MAX:
            rest = -len(self._open) % self._width
            self._open += " " * (rest if self._last < self._width else 0) + line
            self._last = len(line)
            return ()
        done, self._open, self._last = self._open, line, len(line)
        return () if done is None else (LogLine(done),)

    def flush(self) -> Sequence[LogLine]:
        """The text ends here."""
        done, self._open = self._open, None
        return () if done is None else (LogLine(done),)

    def _goes_on(self, line: str) -> bool:
        return bool(line) and self._last >= self._width - 10 and not _begins(line)


def _unquoted(row: str) -> str:
    """A row without the marks that a mail's answer sets before what it quotes."""
    return row.lstrip("> ") if row.startswith(">") else row


def _would_fit(row: str, following: str) -> int:
    """How wide lines must be for the next row's first word to stand in this one. Of the blanks between two columns of
    a table the first line's end may have lost some."""
    lost = _COLUMN if "   " in row else 1
    return len(row) + lost + len(_unquoted(following).lstrip(" ").partition(" ")[0])


def _has_prefix(row: str) -> bool:
    parts = prefix.split(_unquoted(row))
    return parts.sure or bool(parts.prefix.strip()) or parts.text is None


def _goes_on_after(row: str, following: str) -> bool:
    """Whether a row can be the rest of the one before it, where each line of the log has a prefix."""
    return bool(row.strip("> ")) and bool(_unquoted(following).strip()) and not _has_prefix(following)


def _wrapped_between_words(rows: Sequence[str]) -> int | None:
    """The width at which these lines were wrapped between words; None if they weren't. Only lines with the kernel's
    stamp or tag tell where one begins."""
    begun = [row for row in rows if row.strip("> ") and _has_prefix(row)]
    pairs = [(row, following) for row, following in pairwise(rows) if _goes_on_after(row, following)]
    if len(pairs) < _ENOUGH or len(pairs) > _MOST_RESTS * len(begun):
        return None
    if sum(prefix.split(row).sure for row in begun) * 5 < len(begun) * 4:
        return None
    counts = [sum(len(row) <= width < _would_fit(row, following) for row, following in pairs) for width in _WIDTHS]
    most = max(counts)
    return _WIDTHS[counts.index(most)] if most * 10 >= len(pairs) * 8 else None


class SoftWrapped:
    """Lines that were wrapped between words."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._open: str | None = None
        self._last = ""

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the one before it, if this doesn't go on with it."""
        if self._open is not None and self._goes_on(line) and len(self._open) < _TEXT_MAX:
            self._open = f"{self._open.rstrip(' ')} {_unquoted(line).lstrip(' ')}"
            self._last = line
            return ()
        done, self._open, self._last = self._open, line, line
        return () if done is None else (LogLine(done),)

    def flush(self) -> Sequence[LogLine]:
        """The text ends here."""
        done, self._open = self._open, None
        return () if done is None else (LogLine(done),)

    def _goes_on(self, line: str) -> bool:
        return _would_fit(self._last, line) > self._width and _goes_on_after(self._last, line)
