"""Reads the task table of a report. Pure.

A reader takes one kind of line into the assembly, and returns whether the line was of that kind."""

from oomwatchd.oomlog import line_tasks
from oomwatchd.oomlog.assembly import Assembly
from oomwatchd.oomlog.record import Task
from oomwatchd.oomlog.report import Report

_MOST_COLUMNS = 12


def table(assembly: Assembly, text: str) -> bool:
    """A header or a row, whatever stands before it."""
    start = text.find("[")
    if start < 0:
        return False
    if "total_vm" in text and header(assembly, text):
        return True
    if assembly.report is not None and assembly.report.layout is not None:
        return row(assembly, text[start:])
    task = _row_without_header(assembly, text)
    if task is None:
        return line_tasks.row_is_broken(text) and assembly.await_rest(row, text)
    report = assembly.report
    report = assembly.open(another=report is not None and report.past_table())
    report.cut = True
    _add(assembly, report, task)
    return True


def header(assembly: Assembly, text: str) -> bool:
    """ "[ pid ]   uid  tgid total_vm …  name"."""
    columns = line_tasks.header(text)
    if columns is None:
        return False
    if columns[-1] != "name":
        # Broken once more is possible; what can't be a header any longer is given up.
        return len(columns) > _MOST_COLUMNS or assembly.await_rest(header, text)
    report = assembly.before_table()
    report.layout = line_tasks.layout(columns)
    report.tasks = []
    assembly.at_row = True
    return True


def row(assembly: Assembly, text: str) -> bool:
    """A row of the table under the header that was read."""
    report = assembly.report
    if report is None or report.layout is None:
        task = _row_without_header(assembly, text)
        if task is not None:
            _add(assembly, assembly.open(), task)
        return task is not None
    task = report.layout.row(text)
    if task is None:
        return assembly.broken is None and line_tasks.row_is_broken(text) and assembly.await_rest(row, text)
    if report.past_table():
        report = assembly.new()
        report.cut = True
    _add(assembly, report, task)
    return True


def _row_without_header(assembly: Assembly, text: str) -> Task | None:
    """A row whose number of columns is unknown. None: it is none, or may lack its last columns."""
    return None if assembly.origin.cut else line_tasks.row_without_header(text)


def _add(assembly: Assembly, report: Report, task: Task) -> None:
    assembly.at_row = True
    if assembly.origin.cut:
        task = task._replace(comm=None)
        report.cut = True
    report.add(task)
