"""Sends the lines of `oomwatchctl monitor` to the clients that may see them. oomwatchctl(1) describes the lines."""

import json
import time
from collections.abc import Iterable, Sequence

from oomwatchd.base.text import decode
from oomwatchd.daemon.control_socket import ControlSocket
from oomwatchd.daemon.hidden_processes import HiddenProcesses
from oomwatchd.daemon.log_records import Record
from oomwatchd.kernel.proc_connector import NAMES, PROC_EVENT_EXIT, PROC_EVENT_FORK, Event
from oomwatchd.pinning.decisions import Decision
from oomwatchd.pinning.ledger import Ledger

_DECISIONS = frozenset({"pinned", "released", "reset-child", "drift", "contended", "pin-failed"})
"""The events of decisions. Decisions are sent whether they are logged or not, so that their records aren't sent."""


class MonitorStream:
    """Sends events and decisions to monitors. Where /proc hides other users' processes, a user gets only those about
    processes of that user."""

    def __init__(self, control: ControlSocket, hidden: HiddenProcesses) -> None:
        self._control = control
        self._hidden = hidden

    @property
    def watched(self) -> bool:
        """Whether anybody monitors."""
        return bool(self._control.monitors)

    def decisions(self, decisions: Sequence[Decision], events: Iterable[Event], ledger: Ledger) -> None:
        """Send decisions, and the events that led to no decision. Forks without a decision aren't sent, nor exits."""
        if not self.watched:
            return
        now, hidden = time.time(), self._hidden.hidden()
        for decision in decisions:
            if not decision.quiet:
                self._decision(decision, now, hidden=hidden)
        decided = {decision.pid for decision in decisions}
        for _, what, pid, _ in events:
            if what in (PROC_EVENT_FORK, PROC_EVENT_EXIT) or pid in decided:
                continue
            node = ledger.nodes.get(pid)
            rule = json.dumps(node.fitting or None) if node is not None else "null"
            line = f'{{"time": {now:.6f}, "event": "seen", "source": "{NAMES[what]}", "pid": {pid}, "rule": {rule}}}\n'
            for connection in self._control.monitors:
                if connection.privileged or not hidden:
                    self._control.offer(connection, line.encode())

    def _decision(self, decision: Decision, now: float, *, hidden: bool) -> None:
        entry = {
            "time": round(now, 6),
            "event": decision.event,
            "source": decision.source,
            "pid": decision.pid,
            "comm": decode(decision.comm),
            "exe": None,
            "uid": decision.uid,
            "unit": decode(decision.unit) or None,
            "rule": decision.rule,
            "old": decision.old,
            "new": decision.new,
            "latency_us": decision.latency_us,
            "error": decision.error or None,
        }
        public = json.dumps(entry).encode() + b"\n"
        private = json.dumps(entry | {"exe": decode(decision.exe) or None}).encode() + b"\n"
        for connection in self._control.monitors:
            own = connection.privileged or connection.uid == decision.uid
            if own or not hidden:
                self._control.offer(connection, private if own else public)

    def record(self, record: Record) -> None:
        """Send a record that isn't about a decision. Only root gets it, since it may quote files and the kernel's
        log."""
        if not self.watched or record.event in _DECISIONS:
            return
        entry = {"time": round(time.time(), 6), "event": record.event, "message": decode(record.message)}
        line = json.dumps(entry).encode() + b"\n"
        for connection in [each for each in self._control.monitors if each.privileged]:
            self._control.offer(connection, line)
