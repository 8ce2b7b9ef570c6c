"""The transaction on one process: open, read, decide, write, record. Events, scans and reloads run the same one. If the
process is as it should be, nothing is written. What was done is kept as decisions, which the daemon logs.

It has some more than 300 lines, so that the whole transaction can be read in one place."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator

from oomwatchd.base.notyet import NotYet
from oomwatchd.base.uapi import PF_KTHREAD
from oomwatchd.kernel.exec_filter import ALL_KINDS
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.agenda import Agenda
from oomwatchd.pinning.candidates import Candidates
from oomwatchd.pinning.decider import Decider
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.descendants import Descendants
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.look import Look
from oomwatchd.pinning.pin_writer import EarlyPin, PinWriter
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.pinning.relatives import Relatives
from oomwatchd.pinning.restorer import Restorer
from oomwatchd.pinning.sharers import Sharers
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.pinning.writer import Writer
from oomwatchd.rules.ruleset import RuleSet

Defer = Callable[[int, Trigger, int, NotYet], bool]
"""Puts a look off. Arguments: a PID, the trigger of the look, the user ID of the process's owner, and the question that
must be answered first. False: it doesn't, so the pinner waits for the answer."""


class Pinner:
    """Runs the transaction on processes, by one set of rules and one ledger.

    The module has some more than 300 lines, so that the order of the whole transaction is in one place."""

    def __init__(
        self,
        rules: RuleSet,
        ledger: Ledger,
        *,
        dry_run: bool = False,
        proc: str = "/proc",
        clock: Callable[[], float] = time.monotonic,
        defer: Defer | None = None,
        effort_at_once: float = math.inf,
    ) -> None:
        """`effort_at_once`: how many relatives finish() may look at, see Agenda; the rest is left to catching_up()."""
        self.rules = rules
        self.ledger = ledger
        self.proc = proc
        self.view = View(proc)
        self.writer = Writer(ledger, self.view, dry_run=dry_run)
        self._trace(ledger)
        self._clock = clock
        self._defer = defer
        self._ending = False
        self.agenda = Agenda(effort_at_once)
        self._unfinished: Look | EarlyPin | None = None
        self.prefilter = Prefilter(rules, proc)
        self._put_together()

    def _put_together(self) -> None:
        """Make the parts anew that depend on the rules or on the ledger."""
        rules, ledger, view = self.rules, self.ledger, self.view
        self.candidates = Candidates(ledger, self.tracking, self.prefilter)
        self.decider = Decider(rules, view, self.prefilter)
        self._pin_writer = PinWriter(ledger, self.writer, view, self._clock)
        self._restorer = Restorer(ledger, self.writer, view, rules)

    def _trace(self, ledger: Ledger) -> None:
        """Track the processes of `ledger`, and no others."""
        self.tracking = Tracking(ledger, self.rules)
        self.family = Family(ledger, self.rules, self.view, self.tracking)
        self.descendants = Descendants(ledger, self.rules, self.family, self.tracking, self.proc)
        self.relatives = Relatives(ledger, self.view, self.family, self.descendants, self.tracking)
        self._sharers = Sharers(ledger, self.family, self.tracking, self.writer, self.proc)

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on. A scan has to follow."""
        self.rules = rules
        self.prefilter = Prefilter(rules, self.proc)
        self.tracking.set_rules(rules)
        self.family.set_rules(rules)
        self.descendants.set_rules(rules)
        self.relatives.note_unheard_forks()
        self.writer.forgive()
        self._put_together()
        for node in self.ledger.nodes.values():
            node.forgive()

    def change_ledger(self, ledger: Ledger, *, dry_run: bool) -> None:
        """Go on with another ledger, which is empty. A scan has to follow."""
        table = self.tracking.table
        for pid in table.items():
            table.remove(pid)
        self.ledger = ledger
        self.agenda.clear()
        self.writer.use(ledger, dry_run=dry_run)
        self._trace(ledger)
        self.tracking.use(table)
        self._put_together()

    # One process

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> None:
        """Deal with a fork event: the value that the child has inherited may be wrong, and a rule may fit the child."""
        self.relatives.forked(pid, parent_pid)
        if self.family.forked(pid, parent_pid, event_ns) and (
            pid in self.ledger.nodes or self.candidates.concerns(pid)
        ):
            self.look(pid, Trigger("fork", event_ns))

    def look(self, pid: int, trigger: Trigger) -> None:
        """Run the transaction on a process, and then on those of its relatives that it concerns. It is no error if the
        process is gone, or ends meanwhile: its exit event or a scan will show that."""
        self.begin(pid, trigger.source, trigger.event_ns)
        self.finish()

    def begin(self, pid: int, source: str, event_ns: int) -> bool:
        """Run the transaction on a process up to the write; finish() does the rest. `source` and `event_ns`: as of a
        Trigger. Returns whether a value was written, so that the process should run before finish() is called."""
        if self._unfinished is not None:
            self.finish()
        node = self.ledger.nodes.get(pid)
        if node is not None and node.descending and source != "control":
            node.missed_look = True  # it is looked at when its descendants have been, see Descendants.descend()
            return False
        try:
            directory = ProcessDir(pid, self.proc)
        except Vanished:
            return False
        try:
            exe = directory.read_exe() if self.prefilter.asks_exe else None
            if source == "exec" and exe is not None:
                self._unfinished = self._pin_early(directory, exe, event_ns)
                if self._unfinished is not None:
                    return True
            self._unfinished = look = self._look(directory, exe, Trigger(source, event_ns))
            return look is not None and look.written is not None
        except Vanished:
            return False
        finally:
            if self._unfinished is None:
                directory.close()

    def finish(self) -> None:
        """Do what follows begin(): the decision for the record, and the looks at relatives. This must be called before
        another process is looked at. Where there are many relatives, most are left to catching_up()."""
        self._finish_one()
        for pid, trigger in self.agenda.at_once():
            self._look_at_one(pid, trigger)

    def catching_up(self) -> Iterator[None]:
        """Look at the relatives that finish() has left, and at theirs. Pauses after each; can be given up at any
        pause, and begun anew."""
        for pid, trigger in self.agenda.rounds():
            self._look_at_one(pid, trigger)
            yield

    def catch_up(self) -> None:
        """Look at all relatives that finish() has left, now."""
        while not self.agenda.empty:
            for _ in self.catching_up():
                pass

    def _look_at_one(self, pid: int | None, trigger: Trigger) -> None:
        if pid is not None:
            self.begin(pid, trigger.source, trigger.event_ns)
            self._finish_one()

    def _finish_one(self) -> None:
        look, self._unfinished = self._unfinished, None
        if look is None:
            return
        if isinstance(look, tuple):
            look = self._pin_writer.complete_early(*look)
        try:
            self._follow_up(look)
        except Vanished:
            pass
        finally:
            look.directory.close()

    # Up to the write

    def _pin_early(self, directory: ProcessDir, exe: bytes, event_ns: int) -> EarlyPin | None:
        """Pin a program that was just executed, if the process isn't in the ledger, and the executable alone decides
        which rule fits. None: nothing was written."""
        pid, ledger, rule = directory.pid, self.ledger, self.prefilter.decided_by(exe)
        if rule is None or pid in ledger.nodes or pid in ledger.runtime_pins or pid == 1:
            return None
        return self._pin_writer.pin_early(directory, exe, rule, event_ns)

    def _look(self, directory: ProcessDir, exe: bytes | None, trigger: Trigger) -> Look | None:
        """Find the rule that fits, and write the value that it wants. None: there is nothing to follow up."""
        pid, ledger = directory.pid, self.ledger
        stat = directory.read_stat()
        if stat.ended:
            raise Vanished
        if stat.flags & PF_KTHREAD or pid == 1:
            return None
        node = self.family.node_of(pid, stat)
        tracked = ledger.nodes.get(pid) is node
        look = Look(directory, node, trigger, stat, tracked=tracked, rule_before=node.rule)
        if trigger.source == "exec":
            self.decider.note_exec(look)
        runtime_pin = None if self._ending else ledger.runtime_pins.get(pid)
        try:
            rule, look.process = self.decider.decide(look, stat, exe, runtime_pin)
        except NotYet as question:
            self._put_off(directory, trigger, question)
            return None
        node.left_to = rule.name if rule is not None and rule.action.ignore else ""
        if self._restorer.is_in_the_making(look, stat, rule):
            return look
        if rule is not None and not rule.action.ignore:
            parent = self._sharers.parent_of(look, stat)
            self._pin_writer.pin(look, stat, rule)
            if parent is not None:
                self._sharers.note_write(look, parent)
        elif node.pin is not None:
            self._restorer.release(look)
        elif rule is None and self._restorer.settle(look):
            self.tracking.settle(node)
        return look

    def _put_off(self, directory: ProcessDir, trigger: Trigger, question: NotYet) -> None:
        """Look at the process again when the question is answered."""
        owner = os.fstat(directory.descriptor).st_uid
        if self._defer is not None and self._defer(directory.pid, trigger, owner, question):
            return
        question.find_out()
        self.agenda.add([directory.pid], trigger)

    # After the write

    def _follow_up(self, look: Look) -> None:
        """Do what follows the write."""
        node, source = look.node, look.trigger.source
        if node.rule not in ("", look.rule_before):
            self.writer.count_hit(node.rule)
        early = look.stat is None
        if early:
            self.decider.note_exec(look)
            with contextlib.suppress(Vanished):
                look.stat = look.directory.read_stat()
        if look.written is not None:
            self.writer.tell_pin(look, look.written)
        if early:
            self._place(look)
        if look.changed:
            # Descendants may have the value of the pin, or the value before it. So may children whose fork event hasn't
            # been read yet.
            if node.former is not None:
                self.tracking.note_change(node)
            self.agenda.add(self.descendants.descend(node), Trigger(source))
            above = self.ledger.nodes.get(node.ppid)
            if above is not None and above.memory_of is node:
                self.agenda.add([above.pid], Trigger(source))
        self._keep_if_related(node)
        comes = not look.tracked and self.ledger.nodes.get(node.pid) is node
        if (comes or (node.affects_descendants and not look.rule_before)) and source != "fork":
            self.agenda.add(self.relatives.children(look.directory, look.stat), Trigger(source))

    def _place(self, look: Look) -> None:
        """Find the ancestors of a process that was pinned early. Raises Vanished."""
        if look.stat is None:
            raise Vanished
        node, pin = look.node, look.node.pin
        self.family.node_of(node.pid, look.stat)
        if node.pin != pin:  # the value that it had before came from an ancestor
            self.agenda.add([node.pid], Trigger(look.trigger.source))

    def _keep_if_related(self, node: Node) -> None:
        """Keep the process in the ledger if it is pinned, or if its lineage matters, and have the filter let its events
        through. If not, remove it from the ledger; and from the filter's table, unless a rule may come to fit it."""
        if node.refused is not None or self.tracking.related(node):
            self.ledger.add(node)
            if not node.recorded:
                self.ledger.record(node)
            if node.settled:
                self.tracking.keep_settled(node)
            else:
                self.tracking.hear(node, ALL_KINDS)
            return
        if self.ledger.nodes.get(node.pid) is node:
            self.ledger.forget(node)
        if not node.nameable:
            self.tracking.table.remove(node.pid)

    # All of them

    def look_at_relatives(self, members: Iterable[int]) -> Iterator[None]:
        """Look at the descendants of processes in the ledger that Relatives has found, and at those that only the table
        has (`members`: PIDs in the table). It yields after each, so that the caller may pause."""
        for pid in self.relatives.adopt(members):
            if pid is not None:
                self.look(pid, SCAN)
            yield

    def release_all(self) -> None:
        """Give every process its original value back, and pin none from now on: `on_exit = "restore"`."""
        self.catch_up()
        self._ending = True
        self.set_rules(RuleSet(()))
        self.agenda.add([*self.descendants.adopt_untold(), *self.ledger.nodes], Trigger("control"))
        self.catch_up()
        self.refresh_dead()

    def refresh_dead(self) -> None:
        """After a change of rules, when all living processes have been looked at: bring up to date what dead processes
        leave to their descendants, and look at these."""
        for node in self.descendants.dead_to_refresh(ending=self._ending):
            self.agenda.add(self.descendants.descend(node), SCAN)
        self.finish()
