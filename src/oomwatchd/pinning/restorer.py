"""Gives released processes their original value back, and descendants that no rule fits what `children` says."""

import contextlib
import time

from oomwatchd.base.uapi import PF_FORKNOEXEC
from oomwatchd.kernel import procfs
from oomwatchd.kernel.containers import in_container
from oomwatchd.kernel.facts import View, in_foreign_pid_ns
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.proc_status import missing_capabilities, parse_status
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Inheritance, Node
from oomwatchd.pinning.look import Look
from oomwatchd.pinning.writer import Writer
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet

_MAKING_NS = 10_000_000_000
"""How long a process that may become the first one of a container is left alone. Its manager gives it its cgroup and
its value before it executes the program of the container, but in no fixed order: crun gives the value first, runc the
cgroup; and systemd may take some time to make a scope."""


class Restorer:
    """Releases processes, and settles descendants."""

    def __init__(self, ledger: Ledger, writer: Writer, view: View, rules: RuleSet) -> None:
        self._ledger = ledger
        self._writer = writer
        self._view = view
        self._rules = rules
        self._moves_floors = _has_resource_privilege(view.proc)

    def release(self, look: Look) -> None:
        """Give a pinned process its original value back. A value that the process has set itself is kept."""
        node, pin = look.node, look.node.pin
        if pin is None or self._has_memory_of_pinned(look):
            return
        current = look.directory.open_oom_score_adj()
        node.change_pin(None)
        node.verified_exe = None
        own = current not in (pin.target, pin.original)  # the process has set this value itself
        if own and pin.lowers and pin.target <= current < pin.original:
            own = not self._has_used_the_floor(look)
        target = current if own else pin.original
        written = (current == target and not pin.lowers) or self._writer.write(look, target, pin.rule, current)
        node.settled_ns = time.monotonic_ns()
        if written and target != current and self._has_changed_origin(look, target):
            node.settled_ns, target = 0, current
        self._ledger.record(node)
        if written:
            self._writer.counters.releases += 1
            self._writer.decided("released", look, pin.rule, current, target)
        look.changed = True

    def is_in_the_making(self, look: Look, stat: Stat, rule: Rule | None) -> bool:
        """Whether a descendant is left as it is for now, because it may become the first process of a container. That
        is a fork, in a PID namespace of its own, that no rule fits, or the rule of the pinned process. It isn't known
        yet whether a manager has given it its value, nor, before it has its cgroup, whether it is in a sandbox."""
        node = look.node
        if not stat.flags & PF_FORKNOEXEC or node.pin is not None or node.settled_ns > 0:
            return False
        if time.monotonic_ns() - node.seen_ns > _MAKING_NS:
            return False
        inheritance = node.inherited()
        if inheritance is None or (rule is not None and rule.name != inheritance.rule):
            return False
        if not self._may_have_another_manager(node, inheritance):
            return False
        if not in_foreign_pid_ns(look.directory, self._view.namespaces):
            return False
        current = look.directory.read_oom_score_adj()
        return current in inheritance.shown if rule is None else rule.target(current) == current

    def settle(self, look: Look) -> bool:
        """Settle a descendant that no rule fits. If it has an inherited value, it gets what `children` says. If it has
        inherited a floor from a pin that lowers, the floor is raised, whatever its value is. This is done once: a value
        that the process gets later is its own. Returns whether it was done now."""
        node = look.node
        inheritance = node.inherited()
        if inheritance is None or node.settled_ns > 0 or self._shares_memory(look):
            return False
        current = look.directory.open_oom_score_adj()
        target = self._target(look, inheritance, current)
        refused = node.refused is not None and node.refused[0] == inheritance.rule
        if target != current and not refused:
            # Saved first: after a crash, only the lineage shows where the value came from. Then the value is read
            # again, because the process may have set itself another one meanwhile.
            self._ledger.enter(node)
            current = look.directory.read_oom_score_adj()
            target = self._target(look, inheritance, current)
        if target != current or (inheritance.floor is not None and target > inheritance.floor):
            if refused:
                return False
            if not self._writer.write(look, target, inheritance.rule, current):
                return False
            if target != current and self._has_changed_origin(look, target):
                return False
            self._writer.counters.resets += 1
            self._writer.decided("reset-child", look, inheritance.rule, current, target, quiet=target == current)
        node.settled_ns = time.monotonic_ns()
        node.recorded = False
        return True

    def _shares_memory(self, look: Look) -> bool:
        """Whether the process still shares the memory of the pinned ancestor, as _has_changed_origin() has found. So it
        has the pinned value until it executes a program, or until the ancestor is released or dies."""
        node, origin = look.node, look.node.memory_of
        shares = origin is not None and origin.pin is not None and not origin.dead and _is_fork(look)
        if not shares:
            node.memory_of = None
        return shares

    def _has_memory_of_pinned(self, look: Look) -> bool:
        """Whether the process is pinned only because it shares the memory of a pinned child, see Sharers, and still
        shares it, so that it can't get another value. It doesn't when one of the two has executed a program."""
        node, child = look.node, look.node.memory_of
        executes = look.trigger.source == "exec" and look.trigger.event_ns > 0
        if child is not None and child.pin is not None and not child.dead and not executes:
            with contextlib.suppress(Vanished):
                stat = procfs.read_stat(child.pid, self._view.proc)
                if stat.starttime == child.starttime and stat.flags & PF_FORKNOEXEC:
                    return True
        node.memory_of = None
        return False

    def _has_changed_origin(self, look: Look, value: int) -> bool:
        """Whether the write of `value` to a descendant has changed the value of the pinned ancestor, too. The kernel
        gives one value to all processes that share their memory, __set_oom_adj() of fs/proc/base.c. Those are made by
        clone(2) with CLONE_VM, and neither CLONE_THREAD nor CLONE_VFORK. If so, both get the pinned value again."""
        origin, proc = look.node.origin(), self._view.proc
        pin = None if origin is None or origin.dead else origin.pin
        if origin is None or pin is None or value == pin.target or not _is_fork(look) or self._writer.dry_run:
            return False
        if origin.memory_of is look.node:
            return False
        if not procfs.shows(origin.pid, origin.starttime, value, proc):
            return False
        with contextlib.suppress(Vanished, OSError), ProcessDir(origin.pid, proc) as directory:
            if not origin.may_be(directory.read_stat().starttime):
                return False
            directory.write_oom_score_adj(pin.target)
            if look.directory.read_oom_score_adj() == pin.target:
                look.node.memory_of = origin
                return True
            directory.write_oom_score_adj(value)  # someone else has changed it: the next scan deals with that
        return False

    def _target(self, look: Look, inheritance: Inheritance, current: int) -> int:
        """The value that a descendant with the value `current` should have."""
        target = inheritance.value if current in inheritance.shown else current
        if (
            inheritance.floor is not None
            and inheritance.floor <= current < inheritance.value
            and self._has_used_the_floor(look)
        ):
            target = inheritance.value
        if target != current and (self._is_its_own(look.node, current) or self._is_its_managers(look, inheritance)):
            return current
        return target

    def _has_used_the_floor(self, look: Look) -> bool:
        """Whether the process could set its value only because a pin has lowered its floor. That is so if it isn't
        root's: then it can't go below its floor. Without CAP_SYS_RESOURCE, the daemon has lowered no floor."""
        if not self._moves_floors:
            return False
        status = parse_status(look.directory.read("status"))
        return 0 not in (status.uid, status.effective_uid)

    def _is_its_own(self, node: Node, current: int) -> bool:
        """Whether the process has inherited its value from a settled parent that has later set itself this value, which
        is the value of a pin by chance. A child that was being forked when the parent was settled would have a value
        that the parent doesn't have any more."""
        parent = node.parent
        if parent is None or parent.dead or not parent.settled or node.awaits_descent:
            return False
        return procfs.shows(parent.pid, parent.starttime, current, self._view.proc)

    def _is_its_managers(self, look: Look, inheritance: Inheritance) -> bool:
        """Whether the process is in a container, so that its value is up to the container's manager. The value may be
        that of a pin by chance."""
        return (
            self._may_have_another_manager(look.node, inheritance)
            and in_foreign_pid_ns(look.directory, self._view.namespaces)
            and in_container(look.directory, self._view.proc, self._view.hierarchy) is True
        )

    def _may_have_another_manager(self, node: Node, inheritance: Inheritance) -> bool:
        """Whether an ancestor of the process may be the manager of a container, and have given it its value. It isn't,
        if the rule says `containers = true`. It isn't either, if the pin lowers and the pinned process isn't root's:
        only root can give so low a value, so the value comes from the pin, whatever PID namespace and cgroup show."""
        rule = self._rules.by_name.get(inheritance.rule)
        if rule is not None and rule.containers:
            return False
        origin = node.origin()
        return inheritance.floor is None or (origin is not None and origin.uid == 0)


def _is_fork(look: Look) -> bool:
    """Whether the process has executed nothing since it was forked."""
    return look.stat is not None and look.stat.flags & PF_FORKNOEXEC != 0


def _has_resource_privilege(proc: str) -> bool:
    try:
        return "CAP_SYS_RESOURCE" not in missing_capabilities(proc=proc)
    except (OSError, ValueError):
        return False
