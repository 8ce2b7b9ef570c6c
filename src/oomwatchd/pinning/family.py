"""Who descends from whom among the processes that matter, and of whom the filter has to tell.

Lineage comes from fork events, in their order, and from scans for what was there before."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from oomwatchd.kernel import procfs
from oomwatchd.kernel.exec_filter import ALL_KINDS, Member, PidTable
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.proc_connector import PROC_EVENT_EXIT, PROC_EVENT_FORK
from oomwatchd.kernel.procfs import ProcessDir, Stat, Vanished
from oomwatchd.pinning import strays
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Hold, Node, may_descend
from oomwatchd.rules.ruleset import RuleSet

BIRTH_NS = 10_000_000_000
"""A child that is being made while its parent is written may inherit the value from before, and yet bear a later
timestamp: copy_process() of kernel/fork.c takes the value first and the time last, and copies memory in between."""

_LEAVING = 65536
"""So many may wait to be forgotten; then the first ones are, and scans see to what they bring forth."""
_BIRTHS_AND_END = PROC_EVENT_FORK | PROC_EVENT_EXIT


class OwnTable:
    """The processes whose events matter, and their descendants, where the kernel's filter isn't to be had: what
    exec_filter.bpf.c does when an event happens, done when it is read. Only that a fork event doesn't tell of who made
    a child by CLONE_PARENT."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self.get = self._members.get

    def set(self, pid: int, member: Member) -> None:
        self._members[pid] = member

    def remove(self, pid: int) -> None:
        self._members.pop(pid, None)

    def items(self) -> dict[int, Member]:
        return self._members.copy()

    def forked(self, parent: int, child: int) -> Member | None:
        members = self._members
        if parent not in members:
            members.pop(child, None)  # of a process that had this PID before
            return None
        above = members[parent]
        born = members[child] = Member(parent, above.origin, above.hear)
        return born

    def exited(self, pid: int) -> None:
        self._members.pop(pid, None)


Table = OwnTable | PidTable


