"""Keeps the lineage of tracked processes, by fork and exit events in their order."""

import time
from collections import deque
from dataclasses import replace

from oomwatchd.base.clock import ticks_since_boot
from oomwatchd.kernel import procfs
from oomwatchd.kernel.exec_filter import Member
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.procfs import Vanished
from oomwatchd.pinning import strays, tracking
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin, may_descend
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.rules.ruleset import RuleSet

_LAST_DEAD = 1024
"""How many processes that died at a lowered value are remembered, see died_since()."""


class Family:
    """The lineage of the processes in a ledger."""

    def __init__(self, ledger: Ledger, rules: RuleSet, view: View, tracking: Tracking) -> None:
        self._ledger = ledger
        self._rules = rules
        self._view = view
        self._proc = view.proc
        self._tracking = tracking
        self._dead_are_stale = True
        """Whether pins of dead processes may be by rules that have changed since."""
        self._last_dead: deque[tuple[int, Node]] = deque(maxlen=_LAST_DEAD)
        """Processes that died at a lowered value: when (clock ticks since boot), and the node."""

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on."""
        self._rules = rules
        self._dead_are_stale = True

    # Events

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> bool:
        """Note that a process was forked at `event_ns` (CLOCK_MONOTONIC). Returns whether it has to be looked at,
        because it descends from a tracked process, or because a rule may fit it although none fits its parent."""
        member = self._tracking.table.forked(parent_pid, pid)
        nodes = self._ledger.nodes
        parent = nodes.get(parent_pid) if member is None else self._maker(member, parent_pid)
        if parent is None and self._tracking.may_have_adopted(parent_pid):
            parent = self._guessed_maker(pid, parent_pid)
            if parent is not None:
                member = self._tracking.table.forked(parent.pid, pid)
        node = nodes.get(pid)
        if node is not None and not self._was_seen_since(node, event_ns):
            self.died(node)
            node = None
        if parent is None:
            return member is not None or self._rules.needs.fork_decides
        if node is None:
            node = Node(pid, None, parent)
            node.started_by = ticks_since_boot(event_ns)
            self._ledger.add(node)
        elif node.parent is None and may_descend(node, parent):
            self.acknowledge(node, parent)
        if parent.settled and parent.settled_ns < event_ns - tracking.FORK_NS and not self._rules.needs.fork_decides:
            # A settled parent may not stay so, and a maker by CLONE_PARENT that has ended is taken for its parent.
            doubtful = self._tracking.descents > 0 or (
                member is not None and self._tracking.origin_of(member) is not next(node.ancestors(), None)
            )
            if not doubtful:
                node.settled_ns = parent.settled_ns  # it runs the parent's program: no rule fits it; its value is right
                return False
        # A child that isn't in the table any more has ended. Another process with its PID has events of its own.
        return member is not None

    def _maker(self, member: Member, parent_pid: int) -> Node | None:
        nodes = self._ledger.nodes
        return nodes.get(member.maker) or nodes.get(parent_pid) or self._tracking.origin_of(member)

    def _guessed_maker(self, pid: int, parent_pid: int) -> Node | None:
        """The node that seems to have made a process by CLONE_PARENT, or to be an ancestor of the maker; None: there is
        no such node. The fork event of such a process names the parent of its maker, which is PID 1 if the maker is an
        orphan."""
        nodes = (*self._ledger.nodes.values(), *self._ledger.dead_origins())
        telling = [node for node in nodes if strays.is_telling(node)]
        makers = [node for node in telling if node.ppid == parent_pid or parent_pid == strays.INIT_PID]
        return strays.sibling_of(pid, parent_pid, makers, self._view)

    def _was_seen_since(self, node: Node, event_ns: int) -> bool:
        """Whether `node` is the process that was forked at `event_ns` (CLOCK_MONOTONIC), and was looked at before its
        fork event was read."""
        if node.starttime is None:
            return False
        # /proc shows a new process a moment before the kernel takes the time of the event.
        return event_ns < node.seen_ns or procfs.is_alive(node.pid, node.starttime, self._proc)

    def exited(self, pid: int, event_ns: int) -> None:
        """Note an exit event: the first or the last thread of a process has ended.

        The process lives on while it has other threads. It does, too, when another thread than the first has executed a
        program: the kernel ends the first one, and the other one takes its place (de_thread() of fs/exec.c)."""
        node = self._ledger.nodes.get(pid)
        if node is None and self._tracking.table.get(pid) is None:
            return
        try:
            stat = procfs.read_stat(pid, self._proc)
        except Vanished:
            stat = None
        if stat is not None and (node is None or stat.starttime == node.starttime):
            of_earlier_process = node is not None and event_ns < node.seen_ns
            if stat.threads > 1 or not stat.leader_ended or (of_earlier_process and not stat.ended):
                return
        self._tracking.table.exited(pid)
        if node is not None:
            self.died(node)

    def died(self, node: Node) -> None:
        """Note that the process is gone. Its node stays reachable from the nodes of its descendants."""
        # Its pin may be by rules that have changed since.
        self._dead_are_stale = self._dead_are_stale or node.has_children
        if strays.gives_away(node):
            self._last_dead.append((ticks_since_boot(time.monotonic_ns()), node))
        self._ledger.died(node.pid)

    def take_stale(self) -> bool:
        """Whether pins of dead processes may be by rules that have changed since. The caller has to bring them up to
        date, since the next call returns False."""
        stale, self._dead_are_stale = self._dead_are_stale, False
        return stale

    def note_stale(self) -> None:
        """Note that the pins of dead processes haven't all been brought up to date: the next take_stale() says so."""
        self._dead_are_stale = True

    def died_since(self, ticks: int) -> list[Node]:
        """The processes that were pinned at a lowered value and have died since `ticks` (clock ticks since boot), the
        last 1,024 of them. One of these may have a descendant whose fork event was lost, which is found by the dead
        process alone."""
        return [node for died, node in self._last_dead if died >= ticks]

    # Identity and parent of a process

    def node_of(self, pid: int, stat: Stat) -> Node:
        """The ledger's node of a process, or a new one that isn't in the ledger yet."""
        node = self._ledger.nodes.get(pid)
        if node is not None and not node.may_be(stat.starttime):
            self.died(node)
            node = None
        if node is not None:
            node.ppid = stat.ppid
            if node.starttime is None:
                node.starttime, node.seen_ns = stat.starttime, time.monotonic_ns()
                if node.parent is not None and not may_descend(node, node.parent):
                    node.parent = None  # the fork event was about an earlier process with this PID
        if node is None:
            node = Node(pid, stat.starttime, None)
            node.seen_ns, node.ppid = time.monotonic_ns(), stat.ppid
        if node.parent is None:
            parent = self._living_parent(node, stat)
            if parent is not None:
                self.acknowledge(node, parent)
        return node

    def _living_parent(self, node: Node, stat: Stat) -> Node | None:
        """The parent that the kernel shows, or the leader of the session, if it is in the ledger; None: neither is. A
        process that has adopted an orphan is its ancestor (PR_SET_CHILD_SUBREAPER of prctl(2)). The leader of a session
        is one, too, because a process enters a session only by fork (setsid(2))."""
        for pid in (stat.ppid, stat.session):
            parent = self._ledger.nodes.get(pid)
            if parent is None or parent.starttime is None or not may_descend(node, parent):
                continue
            # The kernel doesn't use the PID of a session leader again while the session has members. The PID of a dead
            # parent may mean another process.
            if pid == stat.session or procfs.is_alive(pid, parent.starttime, self._proc):
                return parent
        return None

    def adopt(self, pid: int, above: Node) -> Node | None:
        """Enter a process that descends from `above` into the ledger. Its parent there is the nearest ancestor that the
        kernel still shows, or else `above`. None: the process has ended."""
        try:
            stat = procfs.read_stat(pid, self._proc)
        except Vanished:
            return None
        if stat.ended:
            return None
        node = self.node_of(pid, stat)
        if node.parent is None and may_descend(node, above):
            self.acknowledge(node, above)
        self._ledger.add(node)
        return node

    def acknowledge(self, node: Node, parent: Node) -> None:
        """Note that a process in the ledger descends from `parent`."""
        node.descend_from(parent)
        node.recorded = False
        self.rebase(node)

    def rebase(self, node: Node) -> None:
        """Correct the original value of a pinned process. It may be a value that the process has inherited from a
        pinned ancestor; then what that ancestor leaves to it takes its place."""
        inheritance, pin = node.inherited(), node.pin or node.former
        if (
            pin is None
            or inheritance is None
            or pin.original not in inheritance.shown
            or pin.original == inheritance.value
        ):
            return
        node.recorded = False
        pin = replace(pin, original=inheritance.value)
        if node.pin is None:  # released a moment ago: descendants that haven't been looked at yet go by `former`
            node.former = pin
        else:
            node.pin = self.under_todays_rule(pin) if node.dead else pin  # a dead process isn't looked at again

    def under_todays_rule(self, pin: Pin) -> Pin:
        """The pin with the values of its rule today; `pin` itself if there is no such rule any more."""
        rule = self._rules.by_name.get(pin.rule)
        if rule is None:
            return pin
        target = rule.target(pin.original)
        return replace(pin, target=target, child_value=rule.child_value(target, pin.original))
