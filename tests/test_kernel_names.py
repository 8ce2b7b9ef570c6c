"""What the kernel can compare of rules, without losing a process that one of them fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.rules import kernel_names
from oomwatchd.rules.kernel_names import KernelNames
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule, literal_or_glob, regex


def rule(*criteria: Criterion, enabled: bool = True) -> Rule:
    return Rule("r", criteria, Action(500, 500), enabled=enabled)


def strings(key: str, *patterns: str) -> Criterion:
    return Criterion(key, tuple(map(literal_or_glob, patterns)))


@pytest.mark.parametrize(
    ("key", "pattern", "names"),
    [
        ("exe", "/usr/sbin/sshd", KernelNames(exes=frozenset({"sshd"}))),
        ("exe", "/opt/*/bin/java", KernelNames(exes=frozenset({"java"}))),
        ("exe", "/opt/[ab]/java", KernelNames(exes=frozenset({"java"}))),
        ("exe", "*/java", KernelNames(exes=frozenset({"java"}))),
        ("exe", "/usr/*/Xorg", KernelNames(exes=frozenset({"Xorg"}))),
        ("exe", "*java", None),
        ("exe", "/opt/*", None),
        ("exe", "/opt/java?", None),
        ("exe", "/opt[a/b]java", None),
        ("comm", "chrome", KernelNames(comms=frozenset({"chrome"}))),
        ("comm", "fire*", KernelNames(comm_prefixes=frozenset({"fire"}))),
        ("comm", "f?re[xy]*", KernelNames(comm_prefixes=frozenset({"f"}))),
        ("comm", "a*b*", KernelNames(comm_prefixes=frozenset({"a"}))),
        ("exe", "/opt/*/ja]va", None),
        ("comm", "*", None),
        ("comm", "*fox", None),
        ("cmdline", "java -jar", None),
        ("cgroup", "/a", None),
    ],
)
def test_criterion(key: str, pattern: str, names: KernelNames | None) -> None:
    assert kernel_names.of_rule(rule(strings(key, pattern))) == names


def test_regex_leaves_everything_open() -> None:
    for key in ("exe", "comm"):
        assert kernel_names.of_rule(rule(Criterion(key, (regex("^java$"),)))) is None


def test_one_criterion_that_can_be_compared_is_enough() -> None:
    assert kernel_names.of_rule(rule(Criterion("exe", (regex("java"),)), strings("comm", "java"))) == KernelNames(
        comms=frozenset({"java"})
    )
    assert kernel_names.of_rule(rule(strings("cmdline", "*"), Criterion("user", ids=frozenset({5})))) == KernelNames(
        uids=frozenset({5})
    )


def test_one_member_of_a_list_that_cant_be_compared_is_enough_to_leave_all_open() -> None:
    assert kernel_names.of_rule(rule(strings("exe", "/bin/a", "/opt/*"))) is None


def test_ids_and_descendants() -> None:
    assert kernel_names.of_rule(rule(Criterion("user", ids=frozenset({5, 6})))) == KernelNames(uids=frozenset({5, 6}))
    assert kernel_names.of_rule(rule(Criterion("group", ids=frozenset({5})))) == KernelNames(gids=frozenset({5}))
    # Of descendants of held processes the kernel tells anyway.
    assert kernel_names.of_rule(rule(Criterion("descendant_of", names=("other",)))) == KernelNames()
    below = rule(Criterion("descendant_of", names=("other",)), Criterion("user", ids=frozenset({5})))
    assert kernel_names.of_rule(below) == KernelNames()


def test_all_kinds_of_names_are_put_together() -> None:
    def names(*numbers: int) -> KernelNames:
        texts, ids = frozenset(map(str, numbers)), frozenset(numbers)
        return KernelNames(texts, texts, texts, ids, ids)

    assert KernelNames.union([names(1), names(2)]) == names(1, 2)
    assert KernelNames.union([]) == KernelNames()


def test_rule_that_is_disabled_says_nothing_of_those_behind_it() -> None:
    disabled = rule(strings("cmdline", "x"), enabled=False)

    assert kernel_names.of_rules([disabled, rule(strings("exe", "/bin/a"))]) == KernelNames(exes=frozenset({"a"}))


def test_rules_together() -> None:
    first, second = rule(strings("exe", "/bin/a")), rule(strings("comm", "b"))
    assert kernel_names.of_rules([first, second]) == KernelNames(exes=frozenset({"a"}), comms=frozenset({"b"}))
    open_rule = rule(strings("cmdline", "x"))
    assert kernel_names.of_rules([first, open_rule, second]) is open_rule
    assert kernel_names.of_rules([first, rule(strings("cmdline", "x"), enabled=False)]) == KernelNames(
        exes=frozenset({"a"})
    )


_glob = st.text("ab/*?[]!-", min_size=1, max_size=10)


@given(_glob, st.lists(st.text("ab/-", min_size=1, max_size=8), min_size=1))
def test_whatever_a_pattern_matches_bears_the_name(pattern: str, values: list[str]) -> None:
    compiled: Pattern = literal_or_glob(pattern)
    exe, comm = (kernel_names.of_rule(rule(Criterion(key, (compiled,)))) for key in ("exe", "comm"))
    for value in (*values, pattern):
        if compiled.matches(value) and not value.endswith("/"):
            assert exe is None or value.rpartition("/")[2] in exe.exes
        if compiled.matches(value):
            assert comm is None or value in comm.comms or value.startswith(tuple(comm.comm_prefixes))
