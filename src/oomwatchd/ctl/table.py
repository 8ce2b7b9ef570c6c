"""Output for people: aligned tables, colour where it is wanted."""

import os
import sys
from collections.abc import Sequence

from oomwatchd.base.text import printable

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
    """Print `rows` in aligned columns under a header (see `table_lines`)."""
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
    """`rows` in aligned columns under a header, as lines. Cells are made safe to show, None is a dash. The
    columns numbered in `right` are set right (numbers). On a terminal the last column is cut to its width."""
    shown = [[_cell(cell) for cell in row] for row in rows]
    if legend:
        shown.insert(0, [column.upper() for column in columns])
    aligned = [_aligned(cells, right=at in right) for at, cells in enumerate(zip(*shown, strict=True))]
    lines = ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]
    if sys.stdout.isatty():
        limit = _terminal_columns()
        lines = [line if len(line) <= limit else line[: limit - 1] + "…" for line in lines]
    if legend:
        lines[0] = colour(lines[0], BOLD)
    return lines


def _cell(cell: object) -> str:
    if type(cell) is int:
        return str(cell)
    return "-" if cell is None else printable(str(cell))


def _aligned(cells: Sequence[str], *, right: bool) -> list[str]:
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells] if right else [cell.ljust(width) for cell in cells]


def _terminal_columns() -> int:
    import shutil  # it brings all compressors along, which `status` hasn't the time for

    return shutil.get_terminal_size().columns
