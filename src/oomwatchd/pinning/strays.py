"""Descendants that no event told of, given away by what they show: after a loss of events, and of CLONE_PARENT where
the kernel's filter doesn't tell who the maker was."""

from collections.abc import Iterable

from oomwatchd.kernel import procfs
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.kernel.systemd_cgroups import parse_cgroup, parse_units
from oomwatchd.pinning.lineage import Node


def is_telling(node: Node) -> bool:
    """Whether a held process has a value that none of its descendants should keep."""
    return node.hold is not None and not node.hold.inherits


def origin_of(pid: int, holders: Iterable[Node], born_after: int, view: View) -> Node | None:
    """The one of `holders`, living or dead, that a process seems to descend from: it was born since `born_after` (clock
    ticks since boot), shows the value of the pin, and runs in the same unit or in a login session, where logind puts
    what sshd and login start. Whoever has a unit of its own has its value from there."""
    try:
        with ProcessDir(pid, view.proc) as directory:
            current = directory.read_oom_score_adj()
            like = [node for node in holders if node.hold is not None and node.hold.value == current]
            if not like or directory.read_stat().starttime < born_after:
                return None
            unit = parse_units(procfs.text(parse_cgroup(directory.read("cgroup"), view.hierarchy))).unit
    except (Vanished, OSError, ValueError):
        return None
    in_session = unit.startswith("session-") and unit.endswith(".scope")
    return next((node for node in like if in_session or node.unit == unit), None)


def shows(pid: int, value: int, proc: str) -> bool:
    """Whether a process has this oom_score_adj."""
    try:
        with ProcessDir(pid, proc) as directory:
            return directory.read_oom_score_adj() == value
    except (Vanished, OSError, ValueError):
        return False
