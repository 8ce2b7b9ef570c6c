"""Guesses by their values which processes are descendants, where no event shows it: after a loss of events; and after
CLONE_PARENT, if the filter in the kernel doesn't name the maker.

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
    """Whether the process is pinned at a value that no descendant should keep, or was until a moment ago."""
    pin = node.pin or node.former
    return pin is not None and not pin.inherits


def gives_away(node: Node) -> bool:
    """Whether the process is pinned at a lowered value that no descendant should keep, so that they inherit a floor,
    too."""
    return node.pin is not None and node.pin.lowers and not node.pin.inherits


def sibling_of(pid: int, parent_pid: int, siblings: Iterable[Node], view: View) -> Node | None:
    """The one of `siblings`, pinned processes with that parent, that seems to have made a process by CLONE_PARENT."""
    maker = _origin(pid, siblings, view, forked_after=None)
    pin = None if maker is None else maker.pin or maker.former
    if maker is None or pin is None:
        return None
    if procfs.shows(parent_pid, None, pin.target, view.proc):
        return None
    return None if _is_fork_of(pid, parent_pid, maker.pid, view.proc) else maker


def _is_fork_of(pid: int, parent_pid: int, other_pid: int, proc: str) -> bool:
    """Whether a process is certainly a fork of its parent, and not of the other one: it has executed nothing, and has
    the parent's stack."""
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
    """The one of `pinned`, living or dead, that an orphan seems to descend from: it was forked since `forked_after`
    (clock ticks since boot), and is as _origin() says."""
    return _origin(pid, pinned, view, forked_after)


def _origin(pid: int, pinned: Iterable[Node], view: View, forked_after: int | None) -> Node | None:
    """One that has the value of a process, and runs in the same unit; or the process has a value that takes privilege,
    in a login session, where logind puts what sshd and login start. Whoever has a unit of its own has its value from
    there."""
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
    """Whether the parent has adopted the process. If not, the process would be in the session of its maker, or have
    begun a session. PID 1 also starts the processes of a unit itself; these have the unit's value, which isn't that of
    a pin."""
    if stat.ppid == INIT_PID and unit:
        return True
    if stat.session == pid:
        return False
    try:
        if procfs.read_stat(stat.ppid, proc).session == stat.session:
            return False
        return procfs.read_stat(stat.session, proc).ended  # one that forks, and then begins a session, is alive
    except Vanished:
        return True
