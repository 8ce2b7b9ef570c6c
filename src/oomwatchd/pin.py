"""The transaction: one process is opened, read, decided on, written, recorded. The same for an event, a scan, a
reload; silent when nothing changes. Returns what it did as decisions; it doesn't log."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from oomwatchd import procfs
from oomwatchd.ledger import Hold, Ledger, Node, RuntimePin
from oomwatchd.procfs import ProcessDir, Stat, Vanished
from oomwatchd.rules import Action, Process, Rule, RuleSet

_CONTENDED_AFTER = 3
"""Drifts in a row until whoever keeps changing a value is left to it for a while."""
_BACK_OFF_SECONDS = 60.0
_BACK_OFF_LIMIT_SECONDS = 3600.0
_CALM_SECONDS = 600.0
"""After so long without drift the next one counts as the first."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a process is looked at."""

    source: str
    """exec, fork, comm, uid, gid, scan, reload, control."""
    event_ns: int = 0
    """The kernel's timestamp of the event, CLOCK_MONOTONIC; 0: no event."""


SCAN = Occasion("scan")


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that was done to a process, or would be in a dry run, or failed."""

    event: str
    """pinned, released, reset-child, drift, contended, pin-failed."""
    pid: int
    rule: str
    old: int
    new: int
    source: str
    comm: str
    exe: str = ""
    uid: int | None = None
    unit: str = ""
    latency_us: int | None = None
    """From the kernel's timestamp of the event to the end of the write."""
    error: str = ""
    quiet: bool = False
    """The value was right before: the write was for the floor alone."""


@dataclass(slots=True)
class Counters:
    """Since the daemon's start."""

    events: int = 0
    pins: int = 0
    releases: int = 0
    resets: int = 0
    drifts: int = 0
    failures: int = 0
    lost: int = 0
    scans: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """One process, while it is dealt with."""

    directory: ProcessDir
    stat: Stat
    node: Node
    occasion: Occasion
    process: Process | None = None


def runtime_rule(pin: RuntimePin) -> Rule:
    """The rule that a runtime pin stands for."""
    return Rule(pin.rule, (), Action(pin.value, pin.value), containers=True)


def wanted_hold(node: Node, rule: Rule, current: int, occasion: Occasion) -> Hold:
    """The hold that `rule` asks for on a process that shows `current`."""
    before = node.hold
    if before is None:
        first = without_rule(node, current)
    elif current != before.value and not rule.action.exact and rule.target(current) == current:
        first = current  # it has set itself another value, and the rule allows that
    else:
        first = before.first
    value = rule.target(first)
    child_value = rule.child_value(value, first)
    if before is not None and before.rule == rule.name:
        return replace(before, first=first, value=value, child_value=child_value)
    return Hold(rule.name, first, value, child_value, time.time(), occasion.source)


