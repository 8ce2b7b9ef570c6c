"""Output for people: aligned tables, colour where it is wanted."""

import os
import sys
from collections.abc import Sequence

from oomwatchd.text import printable

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
    """Print `rows` in aligned columns under a header. Cells are made safe to show, None is a dash. The
    columns numbered in `right` are set right (numbers). On a terminal the last column is cut to its width."""
    cells = [["-" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    header = [column.upper() for column in columns]
    everything = [header, *cells] if legend else cells
    widths = [max((len(row[i]) for row in everything), default=0) for i in range(len(columns))]
    limit = _terminal_columns() if sys.stdout.isatty() else None
    for row in everything:
        parts = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(parts).rstrip()
        if limit is not None and len(line) > limit:
            line = line[: limit - 1] + "…"
        print(colour(line, BOLD) if row is header else line)


def _terminal_columns() -> int:
    import shutil  # it brings all compressors along, which `status` hasn't the time for

    return shutil.get_terminal_size().columns
