"""Lines of a report's task table: kernel text to values. Pure.

For where a report comes from, and how it is read, see `lines`.
"""

import functools
import re
from collections.abc import Callable, Sequence

from oomwatchd.base.text import decode
from oomwatchd.oomlog.line_parts import NUMBER
from oomwatchd.oomlog.record import Task

# "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name" and its rows

_HEADER = re.compile(r"\[ {0,9}pid {0,9}\]\s{1,9}uid\s{1,9}(?P<columns>tgid\s{1,9}total_vm\s{1,9}rss\b.{0,300})")
_ROW = re.compile(rf"\[ {{0,9}}(\d{{1,10}})\]((?:\s{{1,20}}{NUMBER}){{6,10}}) (.*)", re.DOTALL)
_ROW_BROKEN = re.compile(rf"\[ {{0,9}}\d{{1,10}}\](?:\s{{1,20}}{NUMBER}){{2,10}}\s*$")
_TABLES = ("nr_ptes", "nr_pmds", "nr_puds")


def header(text: str) -> tuple[str, ...] | None:
    """The columns of the task table; without "name" as the last, the line is cut."""
    match = _HEADER.search(text) if "total_vm" in text else None
    if match is None:
        return None
    columns = ("pid", "uid", *match["columns"].split())
    return columns if len(set(columns)) == len(columns) and "rss" in columns else None


def row_pattern(columns: tuple[str, ...]) -> re.Pattern[str]:
    """Matches a row of that table: its pid, its numbers, the name. One blank before it, the rest is the name's."""
    numbers = len(columns) - 2
    return re.compile(rf"\[ {{0,9}}(\d{{1,10}})\]((?:\s{{1,20}}{NUMBER}){{{numbers}}})(?: (.*))?$", re.DOTALL)


def row_without_header(text: str) -> Task | None:
    """A row of a table whose header isn't in the log. What its middle columns are is only a guess, and left out."""
    match = _ROW.search(text)
    if match is None:
        return None
    numbers = match[2].split()
    uid, tgid, total_vm, rss = (int(number) for number in numbers[:4])
    return Task(int(match[1]), tgid, uid, total_vm, rss, None, None, int(numbers[-1]), match[3])


def holds_row(text: str) -> bool:
    """Whether a row stands in `text`."""
    return _ROW.search(text) is not None


def row_is_broken(text: str) -> bool:
    """Whether a mailer may have broken a row here."""
    return _ROW_BROKEN.match(text) is not None


