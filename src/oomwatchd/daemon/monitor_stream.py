"""What `oomwatchctl monitor` is told, and who may know it. oomwatchctl(1) describes the lines."""

import json
import time
from collections.abc import Iterable, Sequence

from oomwatchd.base.text import decode
from oomwatchd.control.connection import Connection
from oomwatchd.control.server import Server
from oomwatchd.daemon.journal import Record
from oomwatchd.kernel.proc_connector import NAMES, PROC_EVENT_EXIT, PROC_EVENT_FORK, Event
from oomwatchd.pinning.decisions import Decision
from oomwatchd.pinning.ledger import Ledger

_DECISIONS = frozenset({"pinned", "released", "reset-child", "drift", "contended", "pin-failed"})
"""Records of these are told of as decisions, whether they are logged or not."""


def tell(
    server: Server, decisions: Sequence[Decision], events: Iterable[Event], ledger: Ledger, *, hidden: bool
) -> None:
    """Tell of decisions, and of events that brought about none. `hidden`: users may know of their own processes
    alone. Births are told of only where they brought something about, and ends never."""
    now = time.time()
    for decision in decisions:
        if not decision.quiet:
            _tell_decision(server, decision, now, hidden=hidden)
    decided = {decision.pid for decision in decisions}
    for _, what, pid, _ in events:
        if what in (PROC_EVENT_FORK, PROC_EVENT_EXIT) or pid in decided:
            continue
        node = ledger.nodes.get(pid)
        rule = json.dumps(node.fitting or None) if node is not None else "null"
        line = f'{{"time": {now:.6f}, "event": "seen", "source": "{NAMES[what]}", "pid": {pid}, "rule": {rule}}}\n'
        for connection in server.monitors:
            if connection.privileged or not hidden:
                server.offer(connection, line.encode())


def _tell_decision(server: Server, decision: Decision, now: float, *, hidden: bool) -> None:
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
    for connection in server.monitors:
        own = connection.privileged or connection.uid == decision.uid
        if own or not hidden:
            server.offer(connection, private if own else public)


def tell_record(server: Server, record: Record) -> None:
    """Tell of what isn't about one process. For root alone: it may quote files and the kernel's log."""
    if record.event in _DECISIONS:
        return
    entry = {"time": round(time.time(), 6), "event": record.event, "message": decode(record.message)}
    line = json.dumps(entry).encode() + b"\n"
    privileged: list[Connection] = [connection for connection in server.monitors if connection.privileged]
    for connection in privileged:
        server.offer(connection, line)
