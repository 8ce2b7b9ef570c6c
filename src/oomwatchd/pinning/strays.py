"""Guesses by their values which processes are descendants of pinned ones, if no event shows it: after a loss of events;
and after CLONE_PARENT, if there is no filter in the kernel that names the maker.

A process may have the same value for another reason. So the guess is made only for processes whose lineage the kernel
has forgotten, and never for one whose parent is known to have made it."""

from collections.abc import Iterable

from oomwatchd.base.uapi import PF_FORKNOEXEC
from oomwatchd.kernel import procfs
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.proc_stat import Stat, parse_start_stack, parse_stat
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.kernel.systemd_cgroups import parse_cgroup, parse_units
from oomwatchd.pinning.lineage import Node

INIT_PID = 1


def is_telling(node: Node) -> bool:
    """Whether the process is pinned, or was until a moment ago, at a value that no descendant should keep. Then this
    value in another process shows that it may be a descendant."""
    pin = node.pin or node.former
    return pin is not None and not pin.inherits


def gives_away(node: Node) -> bool:
    """Whether the process is pinned at a lowered value that no descendant should keep. Then its descendants have
    inherited a floor, too."""
    return node.pin is not None and node.pin.lowers and not node.pin.inherits


def sibling_of(pid: int, parent_pid: int, siblings: Iterable[Node], view: View) -> Node | None:
    """The one of `siblings` that seems to have made a process by CLONE_PARENT; None: none of them. `siblings`: pinned
    processes that have the parent `parent_pid`."""
    maker = _origin(pid, siblings, view, forked_after=None)
    pin = None if maker is None else maker.pin or maker.former
    if maker is None or pin is None:
        return None
    if procfs.shows(parent_pid, None, pin.target, view.proc):
        return None
    return None if _is_fork_of(pid, parent_pid, maker.pid, view.proc) else maker


def _is_fork_of(pid: int, parent_pid: int, other_pid: int, proc: str) -> bool:
    """Whether a process is certainly a fork of its parent, and not of `other_pid`: it has executed nothing, and its
    stack begins where the parent's does."""
    try:
        with ProcessDir(pid, proc) as directory:
            raw = directory.read("stat")
        if not parse_stat(raw).flags & PF_FORKNOEXEC:
            return False
        parents, others = (_start_stack(each, proc) for each in (parent_pid, other_pid))
        return parse_start_stack(raw) == parents != others and parents != 0
    except (Vanished, OSError, ValueError):
        return False


def _start_stack(pid: int, proc: str) -> int:
    """Raises Vanished, OSError and ValueError."""
    with ProcessDir(pid, proc) as directory:
        return parse_start_stack(directory.read("stat"))


def ancestor_of(pid: int, pinned: Iterable[Node], forked_after: int, view: View) -> Node | None:
    """The one of `pinned`, living or dead, that an orphan seems to descend from; None: none of them. The orphan was
    forked after `forked_after` (clock ticks since boot). For the other conditions, see _origin()."""
    return _origin(pid, pinned, view, forked_after)


def _origin(pid: int, pinned: Iterable[Node], view: View, forked_after: int | None) -> Node | None:
    """The one of `pinned` whose value the process has, and that runs in the same unit. If the process has a negative
    value in a login session, the unit may differ, because logind moves what sshd and login start into the session. In
    other units, a process has its value from the unit."""
    try:
        with ProcessDir(pid, view.proc) as directory:
            current = directory.read_oom_score_adj()
            pins = [(node, node.pin or node.former) for node in pinned]
            like = [node for node, pin in pins if pin is not None and pin.target == current]
            if not like:
                return None
            stat = directory.read_stat()
            unit = parse_units(procfs.text(parse_cgroup(directory.read("cgroup"), view.hierarchy))).unit
    except (Vanished, OSError, ValueError):
        return None
    if forked_after is not None and (stat.starttime < forked_after or not _is_orphan(pid, stat, unit, view.proc)):
        return None
    in_session = current < 0 and unit.startswith("session-") and unit.endswith(".scope")
    return next((node for node in like if in_session or node.unit == unit), None)


def _is_orphan(pid: int, stat: Stat, unit: str, proc: str) -> bool:
    """Whether the parent has adopted the process. A process that still has its maker as its parent is in the maker's
    session, or has begun a session. PID 1 also starts the processes of units itself; these have the value of the unit,
    which isn't that of a pin."""
    if stat.ppid == INIT_PID and unit:
        return True
    if stat.session == pid:
        return False
    try:
        if procfs.read_stat(stat.ppid, proc).session == stat.session:
            return False
        # The leader is alive if the parent has forked, and then begun a session of its own.
        return procfs.read_stat(stat.session, proc).ended
    except Vanished:
        return True
