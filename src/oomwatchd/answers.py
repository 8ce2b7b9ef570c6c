"""What the daemon answers on the control socket: one function a verb. oomwatchctl(1) describes requests and replies."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from oomwatchd import __version__
from oomwatchd.control import Connection, Json
from oomwatchd.ledger import Node
from oomwatchd.pin import runtime_rule
from oomwatchd.text import decode

if TYPE_CHECKING:
    from oomwatchd.daemon import Daemon


def answer(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """Answer one request, now or when it is done."""
    verb = request["verb"]
    if verb in _STEERING and not connection.privileged:
        connection.send({"error": f"Only root may ask oomwatchd to {verb}"})
    elif verb in _VERBS:
        _VERBS[verb](daemon, connection, request)
    else:
        connection.send({"error": f"Unknown verb '{decode(verb)[:40]}'"})


def _status(daemon: "Daemon", connection: Connection, request: Json) -> None:
    config, state = daemon.config, daemon.state
    connection.send(
        {
            "version": __version__,
            "pid": os.getpid(),
            "proc_events": "on" if daemon.events.on else "off",
            "events_reason": daemon.events.reason,
            "rules": len(config.rules),
            "pinned": len(daemon.pinner.ledger.held()),
            "counters": asdict(daemon.pinner.counters),
            "config": {
                "files": [source.path for source in config.sources],
                "loaded_at": state.loaded_at,
                "error": state.config_error or None,
            },
            "dry_run": daemon.dry_run,
            "scan_interval": daemon.interval,
            "missing_capabilities": list(state.missing_capabilities),
        }
    )


def _list(daemon: "Daemon", connection: Connection, request: Json) -> None:
    pins = [_pin(node, connection) for node in daemon.pinner.ledger.held()]
    connection.send({"pins": sorted(pins, key=lambda pin: pin["pid"])})


def _pin(node: Node, connection: Connection) -> Json:
    hold = node.hold
    if hold is None:
        raise ValueError("not held")
    # /proc/PID/exe is readable for the process's own user and root alone; we don't tell others more.
    may_know = connection.privileged or connection.uid == node.uid
    return {
        "pid": node.pid,
        "starttime": node.starttime,
        "comm": decode(node.comm),
        "exe": decode(node.exe) if may_know else None,
        "uid": node.uid,
        "unit": decode(node.unit) or None,
        "rule": hold.rule,
        "oom_score_adj": hold.value,
        "original": hold.first,
        "since": hold.since,
        "source": hold.source,
    }


def _rules(daemon: "Daemon", connection: Connection, request: Json) -> None:
    ledger, hits = daemon.pinner.ledger, daemon.pinner.hits
    matches = Counter(node.fitting for node in ledger.nodes.values())
    pins = [runtime_rule(pin) for pin in ledger.runtime_pins.values()]
    rules = [
        {
            "rule": rule.name,
            "file": rule.file or None,
            "line": rule.line or None,
            "action": str(rule.action),
            "enabled": rule.enabled,
            "matches": matches[rule.name],
            "hits": hits.get(rule.name, 0),
            "description": rule.description,
        }
        for rule in (*pins, *daemon.config.rules)
    ]
    connection.send({"rules": rules})


def _reload(daemon: "Daemon", connection: Connection, request: Json) -> None:
    def done() -> None:
        connection.send({"ok": True, "errors": [], "warnings": [asdict(problem) for problem in daemon.config.warnings]})

    problems = daemon.reload(done)
    if problems:
        connection.send({"ok": False, "errors": [asdict(problem) for problem in problems], "warnings": []})


_VERBS: dict[str, Callable[["Daemon", Connection, Json], None]] = {
    "status": _status,
    "list": _list,
    "rules": _rules,
    "reload": _reload,
}
_STEERING = frozenset({"reload"})
