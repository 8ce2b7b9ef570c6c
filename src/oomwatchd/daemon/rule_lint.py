"""Logs the warnings of `oomwatchctl check` after a start and after a reload."""

from oomwatchd.config.lint_files import lint_files
from oomwatchd.config.load import Layout
from oomwatchd.daemon.helper_pool import Call, HelperPool
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.log_records import WARNING, Record
from oomwatchd.daemon.reporter import Reporter

_SECONDS = 30.0
"""How long the helper may take."""
_LOGGED = 20
"""The most warnings that are logged. `oomwatchctl check` shows all."""


class RuleLint:
    """Has a helper check the rules in force: the files that they name may lie on a file system that doesn't answer."""

    def __init__(self, helpers: HelperPool, where: Layout, in_force: InForce, report: Reporter) -> None:
        self._helpers = helpers
        self._where = where
        self._in_force = in_force
        self._report = report

    def start(self, event: str) -> None:
        """Check the rules, and log the warnings as `event`. Nothing is logged if other rules are in force by then."""
        checked = self._in_force.config

        def log(answer: object) -> None:
            found = answer if isinstance(answer, tuple) else ()
            if found and self._in_force.config is checked:
                lines = [f"Warning: {file}:{line}:{column}: {message}" for file, line, column, message in found]
                text = "\n".join(["Rules that may not do what they say:", *lines])
                self._report.emit(Record(event, WARNING, text))

        arguments = (self._where.main_file, self._where.drop_in_dirs, self._where.root, _LOGGED)
        self._helpers.submit(Call(lint_files.__name__, arguments, log, 0, _SECONDS))
