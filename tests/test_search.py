"""Searches within a budget: what is known at once, what is put off, and what is never asked again."""

import signal
from dataclasses import replace

import pytest

from oomwatchd.base.notyet import NotYet, settled
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.match import mismatch
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule, literal_or_glob, regex
from oomwatchd.rules.ruleset import RuleSet
from oomwatchd.rules.search import search

SLOW = "(a+)+$"
HOSTILE = "a" * 2000 + "!"


def cmdline_rule(name: str, *patterns: Pattern, excluded: tuple[Criterion, ...] = ()) -> Rule:
    criteria = (Criterion("cmdline", patterns),) if patterns else ()
    return Rule(name, criteria, Action(500, 500), excluded=excluded)


def process(cmdline: str, pid: int = 42, read_ns: int = 100) -> Process:
    return Process(pid, 1, 1, "comm", False, "/usr/bin/one", cmdline=cmdline, foreign_pid_ns=False, read_ns=read_ns)


def asked(rules: RuleSet, shown: Process) -> NotYet:
    with pytest.raises(NotYet) as caught:
        rules.decide(shown)
    return caught.value


def test_short_text_is_searched_at_once() -> None:
    rules = RuleSet((cmdline_rule("quick", regex("foo.*bar")), cmdline_rule("slow", regex(SLOW))))

    assert rules.decide(process("a foo and a bar")) is rules.rules[0]
    assert rules.decide(process("b")) is None


def test_long_text_is_put_off_and_remembered() -> None:
    rules = RuleSet((cmdline_rule("slow", regex(SLOW)), cmdline_rule("glob", literal_or_glob("*!"))))

    question = asked(rules, process(HOSTILE))
    question.learn(question.function(*question.arguments))

    assert rules.decide(process(HOSTILE)) is rules.rules[1]
    assert rules.searches.take_news() == [(42, "slow")]


def test_what_is_overdue_is_neither_found_nor_not_found() -> None:
    exclusion = Criterion("cmdline", (regex(SLOW),))
    rules = RuleSet((cmdline_rule("not", excluded=(exclusion,)),))
    shown = process(HOSTILE)

    assert settled(lambda: rules.decide(shown)) is None
    failed = mismatch(rules.rules[0], shown)
    assert failed is not None
    assert (failed.key, failed.found) == ("not", None)
    assert rules.decide(process(HOSTILE + "b!")) is None  # nor in another text of that program
    assert rules.decide(process("b")) is rules.rules[0]


def test_one_of_several_that_is_found_is_enough() -> None:
    rules = RuleSet((cmdline_rule("either", regex(SLOW), regex("a!$")),))

    assert settled(lambda: rules.decide(process(HOSTILE))) is rules.rules[0]


def test_a_text_in_which_searches_take_long_is_compared_as_it_is() -> None:
    rules = RuleSet((cmdline_rule("either", regex(SLOW), Pattern(HOSTILE)),))

    assert settled(lambda: rules.decide(process(HOSTILE))) is rules.rules[0]


def test_process_that_was_overdue_costs_nothing_until_it_executes_another_program() -> None:
    rules = RuleSet((cmdline_rule("slow", regex(SLOW)),))
    settled(lambda: rules.decide(process(HOSTILE)))

    assert rules.decide(process(HOSTILE + "b!")) is None  # another text, of the same program
    assert rules.searches.take_news() == [(42, "slow")]

    rules.searches.executed(42, 50)  # before it was looked at
    assert rules.decide(process(HOSTILE + "c!")) is None
    rules.searches.executed(42, 200)
    asked(rules, process(HOSTILE + "d!", read_ns=300))


def test_another_program_of_the_process_is_searched_anew() -> None:
    rules = RuleSet((cmdline_rule("slow", regex(SLOW)),))
    settled(lambda: rules.decide(process(HOSTILE)))

    asked(rules, replace(process(HOSTILE + "b!"), exe="/usr/bin/other"))


def test_two_texts_of_one_length_have_results_of_their_own() -> None:
    rules = RuleSet((cmdline_rule("slow", regex("(ab*)+c$")),))
    texts = ["x" * 2000 + end for end in ("abc", "abd", "abc")]

    assert [settled(lambda text=text: rules.decide(process(text))) is not None for text in texts] == [True, False, True]  # type: ignore[misc]


