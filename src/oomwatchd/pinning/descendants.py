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
"""After how many passes over the table descend() ends, since a family can go on forking. Fork events show what is
forked later."""


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
        """The PIDs of the descendants of `origin` that have to be looked at after its pin has changed, and None where
        the caller may pause. Until the last one is taken, `origin` itself isn't looked at, because a second change of
        its pin would be mixed up with the first."""
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
                # Next come those that only the table has. Until they are looked at, their fork events don't pass the
                # filter, so there may be more of them afterwards.
                fresh = []
                for pid in self._tracking.table.pids():
                    if pid not in self._ledger.nodes:
                        yield self._adopt_from_table(pid)
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
        """Add to `below` the PIDs of those `fresh` nodes that descend from `origin`, and of such nodes that are made
        meanwhile. Yields where the caller may pause. All of them are unsettled before the first one is looked at,
        because a value that a settled parent shows counts as the process's own."""
        newest = 0
        for node in fresh:
            newest = max(newest, node.number)
            below += [node.pid] if self._inherits_anew(node, origin) else []
            yield None
        for node in self._ledger.nodes.values():
            if node.number > newest and self._inherits_anew(node, origin):
                below.append(node.pid)

    def _inherits_anew(self, node: Node, origin: Node) -> bool:
        """Whether a living process inherits from `origin`. If so, it is unsettled, and its original is corrected."""
        between = None if node.dead else node.handing_on(origin)
        if between is None:
            return False
        for each in [*between, node]:
            self._family.rebase(each)
        node.settled_ns = 0
        return True

    def dead_to_refresh(self, *, ending: bool) -> list[Node]:
        """Bring the pins of dead processes up to date after a change of rules, when all living processes have been
        looked at. Returns the dead processes whose pin has changed. Runtime pins of dead processes stay, unless the
        daemon releases all (`ending`)."""
        found = list[Node]()
        if not self._family.take_stale():
            return found
        for node in sorted(self._ledger.dead_origins(), key=lambda node: len(list(node.ancestors()))):
            before = node.pin
            if before is None or (before.rule == f"pin {node.pid}" and not ending):
                continue
            if node.descending:  # a second change would be mixed up with the first: the next scan does it
                self._family.note_stale()
                continue
            rule = self._rules.by_name.get(before.rule)
            goes = rule is None or not rule.enabled or rule.action.ignore
            pin = None if goes else self._family.under_todays_rule(before)
            if pin != before:
                node.change_pin(pin)
                self._ledger.record(node)
                self._tracking.note_change(node)
                found.append(node)
        return found

    def unfinished(self) -> list[Iterator[int | None]]:
        """After the ledger's file was read: as descend(), for each process whose pin had changed shortly before the
        daemon ended. It may have been killed before it had looked at all descendants."""
        changed = dict[int, Node]()
        for node in self._ledger.nodes.values():
            changed |= {above.number: above for above in (node, *node.ancestors()) if above.former is not None}
        for node in changed.values():
            self._tracking.note_change(node)
        return [self.descend(node) for node in changed.values()]

    def adopt_untold(self) -> list[int]:
        """Enter the processes into the ledger that only the table has: descendants that had the right value from their
        fork on, and descendants whose events were lost. Returns the PIDs that have to be looked at."""
        return [pid for pid in self.adopting(self._tracking.table.items()) if pid is not None]

    def adopting(self, members: Iterable[int]) -> Iterator[int | None]:
        """Enter the `members` (PIDs) of the table into the ledger, as adopt_untold() does. Yields for each its PID if
        it has to be looked at, else None. A caller may pause after each. From then on, no crash loses them."""
        for pid in members:
            node = self._ledger.nodes.get(pid)
            if node is not None and node.starttime is None:
                self._identify(node)
            yield self._adopt_from_table(pid)

    def _adopt_from_table(self, pid: int) -> int | None:
        # The table is asked now, because after a pause another process may have the PID.
        member = None if pid in self._ledger.nodes else self._tracking.table.get(pid)
        return pid if member is not None and self._adopt_member(pid, member) else None

    def _adopt_member(self, pid: int, member: Member) -> bool:
        """Enter a member of the table into the ledger, if it descends from a process there. Returns whether it has to
        be looked at."""
        origin = self._tracking.origin_of(member)
        node = None if origin is None else self._family.adopt(pid, origin)
        if node is None:
            return False
        node.hear = member.hear
        if member.hear != 0 or node.awaits_descent:  # its value may not be right any more
            return True
        node.settled_ns = time.monotonic_ns()
        self._ledger.record(node)
        return False

    def identify_all(self) -> None:
        """Read the start times of processes that only a fork event has shown, so that they can be saved."""
        self.adopt_untold()
        for node in list(self._ledger.nodes.values()):
            if node.starttime is None:
                self._identify(node)

    def _identify(self, node: Node) -> None:
        """Read the start time of a process that only a fork event has shown, and save the process. A settled one is
        looked at by nobody else."""
        try:
            self._family.node_of(node.pid, procfs.read_stat(node.pid, self._proc))
        except Vanished:
            self._family.died(node)
            return
        if self._ledger.nodes.get(node.pid) is node:
            self._ledger.record(node)
