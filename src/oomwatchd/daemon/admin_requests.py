"""Answers admin requests, which change something: reload, restore, pin, unpin. requests.py accepts them from root
alone, and from the user that runs the daemon."""

from dataclasses import asdict

from oomwatchd.base.clock import boottime, boottime_as_epoch
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN, PF_KTHREAD
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import Json
from oomwatchd.daemon.parts import Parts
from oomwatchd.daemon.runtime_pins import PinRefused
from oomwatchd.kernel.proc_status import parse_thread_group
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.ledger_codec import RuntimePin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from oomwatchd.config.problems import Problem

_LONGEST_PIN_SECONDS = 100 * 366 * 86400


def reload(parts: Parts, connection: Connection, request: Json) -> None:
    """Read the configuration again. The reply comes when it is in force on all processes, or has the errors."""

    def done(problems: "tuple[Problem, ...]") -> None:
        warnings = [] if problems else [asdict(problem) for problem in parts.in_force.config.warnings]
        verdict = {"ok": not problems, "errors": [asdict(problem) for problem in problems], "warnings": warnings}
        parts.control.reply(connection, verdict)

    connection.defer()
    parts.reloader.request(done)


def restore(parts: Parts, connection: Connection, request: Json) -> None:
    """Give every process its original value back. The reply comes when that is done. It says how many were released,
    and how many are still held because the kernel refused the write."""
    before = parts.pinner.writer.counters.releases

    def done() -> None:
        released = parts.pinner.writer.counters.releases - before
        refused = sum(node.refused is not None for node in parts.pinner.ledger.nodes.values())
        dry_run = parts.in_force.dry_run
        verdict = {"ok": True, "released": released, "refused": refused, "dry_run": dry_run}
        parts.control.reply(connection, verdict)

    connection.defer()
    parts.applier.restore(done)


def pin(parts: Parts, connection: Connection, request: Json) -> None:
    """Pin one process. When the reply comes, the value has been written, or the pin was refused."""
    if parts.in_force.restored:
        connection.send({"error": "Nobody is held after `oomwatchctl restore`; run `oomwatchctl reload` first"})
        return
    pid, value, seconds = request.get("pid"), request.get("value"), request.get("seconds")
    if not is_pid(pid) or not _is_value(value):
        connection.send({"error": "pin takes a PID and a value from -1000 to 1000"})
        return
    if seconds is not None and not _is_time(seconds):
        connection.send({"error": f"pin takes seconds up to {_LONGEST_PIN_SECONDS}"})
        return
    try:
        pin = _new_pin(parts, pid, value, seconds)
    except _Untouchable as reason:
        connection.send({"error": str(reason)})
        return
    try:
        parts.pins.put_in_force(pin)
    except PinRefused as refused:
        why = str(refused)
        if refused.lacks_privilege and "CAP_SYS_RESOURCE" in parts.missing_capabilities:
            why += " (lowering a value needs CAP_SYS_RESOURCE)"
        connection.send({"error": f"Failed to set oom_score_adj of process {pid} to {value}: {why}"})
        return
    until = None if pin.ends is None else boottime_as_epoch(pin.ends)
    connection.send({"ok": True, "pid": pid, "value": value, "until": until, "dry_run": parts.in_force.dry_run})


class _Untouchable(Exception):
    """The process can't be pinned. The message says why."""


def _new_pin(parts: Parts, pid: int, value: int, seconds: float | None) -> RuntimePin:
    try:
        with ProcessDir(pid, parts.pinner.proc) as directory:
            stat, leader = directory.read_stat(), parse_thread_group(directory.read("status"))
    except Vanished:
        raise _Untouchable(f"There is no process {pid}") from None
    if leader != pid:
        raise _Untouchable(f"{pid} is a thread; its process is {leader}")
    if pid == 1 or stat.flags & PF_KTHREAD:
        raise _Untouchable(f"{'PID 1' if pid == 1 else f'Kernel thread {pid}'} is never touched")
    return RuntimePin(pid, stat.starttime, value, None if seconds is None else boottime() + seconds)


def unpin(parts: Parts, connection: Connection, request: Json) -> None:
    """End a runtime pin. When the reply comes, the process has been released, or pinned by a rule that fits it."""
    pid = request.get("pid")
    if not is_pid(pid):
        connection.send({"error": "unpin takes a PID"})
        return
    ledger = parts.pinner.ledger
    pin = ledger.runtime_pins.get(pid)
    if pin is None:
        node = ledger.nodes.get(pid)
        held = "" if node is None or node.pin is None else f"; rule '{node.pin.rule}' of the configuration holds it"
        connection.send({"error": f"No pin of `oomwatchctl pin` holds process {pid}{held}"})
        return
    parts.pins.end(pin)
    connection.send({"ok": True, "pid": pid})


def is_pid(value: object) -> "TypeGuard[int]":
    """Whether a value of a request is a number that a PID can have (pid_t)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _is_value(value: object) -> "TypeGuard[int]":
    return isinstance(value, int) and not isinstance(value, bool) and OOM_SCORE_ADJ_MIN <= value <= OOM_SCORE_ADJ_MAX


def _is_time(value: object) -> "TypeGuard[float]":
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _LONGEST_PIN_SECONDS