def test_the_first_of_too_many_processes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oomwatchd.rules.search._EXCEEDED_LIMIT", 2)
    rules = RuleSet((cmdline_rule("slow", regex(SLOW)),))
    for pid in (1, 2, 3):
        settled(lambda pid=pid: rules.decide(process(HOSTILE, pid=pid)))  # type: ignore[misc]

    assert rules.searches.take_news() == [(1, "slow"), (2, "slow")]
    assert rules.decide(process(HOSTILE + "b!", pid=3)) is None
    asked(rules, process(HOSTILE + "b!", pid=1))


def test_others_are_not_judged_by_it() -> None:
    """Whoever shows the command line of another doesn't keep that one from fitting."""
    rules = RuleSet((cmdline_rule("slow", regex("(a+)+!$")),))
    settled(lambda: rules.decide(process("a" * 30 + "b" * 2000 + "a" * 60 + "?")))
    honest = "x" * 2000 + "aaaa!"
    settled(lambda: rules.decide(process(honest)))

    assert settled(lambda: rules.decide(process(honest, pid=43))) is rules.rules[0]


def test_helper_that_ended_leaves_what_cannot_take_long() -> None:
    rules = RuleSet(
        (cmdline_rule("slow", regex(SLOW), regex("b*c"), regex("b?c")), cmdline_rule("glob", literal_or_glob("*!")))
    )
    first = asked(rules, process(HOSTILE))
    assert len(first.arguments[0]) == 4  # type: ignore[arg-type]

    first.learn(None)
    second = asked(rules, process(HOSTILE))
    assert len(second.arguments[0]) == 1  # type: ignore[arg-type]
    second.learn(second.function(*second.arguments))

    assert rules.decide(process(HOSTILE)) is rules.rules[1]


def test_text_that_is_slow_makes_the_next_be_put_off() -> None:
    rules = RuleSet((cmdline_rule("slow", regex(SLOW)),))
    tried = "a" * 100
    assert rules.decide(process(tried)) is rules.rules[0]

    asked(rules, process("a" * 100 + "!"))
    asked(rules, process("a" * 99 + "b"))


def test_text_is_searched_for_what_it_is_also_where_it_is_no_utf_8() -> None:
    rules = RuleSet((cmdline_rule("slow", regex("(a+)+$"), regex("\udcff!$")),))
    shown = process("a" * 2000 + "\udcff!")

    question = asked(rules, shown)
    assert isinstance(question.arguments[1], bytes) and question.arguments[1].endswith(b"a\xff!")
    question.learn(question.function(*question.arguments))

    assert rules.decide(shown) is rules.rules[0]


def test_text_whose_searches_have_failed_twice_is_never_searched_again() -> None:
    rules = RuleSet((cmdline_rule("slow", regex("(a+)+$"), regex("b*c")), cmdline_rule("plain", Pattern("x"))))
    for _ in range(2):
        asked(rules, process(HOSTILE)).learn(None)

    assert rules.decide(process(HOSTILE, pid=43)) is None
    assert sorted(rules.searches.take_news()) == [(43, "slow")] * 2


def test_program_that_executes_while_it_is_looked_at_keeps_what_was_found_out() -> None:
    rules = RuleSet((cmdline_rule("slow", regex(SLOW)),))
    settled(lambda: rules.decide(process(HOSTILE, read_ns=100)))

    rules.searches.executed(42, 100)

    assert rules.decide(process(HOSTILE + "b!")) is None


def test_any_bytes() -> None:
    assert search(["b$", "c"], b"\xff\xfe" * 3 + b"b") == bytes([1, 0])
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)  # nothing ends the helper later


def test_rule_that_is_not_reached_is_not_searched_for() -> None:
    first = Rule("first", (Criterion("comm", (Pattern("comm"),)),), Action(500, 500))
    rules = RuleSet((first, cmdline_rule("slow", regex(SLOW))))

    assert rules.decide(process(HOSTILE)) is first
