"""Output for people: aligned tables, colour where it is wanted."""

import os
import sys
from collections.abc import Sequence

from oomwatchd.base.text import columns_of, printable

BOLD, DIM, RED, YELLOW, GREEN = "1", "2", "31", "33", "32"


def colour(text: str, code: str) -> str:
    """`text` in the SGR colour `code`, if stdout is a terminal and NO_COLOR (no-color.org) isn't set."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    legend: bool = True,
    right: frozenset[int] = frozenset(),
) -> None:
    """Print `rows` in aligned columns under a header: see `table_lines`."""
    lines = table_lines(columns, rows, legend=legend, right=right)
    if lines:
        print("\n".join(lines))


def table_lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    legend: bool = True,
    right: frozenset[int] = frozenset(),
) -> list[str]:
    """The lines of a table: `rows` in aligned columns under a header. Cells are made safe to show; None is a dash. The
    columns whose numbers are in `right` (figures) are aligned to the right, and never cut. On a terminal that is too
    narrow the others are cut, the widest first."""
    shown = [[_cell(cell) for cell in row] for row in rows]
    if legend:
        shown.insert(0, [column.upper() for column in columns])
    if not shown:
        return []
    cells = [list(column) for column in zip(*shown, strict=True)]
    widths = [max(map(columns_of, column)) for column in cells]
    if sys.stdout.isatty():
        widths = _narrowed(widths, right, terminal_columns())
    aligned = [[_aligned(cell, w, right=at in right) for cell in cells[at]] for at, w in enumerate(widths)]
    lines = ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
    if sys.stdout.isatty():
        lines = [_cut(line, terminal_columns()) for line in lines]
    if legend:
        lines[0] = colour(lines[0], BOLD)
    return lines


_NARROWEST = 8
"""The fewest columns to which a text is cut."""


def _narrowed(widths: Sequence[int], fixed: frozenset[int], limit: int) -> list[int]:
    """The widths of the columns, made smaller until a line has at most `limit` columns, as far as texts can be cut."""
    narrowed = list(widths)
    excess = sum(narrowed) + 2 * (len(narrowed) - 1) - limit
    while excess > 0:
        texts = [at for at, width in enumerate(narrowed) if at not in fixed and width > _NARROWEST]
        if not texts:
            break
        widest = max(texts, key=lambda at: narrowed[at])
        narrowed[widest] -= 1
        excess -= 1
    return narrowed


def wrap(text: str, indent: str = "", first: str | None = None) -> str:
    """A sentence as lines that fit the terminal, broken between words. Each line begins with `indent`, the first one
    with `first`."""
    begin = indent if first is None else first
    if not sys.stdout.isatty():
        return begin + text
    limit = max(terminal_columns(), 40)
    lines, line, empty = [], begin, True
    for word in text.split(" "):
        if not empty and columns_of(line) + 1 + columns_of(word) > limit:
            lines.append(line)
            line, empty = indent, True
        line += word if empty else f" {word}"
        empty = False
    return "\n".join([*lines, line])


def _cell(cell: object) -> str:
    if type(cell) is int:
        return str(cell)
    return "-" if cell is None else printable(str(cell))


def _aligned(cell: str, width: int, *, right: bool) -> str:
    cell = _cut(cell, width)
    blanks = " " * (width - columns_of(cell))
    return blanks + cell if right else cell + blanks


def _cut(text: str, width: int) -> str:
    """The first `width` columns of the text. An ellipsis stands for what is left out."""
    if columns_of(text) <= width:
        return text
    kept, used = "", 1
    for character in text:
        used += columns_of(character)
        if used > width:
            break
        kept += character
    return kept + "…"


def terminal_columns() -> int:
    """The width of the terminal in characters: COLUMNS, or what the terminal says, or else 80."""
    import shutil  # it imports all compression modules, which would slow down `status`

    return shutil.get_terminal_size().columns
