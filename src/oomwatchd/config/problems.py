"""Mistakes in a configuration, and where they are."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mend:
    """What to write in the place of a part of one line. `start` and `end`: its offsets."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake at one place of a text."""

    offset: int
    """In characters, from 0."""
    message: str
    mend: Mend | None = None
    """What the message says to write; None: it names no text."""
    certain: bool = True
    """False: it may be no mistake of its own, if the mended text has an error at the same place."""


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
    """The errors and warnings of a configuration, as far as it has been read."""

    errors: list[Problem]
    warnings: list[Problem] = field(default_factory=list)


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """The faults in the order of the text; of several at one place the first."""
    first: dict[int, Fault] = {}
    for fault in sorted(faults, key=lambda fault: fault.offset):
        first.setdefault(fault.offset, fault)
    return list(first.values())


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the one of `known` that is close to it; empty: none is."""
    import difflib  # only needed when something is wrong, and the daemon would carry it for ever

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
