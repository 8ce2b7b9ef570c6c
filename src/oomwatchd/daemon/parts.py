"""The parts of a running daemon, for the functions that answer requests. Each part owns its own state."""

from dataclasses import dataclass

from oomwatchd.config.load import Layout
from oomwatchd.daemon.applier import Applier
from oomwatchd.daemon.control_socket import ControlSocket
from oomwatchd.daemon.event_pump import EventPump
from oomwatchd.daemon.event_source import EventSource
from oomwatchd.daemon.hidden_processes import HiddenProcesses
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.kill_reports import KillReports
from oomwatchd.daemon.reloader import Reloader
from oomwatchd.daemon.runtime_pins import RuntimePins
from oomwatchd.daemon.scanner import Scanner
from oomwatchd.pinning.pinner import Pinner


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running daemon."""

    where: Layout
    in_force: InForce
    pinner: Pinner
    source: EventSource
    pump: EventPump
    scanner: Scanner
    reloader: Reloader
    applier: Applier
    pins: RuntimePins
    kills: KillReports
    control: ControlSocket
    hidden: HiddenProcesses
    started_at: float
    """Seconds since the epoch."""
    missing_capabilities: tuple[str, ...]
    """Names of the capabilities that the daemon needs and hasn't."""

    def counters(self) -> dict[str, int]:
        """How much has happened since the start, by the names in oomwatchctl(1), `counters`."""
        done = self.pinner.writer.counters
        return {
            "events": self.pump.heard,
            "pins": done.pins,
            "releases": done.releases,
            "resets": done.resets,
            "drifts": done.drifts,
            "failures": done.failures,
            "lost": self.pump.losses,
            "scans": self.scanner.scans,
        }
