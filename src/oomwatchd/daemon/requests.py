"""What the daemon answers on the control socket: one function a verb. oomwatchctl(1) describes requests and replies."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from oomwatchd import __version__
from oomwatchd.base.clock import boottime_as_epoch
from oomwatchd.base.notyet import NotYet
from oomwatchd.base.text import decode
from oomwatchd.config.document import Source
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import Json
from oomwatchd.daemon import admin_requests
from oomwatchd.daemon.admin_requests import is_pid
from oomwatchd.kernel.executable import split_deleted, verify_exe
from oomwatchd.kernel.procfs import ProcessDir, Vanished, parse_status, text
from oomwatchd.pinning.decisions import LATENCY_BOUNDS_US, runtime_rule
from oomwatchd.pinning.lineage import Hold, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.daemon.daemon import Daemon

LINEAGE_PIDS = 32
"""So many may one request ask for: each costs some system calls."""
PIECE_MEMBERS = 100
PIECE_CHARACTERS = 64 << 10
"""What is made of a long reply at a time."""


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
            "filter": daemon.events.filter,
            "filter_reason": daemon.events.filter_reason,
            "rules": len(config.rules),
            "pinned": len(daemon.pinner.ledger.held()),
            "counters": asdict(daemon.pinner.counters),
            "config": {
                "files": [source.path for source in config.sources],
                "loaded_at": state.loaded_at,
                "error": daemon.reloader.error or None,
            },
            "restored": state.restored,
            "hidepid": daemon.own_hidepid,
            "watch_error": daemon.reloader.watch_trouble or None,
            "ledger_error": daemon.pinner.ledger.trouble or None,
            "dry_run": daemon.dry_run,
            "scan_interval": daemon.interval,
            "missing_capabilities": list(state.missing_capabilities),
            "started_at": state.started_at,
            "monitors": 0 if daemon.server is None else len(daemon.server.monitors),
        }
    )


def _list(daemon: "Daemon", connection: Connection, request: Json) -> None:
    nodes = sorted(daemon.pinner.ledger.held(), key=lambda node: node.pid)
    if not connection.privileged and daemon.hides_processes():
        nodes = [node for node in nodes if node.uid == connection.uid]
    pins = (_pin(daemon, node, connection) for node in nodes if node.hold is not None)
    connection.stream(_in_pieces("pins", pins))


def _in_pieces(key: str, members: Iterable[Json]) -> Iterator[bytes]:
    """`{key: [members]}`, made piece by piece, so that a long one doesn't keep events waiting."""
    head = f'{{"{key}": ['
    rest = iter(members)
    while piece := list(islice(rest, PIECE_MEMBERS)):
        yield (head + ", ".join(map(json.dumps, piece))).encode()
        head = ", "
    yield ((head if head != ", " else "") + "]}\n").encode()


def _pin(daemon: "Daemon", node: Node, connection: Connection) -> Json:
    hold = node.hold
    if hold is None:
        raise ValueError("not held")
    # /proc/PID/exe is readable for the process's own user and root alone; we don't tell others more.
    may_know = connection.privileged or connection.uid == node.uid
    return {
        "pid": node.pid,
        "starttime": node.starttime,
        "comm": decode(node.comm),
        "exe": decode(node.exe or _long_exe(node, daemon.pinner.proc)) if may_know else None,
        "uid": node.uid,
        "unit": decode(node.unit) or None,
        "rule": hold.rule,
        "oom_score_adj": hold.value,
        "original": hold.first,
        "since": hold.since,
        "source": hold.source,
        "until": _until(daemon, node),
    }


def _until(daemon: "Daemon", node: Node) -> float | None:
    """When its runtime pin ends, if it has one that ends: seconds since the epoch, as the clock is set now."""
    pin = daemon.pinner.ledger.runtime_pins.get(node.pid)
    if pin is None or pin.ends is None or pin.starttime != node.starttime:
        return None
    return boottime_as_epoch(pin.ends)


def _long_exe(node: Node, proc: str) -> str:
    """What the kernel tells of the executable of a process, of which we keep short paths only."""
    try:
        with ProcessDir(node.pid, proc) as directory:
            exe = directory.read_exe() if directory.read_stat().starttime == node.starttime else None
    except (Vanished, OSError):
        return ""
    return text(split_deleted(exe or b"")[0])


def _rules(daemon: "Daemon", connection: Connection, request: Json) -> None:
    ledger, hits = daemon.pinner.ledger, daemon.pinner.hits
    matches = Counter(node.fitting for node in ledger.nodes.values())
    pins = [runtime_rule(pin) for pin in ledger.runtime_pins.values()]
    rules = (
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
    )
    connection.stream(_in_pieces("rules", rules))


