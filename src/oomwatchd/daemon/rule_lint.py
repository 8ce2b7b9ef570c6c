"""Logs what `oomwatchctl check` warns of, after a start and a reload."""

from oomwatchd.config.lint_files import lint_files
from oomwatchd.config.load import Layout
from oomwatchd.daemon.helper_pool import Call, HelperPool
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.journal import WARNING, Record
from oomwatchd.daemon.reporter import Reporter

_SECONDS = 30.0
_TOLD = 20
"""So many warnings are logged at once; `oomwatchctl check` has all."""


class RuleLint:
    """Has the rules in force looked through by a helper, since the files that they name may lie where a look never
    ends."""

    def __init__(self, helpers: HelperPool, where: Layout, in_force: InForce, report: Reporter) -> None:
        self._helpers = helpers
        self._where = where
        self._in_force = in_force
        self._report = report

    def start(self, event: str) -> None:
        """Look through the rules, and log as `event` what is found. Nothing is if other rules are in force by then."""
        looked_at = self._in_force.config

        def tell(answer: object) -> None:
            found = answer if isinstance(answer, tuple) else ()
            if found and self._in_force.config is looked_at:
                lines = [f"Warning: {file}:{line}:{column}: {message}" for file, line, column, message in found]
                text = "\n".join(["Rules that may not do what they say:", *lines[:_TOLD]])
                self._report.emit(Record(event, WARNING, text))

        arguments = (self._where.main_file, self._where.drop_in_dirs)
        self._helpers.submit(Call(lint_files.__name__, arguments, tell, 0, _SECONDS))
