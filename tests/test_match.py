"""Why a process doesn't fit a rule: what `explain` and `list` say was found."""

from dataclasses import replace

import pytest

from oomwatchd.rules.criteria import Process
from oomwatchd.rules.match import Mismatch, mismatch
from oomwatchd.rules.model import NO, OVERDUE, Action, Criterion, Rule, Searched, literal_or_glob, regex

PROCESS = Process(
    pid=42,
    starttime=1000,
    ppid=1,
    comm="sshd",
    session_leader=True,
    exe="/usr/sbin/sshd",
    exe_verified=True,
    uid=0,
    gid=7,
    cmdline="",
    unit="",
    foreign_pid_ns=False,
    container=False,
    ancestors=frozenset({"b", "a"}),
)
RAISES, LOWERS = Action(low=500), Action(-5, -5)


def text(key: str, *patterns: str) -> Criterion:
    return Criterion(key, patterns=tuple(map(literal_or_glob, patterns)))


def rule(*criteria: Criterion, excluded: tuple[Criterion, ...] = (), action: Action = RAISES) -> Rule:
    return Rule("r", criteria, action, excluded)


@pytest.mark.parametrize(
    ("criterion", "process", "found"),
    [
        (text("comm", "x"), PROCESS, "sshd"),
        (text("unit", "x"), PROCESS, ""),
        (text("slice", "x"), PROCESS, None),
        (Criterion("session_leader", flag=False), PROCESS, True),
        (Criterion("session_leader", flag=True), replace(PROCESS, session_leader=False), False),
        (Criterion("descendant_of", names=("c",)), PROCESS, ["a", "b"]),
        (Criterion("user", ids=frozenset({5})), PROCESS, 0),
        (Criterion("user", ids=frozenset({5})), replace(PROCESS, saved_uid=5), "0, saved 5"),
        (Criterion("user", ids=frozenset({0})), replace(PROCESS, saved_uid=5), "0, saved 5"),
        (Criterion("group", ids=frozenset({5})), replace(PROCESS, gid=None), None),
    ],
)
def test_what_was_found_instead(criterion: Criterion, process: Process, found: object) -> None:
    result = mismatch(rule(criterion), process)

    assert result == Mismatch(criterion.key, criterion.wanted, result.found if result else None)
    assert repr(result.found) == repr(found)  # True isn't 1


@pytest.mark.parametrize(("result", "found"), [(NO, "b" * 300), (OVERDUE, "b" * 200 + "… (takes too long to search)")])
def test_a_search_that_took_too_long_is_said_to(result: int, found: str) -> None:
    searched = Searched("b" * 300)
    searched.found = {"(a+)+$": result}
    asked = rule(Criterion("cmdline", (regex("(a+)+$"),)))

    assert mismatch(asked, replace(PROCESS, cmdline=searched)) == Mismatch("cmdline", "regex (a+)+$", found)


def test_an_empty_command_line_is_a_text_and_an_empty_unit_is_none() -> None:
    assert mismatch(rule(text("cmdline", "*")), PROCESS) is None
    assert mismatch(rule(text("unit", "*")), PROCESS) == Mismatch("unit", "*", "")


@pytest.mark.parametrize(
    ("verified", "doubt", "found"),
    [(False, "another file", "/usr/sbin/sshd (another file)"), (None, "", None), (False, "", None)],
)
def test_a_path_in_doubt_fits_no_rule_that_lowers(verified: bool | None, doubt: str, found: str | None) -> None:
    process = replace(PROCESS, exe_verified=verified, exe_doubt=doubt)
    by_exe = text("exe", "/usr/sbin/sshd")

    assert mismatch(rule(by_exe, action=LOWERS), process) == Mismatch("exe", "/usr/sbin/sshd", found)
    assert mismatch(rule(by_exe), process) is None


@pytest.mark.parametrize(
    ("excluded", "wanted", "found"),
    [
        ((text("comm", "sshd"),), ["comm = sshd"], ["comm = sshd"]),
        ((text("comm", "a", "ssh*"),), ["comm = a or ssh*"], ["comm = sshd"]),
        ((Criterion("session_leader", flag=True),), ["session_leader = true"], ["session_leader = true"]),
        ((Criterion("descendant_of", names=("a",)),), ["descendant_of = a"], ["descendant_of = a or b"]),
        ((text("comm", "sshd"), text("slice", "x")), ["comm = sshd", "slice = x"], None),
    ],
)
def test_what_not_excludes(excluded: tuple[Criterion, ...], wanted: list[str], found: list[str] | None) -> None:
    assert mismatch(rule(excluded=excluded), PROCESS) == Mismatch("not", wanted, found)


@pytest.mark.parametrize(
    ("action", "foreign", "container", "expected"),
    [
        (RAISES, False, None, None),
        (RAISES, True, False, None),
        (RAISES, None, False, None),
        (RAISES, True, True, ("no container", "a container")),
        (RAISES, None, None, ("no container", None)),
        (LOWERS, False, None, None),
        (LOWERS, True, False, ("this PID namespace", "another PID namespace")),
        (LOWERS, None, False, ("this PID namespace", None)),
    ],
)
def test_a_rule_that_is_not_for_containers(
    action: Action, foreign: bool | None, container: bool | None, expected: tuple[str, str | None] | None
) -> None:
    asked, process = rule(action=action), replace(PROCESS, foreign_pid_ns=foreign, container=container)

    assert mismatch(asked, process) == (expected and Mismatch("containers", *expected))
    assert mismatch(replace(asked, containers=True), process) is None