def without_rule(node: Node, current: int) -> int:
    """What the process would show if no rule fitted it: it may have inherited a pin, and not lost it yet."""
    origin = node.origin()
    if origin is None or origin.hold is None or current not in (origin.hold.value, origin.hold.first):
        return current
    return origin.hold.child_value


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
    ) -> None:
        self.rules = rules
        self.ledger = ledger
        self.dry_run = dry_run
        self.proc = proc
        self.clock = clock
        self.counters = Counters()
        self.hits: dict[str, int] = {}
        """Processes that a rule came to fit since the start, by rule."""
        self.ours = procfs.Namespaces(proc)
        self._decisions: list[Decision] = []
        self._reported: set[tuple[str, int]] = set()
        self._todo: list[tuple[int, Occasion]] = []

    def take_decisions(self) -> list[Decision]:
        """What was done since the last call."""
        taken, self._decisions = self._decisions, []
        return taken

    def set_rules(self, rules: RuleSet) -> None:
        """Go by other rules from now on. A scan has to follow."""
        self.rules = rules
        self._reported.clear()
        for node in self.ledger.nodes.values():
            node.refused = None
            node.drifts, node.contended, node.next_write = 0, False, 0.0

    # One process

    def forked(self, pid: int, parent_pid: int, event_ns: int) -> None:
        """A process was born. What the kernel lets it inherit may be wrong, and rules may fit it."""
        if pid in self.ledger.nodes:
            self.ledger.died(pid)  # its PID lives again, so it doesn't
        parent = self.ledger.nodes.get(parent_pid)
        if parent is not None:
            node = Node(pid, None, parent)
            self.ledger.add(node)
            if not parent.rule and not self.rules.needs.fork_decides:
                # No rule fits the parent, so none fits this, which is the same program.
                if parent.origin() is None:
                    return
                if 0 < parent.settled_ns < event_ns:
                    node.settled_ns = event_ns  # born right, since its parent was put right before
                    return
        elif not self.rules.needs.fork_decides:
            return
        self.look(pid, Occasion("fork", event_ns))

    def may_fit(self, pid: int) -> bool:
        """Whether the process is worth opening: most aren't, and one or two system calls tell. By PID, which may
        mean another process by the time it is opened; then that one is looked at as itself."""
        if pid in self.ledger.nodes or pid in self.ledger.runtime_pins:
            return True
        rules = self.rules
        try:
            exe = procfs.read_exe_path(pid, self.proc) if rules.needs.exe else None
            if not rules.possible_exe(exe):
                return False
            return not rules.asks_comm or bool(rules.possible(exe, procfs.read_comm(pid, self.proc)))
        except Vanished:
            return False

    def look(self, pid: int, occasion: Occasion) -> None:
        """Bring a process in line, and those of its family that this brings up. A process that is gone, or goes
        meanwhile, is no error."""
        self._todo.append((pid, occasion))
        while self._todo:
            pid, occasion = self._todo.pop()
            try:
                with ProcessDir(pid, self.proc) as directory:
                    self._look(directory, occasion)
            except Vanished:
                self.ledger.died(pid)
            except BaseException:
                self._todo.clear()
                raise

    def _look(self, directory: ProcessDir, occasion: Occasion) -> None:
        stat = directory.read_stat()
        if stat.flags & procfs.PF_KTHREAD or directory.pid == 1 or stat.state in procfs.DEAD:
            return
        node = self.node_of(directory.pid, stat)
        known = self.ledger.nodes.get(node.pid) is node
        rule, process = self.decide(directory, stat, node)
        look = _Look(directory, stat, node, occasion, process)
        left_to = rule.name if rule is not None and rule.action.ignore else ""
        if left_to and left_to != node.left_to:
            self._count_hit(left_to)
        node.left_to = left_to
        if rule is not None and not rule.action.ignore:
            self._hold(look, rule)
        elif node.hold is not None:
            self._release(look)
        elif rule is None and (origin := node.origin()) is not None and origin.hold is not None:
            hold = origin.hold
            self._settle(look, hold, (hold.value, hold.first), hold.child_value, hold.lowers)
        related = bool(node.rule) or next(node.ancestors(), None) is not None
        if not known and related and occasion.source != "fork":
            # Its children may have been there before it was known. Those of a fork come as events of their own.
            self._todo += [(pid, Occasion(occasion.source)) for pid in directory.read_children()]
        self._keep_if(look, related or node.refused is not None)

    def look_at_family(self, pid: int) -> None:
        """Look at the children of a process that we know, as far as no event has told of them."""
        node = self.ledger.nodes.get(pid)
        if node is None or not (node.rule or next(node.ancestors(), None)):
            return
        try:
            with ProcessDir(pid, self.proc) as directory:
                children = directory.read_children()
        except Vanished:
            return
        for child in children:
            if child not in self.ledger.nodes:
                self.look(child, SCAN)

    def node_of(self, pid: int, stat: Stat) -> Node:
        """The ledger's node of a process, or a new one, not yet in the ledger."""
        node = self.ledger.nodes.get(pid)
        if node is not None and node.starttime is None:
            node.starttime = stat.starttime
        if node is not None and node.starttime != stat.starttime:
            self.ledger.died(pid)
            node = None
        return Node(pid, stat.starttime, self.ledger.nodes.get(stat.ppid)) if node is None else node

    def decide(self, directory: ProcessDir, stat: Stat, node: Node) -> tuple[Rule | None, Process | None]:
        """The rule that fits. The facts are None where no more than exe and comm had to be read."""
        pin = self.ledger.runtime_pins.get(directory.pid)
        if pin is not None and pin.starttime == stat.starttime:
            return runtime_rule(pin), None
        exe = directory.read_exe() if self.rules.needs.exe else None
        path = None if exe is None else procfs.text(procfs.split_deleted(exe)[0])
        if not self.rules.possible(path, procfs.text(stat.comm)):
            return None, None
        process = procfs.read_process(
            directory,
            stat,
            exe,
            self.rules.needs,
            self.ours,
            verify=path is not None and self.rules.names_exe(path),
            ancestors=frozenset(above.rule for above in node.ancestors()) if self.rules.referenced else frozenset(),
        )
        return self.rules.decide(process), process

    def _keep_if(self, look: _Look, related: bool) -> None:
        """Keep in the ledger what is held, what lineage runs through, and nothing else."""
        known = self.ledger.nodes.get(look.node.pid) is look.node
        if related and not known:
            self.ledger.add(look.node)
            self.ledger.record(look.node)
        elif known and not related:
            self.ledger.forget(look.node)

    # Pin

    def _hold(self, look: _Look, rule: Rule) -> None:
        node, before = look.node, look.node.hold
        current = look.directory.read_oom_score_adj()
        hold = wanted_hold(node, rule, current, look.occasion)
        same = before is not None and (before.rule, before.value) == (hold.rule, hold.value)
        if current == hold.value or (same and self.dry_run):
            if before is None and self._floor_leaks(node, hold.value):
                self._write(look, hold.value, rule.name, current)
            if before != hold:
                self._enter(look, hold)
                self._regard_family(look, before)
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
        latency_us = None if look.occasion.event_ns == 0 else (time.monotonic_ns() - look.occasion.event_ns) // 1000
        if same:
            self.counters.drifts += 1
        else:
            self.counters.pins += 1
        self._decided("drift" if same else "pinned", look, rule.name, current, hold.value, latency_us)
        if not same:
            self._regard_family(look, before)

    def _floor_leaks(self, node: Node, value: int) -> bool:
        """Whether the process has inherited a floor below `value`, which only a privileged write moves."""
        origin = node.origin()
        return origin is not None and origin.hold is not None and origin.hold.lowers and value > origin.hold.value

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
        self._describe(look)
        self.ledger.add(node)
        self.ledger.record(node)
        self.ledger.flush()

    def _count_hit(self, rule: str) -> None:
        self.hits[rule] = self.hits.get(rule, 0) + 1

    def _describe(self, look: _Look) -> None:
        """What people want to know of the process, as far as it has been read already."""
        node, process = look.node, look.process
        node.comm = procfs.text(look.stat.comm)
        if process is None:
            return
        node.uid = process.uid
        node.exe = node.exe if process.exe is None else process.exe
        node.unit = node.unit if process.unit is None else process.unit

    def _describe_fully(self, look: _Look) -> None:
        """... and the rest. Done after the write, which shouldn't wait for it."""
        self._describe(look)
        node, directory, process = look.node, look.directory, look.process
        try:
            if process is None:
                node.uid = procfs.parse_status(directory.read("status")).uid
            if process is None or process.exe is None:
                node.exe = procfs.text(procfs.split_deleted(directory.read_exe() or b"")[0])
            if process is None or process.unit is None:
                node.unit = procfs.parse_units(procfs.text(procfs.parse_cgroup(directory.read("cgroup")))).unit
        except (Vanished, OSError):
            return  # it has what could be read

    # Release

    def _release(self, look: _Look) -> None:
        """Give the process back what it had."""
        node, hold = look.node, look.node.hold
        if hold is None:
            return
        current = look.directory.read_oom_score_adj()
        node.hold = None
        # A program that was executed in the place of the pinned one may have set itself a value already.
        own = look.occasion.source == "exec" and current not in (hold.value, hold.first)
        if not own and (current != hold.first or hold.lowers):
            self._write(look, hold.first, hold.rule, current)
        if hold.lowers:
            node.settled_ns = time.monotonic_ns()
        self.ledger.record(node)
        self.counters.releases += 1
        self._decided("released", look, hold.rule, current, current if own else hold.first)
        self._sweep(node, hold, look.occasion)

    def release_all(self) -> None:
        """Give everyone back what they had: `on_exit = "restore"`."""
        occasion = Occasion("control")
        for node in [*self.ledger.dead_origins(), *self.ledger.held()]:
            if node.dead:
                self._release_dead(node, occasion)
                continue
            self._with(node, occasion, self._release)

    def refresh_dead(self, occasion: Occasion) -> None:
        """After a change of rules: dead processes still say what their descendants get."""
        for node in self.ledger.dead_origins():
            before = node.hold
            if before is None:
                continue
            rule = self.rules.by_name.get(before.rule)
            if rule is None or not rule.enabled or rule.action.ignore:
                self._release_dead(node, occasion)
                continue
            value = rule.target(before.first)
            hold = replace(before, value=value, child_value=rule.child_value(value, before.first))
            if hold != before:
                node.hold = hold
                self._sweep(node, before, occasion)

    def _release_dead(self, node: Node, occasion: Occasion) -> None:
        hold, node.hold = node.hold, None
        if hold is not None:
            self._sweep(node, hold, occasion)

    # Children

    def _regard_family(self, look: _Look, before: Hold | None) -> None:
        """After a hold has begun or changed: descendants may show what it made or found them to have."""
        if before is not None:
            self._sweep(look.node, before, look.occasion)
            return
        occasion = Occasion(look.occasion.source)
        self._todo += [
            (node.pid, occasion)
            for node in self.ledger.nodes.values()
            if node.hold is None and node.descends_directly(look.node)
        ]

    def _sweep(self, origin: Node, before: Hold, occasion: Occasion) -> None:
        """Carry a change of `origin`'s hold over to the descendants that it concerned before."""
        hold = origin.hold
        ours = (before.value, before.first, before.child_value)
        wanted = before.first if hold is None else hold.child_value
        lowers = before.lowers or (hold is not None and hold.lowers)
        policy = before if hold is None else hold
        for node in list(self.ledger.nodes.values()):
            if node.hold is None and not node.left_to and node.descends_directly(origin):
                self._with(node, occasion, lambda look: self._settle(look, policy, ours, wanted, lowers))

    def _with(self, node: Node, occasion: Occasion, do: Callable[[_Look], None]) -> None:
        """Do something to a process of the ledger, if it still lives."""
        try:
            with ProcessDir(node.pid, self.proc) as directory:
                stat = directory.read_stat()
                if self.node_of(node.pid, stat) is node:
                    do(_Look(directory, stat, node, occasion))
        except Vanished:
            self.ledger.died(node.pid)

    def _settle(self, look: _Look, hold: Hold, ours: tuple[int, ...], wanted: int, lowers: bool) -> None:
        """Give a descendant that no rule fits what `children` says, if it shows one of `ours`; and take the floor
        away that a lowering pin has let it inherit, whatever it shows."""
        node = look.node
        current = look.directory.read_oom_score_adj()
        target = wanted if current in ours else current
        settled = node.settled_ns > 0
        if settled and self.dry_run:
            return
        if target == current and (settled or not lowers or target <= hold.value):
            node.settled_ns = node.settled_ns or time.monotonic_ns()
            return
        if node.refused is not None and node.refused[0] == hold.rule:
            return
        if settled and target != current and not self._may_write_again(look, target, hold.rule, current):
            return
        if not self._write(look, target, hold.rule, current):
            return
        node.settled_ns = time.monotonic_ns()
        self.ledger.add(node)
        self.ledger.record(node)
        self.counters.resets += 1
        self._decided("reset-child", look, hold.rule, current, target, quiet=target == current)

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
                source=look.occasion.source,
                comm=node.comm,
                exe=node.exe,
                uid=node.uid,
                unit=node.unit,
                latency_us=latency_us,
                error=error,
                quiet=quiet,
            )
        )
