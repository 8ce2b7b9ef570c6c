"""The transaction: one process is opened, read, decided on, written, recorded. The same for an event, a scan, a
reload; silent when nothing changes. Returns what it did as decisions; it doesn't log."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator

from oomwatchd.base.notyet import NotYet
from oomwatchd.base.uapi import PF_KTHREAD
from oomwatchd.kernel import procfs
from oomwatchd.kernel.exec_filter import ALL_KINDS
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.candidates import Candidates
from oomwatchd.pinning.decider import Decider
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.holder import Holder
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.look import Look
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.pinning.relatives import Relatives
from oomwatchd.pinning.restorer import Restorer
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.pinning.writer import Writer
from oomwatchd.rules.ruleset import RuleSet

Defer = Callable[[int, Trigger, int, NotYet], bool]
"""Called with a PID, why it is looked at, the user id of its owner, and what has to be found out before it is to be
looked at again. Whether it has taken that over; else the answer is waited for."""


class Pinner:
    """Rules, ledger, and what brings processes in line with both."""

    def __init__(
        self,
        rules: RuleSet,
        ledger: Ledger,
        *,
        dry_run: bool = False,
        proc: str = "/proc",
        clock: Callable[[], float] = time.monotonic,
        defer: Defer | None = None,
    ) -> None:
        self.rules = rules
        self.ledger = ledger
        self.proc = proc
        self.view = View(proc)
        self.writer = Writer(ledger, self.view, dry_run=dry_run)
        self._trace(ledger)
        self._clock = clock
        self._defer = defer
        self._ending = False
        self._todo: list[tuple[int, Trigger]] = []
        self._unfinished: Look | None = None
        self.prefilter = Prefilter(rules, proc)
        self._put_together()

    def _put_together(self) -> None:
        """After other rules or another ledger have come."""
        rules, ledger, view = self.rules, self.ledger, self.view
        self.candidates = Candidates(ledger, self.tracking, self.prefilter)
        self.decider = Decider(rules, view, self.prefilter)
        self._holder = Holder(ledger, self.writer, view, self._clock)
        self._restorer = Restorer(ledger, self.writer, view, rules)

    def _trace(self, ledger: Ledger) -> None:
        """Know nobody but those in this ledger."""
        self.tracking = Tracking(ledger, self.rules)
        self.family = Family(ledger, self.rules, self.view, self.tracking)
        self.relatives = Relatives(ledger, self.view, self.family, self.tracking)

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on. A scan has to follow."""
        self.rules = rules
        self.prefilter = Prefilter(rules, self.proc)
        self.tracking.set_rules(rules)
        self.family.set_rules(rules)
        self.relatives.note_unheard_forks()
        self.writer.forgive()
        self._put_together()
        for node in self.ledger.nodes.values():
            node.forgive()

    def change_ledger(self, ledger: Ledger, *, dry_run: bool) -> None:
        """Begin with another ledger, empty so far. A scan has to follow."""
        table = self.tracking.table
        for pid in table.items():
            table.remove(pid)
        self.ledger = ledger
        self.writer.use(ledger, dry_run=dry_run)
        self._trace(ledger)
        self.tracking.use(table)
        self._put_together()

    # One process

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> None:
        """A process was born. What the kernel lets it inherit may be wrong, and rules may fit it."""
        self.relatives.forked(pid, parent_pid)
        if self.family.forked(pid, parent_pid, event_ns) and (
            pid in self.ledger.nodes or self.candidates.concerns(pid)
        ):
            self.look(pid, Trigger("fork", event_ns))

    def look(self, pid: int, trigger: Trigger) -> None:
        """Bring a process in line, and those of its family that this brings up. A process that is gone, or goes
        meanwhile, is no error: its end is an event of its own, or found by a scan."""
        self.begin(pid, trigger)
        self.finish()

    def begin(self, pid: int, trigger: Trigger) -> bool:
        """Bring a process in line, as look() does, but leave what can follow to finish(). Whether a value has been
        written, so that the process had better run first."""
        if self._unfinished is not None:
            self.finish()
        try:
            directory = ProcessDir(pid, self.proc)
        except Vanished:
            return False
        look = None
        try:
            exe = directory.read_exe() if self.prefilter.asks_exe else None
            look = self._pin_newcomer(directory, exe, trigger) or self._look(directory, exe, trigger)
        except Vanished:
            pass
        finally:
            if look is None:
                directory.close()
        self._unfinished = look
        return look is not None and look.pinned is not None

    def finish(self) -> None:
        """What follows after begin(): the record, the family. Before anything else is looked at."""
        self._finish_one()
        try:
            while self._todo:
                self.begin(*self._todo.pop())
                self._finish_one()
        except BaseException:
            self._todo.clear()
            raise

    def _finish_one(self) -> None:
        look, self._unfinished = self._unfinished, None
        if look is None:
            return
        try:
            self._follow_up(look)
        except Vanished:
            pass
        finally:
            look.directory.close()

    def _look_at(self, pids: Iterable[int], trigger: Trigger) -> None:
        self._todo += [(pid, trigger) for pid in pids]

    # Up to the write

    def _pin_newcomer(self, directory: ProcessDir, exe: bytes | None, trigger: Trigger) -> Look | None:
        """The short way for a program that has just been executed, of which nothing is known, where the executable
        alone says which rule fits. None: nothing was written."""
        pid, ledger = directory.pid, self.ledger
        rule = self.prefilter.decided_by(exe)
        if rule is None or exe is None or trigger.source != "exec":
            return None
        if pid in ledger.nodes or pid in ledger.runtime_pins or pid == 1:
            return None
        return self._holder.hold_newcomer(directory, exe, rule, trigger)

    def _look(self, directory: ProcessDir, exe: bytes | None, trigger: Trigger) -> Look | None:
        """Find out which rule fits, and write what it wants. None: there is nothing to follow up."""
        pid, ledger = directory.pid, self.ledger
        stat = directory.read_stat()
        if stat.ended:
            raise Vanished
        if stat.flags & PF_KTHREAD or pid == 1:
            return None
        node = self.family.node_of(pid, stat)
        tracked = ledger.nodes.get(pid) is node
        look = Look(directory, node, trigger, stat, tracked=tracked, affected_descendants=node.affects_descendants)
        if trigger.source == "exec":
            self.decider.note_exec(look)
        pin = None if self._ending else ledger.runtime_pins.get(pid)
        try:
            rule, look.process = self.decider.decide(look, stat, exe, pin)
        except NotYet as question:
            self._put_off(directory, trigger, question)
            return None
        left_to = rule.name if rule is not None and rule.action.ignore else ""
        if left_to and left_to != node.left_to:
            self.writer.count_hit(left_to)
        node.left_to = left_to
        if self._restorer.is_in_the_making(look, stat, rule):
            return look
        if rule is not None and not rule.action.ignore:
            self._holder.hold(look, stat, rule)
        elif node.hold is not None:
            self._restorer.release(look)
        elif rule is None and self._restorer.settle(look):
            self.tracking.settle(node)
        return look

    def _put_off(self, directory: ProcessDir, trigger: Trigger, question: NotYet) -> None:
        """Look again when it is known what can't be known at once."""
        owner = os.fstat(directory.descriptor).st_uid
        if self._defer is not None and self._defer(directory.pid, trigger, owner, question):
            return
        question.find_out()
        self._todo.append((directory.pid, trigger))

    # After the write

    def _follow_up(self, look: Look) -> None:
        """What needn't come before the write."""
        node, source = look.node, look.trigger.source
        newcomer = look.stat is None
        if newcomer:
            self.decider.note_exec(look)
            with contextlib.suppress(Vanished):
                look.stat = look.directory.read_stat()
        if look.pinned is not None:
            self.writer.tell_pin(look, look.pinned)
        if newcomer:
            self._place(look)
        if look.changed:
            # Descendants may show what the hold made or found them to have, and so may children whose fork we'll hear
            # of only now.
            if look.before is not None:
                self.tracking.note_change(node, look.before)
            self._look_at(self.family.below(node), Trigger(source))
        self._keep_if_related(node)
        comes = not look.tracked and self.ledger.nodes.get(node.pid) is node
        if (comes or (node.affects_descendants and not look.affected_descendants)) and source != "fork":
            self._look_at(self.relatives.children(look.directory), Trigger(source))

    def _place(self, look: Look) -> None:
        """Find out of whom a newcomer descends. Raises Vanished."""
        if look.stat is None:
            raise Vanished
        node, hold = look.node, look.node.hold
        self.family.node_of(node.pid, look.stat)
        if node.hold != hold:  # what it had before came from an ancestor
            self._look_at([node.pid], Trigger(look.trigger.source))

    def _keep_if_related(self, node: Node) -> None:
        """Keep in the ledger what is held, what lineage runs through, and nothing else; and have the filter tell of
        what a rule may come to fit, and of nothing else."""
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

    def look_at_relatives(self) -> Iterator[None]:
        """Look at those that have been found to descend from processes in the ledger, see Relatives. Pauses after
        each."""
        self._look_at(self.family.adopt_untold(), SCAN)
        self.finish()
        for pid in self.relatives.adopt():
            self.look(pid, SCAN)
            yield

    def release_all(self) -> None:
        """Give everyone back what they had, from now on: `on_exit = "restore"`."""
        self._ending = True
        self.set_rules(RuleSet(()))
        self._look_at([*self.family.adopt_untold(), *self.ledger.nodes], Trigger("control"))
        self.finish()
        self.refresh_dead()

    def identify_all(self) -> None:
        """Read the start time of those that only their fork event has told of, so that the ledger can be saved."""
        self.family.adopt_untold()
        for pid, node in list(self.ledger.nodes.items()):
            try:
                if node.starttime is None:
                    self.family.node_of(pid, procfs.read_stat(pid, self.proc))
            except Vanished:
                self.ledger.died(pid)

    def refresh_dead(self) -> None:
        """After a change of rules, when all that live have been looked at: what the dead leave to their descendants."""
        self._look_at(self.family.dead_to_refresh(ending=self._ending), SCAN)
        self.finish()
