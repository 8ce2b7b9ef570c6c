"""Mistakes in a configuration, and where they are."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake at one place of a text."""

    offset: int
    """In characters, from 0."""
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error or a warning, and where it is. Line and column count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


@dataclass(slots=True)
class Problems:
    """The errors and warnings that have been found so far."""

    errors: list[Problem]
    warnings: list[Problem] = field(default_factory=list)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the known one that was meant, if one is close."""
    import difflib  # only needed when something is wrong, and the daemon would carry it for ever

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
