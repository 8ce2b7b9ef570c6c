"""What is to be done to a process, and what was done. Pure, except that wanted_pin() reads the clock for `since`."""

import time
from bisect import bisect_left
from dataclasses import dataclass, replace

from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.rules.model import Action, Rule


@dataclass(slots=True)
class Trigger:
    """Why a process is looked at. It isn't frozen, because a frozen one takes four times as long to make."""

    source: str
    """exec, fork, comm, uid, gid, scan, reload, control."""
    event_ns: int = 0
    """The kernel's timestamp of the event, CLOCK_MONOTONIC; 0: no event."""


SCAN = Trigger("scan")


@dataclass(slots=True)
class Decision:
    """What was done to a process, or failed, or would be done if this weren't a dry run. It isn't frozen, because a
    frozen one takes four times as long to make."""

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
    """Why the kernel refused the write, for people; empty: it didn't."""
    quiet: bool = False
    """Whether the value was right before, and the write only moved the floor."""


@dataclass(slots=True)
class PinCounters:
    """How much was done to processes since the daemon's start."""

    pins: int = 0
    releases: int = 0
    resets: int = 0
    drifts: int = 0
    failures: int = 0


LATENCY_BOUNDS_US = (100, 250, 500, *(1000, 2500, 5000), *(10000, 25000, 50000), *(100000, 250000, 1000000))


class Latencies:
    """How long pins took from the event to the end of the write."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_US) + 1)
        """How many pins took at most each of LATENCY_BOUNDS_US, each pin counted at the first bound that it doesn't
        exceed. The last number counts those that exceed all."""
        self.sum_us = 0

    def add(self, latency_us: int) -> None:
        """Count one pin, which took `latency_us` microseconds."""
        self.counts[bisect_left(LATENCY_BOUNDS_US, latency_us)] += 1
        self.sum_us += latency_us


def runtime_rule(pin: RuntimePin) -> Rule:
    """The rule that a runtime pin stands for."""
    return Rule(pin.rule, (), Action(pin.value, pin.value), containers=True)


def wanted_pin(node: Node, rule: Rule, current: int, trigger: Trigger) -> Pin:
    """The pin that `rule` asks for on a process that has the value `current`."""
    before = node.pin
    if before is None:
        original = without_rule(node, current)
    elif current != before.target and not rule.action.exact and rule.target(current) == current:
        original = current  # the process has set itself another value, and the rule allows that
    elif trigger.source == "exec" and current != before.target and current > before.original:
        # The process has raised its value, as any process may, and then executed another program. That program had this
        # value from its start. sshd's children do so, because sshd sets itself to -1000 before any rule does.
        original = current
    else:
        original = before.original
    target = rule.target(original)
    child_value = rule.child_value(target, original)
    if before is not None and before.rule == rule.name:
        return replace(before, original=original, target=target, child_value=child_value)
    return Pin(rule.name, original, target, child_value, time.time(), trigger.source)


def without_rule(node: Node, current: int) -> int:
    """The value that the process would have if no rule fitted it. It differs from `current` if the process has
    inherited the value of a pin."""
    inheritance = node.inherited()
    return current if inheritance is None or current not in inheritance.shown else inheritance.value
