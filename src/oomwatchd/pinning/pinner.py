"""The transaction: one process is opened, read, decided on, written, recorded. The same for an event, a scan, a
reload; silent when nothing changes. Returns what it did as decisions; it doesn't log."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel import procfs
from oomwatchd.kernel.executable import Namespaces, split_deleted
from oomwatchd.kernel.facts import read_process
from oomwatchd.kernel.procfs import ProcessDir, Stat, Vanished
from oomwatchd.kernel.systemd_cgroups import parse_cgroup, parse_units
from oomwatchd.pinning.decisions import SCAN, Counters, Decision, Latencies, Trigger, runtime_rule, wanted_hold
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Birth, Births, Hold, Node
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.rules.criteria import Source
from oomwatchd.rules.model import Process, Rule
from oomwatchd.rules.ruleset import RuleSet

_CONTENDED_AFTER = 3
"""Drifts in a row until whoever keeps changing a value is left to it for a while."""
_BACK_OFF_SECONDS = 60.0
_BACK_OFF_LIMIT_SECONDS = 3600.0
_CALM_SECONDS = 600.0
"""After so long without drift the next one counts as the first."""
_CHANGED = 4096
_KEPT_PATH = 255
"""A longer path of an executable isn't kept: the kernel tells it whenever someone asks."""
_NOBODY = frozenset[str]()
_BIRTH_NS = 10_000_000_000
"""A child that is being made while its parent is written may inherit the value from before, and yet bear a later
timestamp: copy_process() of kernel/fork.c takes the value first and the time last, and copies memory in between."""


@dataclass(slots=True)
class _Look:
    """One process, while it is dealt with. Not frozen, as `Process` isn't."""

    directory: ProcessDir
    stat: Stat
    node: Node
    trigger: Trigger
    process: Process | None
    exe: str = ""
    """Its executable, if that has been read, however long."""


def _floor_leaks(node: Node, value: int) -> bool:
    """Whether the process has inherited a floor below `value`, which only a privileged write moves."""
    bequest = None if node.parent is None else node.inherited()
    return bequest is not None and bequest.floor is not None and value > bequest.floor


def _may_descend(node: Node, parent: Node) -> bool:
    """Whether nothing that is known of the two speaks against it: births may tell of who had their PIDs before."""
    if parent.starttime is not None and node.starttime is not None and parent.starttime > node.starttime:
        return False
    return not any(above is node for above in _lineage(parent))


