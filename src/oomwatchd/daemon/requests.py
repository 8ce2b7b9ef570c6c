"""Answers requests on the control socket, by one function for each verb. oomwatchctl(1) describes requests and
replies."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from oomwatchd import __version__
from oomwatchd.base.clock import boottime_as_epoch
from oomwatchd.base.text import decode
from oomwatchd.config.document import ConfigFile
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import Json
from oomwatchd.daemon import admin_requests
from oomwatchd.daemon.hidden_processes import own_hidepid
from oomwatchd.daemon.lineage_request import reply_lineage
from oomwatchd.daemon.parts import Parts
from oomwatchd.kernel.executable import split_deleted
from oomwatchd.kernel.procfs import ProcessDir, Vanished, text
from oomwatchd.pinning.decisions import LATENCY_BOUNDS_US, runtime_rule
from oomwatchd.pinning.lineage import Node

PIECE_MEMBERS = 100
"""The number of members in one piece of a long list."""
PIECE_CHARACTERS = 64 << 10
"""The number of characters in one piece of a long text."""


def answer(parts: Parts, connection: Connection, request: Json) -> None:
    """Answer one request. The reply may come later: see Connection.defer()."""
    verb = request["verb"]
    if verb in _ADMIN and not connection.privileged:
        connection.send({"error": f"Only root may ask oomwatchd to {verb}"})
    elif verb in _VERBS:
        _VERBS[verb](parts, connection, request)
    else:
        connection.send({"error": f"Unknown verb '{decode(verb)[:40]}'"})


def _status(parts: Parts, connection: Connection, request: Json) -> None:
    in_force, config, source = parts.in_force, parts.in_force.config, parts.source
    connection.send(
        {
            "version": __version__,
            "pid": os.getpid(),
            "proc_events": "on" if source.on else "off",
            "events_reason": source.reason,
            "filter": source.filter,
            "filter_reason": source.filter_reason,
            "rules": len(config.rules),
            "pinned": len(parts.pinner.ledger.pinned()),
            "counters": parts.counters(),
            "config": {
                "files": [source.path for source in config.sources],
                "loaded_at": in_force.loaded_at,
                "error": parts.reloader.error or None,
            },
            "restored": in_force.restored,
            "hidepid": own_hidepid(),
            "watch_error": parts.reloader.watch_trouble or None,
            "ledger_error": parts.pinner.ledger.trouble or None,
            "dry_run": in_force.dry_run,
            "scan_interval": in_force.scan_seconds(events=source.on),
            "missing_capabilities": list(parts.missing_capabilities),
            "started_at": parts.started_at,
            "monitors": len(parts.control.monitors),
        }
    )


def _list(parts: Parts, connection: Connection, request: Json) -> None:
    nodes = sorted(parts.pinner.ledger.pinned(), key=lambda node: node.pid)
    if not connection.privileged and parts.hidden.hidden():
        nodes = [node for node in nodes if node.uid == connection.uid]
    pins = (_pin(parts, node, connection) for node in nodes if node.pin is not None)
    connection.stream(_in_pieces("pins", pins))


def _in_pieces(key: str, members: Iterable[Json]) -> Iterator[bytes]:
    """The JSON text of `{key: [members]}`, in pieces: events are dealt with between two pieces."""
    head = f'{{"{key}": ['
    rest = iter(members)
    while piece := list(islice(rest, PIECE_MEMBERS)):
        yield (head + ", ".join(map(json.dumps, piece))).encode()
        head = ", "
    yield ((head if head != ", " else "") + "]}\n").encode()


def _pin(parts: Parts, node: Node, connection: Connection) -> Json:
    pin = node.pin
    if pin is None:
        raise ValueError("not pinned")
    # Other users may not read /proc/PID/exe, so they don't get the path here either.
    may_know = connection.privileged or connection.uid == node.uid
    return {
        "pid": node.pid,
        "starttime": node.starttime,
        "comm": decode(node.comm),
        "exe": decode(node.exe or _long_exe(node, parts.pinner.proc)) if may_know else None,
        "uid": node.uid,
        "unit": decode(node.unit) or None,
        "rule": pin.rule,
        "oom_score_adj": pin.target,
        "original": pin.original,
        "since": pin.since,
        "source": pin.source,
        "until": _until(parts, node),
    }


def _until(parts: Parts, node: Node) -> float | None:
    """When the process's runtime pin ends, in seconds since the epoch as the clock is set now; None: it has none, or
    one without an end."""
    pin = parts.pinner.ledger.runtime_pins.get(node.pid)
    if pin is None or pin.ends is None or pin.starttime != node.starttime:
        return None
    return boottime_as_epoch(pin.ends)


def _long_exe(node: Node, proc: str) -> str:
    """The path of a process's executable, by the kernel, for a path that is too long to be kept in the node; empty: it
    can't be read."""
    try:
        with ProcessDir(node.pid, proc) as directory:
            exe = directory.read_exe() if directory.read_stat().starttime == node.starttime else None
    except (Vanished, OSError):
        return ""
    return text(split_deleted(exe or b"")[0])


