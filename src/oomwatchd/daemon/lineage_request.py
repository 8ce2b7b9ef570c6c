"""Answers the request `lineage`: what the ledger knows of processes, and what the daemon sees of their executables."""

import contextlib
import os

from oomwatchd.base.notyet import NotYet
from oomwatchd.base.text import decode
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import LINEAGE_PIDS, Json
from oomwatchd.daemon.admin_requests import is_pid
from oomwatchd.daemon.parts import Parts
from oomwatchd.kernel.executable import split_deleted, verify_exe
from oomwatchd.kernel.proc_status import parse_status
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.lineage import Node, Pin


def reply_lineage(parts: Parts, connection: Connection, request: Json) -> None:
    """Reply with an entry for each process in `pids`. Processes that have ended, or that the client may not see, are
    left out."""
    pids = request.get("pids")
    if not isinstance(pids, list) or len(pids) > LINEAGE_PIDS or not all(is_pid(pid) for pid in pids):
        connection.send({"error": f"lineage takes at most {LINEAGE_PIDS} PIDs"})
        return
    found = [_lineage_of(parts, connection, pid) for pid in pids]
    connection.send({"processes": [entry for entry in found if entry is not None]})


def _lineage_of(parts: Parts, connection: Connection, pid: int) -> Json | None:
    pinner = parts.pinner
    try:
        with ProcessDir(pid, pinner.proc) as directory:
            stat = directory.read_stat()
            status = parse_status(directory.read("status"))
            may_know = connection.privileged or status.belongs_to(connection.uid)
            if not may_know and parts.hidden.hidden():
                return None
            node = pinner.family.node_of(pid, stat)
            executable = _executable(parts, directory, node) if may_know else _UNKNOWN
    except (Vanished, OSError, ValueError):
        return None
    return {"pid": pid, "starttime": stat.starttime, **executable, **_descent(node)}


_UNKNOWN: Json = {"exe_verified": None, "exe_doubt": "", "exe_before": None}


def _executable(parts: Parts, directory: ProcessDir, node: Node) -> Json:
    """Whether the path that the process shows for its executable can be believed. Raises Vanished."""
    exe = directory.read_exe()
    if exe == b"":
        return _UNKNOWN
    verified, doubt = None, ""
    if exe is not None:
        doubt = "its file system has yet to answer"
        with contextlib.suppress(NotYet):
            result = verify_exe(directory, *split_deleted(exe), parts.pinner.view.namespaces)
            verified, doubt = result.verified, result.doubt
    before = parts.pinner.decider.exe_before(directory, node, exe)
    return {"exe_verified": verified, "exe_doubt": doubt, "exe_before": None if before is None else before.path}


def _descent(node: Node) -> Json:
    """Which rules pin, or pinned, the process and its ancestors."""
    origin = node.origin()
    return {
        "rule": node.rule or None,
        "ancestors": sorted({above.rule for above in node.ancestors() if above.rule}),
        "hold": _pin(node.pin),
        "contended": node.backoff.contended,
        "refused": None if node.refused is None else {"rule": node.refused[0], "error": os.strerror(node.refused[1])},
        "origin": None if origin is None or origin.pin is None else _origin(origin),
    }


def _origin(node: Node) -> Json:
    return {"pid": node.pid, "comm": decode(node.comm), "alive": not node.dead, "hold": _pin(node.pin)}


def _pin(pin: Pin | None) -> Json | None:
    if pin is None:
        return None
    return {
        "rule": pin.rule,
        "first": pin.original,
        "value": pin.target,
        "child_value": pin.child_value,
        "since": pin.since,
        "source": pin.source,
    }