def _loaded(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """The rules in force, as text: the same parser makes the same rules of them at the other end."""
    runtime_pins = daemon.pinner.ledger.runtime_pins.values()
    pins = [{"pid": pin.pid, "starttime": pin.starttime, "value": pin.value} for pin in runtime_pins]
    sources = [(source, source.public or connection.privileged) for source in daemon.config.sources]
    connection.stream(_texts_in_pieces({"layout": asdict(daemon.where), "pins": pins}, sources))


def _texts_in_pieces(head: Json, sources: Sequence[tuple[Source, bool]]) -> Iterator[bytes]:
    yield (json.dumps(head)[:-1] + ', "sources": [').encode()
    for number, (source, shown) in enumerate(sources):
        comma = "" if number == 0 else ", "
        yield f'{comma}{{"path": {json.dumps(source.path)}, "text": {chr(34) if shown else "null"}'.encode()
        for start in range(0, len(source.text) if shown else 0, PIECE_CHARACTERS):
            yield json.dumps(source.text[start : start + PIECE_CHARACTERS])[1:-1].encode()
        yield b'"}' if shown else b"}"
    yield b"]}\n"


def _lineage(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """What the ledger knows of processes, and what only the daemon's own view of the files can tell."""
    pids = request.get("pids")
    if not isinstance(pids, list) or len(pids) > LINEAGE_PIDS or not all(is_pid(pid) for pid in pids):
        connection.send({"error": f"lineage takes at most {LINEAGE_PIDS} PIDs"})
        return
    found = [_lineage_of(daemon, connection, pid) for pid in pids]
    connection.send({"processes": [entry for entry in found if entry is not None]})


def _lineage_of(daemon: "Daemon", connection: Connection, pid: int) -> Json | None:
    pinner = daemon.pinner
    try:
        with ProcessDir(pid, pinner.proc) as directory:
            stat = directory.read_stat()
            status = parse_status(directory.read("status"))
            may_know = connection.privileged or status.belongs_to(connection.uid)
            if not may_know and daemon.hides_processes():
                return None
            verified, doubt, before = None, "", None
            node = pinner.family.node_of(pid, stat)
            if may_know:
                exe = directory.read_exe()
                if exe:
                    try:
                        result = verify_exe(directory, *split_deleted(exe), pinner.view.namespaces)
                        verified, doubt = result.verified, result.doubt
                    except NotYet:
                        doubt = "its file system has yet to answer"
                    before = pinner.exe_before(directory, node, exe)
    except (Vanished, OSError, ValueError):
        return None
    origin = node.origin()
    return {
        "pid": pid,
        "starttime": stat.starttime,
        "exe_verified": verified,
        "exe_doubt": doubt,
        "exe_before": None if before is None else before.path,
        "rule": node.rule or None,
        "ancestors": sorted({above.rule for above in node.ancestors() if above.rule}),
        "hold": _hold(node.hold),
        "contended": node.backoff.contended,
        "refused": None if node.refused is None else {"rule": node.refused[0], "error": os.strerror(node.refused[1])},
        "origin": None if origin is None or origin.hold is None else _origin(origin),
    }


def _origin(node: Node) -> Json:
    return {"pid": node.pid, "comm": decode(node.comm), "alive": not node.dead, "hold": _hold(node.hold)}


def _hold(hold: Hold | None) -> Json | None:
    if hold is None:
        return None
    return {
        "rule": hold.rule,
        "first": hold.first,
        "value": hold.value,
        "child_value": hold.child_value,
        "since": hold.since,
        "source": hold.source,
    }


def _monitor(daemon: "Daemon", connection: Connection, request: Json) -> None:
    if daemon.server is not None:
        connection.send({"event": "monitoring"})
        daemon.server.monitor(connection)


def _metrics(daemon: "Daemon", connection: Connection, request: Json) -> None:
    pinner, state = daemon.pinner, daemon.state
    matches = Counter(node.fitting for node in pinner.ledger.nodes.values())
    rules = [
        {"rule": rule.name, "matches": matches[rule.name], "hits": pinner.hits.get(rule.name, 0)}
        for rule in daemon.config.rules
    ]
    connection.send(
        {
            "version": __version__,
            "started_at": state.started_at,
            "proc_events": daemon.events.on,
            "dry_run": daemon.dry_run,
            "loaded_at": state.loaded_at,
            "config_ok": not daemon.reloader.error,
            "pinned": len(pinner.ledger.held()),
            "counters": asdict(pinner.counters),
            "oom_kills": daemon.kills.total,
            "oom_kill_counts": [
                {"killer": killer, "rule": rule, "held": bool(rule), "count": count}
                for (killer, rule), count in sorted(daemon.kills.counts.items())
            ],
            "scan_seconds": state.scan_seconds,
            "latency": {
                "bounds_us": LATENCY_BOUNDS_US,
                "counts": pinner.latencies.counts,
                "sum_us": pinner.latencies.sum_us,
            },
            "rules": rules,
        }
    )


_VERBS: dict[str, Callable[["Daemon", Connection, Json], None]] = {
    "status": _status,
    "list": _list,
    "rules": _rules,
    "loaded": _loaded,
    "lineage": _lineage,
    "monitor": _monitor,
    "metrics": _metrics,
    "reload": admin_requests.reload,
    "restore": admin_requests.restore,
    "pin": admin_requests.pin,
    "unpin": admin_requests.unpin,
}
_STEERING = frozenset({"reload", "restore", "pin", "unpin"})
