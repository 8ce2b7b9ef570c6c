"""Pins a process by the rule that fits: first a line in the ledger, then the write."""

import time
from collections.abc import Callable

from oomwatchd.base.clock import ticks_since_boot
from oomwatchd.kernel import procfs
from oomwatchd.kernel.executable import split_deleted
from oomwatchd.kernel.facts import View, in_foreign_pid_ns
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.backoff import DriftResponse
from oomwatchd.pinning.decisions import Trigger, wanted_pin
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import early_pin_template
from oomwatchd.pinning.lineage import Node, Pin, VerifiedExe
from oomwatchd.pinning.look import KEPT_PATH, Look, Written, describe
from oomwatchd.pinning.writer import Writer
from oomwatchd.rules.model import Rule

_PREPARED_LIMIT = 1024
"""The most pairs of rule and present value that are remembered for early pins. Users may start programs with any
value."""


EarlyPin = tuple[ProcessDir, bytes, Rule, int, int, int]
"""An early pin of a process of which nothing else is known: its directory, its exe link, the rule, the value until
then, and the times of the event and of the write (CLOCK_MONOTONIC, ns). It is a plain tuple, because nothing is faster
to make."""


class PinWriter:
    """Writes the values that rules want, after the ledger has the original values."""

    def __init__(self, ledger: Ledger, writer: Writer, view: View, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._writer = writer
        self._view = view
        self._clock = clock
        self._prepared: dict[tuple[str, int], tuple[int, bytes]] = {}
        """For early pins, by rule and present value: the target, and what early_pin_template() makes."""

    def pin_early(self, directory: ProcessDir, exe: bytes, rule: Rule, event_ns: int) -> EarlyPin | None:
        """Pin a process that is known only by its executable, which alone decides that `rule` fits. complete_early()
        does everything else later, because each system call before the write counts. None: nothing was written, and the
        process has to be looked at as a whole. Raises Vanished."""
        if not rule.containers and in_foreign_pid_ns(directory, self._view.namespaces):
            return None
        current = directory.open_oom_score_adj()
        target, line = self._prepared.get((rule.name, current)) or self._prepare(rule, current)
        if target == current or self._writer.dry_run:
            return None
        self._ledger.enter_early_pin(directory.pid, line)
        written_ns = 0
        try:
            directory.write_oom_score_adj(target)
            written_ns = time.monotonic_ns()
        except OSError:
            return None  # the kernel refused: the look that follows reports it
        finally:
            if not written_ns:
                self._ledger.cancel_early_pin(directory.pid)
        return directory, exe, rule, current, event_ns, written_ns

    def complete_early(
        self, directory: ProcessDir, exe: bytes, rule: Rule, was: int, event_ns: int, written_ns: int
    ) -> Look:
        """Enter an early pin into the ledger. The arguments are those of an EarlyPin."""
        trigger = Trigger("exec", event_ns)
        node = Node(directory.pid, None, None)
        node.started_by = ticks_since_boot(written_ns)
        pin = node.pin = wanted_pin(node, rule, was, trigger)
        node.nameable = True
        self._ledger.add(node)
        latency_us = (written_ns - event_ns) // 1000 if event_ns else None
        written = Written(rule.name, was, pin.target, same=False, latency_us=latency_us)
        path = procfs.text(split_deleted(exe)[0])
        return Look(directory, node, trigger, exe=path, changed=True, written=written)

    def _prepare(self, rule: Rule, current: int) -> tuple[int, bytes]:
        if len(self._prepared) >= _PREPARED_LIMIT:
            self._prepared.clear()
        pin = wanted_pin(Node(0, None, None), rule, current, Trigger("exec"))
        prepared = self._prepared[rule.name, current] = pin.target, early_pin_template(pin)
        return prepared

    def pin(self, look: Look, stat: Stat, rule: Rule) -> None:
        """Pin a process by `rule`. Nothing is written if the kernel refuses, or while a contended value is left alone.
        Raises Vanished."""
        node, before = look.node, look.node.pin
        current = look.directory.open_oom_score_adj()
        pin = wanted_pin(node, rule, current, look.trigger)
        same = before is not None and (before.rule, before.target) == (pin.rule, pin.target)
        self._remember_exe(look, rule)
        if current == pin.target or (same and self._writer.dry_run):
            self._keep_as_it_is(look, stat, pin, current)
            return
        if node.refused is not None and node.refused[0] == rule.name:
            return
        if same and not self._may_write_again(look, pin.target, rule.name, current):
            return
        if self._enter_and_write(look, pin, current):
            look.written = Written(rule.name, current, pin.target, same, _since(look.trigger))
            look.changed = pin != before

    def _keep_as_it_is(self, look: Look, stat: Stat, pin: Pin, current: int) -> None:
        """Note the pin of a process that has the right value already."""
        node, before = look.node, look.node.pin
        if before != pin:
            node.change_pin(pin)
            self._ledger.enter(node)
            look.changed = True
        if (before is None or look.trigger.source == "fork") and _floor_leaks(node, pin.target):
            self._writer.write(look, pin.target, pin.rule, current)
        another = look.trigger.source == "exec" or node.comm != procfs.text(stat.comm)
        describe(look, self._ledger, self._view if another or not node.described else None)

    def _may_write_again(self, look: Look, wanted: int, rule: str, current: int) -> bool:
        """Whether to write a value that someone has changed again now, and not to leave it alone for a while."""
        response = look.node.backoff.drifted(self._clock())
        if response is DriftResponse.WARN:
            self._writer.decided("contended", look, rule, current, wanted)
        return response is DriftResponse.WRITE

    def _enter_and_write(self, look: Look, pin: Pin, current: int) -> bool:
        """Enter the pin into the ledger and save it, then write the value. So a crash at any moment leaves the original
        in the file. If the kernel refuses, the pin is as it was before, and False is returned. Raises Vanished."""
        node, ledger = look.node, self._ledger
        before, former = node.pin, node.former
        known = ledger.nodes.get(node.pid) is node
        if before != pin or not node.recorded:
            if before != pin:
                node.change_pin(pin)
            ledger.enter(node)
        written = False
        try:
            written = self._writer.write(look, pin.target, pin.rule, current)
        finally:
            if not written:
                node.pin, node.former = before, former
                (ledger.record if known else ledger.forget)(node)
        return written

    def _remember_exe(self, look: Look, rule: Rule) -> None:
        """Remember the verified executable by which the process is pinned."""
        node, process = look.node, look.process
        found = None
        if process is not None and process.exe_file is not None and rule.criterion("exe") is not None:
            path = process.exe or ""
            found = VerifiedExe(self._ledger.share(path), process.exe_file) if len(path) <= KEPT_PATH else None
        if found != node.verified_exe:
            node.verified_exe, node.recorded = found, False


def _since(trigger: Trigger) -> int | None:
    """Microseconds since the event, by the kernel's timestamp; None: there was no event."""
    return None if trigger.event_ns == 0 else (time.monotonic_ns() - trigger.event_ns) // 1000


def _floor_leaks(node: Node, value: int) -> bool:
    """Whether the process has inherited a floor below `value`. Only a privileged write moves the floor."""
    inheritance = node.inherited()
    return inheritance is not None and inheritance.floor is not None and value > inheritance.floor
