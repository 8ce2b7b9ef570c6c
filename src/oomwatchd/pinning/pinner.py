"""The transaction: one process is opened, read, decided on, written, recorded. The same for an event, a scan, a
reload; silent when nothing changes. Returns what it did as decisions; it doesn't log."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel import procfs
from oomwatchd.kernel.containers import in_container
from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.kernel.executable import runs_file, split_deleted
from oomwatchd.kernel.facts import View, in_foreign_pid_ns, read_process
from oomwatchd.kernel.procfs import ProcessDir, Stat, Vanished
from oomwatchd.kernel.systemd_cgroups import parse_cgroup, parse_units
from oomwatchd.pinning.backoff import Verdict
from oomwatchd.pinning.decisions import SCAN, Counters, Decision, Latencies, Trigger, runtime_rule, wanted_hold
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Bequest, Hold, Node, VerifiedExe
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet

_KEPT_PATH = 255
"""A longer path of an executable isn't kept: the kernel tells it whenever someone asks."""
_NOBODY = frozenset[str]()


@dataclass(slots=True)
class _Look:
    """One process, while it is dealt with. Not frozen, as `Process` isn't."""

    directory: ProcessDir
    node: Node
    trigger: Trigger
    stat: Stat | None = None
    """None: not read yet."""
    process: Process | None = None
    exe: str = ""
    """Its executable, if that has been read, however long."""
    tracked: bool = False
    """Whether the ledger had it before."""
    mattered: bool = False
    """Whether it meant something for its descendants before."""
    pinned: "_Pinned | None" = None
    """What was written, if a value was."""


@dataclass(slots=True)
class _Pinned:
    """A value that has been written because a rule fits."""

    rule: str
    before: Hold | None
    """How the process was held until then."""
    was: int
    """What it showed until then."""
    value: int
    same: bool
    """Whether it was held so before, and somebody had changed the value."""
    latency_us: int | None


def _floor_leaks(node: Node, value: int) -> bool:
    """Whether the process has inherited a floor below `value`, which only a privileged write moves."""
    bequest = None if node.parent is None else node.inherited()
    return bequest is not None and bequest.floor is not None and value > bequest.floor


Defer = Callable[[int, Trigger, int, NotYet], bool]
"""Called with a PID, why it is looked at, the user id of its owner, and what has to be found out before it is to be
looked at again. Whether it has taken that over; else the answer is waited for."""


