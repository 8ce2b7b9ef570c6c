"""Finds where the present value of oom_score_adj comes from, as far as that can be told afterwards."""

import os
import subprocess
from dataclasses import dataclass

from oomwatchd.ctl.examine import Explanation
from oomwatchd.kernel.procfs import ProcessDir, Vanished, text

PIN, CHILDREN, INHERITED, UNIT, DEFAULT, PROCESS = "pin", "children", "inherited", "unit", "default", "process"
_SYSTEMCTL_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value of oom_score_adj comes from. `kind`: one of the constants above. `pid`: the process that it is
    inherited from."""

    kind: str
    rule: str | None = None
    pid: int | None = None
    comm: str | None = None
    unit: str | None = None


def find_origin(explanation: Explanation, proc: str = "/proc") -> Origin | None:
    """The origin of the process's present value; None: the process isn't there."""
    value, node, process = explanation.value, explanation.node, explanation.process
    if value is None or process is None:
        return None
    if node is not None and node.pin is not None and value == node.pin.target:
        return Origin(PIN, rule=node.pin.rule)
    origin = None if node is None else node.origin()
    if origin is not None and origin.pin is not None and value == origin.pin.child_value != origin.pin.target:
        return Origin(CHILDREN, rule=origin.pin.rule, pid=origin.pid, comm=origin.comm)
    if origin is not None and origin.pin is not None and value == origin.pin.target:
        return Origin(INHERITED, rule=origin.pin.rule, pid=origin.pid, comm=origin.comm)
    if value == 0:
        return Origin(DEFAULT)
    if process.unit and value == unit_oom_score_adjust(process.unit):
        return Origin(UNIT, unit=process.unit)
    above = _inherited_from(process.ppid, value, proc)
    return Origin(PROCESS) if above is None else Origin(INHERITED, pid=above[0], comm=above[1])


def unit_oom_score_adjust(unit: str) -> int | None:
    """OOMScoreAdjust= of a unit, systemd.exec(5); None: systemd doesn't tell."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    command = ["systemctl", "show", "--property=OOMScoreAdjust", "--value", "--", unit]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SYSTEMCTL_SECONDS, check=False)
        return int(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _inherited_from(pid: int, value: int, proc: str) -> tuple[int, str] | None:
    """The topmost ancestor from which `value` can be inherited: its PID and name. It and all processes between have the
    same value. None: the parent has another value."""
    found = None
    while pid > 0:
        try:
            with ProcessDir(pid, proc) as directory:
                if directory.read_oom_score_adj() != value:
                    break
                stat = directory.read_stat()
        except (Vanished, OSError):
            break
        found = (pid, text(stat.comm))
        pid = stat.ppid
    return found
