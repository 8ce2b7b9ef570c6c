"""Opens the control socket, and reports where that fails."""

import os

from oomwatchd.daemon.control_socket import ControlSocket, another_listens
from oomwatchd.daemon.failure import Failure
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.log_records import NOTICE, WARNING, Record
from oomwatchd.daemon.reporter import Reporter


class ControlOpening:
    """Opens the control socket at the start, and tries again after each scan. If opening fails and this is root, the
    daemon starts without the socket."""

    def __init__(self, control: ControlSocket, in_force: InForce, report: Reporter, directory: str) -> None:
        self._control = control
        self._in_force = in_force
        self._report = report
        self._directory = directory
        self._failed = False
        """Whether opening has failed, and is to be tried again."""

    def open(self) -> None:
        """Open the socket at the start. Requests wait until ControlSocket.listen() is called. Raises Failure."""
        if self._in_force.always_dry and another_listens(self._directory):
            self._report.keep_warning("Another oomwatchd runs, and oomwatchctl reaches that one, not this dry run")
            return
        try:
            self._control.open()
        except OSError as error:
            message = self._message(error)
            if self._in_force.dry_run:
                self._report.keep_warning(f"{message}; oomwatchctl won't reach this dry run")
            elif os.geteuid() != 0:
                raise Failure(message) from None
            else:
                self._warn(error)

    def _message(self, error: OSError) -> str:
        return f"Failed to open the control socket in '{self._directory}': {error.strerror}"

    def _warn(self, error: OSError) -> None:
        """Report, once, a failure that doesn't end the start."""
        self._failed = True
        self._report.emit(Record("summary", WARNING, f"{self._message(error)}; going on without, and trying again"))

    def try_again(self) -> None:
        """After a scan: open the socket if that has failed before, or somebody has removed it, and deal with
        requests."""
        if not (self._failed or self._control.removed):
            return
        try:
            self._control.open()
        except OSError as error:
            if not self._failed:
                self._warn(error)
            return
        self._failed = False
        self._control.listen()
        self._report.emit(Record("summary", NOTICE, f"The control socket in '{self._directory}' is open"))