class Family:
    """The processes of a ledger, by descent. Says at whom to look; who does is the pinner."""

    def __init__(self, ledger: Ledger, rules: RuleSet, view: View) -> None:
        self._ledger = ledger
        self._rules = rules
        self._view = view
        self._proc = view.proc
        self.table: Table = OwnTable()
        self.unknown = True
        """Whether processes may descend from those in the ledger without any event having told of them."""
        self.dead_are_stale = True
        """Whether dead processes may leave what other rules than today's had for their descendants."""
        self._origins: dict[int, Node] = {}
        """Nodes by number, as the table has them."""
        self._leaving: deque[tuple[int, Node]] = deque()
        """Descendants that have settled, and holds that have changed: when, CLOCK_MONOTONIC ns."""
        self._kin: dict[int, tuple[int, int]] | None = None
        """While relatives are looked for: parent and session of every process."""
        self._lost_from: int | None = None
        """Births from then on (clock ticks since boot) may have gone unheard, until relatives have been looked for."""
        self._above_telling: set[int] = set()
        """Parents of held processes whose value gives a descendant away."""

    def use(self, table: Table) -> None:
        """Have another table, empty so far, and enter all that is known."""
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
        self.unknown = self.dead_are_stale = True
        for node in self._ledger.nodes.values():
            if node.settled:
                self.settle(node)

    def note_unheard_forks(self) -> None:
        """Forks may have gone unheard: the next scan has to find out who descends from whom."""
        self.unknown = True

    # Of whom the filter tells

    def hear(self, node: Node, kinds: int) -> None:
        """Have the filter tell of these events of a process."""
        if node.hear == kinds:
            return
        origin = node if node.matters else next(node.ancestors(), None)
        if origin is not None:
            self._origins[origin.number] = origin
        self.table.set(node.pid, Member(0, 0 if origin is None else origin.number, kinds))
        node.hear = kinds
        if strays.is_telling(node):
            self._above_telling.add(node.ppid)

    def settle(self, node: Node) -> None:
        """A descendant has got what `children` says. Its own children must still be looked at for a while: one that
        is being made may have the old value. Where rules ask for descent, all that it does matters for ever."""
        self.hear(node, self._heard_once_settled(node))
        self._leaving.append((time.monotonic_ns(), node))

    def _heard_once_settled(self, node: Node) -> int:
        below = any(above.rule in self._rules.referenced for above in node.ancestors())
        return ALL_KINDS if node.nameable or below else _BIRTHS_AND_END

    def keep_settled(self, node: Node) -> None:
        """A settled descendant has been looked at again: another program may be another matter."""
        if (node.hear == ALL_KINDS) is not (self._heard_once_settled(node) == ALL_KINDS):
            self.settle(node)

    def note_change(self, node: Node, before: Hold) -> None:
        """A hold has changed or ended: children may turn up that have its value, for a while."""
        node.former, node.changed_ns = before, time.monotonic_ns()
        self._leaving.append((node.changed_ns, node))

    def expire(self) -> None:
        """Forget, of what happened so long ago that no child from before can turn up any more, what no longer
        matters: former holds, and descendants that are right and that no release will have to find."""
        limit = time.monotonic_ns() - BIRTH_NS
        while self._leaving and (self._leaving[0][0] <= limit or len(self._leaving) > _LEAVING):
            _, node = self._leaving.popleft()
            if node.former is not None and node.changed_ns <= limit:
                node.former = None
            if self._ledger.nodes.get(node.pid) is node and node.settled and node.settled_ns <= limit:
                self._leave(node)

    def _leave(self, node: Node) -> None:
        holds = [above.hold for above in node.ancestors() if above.hold is not None]
        if not holds and not node.nameable:
            self._ledger.forget(node)
            self.table.remove(node.pid)
        elif not holds:
            self._ledger.forget(node)
        elif node.hear == _BIRTHS_AND_END and all(hold.child_value == hold.first for hold in holds):
            self._ledger.forget(node)
            self.table.remove(node.pid)
        elif node.hear == _BIRTHS_AND_END:
            self.hear(node, 0)  # the kernel goes on to know whose descendants are born, for a release to find them

    def related(self, node: Node) -> bool:
        """Whether the process matters, or what it descends from."""
        return node.matters or any(
            above.hold is not None or above.former is not None or above.rule in self._rules.referenced
            for above in node.ancestors()
        )

    # Events

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> bool:
        """A process was born. Whether it has to be looked at: it descends from one that matters, or is a copy of a
        program that a rule may fit."""
        member = self.table.forked(parent_pid, pid)
        if self._kin is not None:
            self._kin[pid] = parent_pid, 0
        nodes = self._ledger.nodes
        parent = nodes.get(parent_pid) if member is None else self._maker(member, parent_pid)
        if parent is None and parent_pid in self._above_telling and isinstance(self.table, OwnTable):
            parent = self._guessed_maker(pid, parent_pid)
            if parent is not None:
                member = self.table.forked(parent.pid, pid)
        node = nodes.get(pid)
        if node is not None and not self._was_seen_since(node, event_ns):
            self.died(node)
            node = None
        if parent is None:
            return member is not None or self._rules.needs.fork_decides
        if node is None:
            node = Node(pid, None, parent)
            self._ledger.add(node)
        elif node.parent is None and may_descend(node, parent):
            self.acknowledge(node, parent)
        if parent.settled and parent.settled_ns < event_ns - BIRTH_NS and not self._rules.needs.fork_decides:
            node.settled_ns = parent.settled_ns  # born right, and no rule fits it: it is the same program
            return False
        # One that is no member any more has ended. Who has its PID now is looked at as himself.
        return member is not None

    def _maker(self, member: Member, parent_pid: int) -> Node | None:
        nodes = self._ledger.nodes
        return nodes.get(member.maker) or nodes.get(parent_pid) or self._origins.get(member.origin)

    def _guessed_maker(self, pid: int, parent_pid: int) -> Node | None:
        """Who made a process by CLONE_PARENT, whose fork event names the parent of the maker."""
        siblings = [node for node in self._ledger.held() if node.ppid == parent_pid and strays.is_telling(node)]
        maker = strays.sibling_of(pid, siblings, self._view)
        if maker is None or maker.hold is None or strays.shows(parent_pid, maker.hold.value, self._proc):
            return None
        return maker

    def _was_seen_since(self, node: Node, event_ns: int) -> bool:
        """Whether `node` is the process that was born then, and its event is old news."""
        if node.starttime is None:
            return False
        # The kernel shows a new process a moment before it takes the event's time.
        return event_ns < node.seen_ns or procfs.is_alive(node.pid, node.starttime, self._proc)

    def exited(self, pid: int, event_ns: int) -> None:
        """The first or the last thread of a process has ended."""
        node = self._ledger.nodes.get(pid)
        if node is None:
            self.table.exited(pid)
            return
        try:
            stat = procfs.read_stat(pid, self._proc)
        except Vanished:
            stat = None
        if stat is not None and stat.starttime == node.starttime:
            lives_on = stat.threads > 1 or (event_ns < node.seen_ns and not stat.ended)
            if lives_on:
                return
        self.table.exited(pid)
        self.died(node)

    def died(self, node: Node) -> None:
        """The process is gone. Its node lives on in those of its descendants."""
        # What it leaves to them may have been about to change.
        self.dead_are_stale = self.dead_are_stale or node.has_children
        self._ledger.died(node.pid)

    # Who is it, and whose child?

    def node_of(self, pid: int, stat: Stat) -> Node:
        """The ledger's node of a process, or a new one, not yet in the ledger."""
        node = self._ledger.nodes.get(pid)
        if node is not None:
            node.ppid = stat.ppid
        if node is not None and node.starttime is None:
            node.starttime, node.seen_ns = stat.starttime, time.monotonic_ns()
            if node.parent is not None and not may_descend(node, node.parent):
                node.parent = None  # its PID has come to mean another process
        if node is not None and node.starttime != stat.starttime:
            self.died(node)
            node = None
        if node is None:
            node = Node(pid, stat.starttime, None)
            node.seen_ns, node.ppid = time.monotonic_ns(), stat.ppid
        if node.parent is None:
            parent = self._living_parent(node, stat)
            if parent is not None:
                self.acknowledge(node, parent)
        return node

    def _living_parent(self, node: Node, stat: Stat) -> Node | None:
        """The parent, as far as the kernel still knows it: who adopts an orphan is an ancestor too (prctl(2),
        PR_SET_CHILD_SUBREAPER), and so is the leader of a session, which only births enlarge (setsid(2))."""
        for pid in (stat.ppid, stat.session):
            parent = self._ledger.nodes.get(pid)
            if parent is None or parent.starttime is None or not may_descend(node, parent):
                continue
            # A session keeps the PID of its leader, but who is the parent can have it from one that has died.
            if pid == stat.session or procfs.is_alive(pid, parent.starttime, self._proc):
                return parent
        return None

    def acknowledge(self, node: Node, parent: Node) -> None:
        """A process in the ledger has been found to descend from another."""
        node.descend_from(parent)
        node.recorded = False
        self.rebase(node)

    def rebase(self, node: Node) -> None:
        """What a held process had before may have been the bequest of an ancestor, as that was found or has changed
        since."""
        bequest, hold = node.inherited(), node.hold or node.former
        if hold is None or bequest is None or hold.first not in bequest.shown or hold.first == bequest.value:
            return
        node.recorded = False
        hold = replace(hold, first=bequest.value)
        if node.hold is None:  # released a moment ago, to what it leaves to descendants that haven't been looked at yet
            node.former = hold
        else:
            node.hold = self._under_todays_rule(hold) if node.dead else hold  # nobody will look at the dead

    def _under_todays_rule(self, hold: Hold) -> Hold:
        """A hold as its rule has it now; as it was where there is no such rule."""
        rule = self._rules.by_name.get(hold.rule)
        if rule is None:
            return hold
        value = rule.target(hold.first)
        return replace(hold, value=value, child_value=rule.child_value(value, hold.first))

    # Descendants to be looked at

    def below(self, origin: Node) -> list[int]:
        """The descendants that the bequest of `origin` concerns, after it has changed."""
        if not origin.has_children:
            return []
        found = self.adopt_untold()
        for node in self._ledger.nodes.values():
            heirs = node.heirs_below(origin)
            if heirs is not None:
                for heir in [*heirs, node]:
                    self.rebase(heir)
                node.settled_ns = 0
                found.append(node.pid)
        return found

    def children(self, directory: ProcessDir) -> list[int]:
        """The children that a process has, as the kernel tells it: those that were born before it came to matter.
        Where the kernel doesn't (CONFIG_PROC_CHILDREN), a scan has to find them."""
        try:
            found = directory.read(f"task/{directory.pid}/children")
        except (Vanished, OSError):
            self.unknown = True
            return []
        return [int(pid) for pid in found.split() if int(pid) not in self._ledger.nodes]

    def dead_to_refresh(self, *, ending: bool) -> list[int]:
        """After a change of rules, when all that live have been looked at: dead processes still say what their
        descendants get. The pin of one process ends with it, so nothing changes it any more."""
        found = list[int]()
        if not self.dead_are_stale:
            return found
        self.dead_are_stale = False
        for node in sorted(self._ledger.dead_origins(), key=lambda node: len(list(node.ancestors()))):
            before = node.hold
            if before is None or (before.rule == f"pin {node.pid}" and not ending):
                continue
            rule = self._rules.by_name.get(before.rule)
            if rule is None or not rule.enabled or rule.action.ignore:
                node.hold = None
            else:
                node.hold = self._under_todays_rule(before)
            if node.hold != before:
                self.note_change(node, before)
                found += self.below(node)
        return found

    def adopt_untold(self) -> list[int]:
        """Enter into the ledger what the table alone knows of: descendants that were born right, and those whose
        events were lost. The latter have to be looked at."""
        found = list[int]()
        for pid, member in self.table.items().items():
            origin = self._origins.get(member.origin)
            if pid in self._ledger.nodes or origin is None:
                continue
            try:
                node = self.node_of(pid, procfs.read_stat(pid, self._proc))
            except Vanished:
                continue
            if node.parent is None and may_descend(node, origin):
                self.acknowledge(node, origin)
            node.hear = member.hear
            self._ledger.add(node)
            if member.hear == 0:
                node.settled_ns = time.monotonic_ns()
                self._ledger.record(node)
            else:
                found.append(pid)
        return found

    def gather(self, pids: Iterable[int]) -> Iterator[None]:
        """Read who descends from whom now; births are added as they happen, until adopt_relatives(). Pauses after each
        process."""
        kin = self._kin = {}
        self.unknown = False
        for pid in pids:
            with contextlib.suppress(Vanished):
                stat = procfs.read_stat(pid, self._proc)
                if not stat.ended:  # to be reaped any moment; then nobody knows of its children
                    kin.setdefault(pid, (stat.ppid, stat.session))
            yield

    def note_loss(self, from_ns: int) -> None:
        """Events since then (CLOCK_MONOTONIC) may have been lost."""
        # What was born in the same tick as the last one that was heard of may have been heard of, too.
        asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        lost_from = (from_ns + asleep_ns) * os.sysconf("SC_CLK_TCK") // 1_000_000_000 + 1
        self._lost_from = lost_from if self._lost_from is None else min(lost_from, self._lost_from)
        self.unknown = True

    def give_up_gathering(self) -> None:
        """A scan has been given up. The next one has to find who descends from whom."""
        self._kin, self.unknown = None, True

    def adopt_relatives(self) -> Iterator[int]:
        """Find, of what gather() has read, who descends from whom in the ledger without being known to: to be looked
        at, the elder before the younger. Ends the gathering."""
        kin, self._kin = self._kin or {}, None
        yield from self._adopt_kin(kin)
        found = False
        for pid in self._adopt_strays(kin):
            found = True
            yield pid
        if found:
            yield from self._adopt_kin(kin)

    def _adopt_kin(self, kin: dict[int, tuple[int, int]]) -> Iterator[int]:
        """Those that descend from processes in the ledger by the parents and sessions that they have."""
        nodes, nearest = self._ledger.nodes, dict[int, Node | None]()
        died_unseen = self._ledger.take_died_unseen()
        for pid in kin:
            line = list[int]()
            while pid in kin and pid not in nearest and (pid not in nodes or nodes[pid].parent is None):
                nearest[pid] = None
                line.append(pid)
                pid = kin[pid][0]
            above = nearest[pid] if pid in nearest else nodes.get(pid)
            for each in reversed(line):
                session = kin[each][1]
                # Nobody else can have got the PID of a session's leader while the session has members.
                above = above or nodes.get(session) or died_unseen.get(session)
                if above is not None and above.pid != each and self._adopt(each, above):
                    yield each
                nearest[each] = above = nodes.get(each) or above

    def _adopt_strays(self, pids: Iterable[int]) -> Iterator[int]:
        """After a loss: descendants whose lineage the kernel has forgotten. Where its filter keeps the table, it has
        told of them already."""
        lost_from, self._lost_from = self._lost_from, None
        if lost_from is None or not isinstance(self.table, OwnTable):
            return
        known = {id(node): node for node in (*self._ledger.held(), *self._ledger.dead_origins())}
        holders = [node for node in known.values() if strays.gives_away(node)]
        for pid in pids if holders else ():
            if pid in self._ledger.nodes:
                continue
            origin = strays.ancestor_of(pid, holders, lost_from, self._view)
            if origin is not None and self._adopt(pid, origin):
                yield pid

    def _adopt(self, pid: int, above: Node) -> bool:
        try:
            stat = procfs.read_stat(pid, self._proc)
        except Vanished:
            return False
        if stat.ended:
            return False
        node = self.node_of(pid, stat)
        if node.parent is None and may_descend(node, above):
            self.acknowledge(node, above)
        self._ledger.add(node)
        return True

    def prune(self, members: dict[int, Member], present: Iterable[int]) -> None:
        """After a scan that has found these processes, forget what `members`, taken before, has of others."""
        for pid in members.keys() - set(present):
            if pid not in self._ledger.nodes:
                self.table.remove(pid)
        numbers = {member.origin for member in members.values()}
        numbers |= {node.number for node in self._ledger.nodes.values()}
        self._above_telling = {node.ppid for node in self._ledger.held() if strays.is_telling(node)}
        for number in self._origins.keys() - numbers:
            del self._origins[number]
