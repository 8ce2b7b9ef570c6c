"""What a rule asks for on a process that is pinned already, and shows another value than it should."""

import pytest

from oomwatchd.pinning.decisions import Trigger, wanted_pin
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