def _has_resource_privilege(proc: str) -> bool:
    try:
        return "CAP_SYS_RESOURCE" not in procfs.missing_capabilities(proc=proc)
    except (OSError, ValueError):
        return False


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
        self.dry_run = dry_run
        self.proc = proc
        self.prefilter = Prefilter(rules, proc)
        self.view = View(proc)
        self._moves_floors = _has_resource_privilege(proc)
        self.family = Family(ledger, rules, self.view)
        self.clock = clock
        self._defer = defer
        self.counters = Counters()
        self.latencies = Latencies()
        self.hits: dict[str, int] = {}
        """Processes that a rule came to fit since the start, by rule."""
        self._ending = False
        self._decisions: list[Decision] = []
        self._reported: set[tuple[str, int]] = set()
        self._todo: list[tuple[int, Trigger]] = []
        self._unfinished: _Look | None = None

    def take_decisions(self) -> list[Decision]:
        """What was done since the last call."""
        taken, self._decisions = self._decisions, []
        return taken

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on. A scan has to follow."""
        self.rules = rules
        self.prefilter = Prefilter(rules, self.proc)
        self.family.set_rules(rules)
        self.family.dead_are_stale = True
        self._reported.clear()
        for node in self.ledger.nodes.values():
            node.forgive()

    def change_ledger(self, ledger: Ledger, *, dry_run: bool) -> None:
        """Begin with another ledger, empty so far. A scan has to follow."""
        table = self.family.table
        for pid in table.items():
            table.remove(pid)
        self.ledger, self.dry_run = ledger, dry_run
        self.family = Family(ledger, self.rules, self.view)
        self.family.use(table)

    # One process

    def concerns(self, pid: int) -> bool:
        """Whether an event of the process about itself is worth a look: most aren't."""
        table = self.family.table
        member = table.get(pid)
        try:
            if not self._asked_for(pid) and not self.prefilter.passes(pid):
                if member is not None and pid not in self.ledger.nodes:
                    table.remove(pid)
                return False
        except Vanished:
            concerned = False  # but its children may be
        else:
            concerned = True
        self.prefilter.ruled_out.pop(pid, None)
        if member is None:
            table.set(pid, Member())
        return concerned

    def _asked_for(self, pid: int) -> bool:
        """Whether the process matters, whatever its executable and name."""
        node = self.ledger.nodes.get(pid)
        return pid in self.ledger.runtime_pins if node is None else not node.settled

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> None:
        """A process was born. What the kernel lets it inherit may be wrong, and rules may fit it."""
        if self.family.forked(pid, parent_pid, event_ns) and (pid in self.ledger.nodes or self.concerns(pid)):
            self.look(pid, Trigger("fork", event_ns))

    def may_fit(self, pid: int, inode: int) -> bool:
        """Whether a scan has to open the process: by PID, which may mean another process by the time it is opened; then
        that one is looked at as itself. `inode` as for Prefilter.passes()."""
        if self._asked_for(pid) or self.prefilter.passes(pid, inode):
            self.prefilter.ruled_out.pop(pid, None)
            return True
        return False

    def doubtful(self, present: Mapping[int, int], scan: int) -> Iterable[int]:
        """Those of all processes that a scan has to ask about, see Prefilter.doubtful()."""
        for pid in (*self.ledger.nodes, *self.ledger.runtime_pins):
            if self._asked_for(pid):
                self.prefilter.ruled_out.pop(pid, None)
        return self.prefilter.doubtful(present, scan)

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

    def _pin_newcomer(self, directory: ProcessDir, exe: bytes | None, trigger: Trigger) -> _Look | None:
        """The short way for a program that has just been executed, of which nothing is known: where the executable
        alone says which rule fits, all else is read after the write. None: nothing was written."""
        pid, ledger = directory.pid, self.ledger
        rule = self.prefilter.decided_by(exe)
        if rule is None or exe is None or trigger.source != "exec":
            return None
        if pid in ledger.nodes or pid in ledger.runtime_pins or pid == 1:
            return None
        if not rule.containers and in_foreign_pid_ns(directory, self.view.namespaces):
            return None
        node = Node(pid, None, None)
        current = directory.open_oom_score_adj()
        hold = node.hold = wanted_hold(node, rule, current, trigger)
        if hold.value == current:
            return None
        ledger.enter(node)
        written = False
        try:
            if not self.dry_run:
                directory.write_oom_score_adj(hold.value)
            written = True
        except OSError:
            return None  # refused: the long way tells of it
        finally:
            if not written:
                ledger.turn_away(node)
        latency_us = (time.monotonic_ns() - trigger.event_ns) // 1000
        node.nameable = True
        pinned = _Pinned(rule.name, None, current, hold.value, same=False, latency_us=latency_us)
        self._count_hit(rule.name)
        return _Look(directory, node, trigger, exe=procfs.text(split_deleted(exe)[0]), pinned=pinned)

    def _look(self, directory: ProcessDir, exe: bytes | None, trigger: Trigger) -> _Look | None:
        """Find out which rule fits, and write what it wants. None: there is nothing to follow up."""
        stat = directory.read_stat()
        if stat.ended:
            raise Vanished
        if stat.flags & procfs.PF_KTHREAD or directory.pid == 1:
            return None
        node = self.family.node_of(directory.pid, stat)
        tracked = self.ledger.nodes.get(directory.pid) is node
        look = _Look(directory, node, trigger, stat, tracked=tracked, mattered=node.matters)
        if trigger.source == "exec":
            self._note_exec(look)
        try:
            rule, look.process = self._decide(look, stat, exe)
        except NotYet as question:
            self._put_off(directory, trigger, question)
            return None
        left_to = rule.name if rule is not None and rule.action.ignore else ""
        if left_to and left_to != node.left_to:
            self._count_hit(left_to)
        node.left_to = left_to
        if rule is not None and not rule.action.ignore:
            self._hold(look, stat, rule)
        elif node.hold is not None:
            self._release(look)
        elif rule is None:
            self._settle(look)
        return look

    def _note_exec(self, look: _Look) -> None:
        """What was remembered of the program from before is no longer so."""
        pid, event_ns = look.node.pid, look.trigger.event_ns
        self.rules.searches.executed(pid, event_ns)
        self.view.command_lines.executed(pid, event_ns)

    def _follow_up(self, look: _Look) -> None:
        """What needn't come before the write."""
        node, pinned = look.node, look.pinned
        newcomer = look.stat is None
        if newcomer:
            self._note_exec(look)
            with contextlib.suppress(Vanished):
                look.stat = look.directory.read_stat()
        if pinned is not None:
            self._tell_pin(look, pinned)
        if newcomer:
            self._place(look)
        if pinned is not None and not pinned.same:
            self._regard_family(look, pinned.before)
        self._keep_if_related(node)
        comes = not look.tracked and self.ledger.nodes.get(node.pid) is node
        if (comes or (node.matters and not look.mattered)) and look.trigger.source != "fork":
            self._look_at(self.family.children(look.directory), Trigger(look.trigger.source))

    def _place(self, look: _Look) -> None:
        """Find out of whom a process descends that was pinned by the short way. Raises Vanished."""
        if look.stat is None:
            raise Vanished
        node, hold = look.node, look.node.hold
        self.family.node_of(node.pid, look.stat)
        if node.hold != hold:  # what it had before came from an ancestor
            self._look_at([node.pid], Trigger(look.trigger.source))

    def _put_off(self, directory: ProcessDir, trigger: Trigger, question: NotYet) -> None:
        """Look again when it is known what can't be known at once."""
        owner = os.fstat(directory.descriptor).st_uid
        if self._defer is not None and self._defer(directory.pid, trigger, owner, question):
            return
        question.find_out()
        self._todo.append((directory.pid, trigger))

    def look_at_relatives(self) -> Iterator[None]:
        """Look at those that have been found to descend from processes in the ledger, see Family.gather(). Pauses after
        each."""
        self._look_at(self.family.adopt_untold(), SCAN)
        self.finish()
        for pid in self.family.adopt_relatives():
            self.look(pid, SCAN)
            yield

    def _decide(self, look: _Look, stat: Stat, exe: bytes | None) -> tuple[Rule | None, Process | None]:
        """The rule that fits. The facts are None where no more than exe and comm had to be read."""
        directory, node = look.directory, look.node
        pin = self.ledger.runtime_pins.get(directory.pid)
        if pin is not None and pin.starttime == stat.starttime and not self._ending:
            return runtime_rule(pin), None
        decision = self._decide_by(directory, stat, node, exe)
        held_by = node.hold.rule if node.hold is not None else ""
        if exe is None or look.trigger.source == "exec" or (decision[0] is not None and decision[0].name == held_by):
            return decision
        before = self.exe_before(directory, node, exe)
        if before is None:
            return decision
        by_path_before = self._decide_by(directory, stat, node, before.path.encode("utf-8", "surrogateescape"), before)
        return decision if by_path_before[0] is None else by_path_before

    def exe_before(self, directory: ProcessDir, node: Node, exe: bytes) -> VerifiedExe | None:
        """The verified executable of a process, or of the one that it was forked from, if that file is still what runs.
        Its path may lead nowhere by now, or to another file: an upgrade, a file system that was unmounted."""
        before, parent = node.verified_exe, node.parent
        if before is None and parent is not None and parent.verified_exe is not None and self._shows(parent, exe):
            before = parent.verified_exe
        return before if before is not None and runs_file(directory, before.file) else None

    def _shows(self, node: Node, exe: bytes) -> bool:
        """Whether the process runs what is shown by this path too. To stat(2) what is another program anyway might wait
        for a file system."""
        try:
            return not node.dead and procfs.read_exe_link(node.pid, self.proc.encode()) == exe
        except (Vanished, OSError):
            return False

    def _decide_by(
        self, directory: ProcessDir, stat: Stat, node: Node, exe: bytes | None, verified: VerifiedExe | None = None
    ) -> tuple[Rule | None, Process | None]:
        """The rule that fits with the executable at this path, which may be known to be verified."""
        rules = self.rules
        possible, verify = self.prefilter.sift(exe, stat.comm)
        node.nameable = possible != 0 or verified is not None or self.prefilter.may_be_renamed(exe)
        if not possible:
            return None, None
        ancestors = _NOBODY
        if rules.referenced and node.parent is not None:
            ancestors = frozenset(above.rule for above in node.ancestors() if above.rule)
        process = read_process(
            directory,
            stat,
            exe,
            rules.needs,
            self.view,
            ancestors,
            verify=verify,
            verified=None if verified is None else verified.file,
        )
        return rules.decide(process, possible), process

    def _keep_if_related(self, node: Node) -> None:
        """Keep in the ledger what is held, what lineage runs through, and nothing else; and have the filter tell of
        what may come to matter, and of nothing else."""
        if node.refused is not None or self.family.related(node):
            self.ledger.add(node)
            if not node.recorded:
                self.ledger.record(node)
            if node.settled:
                self.family.keep_settled(node)
            else:
                self.family.hear(node, ALL_KINDS)
            return
        if self.ledger.nodes.get(node.pid) is node:
            self.ledger.forget(node)
        if not node.nameable:
            self.family.table.remove(node.pid)

    # Pin

    def _hold(self, look: _Look, stat: Stat, rule: Rule) -> None:
        node, before = look.node, look.node.hold
        current = look.directory.open_oom_score_adj()
        hold = wanted_hold(node, rule, current, look.trigger)
        same = before is not None and (before.rule, before.value) == (hold.rule, hold.value)
        self._remember_exe(look, rule)
        if current == hold.value or (same and self.dry_run):
            if before != hold:
                self._enter(look, hold)
                self._count_hit_if_new(before, rule.name)
            if (before is None or look.trigger.source == "fork") and _floor_leaks(node, hold.value):
                self._write(look, hold.value, rule.name, current)
            if before != hold:
                self._regard_family(look, before)
            other = look.trigger.source == "exec" or node.comm != procfs.text(stat.comm)
            if other or not node.described:
                self._describe_fully(look)
            else:
                self._describe(look)
            return
        if node.refused is not None and node.refused[0] == rule.name:
            return
        if same and not self._may_write_again(look, hold.value, rule.name, current):
            return
        if not self._enter_and_write(look, hold, current):
            return
        latency_us = None if look.trigger.event_ns == 0 else (time.monotonic_ns() - look.trigger.event_ns) // 1000
        look.pinned = _Pinned(rule.name, before, current, hold.value, same, latency_us)

    def _tell_pin(self, look: _Look, pinned: _Pinned) -> None:
        if pinned.same:
            self.counters.drifts += 1
        else:
            self.counters.pins += 1
            if pinned.latency_us is not None:
                self.latencies.add(pinned.latency_us)
        event = "drift" if pinned.same else "pinned"
        self._decided(event, look, pinned.rule, pinned.was, pinned.value, pinned.latency_us)

    def _may_write_again(self, look: _Look, wanted: int, rule: str, current: int) -> bool:
        """Whether to fight for a value that someone has changed, or to leave it to them for a while."""
        verdict = look.node.backoff.drifted(self.clock())
        if verdict is Verdict.WARN:
            self._decided("contended", look, rule, current, wanted)
        return verdict is Verdict.WRITE

    def _enter_and_write(self, look: _Look, hold: Hold, current: int) -> bool:
        """Enter the hold and save it, then write the value: a crash at any moment leaves the first value on record.
        False, and not held so, if the kernel refuses. Raises Vanished."""
        node, before = look.node, look.node.hold
        known = self.ledger.nodes.get(node.pid) is node
        if before != hold or not node.recorded:
            self._enter(look, hold)
        written = False
        try:
            written = self._write(look, hold.value, hold.rule, current)
        finally:
            if not written:
                self._undo(node, before, known=known)
        if written:
            self._count_hit_if_new(before, hold.rule)
        return written

    def _enter(self, look: _Look, hold: Hold) -> None:
        """Enter the hold, and save it."""
        look.node.hold = hold
        self._describe(look)
        self.ledger.enter(look.node)

    def _undo(self, node: Node, before: Hold | None, *, known: bool) -> None:
        """The value wasn't written: the process is held as before, if at all."""
        node.hold = before
        if known:
            self.ledger.record(node)
        else:
            self.ledger.forget(node)

    def _remember_exe(self, look: _Look, rule: Rule) -> None:
        """Remember the file by whose verified path the process is held."""
        node, process = look.node, look.process
        found = None
        if process is not None and process.exe_file is not None and rule.criterion("exe") is not None:
            path = process.exe or ""
            found = VerifiedExe(self.ledger.share(path), process.exe_file) if len(path) <= _KEPT_PATH else None
        if found != node.verified_exe:
            node.verified_exe, node.recorded = found, False

    def _count_hit_if_new(self, before: Hold | None, rule: str) -> None:
        if before is None or before.rule != rule:
            self._count_hit(rule)

    def _count_hit(self, rule: str) -> None:
        self.hits[rule] = self.hits.get(rule, 0) + 1

    def _describe(self, look: _Look) -> None:
        """What people want to know of the process, as far as it has been read already."""
        process = look.process
        if process is None:
            self._note(look, self._comm(look), look.exe or None)
        else:
            self._note(look, process.comm, process.exe, process.uid, process.unit)

    def _comm(self, look: _Look) -> str:
        """The name; of a newcomer that is gone already, the one that it was executed by."""
        if look.stat is not None:
            return procfs.text(look.stat.comm)
        return procfs.text(os.fsencode(look.exe).rpartition(b"/")[2][:15])

    def _describe_fully(self, look: _Look) -> None:
        """... and the rest. Done after the write, which shouldn't wait for it."""
        self._describe(look)
        directory, process = look.directory, look.process
        try:
            if process is None or process.uid is None:
                self._note(look, uid=procfs.parse_status(directory.read("status")).uid)
            if not look.exe:
                self._note(look, exe=procfs.text(split_deleted(directory.read_exe() or b"")[0]))
            if process is None or process.unit is None:
                cgroup = procfs.text(parse_cgroup(directory.read("cgroup"), self.view.hierarchy))
                self._note(look, unit=parse_units(cgroup).unit)
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
        node.hold, node.verified_exe = None, None
        own = current not in (hold.value, hold.first)  # what the process has set itself
        if own and hold.lowers and hold.value <= current < hold.first:
            own = not self._has_used_the_floor(look)
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
        self._look_at([*self.family.adopt_untold(), *self.ledger.nodes], Trigger("control"))
        self.finish()
        self.refresh_dead()

    def identify_all(self) -> None:
        """Read the start time of those that only their fork event has told of, so that the ledger can be saved."""
        self.family.adopt_untold()
        for pid, node in list(self.ledger.nodes.items()):
            try:
                if node.starttime is None:
                    node.starttime = procfs.read_stat(pid, self.proc).starttime
            except Vanished:
                self.ledger.died(pid)

    def refresh_dead(self) -> None:
        """After a change of rules, when all that live have been looked at: what the dead leave to their descendants."""
        self._look_at(self.family.dead_to_refresh(ending=self._ending), SCAN)
        self.finish()

    # Children

    def _regard_family(self, look: _Look, before: Hold | None) -> None:
        """After a hold has begun, changed or ended: descendants may show what it made or found them to have, and so
        may children whose birth we'll hear of only now."""
        if before is not None:
            self.family.note_change(look.node, before)
        self._look_at(self.family.below(look.node), Trigger(look.trigger.source))

    def _settle(self, look: _Look) -> None:
        """Give a descendant that no rule fits what `children` says, if it shows what it inherited; and take the floor
        away that a lowering pin has let it inherit, whatever it shows. Once: what it shows later is its own."""
        node = look.node
        bequest = node.inherited()
        if bequest is None or node.settled_ns > 0:
            return
        current = look.directory.open_oom_score_adj()
        target = bequest.value if current in bequest.shown else current
        if bequest.floor is not None and bequest.floor <= current < bequest.value and self._has_used_the_floor(look):
            target = bequest.value
        if target != current and self._has_another_manager(look, bequest):
            target = current
        if target != current or (bequest.floor is not None and target > bequest.floor):
            if node.refused is not None and node.refused[0] == bequest.rule:
                return
            if target != current:
                self.ledger.enter(node)  # after a crash its descent alone says what it had
            if not self._write(look, target, bequest.rule, current):
                return
            self.counters.resets += 1
            self._decided("reset-child", look, bequest.rule, current, target, quiet=target == current)
        node.settled_ns = time.monotonic_ns()
        node.recorded = False
        self.family.settle(node)

    def _has_used_the_floor(self, look: _Look) -> bool:
        """Whether a value above a lowering pin, and below what the process should have, is one that only the pin has
        allowed it to set: it hasn't the privilege to go below its own floor. Without privilege of ours no pin has moved
        that."""
        if not self._moves_floors:
            return False
        status = procfs.parse_status(look.directory.read("status"))
        return 0 not in (status.uid, status.effective_uid)

    def _has_another_manager(self, look: _Look, bequest: Bequest) -> bool:
        """Whether the process lives in a container, whose own value may be the same as its runtime's pin."""
        rule = self.rules.by_name.get(bequest.rule)
        if rule is not None and rule.containers:
            return False
        if not in_foreign_pid_ns(look.directory, self.view.namespaces):
            return False
        return in_container(look.directory, self.proc, self.view.hierarchy) is True

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