def _lineage(node: Node) -> Iterator[Node]:
    """`node` and all that it is known to descend from."""
    above: Node | None = node
    while above is not None:
        yield above
        above = above.parent


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
        pause: Callable[[], None] = lambda: None,
        defer: Defer | None = None,
    ) -> None:
        self.rules = rules
        self.ledger = ledger
        self.dry_run = dry_run
        self.proc = proc
        self.prefilter = Prefilter(rules, proc)
        self.clock = clock
        self.pause = pause
        self._defer = defer
        """Called after what an event about the process itself has led to, before what need not be done at once."""
        self.counters = Counters()
        self.latencies = Latencies()
        self.hits: dict[str, int] = {}
        """Processes that a rule came to fit since the start, by rule."""
        self.ours = Namespaces(proc)
        self.family_unknown = True
        """Whether processes may descend from those in the ledger without any event having told of them."""
        self.births = Births()
        self.births_matter = False
        """Whether children may be born wrong: `Rule.eager_children` foresees it, but for a rule that pins to a value of
        0 or more somebody who had more. Once so, always so: it costs but little."""
        self._changed: dict[Node, None] = {}
        """Those that have a former hold, in the order in which it ended."""
        self._dead_are_stale = True
        """Whether dead processes may leave what other rules than today's had for their descendants."""
        self._ending = False
        self._decisions: list[Decision] = []
        self._reported: set[tuple[str, int]] = set()
        self._todo: list[tuple[int, Trigger]] = []
        self._newcomers: set[Node] = set()
        """Those that have come to mean something since families were looked for."""
        self._hear: Callable[[], None] | None = None
        self._hearing = False

    def take_decisions(self) -> list[Decision]:
        """What was done since the last call."""
        taken, self._decisions = self._decisions, []
        return taken

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on. A scan has to follow."""
        self.rules = rules
        self.prefilter = Prefilter(rules, self.proc)
        self._reported.clear()
        self._dead_are_stale = True
        for node in self.ledger.nodes.values():
            node.refused = None
            node.drifts, node.contended, node.next_write = 0, False, 0.0

    # One process

    def strangers(self, births: Sequence[Birth]) -> bool:
        """Take note of `births`, in their order, if none of them means anything yet: so it is with almost all of the
        machine's. Else False, and each of them has to be told of by forked()."""
        if self._newcomers or self.rules.needs.fork_decides or self.ledger.knows_any(births):
            return False
        self.births.note(*births)
        return True

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> None:
        """A process was born. What the kernel lets it inherit may be wrong, and rules may fit it."""
        parent = self.ledger.parent(parent_pid)
        if self._newcomers:
            before = self.ledger.parent(pid)
            if before in self._newcomers and before is not None and event_ns >= before.seen_ns:
                self._meet_family(before)  # from now on births tell of another process by its PID
            if parent in self._newcomers:
                parent = None  # it may be one who had the PID before; what is left when all are heard is its own
        if parent is None and not self.ledger.knows(pid) and not self.rules.needs.fork_decides:
            self.births.note((event_ns, parent_pid, pid))  # almost all of the machine's
            return
        self.births.forget(pid)
        node = self.ledger.nodes.get(pid)
        if node is not None and self._was_seen_since(node, event_ns):
            if parent is None or node in self._newcomers:
                self.births.note((event_ns, parent_pid, pid))
            if parent is not None and node.parent is None and _may_descend(node, parent):
                self._acknowledge(node, parent)
                self.look(pid, Trigger("fork", event_ns))
            return
        self.ledger.reborn(pid)
        if parent is not None:
            self._born(pid, parent, event_ns)
            self._work()
            return
        self.births.note((event_ns, parent_pid, pid))
        if self.rules.needs.fork_decides:
            self.look(pid, Trigger("fork", event_ns))

    def orphaned(self, pid: int, event_ns: int) -> None:
        """A process was born to one that was gone before it could be looked at, as when a daemon goes into the
        background: it raises no event of its own, but is what its parent was."""
        if self.may_fit(pid):
            self.look(pid, Trigger("fork", event_ns))

    def _was_seen_since(self, node: Node, event_ns: int) -> bool:
        """Whether `node` is the process that was born then, and its event is old news."""
        if node.starttime is None:
            return False
        # The kernel shows a new process a moment before it takes the event's time.
        return event_ns < node.seen_ns or procfs.is_alive(node.pid, node.starttime, self.proc)

    def _born(self, pid: int, parent: Node, event_ns: int) -> None:
        """Enter a new child of a process that we know, and its own descendants if it has some already."""
        todo = [(pid, parent, event_ns)]
        for pid, parent, event_ns in todo:
            node = self.ledger.nodes.get(pid)
            if node is None:
                node = Node(pid, None, parent)
                self.ledger.add(node)
            elif node.parent is None and _may_descend(node, parent):
                self._acknowledge(node, parent)
            if self._birth_matters(node, parent, event_ns):
                self._todo.append((pid, Trigger("fork", event_ns)))
            todo += [(child, node, born_ns) for child, born_ns in self.births.take(pid)]

    def _birth_matters(self, node: Node, parent: Node, event_ns: int) -> bool:
        """Whether a new process has to be looked at."""
        if parent.rule or self.rules.needs.fork_decides:
            return True
        # No rule fits the parent, so none fits this, which is the same program.
        if node.origin() is None:
            return False
        if 0 < parent.settled_ns < event_ns - _BIRTH_NS:
            node.settled_ns = parent.settled_ns  # born right
            return False
        return True

    def may_fit(self, pid: int, inode: int = 0) -> bool:
        """Whether the process is worth opening: most aren't. By PID, which may mean another process by the time it is
        opened; then that one is looked at as itself. `inode` as for Prefilter.passes()."""
        if pid in self.ledger.nodes or pid in self.ledger.runtime_pins or self.prefilter.passes(pid, inode):
            self.prefilter.ruled_out.pop(pid, None)
            return True
        return False

    def doubtful(self, present: Mapping[int, int], scan: int) -> Iterable[int]:
        """Those of all processes that have to be asked about, see Prefilter.doubtful()."""
        for pid in (*self.ledger.nodes, *self.ledger.runtime_pins):
            self.prefilter.ruled_out.pop(pid, None)
        return self.prefilter.doubtful(present, scan)

    def look(self, pid: int, trigger: Trigger) -> None:
        """Bring a process in line, and those of its family that this brings up. A process that is gone, or goes
        meanwhile, is no error."""
        self._todo.append((pid, trigger))
        self._work()
        if not self._hearing:
            self._meet_families()

    def look_and_hear(self, pid: int, trigger: Trigger, hear: Callable[[], None]) -> None:
        """The same, and `hear`, which tells of the births that haven't been told of: after the write, unless they may
        bear on what is to be written."""
        self._hear = hear
        try:
            self._todo.append((pid, trigger))
            self._work()
            self._hear_births()
        finally:
            self._hear = None
        self._meet_families()

    def _hear_births(self) -> None:
        hear, self._hear = self._hear, None
        if hear is None:
            return
        self._hearing = True
        try:
            hear()
        finally:
            self._hearing = False

    def _work(self) -> None:
        while self._todo:
            pid, trigger = self._todo.pop()
            try:
                directory = ProcessDir(pid, self.proc)
                try:
                    self._look(directory, trigger)
                finally:
                    directory.close()
            except Vanished:
                node = self.ledger.nodes.get(pid)
                # What it leaves to its descendants may have been about to change.
                self._dead_are_stale = self._dead_are_stale or (node is not None and node.has_children)
                self.ledger.died(pid)
                self.prefilter.gone.add(pid)
            except BaseException:
                self._todo.clear()
                raise

    def _look(self, directory: ProcessDir, trigger: Trigger) -> None:
        stat = directory.read_stat()
        if stat.leader_ended:
            if stat.ended:
                raise Vanished
            return
        if stat.flags & procfs.PF_KTHREAD or directory.pid == 1:
            return
        pid, nodes = directory.pid, self.ledger.nodes
        if pid in nodes or stat.ppid in nodes or stat.session in nodes:
            if self._hear is not None:
                self._hear_births()  # any of these PIDs may have come to mean another process, this one too
                self._todo.append((pid, trigger))
                return
            node = self.node_of(pid, stat)
        else:
            node = Node(pid, stat.starttime, None)
            node.seen_ns = time.monotonic_ns()
        known = nodes.get(pid) is node
        if trigger.source == "exec":
            self.rules.searches.executed(pid, trigger.event_ns)
        try:
            rule, process = self.decide(directory, stat, node)
        except NotYet as question:
            self._put_off(directory, trigger, question)
            return
        look = _Look(directory, stat, node, trigger, process)
        left_to = rule.name if rule is not None and rule.action.ignore else ""
        if left_to and left_to != node.left_to:
            self._count_hit(left_to)
        node.left_to = left_to
        if rule is not None and not rule.action.ignore:
            self._hold(look, rule)
        elif node.hold is not None:
            self._release(look)
        elif rule is None:
            self._settle(look)
        related = node.matters or next(node.ancestors(), None) is not None
        self._keep_if(look, related or node.refused is not None)
        if related and not known:
            self._newcomers.add(node)

    def _put_off(self, directory: ProcessDir, trigger: Trigger, question: NotYet) -> None:
        """Look again when it is known what can't be known at once."""
        owner = os.fstat(directory.descriptor).st_uid
        if self._defer is not None and self._defer(directory.pid, trigger, owner, question):
            return
        question.find_out()
        self._todo.append((directory.pid, trigger))

    def _meet_families(self) -> None:
        """Processes have come to mean something: so do the children that they have already."""
        while self._newcomers:
            self._meet_family(next(iter(self._newcomers)))
            self._work()

    def _meet_family(self, node: Node) -> None:
        self._newcomers.discard(node)
        if not node.dead and self.ledger.nodes.get(node.pid) is not node:
            return  # and means nothing any more
        if node.pid not in self.births:
            self.family_unknown = True  # some of them may have been born before what we remember
        for child, event_ns in self.births.take(node.pid):
            self._born(child, node, event_ns)

    def find_families(self, pids: Iterable[int]) -> Iterator[None]:
        """Look at those of `pids` that descend from processes in the ledger without any event having told of them.
        Pauses after each process that it has read. If it finds some, there may be more, born meanwhile of some that
        it found dead: then the family remains unknown."""
        self.family_unknown = False
        try:
            yield from self._finding_families(pids)
        except BaseException:  # a scan that is given up, too
            self.family_unknown = True
            raise

    def _finding_families(self, pids: Iterable[int]) -> Iterator[None]:
        nodes = self.ledger.nodes
        children: dict[int, list[int]] = {}
        unknown: dict[int, Stat] = {}
        for pid in pids:
            node = nodes.get(pid)
            if node is not None and node.parent is not None:
                continue
            try:
                stat = procfs.read_stat(pid, self.proc)
            except Vanished:
                continue
            children.setdefault(stat.ppid, []).append(pid)
            unknown[pid] = stat
            yield
        yield from self._look_at_children([pid for pid in children if pid in nodes], children)
        orphans = {pid: stat for pid, stat in unknown.items() if pid not in nodes and stat.session in nodes}
        for pid, stat in orphans.items():
            if stat.ppid not in orphans:
                self.look(pid, SCAN)
                yield from self._look_at_children([pid], children)

    def _look_at_children(self, parents: list[int], children: dict[int, list[int]]) -> Iterator[None]:
        while parents:
            for pid in children.pop(parents.pop(), ()):
                self.look(pid, SCAN)
                if pid in self.ledger.nodes:
                    parents.append(pid)
                yield

    def node_of(self, pid: int, stat: Stat) -> Node:
        """The ledger's node of a process, or a new one, not yet in the ledger."""
        node = self.ledger.nodes.get(pid)
        if node is not None and node.starttime is None:
            node.starttime, node.seen_ns = stat.starttime, time.monotonic_ns()
            if node.parent is not None and any(
                above.starttime is not None and above.starttime > stat.starttime for above in _lineage(node.parent)
            ):
                node.parent = None  # its PID has come to mean another process
        if node is not None and node.starttime != stat.starttime:
            self.ledger.died(pid)
            node = None
        if node is None:
            node = Node(pid, stat.starttime, None)
            node.seen_ns = time.monotonic_ns()
        if node.parent is None:
            parent = self._parent_of(node, stat)
            if parent is not None:
                self._acknowledge(node, parent)
        return node

    def _parent_of(self, node: Node, stat: Stat) -> Node | None:
        """The parent, as far as the kernel still knows it: who adopts an orphan is an ancestor too (prctl(2),
        PR_SET_CHILD_SUBREAPER), and so is the leader of a session, which only births enlarge (setsid(2))."""
        for pid in (stat.ppid, stat.session):
            parent = self.ledger.nodes.get(pid)
            if parent is None or parent is node or parent.starttime is None or parent.starttime > stat.starttime:
                continue
            if parent.starttime < stat.starttime or not any(above is node for above in _lineage(parent)):
                return parent
        return None

    def _acknowledge(self, node: Node, parent: Node) -> None:
        """A process in the ledger has been found to descend from another."""
        node.descend_from(parent)
        node.recorded = False
        self._rebase(node)

    def _rebase(self, node: Node) -> None:
        """What a held process had before may have been the bequest of an ancestor, as that was found or has changed
        since."""
        bequest, hold = node.inherited(), node.hold
        if hold is None or bequest is None or hold.first not in bequest.shown or hold.first == bequest.value:
            return
        node.recorded = False
        node.hold = replace(hold, first=bequest.value)
        if node.dead:  # nobody will look at it
            node.hold = self._under_todays_rule(node.hold)

    def _under_todays_rule(self, hold: Hold) -> Hold:
        """A hold as its rule has it now; as it was where there is no such rule."""
        rule = self.rules.by_name.get(hold.rule)
        if rule is None:
            return hold
        value = rule.target(hold.first)
        return replace(hold, value=value, child_value=rule.child_value(value, hold.first))

    def decide(self, directory: ProcessDir, stat: Stat, node: Node) -> tuple[Rule | None, Process | None]:
        """The rule that fits. The facts are None where no more than exe and comm had to be read."""
        pin = self.ledger.runtime_pins.get(directory.pid)
        if pin is not None and pin.starttime == stat.starttime and not self._ending:
            return runtime_rule(pin), None
        rules = self.rules
        exe = directory.read_exe() if Source.EXE in rules.needs.reads else None
        possible, verify = self.prefilter.sift(exe, stat.comm)
        if not possible:
            return None, None
        ancestors = _NOBODY
        if rules.referenced and node.parent is not None:
            ancestors = frozenset(above.rule for above in node.ancestors() if above.rule)
        process = read_process(directory, stat, exe, rules.needs, self.ours, verify, ancestors)
        return rules.decide(process, possible), process

    def _keep_if(self, look: _Look, related: bool) -> None:
        """Keep in the ledger what is held, what lineage runs through, and nothing else."""
        known = self.ledger.nodes.get(look.node.pid) is look.node
        if related:
            self.ledger.add(look.node)
            if not look.node.recorded:
                self.ledger.record(look.node)
        elif known:
            self.ledger.forget(look.node)

    # Pin

    def _hold(self, look: _Look, rule: Rule) -> None:
        node, before = look.node, look.node.hold
        current = look.directory.open_oom_score_adj()
        hold = wanted_hold(node, rule, current, look.trigger)
        same = before is not None and (before.rule, before.value) == (hold.rule, hold.value)
        if current == hold.value or (same and self.dry_run):
            if (before is None or look.trigger.source == "fork") and _floor_leaks(node, hold.value):
                self._write(look, hold.value, rule.name, current)
            if before != hold:
                self._enter(look, hold)
                self._regard_family(look, before)
            other = look.trigger.source == "exec" or node.comm != procfs.text(look.stat.comm)
            if other or not node.described:
                self._describe_fully(look)
            else:
                self._describe(look)
            return
        if node.refused is not None and node.refused[0] == rule.name:
            return
        if same and not self._may_write_again(look, hold.value, rule.name, current):
            return
        self._enter(look, hold)
        if not self._write(look, hold.value, rule.name, current):
            node.hold = before
            self.ledger.record(node)
            return
        latency_us = None if look.trigger.event_ns == 0 else (time.monotonic_ns() - look.trigger.event_ns) // 1000
        if same:
            self.counters.drifts += 1
        else:
            self.counters.pins += 1
            if latency_us is not None:
                self.latencies.add(latency_us)
        self._decided("drift" if same else "pinned", look, rule.name, current, hold.value, latency_us)
        if not same:
            self._regard_family(look, before)

    def _may_write_again(self, look: _Look, wanted: int, rule: str, current: int) -> bool:
        """Whether to fight for a value that someone has changed, or to leave it to them for a while."""
        node, now = look.node, self.clock()
        if now < node.next_write:
            return False
        if now > node.next_write + _CALM_SECONDS:
            node.drifts, node.contended = 0, False
        node.drifts += 1
        node.next_write = now
        if node.drifts <= _CONTENDED_AFTER:
            return True
        doublings = min(node.drifts - _CONTENDED_AFTER - 1, 10)
        node.next_write = now + min(_BACK_OFF_SECONDS * 2**doublings, _BACK_OFF_LIMIT_SECONDS)
        if node.contended:
            return True  # a back-off has ended: one more try
        node.contended = True
        self._decided("contended", look, rule, current, wanted)
        return False

    def _enter(self, look: _Look, hold: Hold) -> None:
        """Enter the hold, and save it: before the write, so that no crash can lose the first value."""
        node = look.node
        if node.hold is None or node.hold.rule != hold.rule:
            self._count_hit(hold.rule)
        node.hold = hold
        if hold.child_value != hold.value:
            self.births_matter = True
        self._describe(look)
        self.ledger.nodes[node.pid] = node
        self.ledger.record(node)
        self.ledger.flush()

    def _count_hit(self, rule: str) -> None:
        self.hits[rule] = self.hits.get(rule, 0) + 1

    def _describe(self, look: _Look) -> None:
        """What people want to know of the process, as far as it has been read already."""
        process = look.process
        if process is None:
            self._note(look, comm=procfs.text(look.stat.comm))
        else:
            self._note(look, process.comm, process.exe, process.uid, process.unit)

    def _describe_fully(self, look: _Look) -> None:
        """... and the rest. Done after the write, which shouldn't wait for it."""
        self._describe(look)
        directory, process = look.directory, look.process
        try:
            if process is None or process.uid is None:
                self._note(look, uid=procfs.parse_status(directory.read("status")).uid)
            if process is None or process.exe is None:
                self._note(look, exe=procfs.text(split_deleted(directory.read_exe() or b"")[0]))
            if process is None or process.unit is None:
                self._note(look, unit=parse_units(procfs.text(parse_cgroup(directory.read("cgroup")))).unit)
        except (Vanished, OSError):
            return  # it has what could be read
        look.node.described = True

    def _note(
        self,
        look: _Look,
        comm: str | None = None,
        exe: str | None = None,
        uid: int | None = None,
        unit: str | None = None,
    ) -> None:
        """Keep what is known of a process, in as little memory as can be: there may be thousands."""
        node, share = look.node, self.ledger.share
        if comm is not None:
            node.comm = share(comm)
        if exe is not None:
            look.exe = exe
            node.exe = share(exe) if len(exe) <= _KEPT_PATH else ""
        if uid is not None:
            node.uid = uid
        if unit is not None:
            node.unit = share(unit)

    # Release

    def _release(self, look: _Look) -> None:
        """Give the process back what it had."""
        node, hold = look.node, look.node.hold
        if hold is None:
            return
        current = look.directory.open_oom_score_adj()
        node.hold = None
        # A program that was executed in the place of the pinned one may have set itself a value already.
        own = look.trigger.source == "exec" and current not in (hold.value, hold.first)
        target = current if own else hold.first
        written = (current == target and not hold.lowers) or self._write(look, target, hold.rule, current)
        node.settled_ns = time.monotonic_ns()
        self.ledger.record(node)
        if written:
            self.counters.releases += 1
            self._decided("released", look, hold.rule, current, target)
        self._regard_family(look, hold)

    def release_all(self) -> None:
        """Give everyone back what they had, from now on: `on_exit = "restore"`."""
        self._ending = True
        self.set_rules(RuleSet(()))
        for pid in list(self.ledger.nodes):
            self.look(pid, Trigger("control"))
        self.refresh_dead()

    def identify_all(self) -> None:
        """Read the start time of those that only their fork event has told of, so that the ledger can be saved."""
        for pid, node in list(self.ledger.nodes.items()):
            try:
                if node.starttime is None:
                    node.starttime = procfs.read_stat(pid, self.proc).starttime
            except Vanished:
                self.ledger.died(pid)

    def refresh_dead(self) -> None:
        """After a change of rules, when all that live have been looked at: dead processes still say what their
        descendants get. The pin of one process ends with it, so nothing changes it any more."""
        if not self._dead_are_stale:
            return
        self._dead_are_stale = False
        for node in sorted(self.ledger.dead_origins(), key=lambda node: len(list(node.ancestors()))):
            before = node.hold
            if before is None or (before.rule == f"pin {node.pid}" and not self._ending):
                continue
            rule = self.rules.by_name.get(before.rule)
            if rule is None or not rule.enabled or rule.action.ignore:
                node.hold = None
            else:
                node.hold = self._under_todays_rule(before)
            if node.hold != before:
                self._note_change(node, before)
                self._look_below(node, SCAN)
        self._work()

    # Children

    def _regard_family(self, look: _Look, before: Hold | None) -> None:
        """After a hold has begun, changed or ended: descendants may show what it made or found them to have, and so
        may children whose birth we'll hear of only now."""
        if before is not None:
            self._note_change(look.node, before)
        self._look_below(look.node, Trigger(look.trigger.source))

    def _note_change(self, node: Node, before: Hold) -> None:
        self._changed.pop(node, None)
        self._changed[node] = None
        node.former, node.changed_ns = before, time.monotonic_ns()
        if len(self._changed) > _CHANGED:
            self._forget_former(next(iter(self._changed)))

    def forget_former(self) -> None:
        """Forget holds that ended so long ago that no child from before can turn up any more."""
        limit = time.monotonic_ns() - _BIRTH_NS
        for node in [node for node in self._changed if node.changed_ns < limit]:
            self._forget_former(node)

    def _forget_former(self, node: Node) -> None:
        del self._changed[node]
        node.former = None

    def _look_below(self, origin: Node, trigger: Trigger) -> None:
        """Look at the descendants that the bequest of `origin` concerns."""
        if not origin.has_children:
            return
        for node in self.ledger.nodes.values():
            heirs = node.heirs_below(origin)
            if heirs is not None:
                for heir in [*heirs, node]:
                    self._rebase(heir)
                node.settled_ns = 0
                self._todo.append((node.pid, trigger))

    def _settle(self, look: _Look) -> None:
        """Give a descendant that no rule fits what `children` says, if it shows what it inherited; and take the floor
        away that a lowering pin has let it inherit, whatever it shows."""
        node = look.node
        bequest = node.inherited()
        if bequest is None:
            return
        current = look.directory.open_oom_score_adj()
        target = bequest.value if current in bequest.shown else current
        settled = node.settled_ns > 0
        if settled and self.dry_run:
            return
        if target == current and (settled or bequest.floor is None or target <= bequest.floor):
            node.settled_ns = node.settled_ns or time.monotonic_ns()
            return
        if node.refused is not None and node.refused[0] == bequest.rule:
            return
        if settled and target != current and not self._may_write_again(look, target, bequest.rule, current):
            return
        if not node.recorded:
            # Before the write, so that no crash can lose whose descendant this is: its parent may be dead.
            self.ledger.add(node)
            self.ledger.record(node)
            self.ledger.flush()
        if not self._write(look, target, bequest.rule, current):
            return
        node.settled_ns = time.monotonic_ns()
        self.counters.resets += 1
        self._decided("reset-child", look, bequest.rule, current, target, quiet=target == current)

    # The write

    def _write(self, look: _Look, value: int, rule: str, current: int) -> bool:
        """Write a value. False, and reported once per rule and reason, if the kernel refuses. Raises Vanished."""
        if self.dry_run:
            return True
        try:
            look.directory.write_oom_score_adj(value)
        except OSError as error:
            number = error.errno or 0
            look.node.refused = (rule, number)
            self.counters.failures += 1
            if (rule, number) not in self._reported:
                self._reported.add((rule, number))
                self._decided("pin-failed", look, rule, current, value, error=os.strerror(number))
            return False
        look.node.refused = None
        return True

    def _decided(
        self,
        event: str,
        look: _Look,
        rule: str,
        old: int,
        new: int,
        latency_us: int | None = None,
        *,
        error: str = "",
        quiet: bool = False,
    ) -> None:
        node = look.node
        if look.trigger.event_ns and look.trigger.source != "fork":
            self.pause()
        if quiet:
            self._describe(look)
        else:
            self._describe_fully(look)
        self._decisions.append(
            Decision(
                event=event,
                pid=node.pid,
                rule=rule,
                old=old,
                new=new,
                source=look.trigger.source,
                comm=node.comm,
                exe=look.exe or node.exe,
                uid=node.uid,
                unit=node.unit,
                latency_us=latency_us,
                error=error,
                quiet=quiet,
            )
        )
