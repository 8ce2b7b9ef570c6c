"""Makes a text in which mistakes are mended, and finds the places of its parts in the text before. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oomwatchd.config.problems import Mend
from oomwatchd.config.toml_positions import Position


@dataclass(frozen=True, slots=True)
class Moved:
    """A part of a mended line that stands in the place of another part. Line and columns count from 1."""

    line: int
    column: int
    """Where it begins in the mended line."""
    end: int
    """Behind its end in the mended line."""
    old_column: int
    old_end: int


class Mending:
    """A text that is made anew, one statement after the other. No line is added or left out."""

    def __init__(self) -> None:
        self.moved: list[Moved] = []
        self._parts: list[str] = []
        self._line = 1

    def text(self) -> str:
        """All that was taken."""
        return "".join(self._parts)

    def blank(self, part: str, instead: str = "") -> None:
        """Take only the line ends of a part, with `instead` before them."""
        self._take(instead + "\n" * part.count("\n"))

    def mend(self, part: str, start: int, mends: Iterable[Mend]) -> bool:
        """Take a part that begins at `start` in the whole text, with the mends, whose offsets are in the whole text.
        Returns whether that is possible: no two mends may overlap."""
        made, at = "", 0
        moved = []
        for mend in sorted(mends, key=lambda mend: mend.start):
            if mend.start - start < at:
                return False
            made += part[at : mend.start - start]
            line = made.count("\n")
            column = len(made) - made.rfind("\n")
            old_column = mend.start - start - part.rfind("\n", 0, mend.start - start)
            made += mend.text
            at = mend.end - start
            old_end = old_column + mend.end - mend.start
            moved.append(Moved(self._line + line, column, column + len(mend.text), old_column, old_end))
        self.moved += moved
        self._take(made + part[at:])
        return True

    def _take(self, text: str) -> None:
        self._parts.append(text)
        self._line += text.count("\n")


def place_before(moved: Sequence[Moved], place: Position) -> Position:
    """Where that which stands at `place` of the mended text stood before."""
    line, column = place
    shift = 0
    for each in moved:
        if each.line != line or column < each.column:
            continue
        if column < each.end:
            return line, each.old_column
        shift = each.old_end - each.end
    return line, column + shift