class TableLayout:
    """How to read the rows under one header. `counts_tables`: page tables are a number of pages in it."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        at = {name: index - 1 for index, name in enumerate(columns)}  # the pid is matched apart
        self.columns = columns
        self._pattern = row_pattern(columns)
        self.counts_tables = "pgtables_bytes" not in at and any(name in at for name in _TABLES)
        self._tgid, self._total_vm, self._rss = at["tgid"], at["total_vm"], at["rss"]
        self._pgtables, self._swapents = at.get("pgtables_bytes"), at.get("swapents")
        self._adj = at.get("oom_score_adj")
        self._tables = [at[name] for name in _TABLES if name in at]
        wanted = {"uid", "tgid", "total_vm", "rss", "pgtables_bytes", "swapents", "oom_score_adj", *_TABLES}
        self._raw = r"\[ {0,9}(\d{1,10})\]" + "".join(
            r"[ \t]+(-?\d{1,18})" if name in wanted else r"[ \t]+-?\d{1,18}" for name in columns[1:-1]
        )
        shown = [name for name in columns[1:-1] if name in wanted]
        self._is_usual = shown == ["uid", "tgid", "total_vm", "rss", "pgtables_bytes", "swapents", "oom_score_adj"]
        self._shown = [columns.index(name) - 1 for name in shown]

    def row(self, text: str) -> Task | None:
        """A row, or None if `text` isn't one of this table."""
        match = self._pattern.match(text)
        if match is None:
            return None
        pid, middle, comm = match.groups("")
        return self._task(int(pid), [int(number) for number in middle.split()], comm)

    def raw_pattern(self, prefix: str) -> "RawRows":
        """Finds whole lines of a table; `prefix` is a pattern of what stands before each row."""
        return RawRows(prefix, prefix + self._raw + r" ([^\n]{1,255})\n")

    def raw_rows(self, rows: Sequence[tuple[str, ...]]) -> list[Task]:
        """The values of the rows that `RawRows` has read."""
        if not self._is_usual:
            return [self._raw_row(row) for row in rows]
        pids, uids, tgids, vms, rsss, tables, swaps, adjs, comms = zip(*rows, strict=True)
        columns = (pids, tgids, uids, vms, rsss, tables, swaps, adjs)
        # A large log is mostly these: whole columns are made numbers, without a loop in Python.
        return list(map(_AS_TASK, zip(*(map(int, column) for column in columns), map(_name, comms), strict=True)))

    def _raw_row(self, row: tuple[str, ...]) -> Task:
        first, *shown, comm = row
        numbers = [0] * (len(self.columns) - 2)
        for at, number in zip(self._shown, shown, strict=True):
            numbers[at] = int(number)
        return self._task(int(first), numbers, comm.rstrip("\r"))

    def _task(self, pid: int, numbers: list[int], comm: str) -> Task:
        pgtables = None
        if self._pgtables is not None:
            pgtables = numbers[self._pgtables]
        elif self._tables:
            # Counted in tables; each fills a page (mm_pgtables_bytes()), here of 4 KiB.
            pgtables = 4096 * sum(numbers[index] for index in self._tables)
        return Task(
            pid,
            numbers[self._tgid],
            numbers[0],
            numbers[self._total_vm],
            numbers[self._rss],
            pgtables,
            None if self._swapents is None else numbers[self._swapents],
            None if self._adj is None else numbers[self._adj],
            comm,
        )


class RawRows:
    """Finds rows that follow one another. Each pattern is compiled when it is needed, for that takes a millisecond."""

    def __init__(self, prefix: str, row: str) -> None:
        self._row_source = row
        begins = rf"(?:{prefix}\[ {{0,9}}\d{{1,10}}\][^\n]*\n)++"
        self._begins = re.compile(begins.encode("utf-8", "replace"))
        """Lines that begin like rows."""

    @functools.cached_property
    def _whole(self) -> re.Pattern[bytes]:
        """Rows and no other lines."""
        ungrouped = self._row_source.replace(r"(\d", r"(?:\d").replace(r"(-?", r"(?:-?")
        return re.compile(f"(?:{ungrouped})++".encode("utf-8", "replace"))

    @functools.cached_property
    def _row(self) -> re.Pattern[str]:
        """One row, with its figures."""
        return re.compile(f"^{self._row_source}", re.MULTILINE)

    def read(self, data: bytes, start: int, end: int) -> tuple[list[tuple[str, ...]], bytes]:
        """The rows at `start` and their lines."""
        found = self._begins.match(data, start, end)
        if found is None:
            return [], b""
        rows: list[tuple[str, ...]] = self._row.findall(decode(found[0]))
        if len(rows) == found[0].count(b"\n"):
            return rows, found[0]
        found = self._whole.match(data, start, end)
        return ([], b"") if found is None else (self._row.findall(decode(found[0])), found[0])


_AS_TASK: Callable[[tuple[int | str, ...]], Task] = functools.partial(tuple.__new__, Task)
"""Makes a Task of its members, four times as fast as the class does."""


def _name(comm: str) -> str:
    return comm.rstrip() if comm.endswith(("\r", "  ")) else comm


@functools.lru_cache(maxsize=32)
def layout(columns: tuple[str, ...]) -> TableLayout:
    """The layout under a header. A machine has one kind of table, and a header in each report."""
    return TableLayout(columns)