def _rules(parts: Parts, connection: Connection, request: Json) -> None:
    ledger, hits = parts.pinner.ledger, parts.pinner.writer.hits
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
        for rule in (*pins, *parts.in_force.config.rules)
    )
    connection.stream(_in_pieces("rules", rules))


def _loaded(parts: Parts, connection: Connection, request: Json) -> None:
    """Reply with the texts of the files in force. The client parses them into the same rules."""
    runtime_pins = parts.pinner.ledger.runtime_pins.values()
    pins = [{"pid": pin.pid, "starttime": pin.starttime, "value": pin.value} for pin in runtime_pins]
    sources = [(source, source.public or connection.privileged) for source in parts.in_force.config.sources]
    connection.stream(_texts_in_pieces({"layout": asdict(parts.where), "pins": pins}, sources))


def _texts_in_pieces(head: Json, sources: Sequence[tuple[ConfigFile, bool]]) -> Iterator[bytes]:
    yield (json.dumps(head)[:-1] + ', "sources": [').encode()
    for number, (source, shown) in enumerate(sources):
        comma = "" if number == 0 else ", "
        yield f'{comma}{{"path": {json.dumps(source.path)}, "text": {chr(34) if shown else "null"}'.encode()
        for start in range(0, len(source.text) if shown else 0, PIECE_CHARACTERS):
            yield json.dumps(source.text[start : start + PIECE_CHARACTERS])[1:-1].encode()
        yield b'"}' if shown else b"}"
    yield b"]}\n"


def _monitor(parts: Parts, connection: Connection, request: Json) -> None:
    connection.send({"event": "monitoring"})
    parts.control.monitor(connection)


def _metrics(parts: Parts, connection: Connection, request: Json) -> None:
    pinner, in_force = parts.pinner, parts.in_force
    matches = Counter(node.fitting for node in pinner.ledger.nodes.values())
    rules = [
        {"rule": rule.name, "matches": matches[rule.name], "hits": pinner.writer.hits.get(rule.name, 0)}
        for rule in parts.in_force.config.rules
    ]
    connection.send(
        {
            "version": __version__,
            "started_at": parts.started_at,
            "proc_events": parts.source.on,
            "dry_run": in_force.dry_run,
            "loaded_at": in_force.loaded_at,
            "config_ok": not parts.reloader.error,
            "pinned": len(pinner.ledger.pinned()),
            "counters": parts.counters(),
            "oom_kills": parts.kills.total,
            "oom_kill_counts": [
                {"killer": killer, "rule": rule, "held": bool(rule), "count": count}
                for (killer, rule), count in sorted(parts.kills.counts.items())
            ],
            "scan_seconds": parts.scanner.seconds,
            "latency": {
                "bounds_us": LATENCY_BOUNDS_US,
                "counts": pinner.writer.latencies.counts,
                "sum_us": pinner.writer.latencies.sum_us,
            },
            "rules": rules,
        }
    )


_VERBS: dict[str, Callable[[Parts, Connection, Json], None]] = {
    "status": _status,
    "list": _list,
    "rules": _rules,
    "loaded": _loaded,
    "lineage": reply_lineage,
    "monitor": _monitor,
    "metrics": _metrics,
    "reload": admin_requests.reload,
    "restore": admin_requests.restore,
    "pin": admin_requests.pin,
    "unpin": admin_requests.unpin,
}
_ADMIN = frozenset({"reload", "restore", "pin", "unpin"})
