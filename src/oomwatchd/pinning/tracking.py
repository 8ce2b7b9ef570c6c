"""Keeps the table of tracked processes: which of their events the filter lets through, and for how long."""

import time
from collections import deque
from collections.abc import Set

from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.kernel.proc_connector import PROC_EVENT_EXIT, PROC_EVENT_FORK
from oomwatchd.pinning import strays
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.pid_table import OwnTable, Table
from oomwatchd.rules.ruleset import RuleSet

FORK_NS = 10_000_000_000
"""How long after a write a fork event may still be about a child with the value from before: copy_process() of
kernel/fork.c copies the value first and takes the time last, and copies memory in between."""

_LEAVING = 65536
"""The most nodes that wait to be forgotten. If there are more, the first are forgotten early, and scans find their new
children."""
_FORKS_AND_EXIT = PROC_EVENT_FORK | PROC_EVENT_EXIT


class Tracking:
    """The table of tracked processes, and which events of each pass."""

    def __init__(self, ledger: Ledger, rules: RuleSet) -> None:
        self._ledger = ledger
        self._rules = rules
        self.table: Table = OwnTable()
        self._origins: dict[int, Node] = {}
        """Nodes by number, as the table has them."""
        self._leaving: deque[tuple[int, Node]] = deque()
        """Descendants that have settled, and pins that have changed: when, CLOCK_MONOTONIC ns."""
        self.descents = 0
        """How many families are being looked at, see begin_descent()."""
        self._above_telling: set[int] = set()
        """PIDs of the parents of pinned processes for which strays.is_telling() is True."""

    def use(self, table: Table) -> None:
        """Go by another table, which is empty, and add all processes in the ledger."""
        self.table = table
        for node in list(self._ledger.nodes.values()):
            node.hear = None
            if node.settled:
                self.settle(node)
            else:
                self.hear(node, ALL_KINDS)

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on."""
        self._rules = rules
        for node in self._ledger.nodes.values():
            if node.settled:
                self.settle(node)

    def hear(self, node: Node, kinds: int) -> None:
        """Have the filter let these kinds of events of a process through (PROC_EVENT_* as bits)."""
        if node.hear == kinds:
            return
        origin = node if node.affects_descendants else next(node.ancestors(), None)
        if origin is not None:
            self._origins[origin.number] = origin
        self.table.set(node.pid, Member(0, 0 if origin is None else origin.number, kinds))
        node.hear = kinds
        if strays.is_telling(node):
            self._above_telling.add(node.ppid)

    def settle(self, node: Node) -> None:
        """Note that a descendant has got what `children` says. For a while, its own children must still be looked at: a
        child that is being forked may have the old value. Where rules ask for descendants, its events always pass."""
        self.hear(node, self._heard_once_settled(node))
        self._leaving.append((time.monotonic_ns(), node))

    def _heard_once_settled(self, node: Node) -> int:
        below = any(above.rule in self._rules.referenced for above in node.ancestors())
        return ALL_KINDS if node.nameable or below else _FORKS_AND_EXIT

    def keep_settled(self, node: Node) -> None:
        """Note that a settled descendant was looked at again: if it runs another program, other events may be
        needed."""
        if (node.hear == ALL_KINDS) is not (self._heard_once_settled(node) == ALL_KINDS):
            self.settle(node)

    def note_change(self, node: Node) -> None:
        """Note that the pin of a process has changed or ended. For a while, children with its value may be found."""
        node.changed_ns = time.monotonic_ns()
        self._leaving.append((node.changed_ns, node))

    def begin_descent(self, origin: Node) -> None:
        """Note that the descendants of `origin` are being looked at, after what it leaves to them has changed."""
        origin.descending = True
        self.descents += 1

    def end_descent(self, origin: Node) -> None:
        """Note that all of them have been looked at."""
        origin.descending = False
        self.descents -= 1
        if origin.former is not None:  # it is kept for a while from now on
            self.note_change(origin)

    def expire(self) -> None:
        """Forget former pins, and settled descendants that no release will have to find, when so much time has passed
        since the change that no child from before it can be found any more."""
        limit = time.monotonic_ns() - FORK_NS
        for _ in range(len(self._leaving)):
            if self._leaving[0][0] > limit and len(self._leaving) <= _LEAVING:
                return
            _, node = self._leaving.popleft()
            if node.former is not None and node.changed_ns <= limit and not node.descending:
                node.former = None
                self._ledger.record(node)
            if self._ledger.nodes.get(node.pid) is node and node.settled and node.settled_ns <= limit:
                self._leave(node)

    def _leave(self, node: Node) -> None:
        if node.awaits_descent:
            self._leaving.append((time.monotonic_ns(), node))
            return
        pins = [above.pin for above in node.ancestors() if above.pin is not None]
        if pins and node.hear != _FORKS_AND_EXIT:
            return
        if any(pin.child_value != pin.original for pin in pins):
            self.hear(node, 0)  # the kernel goes on adding its descendants, so that a release finds them
            return
        self._ledger.forget(node)
        if not node.nameable:
            self.table.remove(node.pid)

    def related(self, node: Node) -> bool:
        """Whether the process affects its descendants, or is affected by what it descends from."""
        return node.affects_descendants or any(
            above.pin is not None or above.former is not None or above.rule in self._rules.referenced
            for above in node.ancestors()
        )

    def origin_of(self, member: Member) -> Node | None:
        """The node that a member of the table is or descends from, by the table; None: the table doesn't have it."""
        return self._origins.get(member.origin)

    def may_have_adopted(self, pid: int) -> bool:
        """Whether a fork event that names this process as the parent may be about CLONE_PARENT, so that it doesn't name
        the maker of the child. That is so without the filter, for the parents of processes for which
        strays.is_telling() is True, and for PID 1, which adopts their orphans."""
        return (pid == strays.INIT_PID or pid in self._above_telling) and isinstance(self.table, OwnTable)

    def prune(self, members: dict[int, Member], present: Set[int]) -> None:
        """Forget members of the table that are gone. `members`: the table before a scan. `present`: the PIDs that the
        scan has found."""
        for pid in members.keys() - present:
            if pid not in self._ledger.nodes:
                self.table.remove(pid)
        numbers = {member.origin for member in members.values()}
        numbers |= {node.number for node in self._ledger.nodes.values()}
        telling = self._ledger.nodes.values() if isinstance(self.table, OwnTable) else ()
        self._above_telling = {node.ppid for node in telling if strays.is_telling(node)}
        for number in self._origins.keys() - numbers:
            del self._origins[number]
