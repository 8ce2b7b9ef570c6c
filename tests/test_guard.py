"""Which rules may lower a value: those that say who controls the process, themselves or by the rules that they name."""

from collections.abc import Iterator
from itertools import permutations

import pytest

from oomwatchd.rules.guard import guarded_rules, guards
from oomwatchd.rules.model import Action, Criterion, Rule, literal_or_glob

WHO = Criterion("user", names=("root",), ids=frozenset({0}))
ANYBODY = Criterion("comm", patterns=(literal_or_glob("x"),))


def below(*names: str) -> Criterion:
    return Criterion("descendant_of", names=names)


def rule(name: str, *criteria: Criterion, spoofable: bool = False, excluded: tuple[Criterion, ...] = ()) -> Rule:
    return Rule(name, criteria, Action(low=-5), excluded=excluded, spoofable=spoofable)


def in_each_order(*rules: Rule) -> Iterator[dict[str, bool]]:
    for ordered in permutations(rules):
        yield dict(zip([rule.name for rule in ordered], guarded_rules(ordered), strict=True))


@pytest.mark.parametrize(
    ("asked", "guarded"),
    [
        (rule("r", WHO), True),
        (rule("r", ANYBODY), False),
        (rule("r", ANYBODY, WHO), True),
        (rule("r", ANYBODY, spoofable=True), True),
        (rule("r", ANYBODY, excluded=(WHO,)), False),
        (rule("r"), False),
        (rule("r", Criterion("session_leader", flag=True)), False),
        (rule("r", below("no such rule")), False),
        (rule("r", below()), False),
    ],
)
def test_one_rule(asked: Rule, guarded: bool) -> None:
    assert guarded_rules([asked]) == (guarded,)


def test_descendants_of_descendants_in_whatever_order() -> None:
    chain = (rule("a", WHO), rule("b", below("a")), rule("c", below("b"), ANYBODY), rule("d", below("c")))

    assert all(found == dict.fromkeys("abcd", True) for found in in_each_order(*chain))


def test_one_spoofable_rule_makes_all_unguarded() -> None:
    rules = (rule("a", WHO), rule("b", ANYBODY), rule("c", below("a", "b")), rule("d", below("c")))

    assert all(found == {"a": True, "b": False, "c": False, "d": False} for found in in_each_order(*rules))


def test_circle_says_nothing() -> None:
    rules = (rule("a", below("b")), rule("b", below("a")), rule("c", below("c")))

    assert all(not any(found.values()) for found in in_each_order(*rules))


def test_descendants_of_a_spoofable_rule_are_spoofable() -> None:
    rules = (rule("a", ANYBODY, spoofable=True), rule("b", below("a")))

    assert all(found == {"a": True, "b": False} for found in in_each_order(*rules))


def test_of_two_rules_of_one_name_each_counts_for_itself() -> None:
    assert guarded_rules([rule("a", WHO), rule("a", ANYBODY)]) == (True, False)


def test_names_of_the_guards() -> None:
    assert {"user", "group", "unit"} <= set(guards())
    assert not {"comm", "cmdline", "session_leader", "descendant_of"} & set(guards())
