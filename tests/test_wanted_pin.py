"""What a rule asks for on a process that is pinned already, and shows another value than it should."""

import pytest

from oomwatchd.pinning.decisions import LATENCY_BOUNDS_US, Latencies, Trigger, runtime_rule, wanted_pin
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.rules.model import Action, Rule

SSHD = Rule("sshd", (), Action(-1000, -1000), children="reset")


@pytest.mark.parametrize(
    ("first", "current", "source", "has_now"),
    [
        # sshd's listener sets itself to -1000; a child to 0, before it executes sshd once more.
        (-1000, 0, "exec", 0),
        (-1000, 0, "scan", -1000),
        (0, 700, "exec", 700),
        # What it couldn't have without the rule, it doesn't keep after it.
        (0, -300, "exec", 0),
        (0, -1000, "exec", 0),
    ],
)
def test_a_value_raised_before_the_exec_is_the_original_value(
    first: int, current: int, source: str, has_now: int
) -> None:
    node = Node(7, 1, None)
    node.pin = Pin("sshd", first, -1000, first, 0.0, "fork")
    pin = wanted_pin(node, SSHD, current, Trigger(source))
    assert (pin.target, pin.original, pin.child_value) == (-1000, has_now, has_now)


AT_LEAST, AT_MOST, EXACT = Action(low=300), Action(high=-300), Action(300, 300)


@pytest.mark.parametrize(
    ("action", "original", "current", "original_now", "target_now"),
    [
        (AT_LEAST, 100, 300, 100, 300),  # nothing has changed
        (AT_LEAST, 100, 200, 100, 300),  # the rule doesn't allow that
        (AT_LEAST, 100, 700, 700, 700),  # the rule allows that: the process has set it itself
        (AT_MOST, 0, -500, -500, -500),
        (AT_MOST, 0, 0, 0, -300),
        (EXACT, 100, 700, 100, 300),
        (EXACT, 100, 300, 100, 300),
    ],
)
def test_a_value_that_the_process_has_set_itself_is_kept_where_the_rule_allows_it(
    action: Action, original: int, current: int, original_now: int, target_now: int
) -> None:
    rule = Rule("r", (), action)
    node = Node(7, 1, None)
    node.pin = Pin("r", original, rule.target(original), 5, 12.5, "fork")

    pin = wanted_pin(node, rule, current, Trigger("scan"))

    assert pin == Pin("r", original_now, target_now, rule.child_value(target_now, original_now), 12.5, "fork")


def test_another_rule_begins_a_pin_of_its_own_with_the_same_original_value() -> None:
    node = Node(7, 1, None)
    node.pin = Pin("before", 100, 300, 300, 12.5, "fork")

    pin = wanted_pin(node, Rule("r", (), Action(500, 500), children=7), 300, Trigger("reload"))

    assert (pin.rule, pin.original, pin.target, pin.child_value, pin.source) == ("r", 100, 500, 7, "reload")
    assert pin.since > 12.5


@pytest.mark.parametrize(
    ("current", "original"), [(500, 50), (100, 50), (900, 900)], ids=["of the pin", "from before it", "its own"]
)
def test_the_original_value_of_a_descendant_is_not_the_pinned_one(current: int, original: int) -> None:
    parent = Node(6, 1, None)
    parent.pin = Pin("parent", 100, 500, 50, 0.0, "fork")
    rule = Rule("r", (), Action(300, 300))

    assert wanted_pin(Node(7, 1, parent), rule, current, Trigger("exec")).original == original
    assert wanted_pin(Node(7, 1, Node(5, 1, None)), rule, current, Trigger("exec")).original == current
    assert wanted_pin(Node(7, 1, None), rule, current, Trigger("exec")).original == current


def test_a_runtime_pin_is_a_rule_with_one_value_for_any_process_also_in_containers() -> None:
    rule = runtime_rule(RuntimePin(7, 1, 300))

    assert rule == Rule("pin 7", (), Action(300, 300), containers=True)


def test_latencies_are_counted_at_the_first_bound_that_they_do_not_exceed() -> None:
    latencies = Latencies()

    for latency_us in (0, 100, 101, 1_000_000, 1_000_001, 2_000_000):
        latencies.add(latency_us)

    assert latencies.counts == [2, 1, *[0] * 9, 1, 2]
    assert len(latencies.counts) == len(LATENCY_BOUNDS_US) + 1
    assert latencies.sum_us == 4_000_202
