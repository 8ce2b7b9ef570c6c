"""The requests that steer the daemon: reload, restore, pin, unpin. For root alone; see requests.py."""

import errno
import os
from dataclasses import asdict

from oomwatchd.base.clock import boottime, boottime_as_epoch
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import Json
from oomwatchd.kernel.procfs import PF_KTHREAD, ProcessDir, Vanished, parse_thread_group
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.ledger_codec import RuntimePin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from oomwatchd.config.problems import Problem
    from oomwatchd.daemon.daemon import Daemon

_LONGEST_PIN_SECONDS = 100 * 366 * 86400


def reload(daemon: "Daemon", connection: Connection, request: Json) -> None:
    def done(problems: "tuple[Problem, ...]") -> None:
        if daemon.server is None:
            return
        warnings = [] if problems else [asdict(problem) for problem in daemon.config.warnings]
        verdict = {"ok": not problems, "errors": [asdict(problem) for problem in problems], "warnings": warnings}
        daemon.server.reply(connection, verdict)

    connection.defer()
    daemon.reloader.request(done)


def restore(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """Give everybody back what they had. The reply says how many there were, and who is still held because the kernel
    refused the write."""
    before = daemon.pinner.counters.releases

    def done() -> None:
        if daemon.server is not None:
            released = daemon.pinner.counters.releases - before
            refused = sum(node.refused is not None for node in daemon.pinner.ledger.nodes.values())
            verdict = {"ok": True, "released": released, "refused": refused, "dry_run": daemon.dry_run}
            daemon.server.reply(connection, verdict)

    connection.defer()
    daemon.restore(done)


def pin(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """Pin one process. The value is in force, or the pin refused, when the reply comes."""
    if daemon.state.restored:
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
        pin = _new_pin(daemon, pid, value, seconds)
        _put_in_force(daemon, pin)
    except _Refused as reason:
        connection.send({"error": str(reason)})
        return
    until = None if pin.ends is None else boottime_as_epoch(pin.ends)
    connection.send({"ok": True, "pid": pid, "value": value, "until": until, "dry_run": daemon.dry_run})


class _Refused(Exception):
    """Why a process isn't pinned."""


def _new_pin(daemon: "Daemon", pid: int, value: int, seconds: float | None) -> RuntimePin:
    try:
        with ProcessDir(pid, daemon.pinner.proc) as directory:
            stat, leader = directory.read_stat(), parse_thread_group(directory.read("status"))
    except Vanished:
        raise _Refused(f"There is no process {pid}") from None
    if leader != pid:
        raise _Refused(f"{pid} is a thread; its process is {leader}")
    if pid == 1 or stat.flags & PF_KTHREAD:
        raise _Refused(f"{'PID 1' if pid == 1 else f'Kernel thread {pid}'} is never touched")
    return RuntimePin(pid, stat.starttime, value, None if seconds is None else boottime() + seconds)


def _put_in_force(daemon: "Daemon", pin: RuntimePin) -> None:
    """Raises _Refused, with all as it was before."""
    ledger = daemon.pinner.ledger
    before = ledger.runtime_pins.get(pin.pid)
    ledger.add_pin(pin)
    daemon.heed_runtime_pins()
    _look_afresh(daemon, pin.pid)
    node = ledger.nodes.get(pin.pid)
    if node is not None and node.hold is not None and (node.hold.rule, node.hold.value) == (pin.rule, pin.value):
        return
    number = None if node is None or node.refused is None else node.refused[1]
    ledger.remove_pin(pin)
    if before is not None and before.starttime == pin.starttime:
        ledger.add_pin(before)
    _look_afresh(daemon, pin.pid)
    daemon.heed_runtime_pins()
    why = "it has ended" if number is None else os.strerror(number)
    if number == errno.EACCES and "CAP_SYS_RESOURCE" in daemon.state.missing_capabilities:
        why += " (lowering a value needs CAP_SYS_RESOURCE)"
    raise _Refused(f"Failed to set oom_score_adj of process {pin.pid} to {pin.value}: {why}")


def _look_afresh(daemon: "Daemon", pid: int) -> None:
    """Bring a process in line, whatever was refused or fought over before."""
    ledger = daemon.pinner.ledger
    node = ledger.nodes.get(pid)
    if node is not None:
        node.forgive()
    daemon.pinner.look(pid, Trigger("control"))
    ledger.flush()
    daemon.log_decisions()


def unpin(daemon: "Daemon", connection: Connection, request: Json) -> None:
    pid = request.get("pid")
    if not is_pid(pid):
        connection.send({"error": "unpin takes a PID"})
        return
    ledger = daemon.pinner.ledger
    pin = ledger.runtime_pins.get(pid)
    if pin is None:
        node = ledger.nodes.get(pid)
        held = "" if node is None or node.hold is None else f"; rule '{node.hold.rule}' of the configuration holds it"
        connection.send({"error": f"No pin of `oomwatchctl pin` holds process {pid}{held}"})
        return
    ledger.remove_pin(pin)
    _look_afresh(daemon, pid)
    daemon.heed_runtime_pins()
    connection.send({"ok": True, "pid": pid})


def is_pid(value: object) -> "TypeGuard[int]":
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _is_value(value: object) -> "TypeGuard[int]":
    return isinstance(value, int) and not isinstance(value, bool) and OOM_SCORE_ADJ_MIN <= value <= OOM_SCORE_ADJ_MAX


def _is_time(value: object) -> "TypeGuard[float]":
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _LONGEST_PIN_SECONDS
