"""Finds out what the columns of CSV or TSV mean where no header names them: by what is in them. Pure."""

import csv
import re
from collections import Counter
from collections.abc import Sequence

from oomwatchd.oomlog import beside, lines, prefix
from oomwatchd.oomlog.dates import is_date
from oomwatchd.oomlog.killers import PROGRAMS

_SAMPLE = 100
_ENOUGH = 3
_MOST = 40
"""The most columns of a table."""
_EPOCH = re.compile(r"1\d{9}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?")
_PRINTED_DATE = re.compile(r"[A-Z][a-z]{2} \d{1,2}, \d{4} @ \d\d:\d\d:\d\d(?:\.\d{1,9})?")
_WRITERS = frozenset(("kernel", *PROGRAMS))
_FRACTION = re.compile(r"\d{3,9}(?:Z|[+-]\d\d:?\d\d)?\s")
_NUMBER = re.compile(r"[\d.,+-]*")


def cells_of(row: str, delimiter: str) -> list[str]:
    """The cells of a row; none if it isn't one."""
    if '"' not in row:
        return row.split(delimiter)
    try:
        return next(csv.reader([row], delimiter=delimiter), [])
    except csv.Error:
        return []


def is_whole(row: str) -> bool:
    """Whether the row neither begins nor ends within a cell in quotes."""
    return row.count('"') % 2 == 0


def by_content(rows: Sequence[str]) -> tuple[str, dict[str, int]] | None:
    """The delimiter, and the columns by what they tell ("text", "time", "program"), of a table that begins with `rows`;
    None if it is no table. In a table all rows have as many cells, and a cell of each is a date."""
    sample = [row for row in rows[:_SAMPLE] if row.strip()]
    for delimiter in ("\t", ",", ";"):
        table = [cells for row in sample if 2 <= len(cells := cells_of(row, delimiter)) <= _MOST and is_whole(row)]
        if len(table) < _ENOUGH:
            continue
        width, count = Counter(map(len, table)).most_common(1)[0]
        table = [cells for cells in table if len(cells) == width]
        if count * 10 < (len(sample) - 2) * 8:  # the first and the last row may be cut
            continue
        if not any(map(_is_date, table[0])):
            del table[0]  # a header whose names say nothing
        found = _meanings(list(zip(*table, strict=True))) if len(table) >= _ENOUGH else None
        if found is not None:
            return delimiter, found
    return None


def _meanings(columns: Sequence[Sequence[str]]) -> dict[str, int] | None:
    # The first and the last row may be cut.
    dates = [number for number, cells in enumerate(columns) if all(map(_is_date, cells[1:-1]))]
    if any(at + 1 < len(columns) and _FRACTION.match(columns[at + 1][1]) is not None for at in dates):
        return None  # a comma before the fraction of a second
    others = [number for number in range(len(columns)) if number not in dates and not _is_of_numbers(columns[number])]
    if not dates or not others:
        return None
    text = max(others, key=lambda number: sum(map(len, columns[number])))
    if not any(_is_of_report(cell) for cell in columns[text]):
        return None
    found = {"text": text, "time": next((at for at in dates if not _EPOCH.fullmatch(columns[at][1])), dates[0])}
    program = next((at for at in others if at != text and not _WRITERS.isdisjoint(map(_tag, columns[at]))), None)
    if program is not None:
        found["program"] = program
    elif any(len(set(columns[at])) > 1 for at in others if at != text and not all(map(_has_own, columns[text][1:-1]))):
        return None  # nothing tells whether these are programs
    return found


def _is_date(cell: str) -> bool:
    return is_date(cell) or _EPOCH.fullmatch(cell.strip()) is not None or _PRINTED_DATE.match(cell) is not None


def _is_of_numbers(cells: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(cell.strip()) is not None for cell in cells)


def _tag(cell: str) -> str:
    return cell.strip().lower().rstrip(":").partition("[")[0]


def _has_own(cell: str) -> bool:
    """Whether a text itself says that the kernel has written it."""
    return prefix.split(cell).sure


def _is_of_report(cell: str) -> bool:
    text = prefix.split(cell).text or ""
    return lines.begins(text) or " invoked oom-killer" in text or beside.may_say(cell)
