"""What the daemon answers on the control socket: one function a verb. oomwatchctl(1) describes requests and replies."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from oomwatchd import __version__
from oomwatchd.control import Connection, Json
from oomwatchd.lineage import Node
from oomwatchd.pin import runtime_rule
from oomwatchd.procfs import ProcessDir, Vanished, parse_status, verify_exe
from oomwatchd.text import decode

if TYPE_CHECKING:
    from oomwatchd.daemon import Daemon

LINEAGE_PIDS = 64
"""So many may one request ask for: each costs some system calls."""


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


def _loaded(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """The rules in force, as text: the same parser makes the same rules of them at the other end."""
    config = daemon.config
    sources = [
        {"path": source.path, "text": source.text if source.public or connection.privileged else None}
        for source in config.sources
    ]
    pins = [asdict(pin) for pin in daemon.pinner.ledger.runtime_pins.values()]
    connection.send({"sources": sources, "pins": pins, "layout": asdict(daemon.where)})


def _lineage(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """What the ledger knows of processes, and what only the daemon's own view of the files can tell."""
    pids = request.get("pids")
    if not isinstance(pids, list) or len(pids) > LINEAGE_PIDS or not all(_is_pid(pid) for pid in pids):
        connection.send({"error": f"lineage takes at most {LINEAGE_PIDS} PIDs"})
        return
    found = [_lineage_of(daemon, connection, pid) for pid in pids]
    connection.send({"processes": [entry for entry in found if entry is not None]})


def _is_pid(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _lineage_of(daemon: "Daemon", connection: Connection, pid: int) -> Json | None:
    pinner = daemon.pinner
    try:
        with ProcessDir(pid, pinner.proc) as directory:
            stat = directory.read_stat()
            uid = parse_status(directory.read("status")).uid
            verified, doubt = None, ""
            if connection.privileged or connection.uid == uid:
                exe = directory.read_exe()
                verified, doubt = verify_exe(directory, exe, pinner.ours) if exe else (None, "")
            node = pinner.node_of(pid, stat)
    except (Vanished, OSError, ValueError):
        return None
    origin = node.origin()
    return {
        "pid": pid,
        "starttime": stat.starttime,
        "exe_verified": verified,
        "exe_doubt": doubt,
        "rule": node.rule or None,
        "ancestors": sorted({above.rule for above in node.ancestors() if above.rule}),
        "hold": None if node.hold is None else asdict(node.hold),
        "contended": node.contended,
        "refused": None if node.refused is None else {"rule": node.refused[0], "error": os.strerror(node.refused[1])},
        "origin": None if origin is None or origin.hold is None else _origin(origin),
    }


def _origin(node: Node) -> Json:
    hold = None if node.hold is None else asdict(node.hold)
    return {"pid": node.pid, "comm": decode(node.comm), "alive": not node.dead, "hold": hold}


_VERBS: dict[str, Callable[["Daemon", Connection, Json], None]] = {
    "status": _status,
    "list": _list,
    "rules": _rules,
    "loaded": _loaded,
    "lineage": _lineage,
    "reload": _reload,
}
_STEERING = frozenset({"reload"})
