"""Finds the descendants that have to be looked at after what an ancestor leaves to them has changed."""

import time
from collections.abc import Iterable, Iterator

from oomwatchd.kernel import procfs
from oomwatchd.kernel.exec_filter import Member
from oomwatchd.kernel.procfs import Vanished
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.rules.ruleset import RuleSet

_GENERATIONS = 16
"""A family that forks without end is followed so far. What is forked later is heard of."""


class Descendants:
    """The descendants of the processes in a ledger. Methods return which processes to look at; the pinner looks at
    them."""

    def __init__(self, ledger: Ledger, rules: RuleSet, family: Family, tracking: Tracking, proc: str) -> None:
        self._ledger = ledger
        self._rules = rules
        self._family = family
        self._tracking = tracking
        self._proc = proc

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on."""
        self._rules = rules

    def descend(self, origin: Node) -> Iterator[int | None]:
        """The PIDs of the descendants to look at after what `origin` leaves to them has changed, and None for pauses.
        Until the last one, `origin` isn't looked at itself: a second change would be mixed up with the first."""
        if not origin.has_children:
            return iter(())
        self._tracking.begin_descent(origin)
        return self._descending(origin)

    def _descending(self, origin: Node) -> Iterator[int | None]:
        try:
            fresh = list(self._ledger.nodes.values())
            for _ in range(_GENERATIONS):
                below = list[int]()
                yield from self._unsettling(fresh, origin, below)
                yield from below
                # Those that the table alone knows of. Their forks weren't heard of before the look at them, so there
                # may be more of them afterwards.
                fresh = []
                for pid in self._tracking.table.pids():
                    if pid not in self._ledger.nodes:
                        yield next(self.adopting([pid]))
                        adopted = self._ledger.nodes.get(pid)
                        fresh += [] if adopted is None else [adopted]
                if not fresh:
                    break
        finally:
            self._tracking.end_descent(origin)
        if origin.missed_look:
            origin.missed_look = False
            yield origin.pid

    def _unsettling(self, fresh: Iterable[Node], origin: Node, below: list[int]) -> Iterator[None]:
        """Find those among the `fresh` nodes, and those that are made meanwhile, that descend from `origin`, and add
        their PIDs to `below`. All of them are unsettled before the first of them is looked at: what a settled parent
        shows counts as a value of its own."""
        newest = 0
        for node in fresh:
            newest = max(newest, node.number)
            below += [node.pid] if self._inherits_anew(node, origin) else []
            yield None
        for node in self._ledger.nodes.values():
            if node.number > newest and self._inherits_anew(node, origin):
                below.append(node.pid)

    def _inherits_anew(self, node: Node, origin: Node) -> bool:
        """Whether a process has to be looked at, since it inherits from `origin`."""
        between = None if node.dead else node.handing_on(origin)
        if between is None:
            return False
        for each in [*between, node]:
            self._family.rebase(each)
        node.settled_ns = 0
        return True

    def dead_to_refresh(self, *, ending: bool) -> list[Node]:
        """After a change of rules, when all that live have been looked at: the dead processes that leave another value
        to their descendants now. The pin of one process ends with it, so nothing changes it any more."""
        found = list[Node]()
        if not self._family.take_stale():
            return found
        for node in sorted(self._ledger.dead_origins(), key=lambda node: len(list(node.ancestors()))):
            before = node.pin
            if before is None or (before.rule == f"pin {node.pid}" and not ending):
                continue
            rule = self._rules.by_name.get(before.rule)
            if rule is None or not rule.enabled or rule.action.ignore:
                node.pin = None
            else:
                node.pin = self._family.under_todays_rule(before)
            if node.pin != before:
                self._tracking.note_change(node, before)
                found.append(node)
        return found

    def adopt_untold(self) -> list[int]:
        """Enter into the ledger what the table alone knows of: descendants that had the right value from their fork on,
        and those whose events were lost. The latter have to be looked at."""
        return [pid for pid in self.adopting(self._tracking.table.items()) if pid is not None]

    def adopting(self, members: Iterable[int]) -> Iterator[int | None]:
        """Enter these `members` of the table into the ledger, as adopt_untold() does. Yields the PID of each one that
        has to be looked at, and None, for a pause, for each other one."""
        for pid in members:
            # As the table has it now: after a pause another process may have the PID.
            member = None if pid in self._ledger.nodes else self._tracking.table.get(pid)
            yield pid if member is not None and self._adopt_member(pid, member) else None

    def _adopt_member(self, pid: int, member: Member) -> bool:
        """Enter a member of the table into the ledger, if it descends from somebody there. Whether it has to be looked
        at."""
        origin = self._tracking.origin_of(member)
        node = None if origin is None else self._family.adopt(pid, origin)
        if node is None:
            return False
        node.hear = member.hear
        if member.hear != 0 or node.awaits_descent:  # what was right when the table got it may be right no longer
            return True
        node.settled_ns = time.monotonic_ns()
        self._ledger.record(node)
        return False

    def identify_all(self) -> None:
        """Read the start times of the processes that are known only by their fork event, so that they can be saved."""
        self.adopt_untold()
        for pid, node in list(self._ledger.nodes.items()):
            try:
                if node.starttime is None:
                    self._family.node_of(pid, procfs.read_stat(pid, self._proc))
            except Vanished:
                self._ledger.died(pid)
