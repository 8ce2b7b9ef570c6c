"""Which oom_score_adj all processes would have under other rules. It runs the daemon's transaction without writing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oomwatchd.oom.processes import OomProcess
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class CurrentPin:
    """A pin in force today, as `oomwatchctl list` shows it."""

    pid: int
    starttime: int
    rule: str
    target: int
    original: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The value that one process would have under other rules."""

    value: int
    rule: str
    """The rule that would pin it; empty: none."""


def preview_rules(
    rules: Iterable[Rule], processes: Iterable[OomProcess], pins: Iterable[CurrentPin] = (), proc: str = "/proc"
) -> Mapping[int, Preview]:
    """For each of `processes`, by PID, its value under `rules`. `pins`: the pins in force today. Pins of `oomwatchctl
    pin` stay. Today's rules aren't known here. So if `children` of one of these has given a descendant a value, it
    counts as a value that the descendant has set itself."""
    everyone = sorted(processes, key=lambda process: process.task.starttime)
    ledger = _ledger_of(everyone, pins)
    pinner = Pinner(RuleSet(rules), ledger, dry_run=True, proc=proc)
    for process in everyone:
        pinner.look(process.task.pid, Trigger("reload"))
    values = {d.pid: d.new for d in pinner.writer.take_decisions() if d.event in ("released", "reset-child")}
    previews = {}
    for process in everyone:
        pid = process.task.pid
        node = ledger.nodes.get(pid)
        pin = None if node is None else node.pin
        if pin is not None:
            previews[pid] = Preview(pin.target, pin.rule)
        else:
            previews[pid] = Preview(values.get(pid, process.task.oom_score_adj), "")
    return previews


def _ledger_of(everyone: Iterable[OomProcess], pins: Iterable[CurrentPin]) -> Ledger:
    """A ledger with `pins` in force, which is saved nowhere."""
    ledger = Ledger(None, "")
    pinned = {(pin.pid, pin.starttime): pin for pin in pins}
    for process in everyone:
        pid, starttime = process.task.pid, process.task.starttime
        pin = pinned.get((pid, starttime))
        if pin is None:
            continue
        node = Node(pid, starttime, None)
        node.pin = Pin(pin.rule, pin.original, pin.target, pin.target, 0.0, "scan")
        if pin.rule == f"pin {pid}":
            ledger.runtime_pins[pid] = RuntimePin(pid, starttime, pin.target)
        ledger.add(node)
    return ledger
