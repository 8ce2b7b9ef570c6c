"""Rule matching, and the same by a slow and obvious model."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.base.notyet import NotYet
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.index import Index, as_bits
from oomwatchd.rules.match import Mismatch, mismatch
from oomwatchd.rules.model import (
    NO,
    Action,
    Criterion,
    Rule,
    Searched,
    literal_or_glob,
    oom_adj_to_score,
    regex,
)
from oomwatchd.rules.ruleset import RuleSet, needs

PROCESS = Process(
    pid=42,
    starttime=1000,
    ppid=1,
    comm="sshd",
    session_leader=True,
    exe="/usr/sbin/sshd",
    exe_verified=True,
    cmdline="/usr/sbin/sshd -D",
    uid=0,
    gid=0,
    cgroup="/system.slice/ssh.service",
    unit="ssh.service",
    user_unit="",
    slice="system.slice",
    foreign_pid_ns=False,
)


def criterion(key: str, *values: str) -> Criterion:
    return Criterion(key, patterns=tuple(literal_or_glob(value) for value in values))


def rule(
    *criteria: Criterion, name: str = "r", action: Action | None = None, excluded: tuple[Criterion, ...] = ()
) -> Rule:
    return Rule(name, criteria, action or Action(500, 500), excluded)


@pytest.mark.parametrize(
    ("criterion", "fits"),
    [
        (criterion("exe", "/usr/sbin/sshd"), True),
        (criterion("exe", "/usr/sbin/*"), True),
        (criterion("exe", "sshd"), False),
        (criterion("comm", "bash", "ssh?"), True),
        (criterion("comm", "SSHD"), False),
        (criterion("cmdline", "*sshd*"), True),
        (criterion("cmdline", "sshd"), False),
        (Criterion("cmdline", patterns=(regex(r"sshd -[DE]"),)), True),
        (Criterion("cmdline", patterns=(regex(r"^sshd"),)), False),
        (Criterion("user", names=("root",), ids=frozenset({0})), True),
        (Criterion("user", names=("nobody",), ids=frozenset({65534})), False),
        (Criterion("user", names=("ghost",)), False),
        (criterion("unit", "ssh.service"), True),
        (criterion("user_unit", "*"), False),
        (criterion("slice", "system.slice"), True),
        (Criterion("session_leader", flag=True), True),
        (Criterion("session_leader", flag=False), False),
        (Criterion("descendant_of", names=("other",)), False),
    ],
)
def test_one_criterion(criterion: Criterion, fits: bool) -> None:
    assert (mismatch(rule(criterion), PROCESS) is None) is fits


def test_mismatch_names_the_first_that_fails() -> None:
    asked = rule(criterion("comm", "sshd"), criterion("unit", "cron.service", "at.service"), criterion("exe", "/x"))

    assert mismatch(asked, PROCESS) == Mismatch("unit", ["cron.service", "at.service"], "ssh.service")


def test_path_that_leads_elsewhere_does_not_fit() -> None:
    impostor = replace(PROCESS, exe_verified=False, exe_doubt="not the file at that path here")

    found = mismatch(rule(criterion("exe", "/usr/sbin/sshd")), impostor)

    assert found == Mismatch("exe", "/usr/sbin/sshd", "/usr/sbin/sshd (not the file at that path here)")


@pytest.mark.parametrize(
    ("cmdline", "fits"),
    [("chrome --type=tab", True), ("chrome --type=gpu-process", False), (None, False)],
)
def test_not_holds_over_what_is_known(cmdline: str | None, fits: bool) -> None:
    asked = rule(criterion("comm", "sshd"), excluded=(criterion("cmdline", "*--type=gpu-process*"),))

    assert (mismatch(asked, replace(PROCESS, cmdline=cmdline)) is None) is fits


def test_not_excludes_only_what_meets_all_of_it() -> None:
    asked = rule(excluded=(criterion("comm", "sshd"), criterion("unit", "cron.service")))

    assert mismatch(asked, PROCESS) is None
    assert mismatch(asked, replace(PROCESS, unit=None)) == Mismatch("not", ["comm = sshd", "unit = cron.service"], None)


def test_other_pid_namespaces_are_left_to_their_manager() -> None:
    contained = replace(PROCESS, foreign_pid_ns=True)
    asked = rule(criterion("comm", "sshd"))

    assert mismatch(asked, contained) == Mismatch("containers", "this PID namespace", "another PID namespace")
    assert mismatch(replace(asked, containers=True), contained) is None


def test_disabled_rule_fits_nothing() -> None:
    asked = replace(rule(criterion("comm", "sshd")), enabled=False)

    assert mismatch(asked, PROCESS) == Mismatch("enabled", True, False)
    assert RuleSet([asked]).decide(PROCESS) is None


@pytest.mark.parametrize(
    ("action", "guarded", "first", "target"),
    [
        (Action(-1000, -1000), True, 0, -1000),
        (Action(300, 300), True, 800, 300),
        (Action(300, 300), False, 800, 800),
        (Action(300, 300), False, 0, 300),
        (Action(low=300), False, 0, 300),
        (Action(low=300), False, 800, 800),
        (Action(high=300), True, 800, 300),
        (Action(-100, 100), True, 0, 0),
        (Action(-100, 100), True, 500, 100),
        (Action(0, 0), True, 500, 0),
    ],
)
def test_target(action: Action, guarded: bool, first: int, target: int) -> None:
    assert Rule("r", (), action, guarded=guarded).target(first) == target


@pytest.mark.parametrize(
    ("children", "value", "first", "child"),
    [
        (None, -1000, 0, 0),
        (None, 500, 0, 500),
        (None, 300, 800, 800),
        ("reset", 500, 0, 0),
        ("inherit", -1000, 0, -1000),
        (0, -900, 50, 0),
        (7, 500, 0, 7),
    ],
)
def test_child_value(children: str | int | None, value: int, first: int, child: int) -> None:
    assert Rule("r", (), Action(value, value), children=children).child_value(value, first) == child


@pytest.mark.parametrize(("first", "child"), [(0, 7), (7, 7), (300, 300)])
def test_a_spoofable_rule_lowers_no_child(first: int, child: int) -> None:
    assert Rule("r", (), Action(500, 500), children=7, guarded=False).child_value(500, first) == child


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action(ignore=True), "ignore"),
        (Action(-5, -5), "-5"),
        (Action(low=-5), "at least -5"),
        (Action(high=7), "at most 7"),
        (Action(-5, 7), "at least -5, at most 7"),
    ],
)
def test_action_as_text(action: Action, text: str) -> None:
    assert str(action) == text


EXE = criterion("exe", "/bin/a", "/opt/*")
RAISES = Action(low=5)


@pytest.mark.parametrize(
    ("asked", "decided"),
    [
        (rule(EXE, action=RAISES), True),
        (replace(rule(EXE), guarded=False), True),
        (rule(EXE), False),  # a guarded rule can lower: the path has to be verified
        (rule(EXE, action=Action(high=5)), False),
        (rule(EXE, action=Action(ignore=True)), False),
        (rule(EXE, criterion("comm", "a"), action=RAISES), False),
        (rule(EXE, action=RAISES, excluded=(criterion("comm", "a"),)), False),
        (rule(criterion("comm", "a"), action=RAISES), False),
    ],
)
@pytest.mark.parametrize("behind", [0, 1, 5])
def test_whether_the_executable_alone_decides(asked: Rule, decided: bool, behind: int) -> None:
    """Also where rules that don't fit stand before it, and rules that do stand behind it."""
    before = [rule(criterion("exe", "/bin/b"), name=f"b{n}") for n in range(behind)]
    rules = RuleSet([*before, asked, rule(EXE, name="later", action=RAISES)])

    for exe in ("/bin/a", "/opt/a"):
        found = rules.decided_by_exe(rules.possible("exe", exe))
        assert (found is asked) is decided
        assert found in (asked, None)
    assert rules.decided_by_exe(rules.possible("exe", "/bin/c")) is None or asked.criterion("exe") is None
    assert rules.decided_by_exe(0) is None


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (rule(EXE), True),
        (rule(EXE, criterion("comm", "a")), True),
        (rule(EXE, action=RAISES), False),
        (replace(rule(EXE), guarded=False), False),
        (rule(criterion("cmdline", "/bin/a")), False),
    ],
)
def test_which_paths_have_to_be_verified(asked: Rule, named: bool) -> None:
    rules = RuleSet([rule(criterion("exe", "/bin/b")), asked])

    assert rules.names_exe("/bin/a") is named
    assert rules.names_exe("/opt/x") is named
    assert rules.names_exe("/bin/b")
    assert not rules.names_exe("/bin/c")
    assert not rules.names_exe("")


def test_path_is_verified_where_it_takes_long_to_find_out_whether_it_is_named() -> None:
    rules = RuleSet([Rule("r", (Criterion("exe", (regex("(a+)+$"),)),), Action(5, 5))])
    path = "/" + "a" * 3000 + "!"

    with pytest.raises(NotYet) as asked:
        rules.names_exe(path)
    asked.value.learn(None)
    with pytest.raises(NotYet) as asked:
        rules.names_exe(path)
    asked.value.learn(None)

    assert rules.names_exe(path)


SLOW = Criterion("cmdline", (regex("(a+)+$"),))
LONG = "/" + "a" * 3000 + "!"


def test_searches_that_take_long_are_not_done_in_the_loop() -> None:
    long = replace(PROCESS, cmdline=LONG)
    by_path = RuleSet([rule(Criterion("exe", (regex("(a+)+$"),)))])

    with pytest.raises(NotYet):
        by_path.possible("exe", LONG)
    with pytest.raises(NotYet):
        RuleSet([rule(SLOW)]).decide(long)
    with pytest.raises(NotYet):
        RuleSet([rule(SLOW)]).prepare(long)
    assert by_path.possible("exe", "") == 0


def test_what_another_fact_rules_out_is_not_searched_for() -> None:
    other, fits = rule(criterion("comm", "other"), SLOW), rule(excluded=(criterion("comm", "a"),), name="fits")

    assert RuleSet([other, fits]).decide(replace(PROCESS, cmdline=LONG)) is fits


def test_a_text_without_a_result_takes_too_long() -> None:
    searched = Searched("aaa")
    searched.found = {"b": NO}

    assert regex("b").matches(searched) is False
    assert regex("a").matches(searched) is None


@pytest.mark.parametrize("verified", [True, False, None])
def test_a_rule_that_lowers_fits_only_a_verified_path(verified: bool | None) -> None:
    process = replace(PROCESS, exe_verified=verified)
    lowers, raises = rule(criterion("exe", "/usr/sbin/sshd")), rule(criterion("exe", "/usr/sbin/*"), action=Action(500))

    assert RuleSet([lowers, raises]).decide(process) is (lowers if verified else raises)


@pytest.mark.parametrize(
    ("asked", "asks", "can"),
    [
        (Rule("r", (), Action(-1, -1)), True, True),
        (Rule("r", (), Action(0, 0)), False, True),  # below what the process may have had
        (Rule("r", (), Action(1, 1)), False, True),
        (Rule("r", (), Action(1000, 1000)), False, False),
        (Rule("r", (), Action(low=-5)), False, False),
        (Rule("r", (), Action(low=-5, high=7)), True, True),
        (Rule("r", (), Action(high=999)), True, True),
        (Rule("r", (), Action(high=1000)), False, False),
        (Rule("r", (), Action(low=5), children=-1), True, True),
        (Rule("r", (), Action(low=5), children=0), False, True),
        (Rule("r", (), Action(low=5), children="reset"), False, False),
        (Rule("r", (), Action(-1, -1), children=5), True, True),
        (Rule("r", (), Action(ignore=True), children=-1), False, False),
        (Rule("r", (), Action(5, 5), guarded=False), False, False),
    ],
)
def test_what_a_rule_can_lower(asked: Rule, asks: bool, can: bool) -> None:
    assert (asked.asks_to_lower, asked.can_lower) == (asks, can)


@pytest.mark.parametrize(
    ("text", "literal", "simple", "fits", "fits_not"),
    [
        ("/usr/lib/X11", True, True, "/usr/lib/X11", "/usr/lib/x11"),
        ("/opt/X*", False, True, "/opt/X11", "/opt/x"),
        ("a?c*", False, False, "abcd", "a?d"),
        ("ab?*", False, False, "abcd", "ab"),
    ],
)
def test_which_texts_need_a_regular_expression(
    text: str, literal: bool, simple: bool, fits: str, fits_not: str
) -> None:
    pattern = literal_or_glob(text)

    assert (pattern.literal, pattern.regex is None) == (literal, simple)
    assert (pattern.matches(fits), pattern.matches(fits_not)) == (True, False)


@pytest.mark.parametrize(
    ("legacy", "value"), [(-17, -1000), (-16, -941), (-1, -58), (0, 0), (1, 58), (14, 823), (15, 1000)]
)
def test_legacy_values(legacy: int, value: int) -> None:
    assert oom_adj_to_score(legacy) == value


def test_needs() -> None:
    by_exe = rule(criterion("exe", "/x"), action=Action(low=300))
    assert needs([by_exe]).forks
    assert not needs([by_exe]).events
    assert needs([rule(criterion("comm", "x"))]).events == {"comm"}
    assert needs([rule(Criterion("user", ids=frozenset({0})))]).events == {"uid"}
    assert needs([rule(excluded=(Criterion("group"),))]).events == {"gid"}
    assert not needs([rule(criterion("exe", "/x"), action=Action(ignore=True))]).forks
    assert needs([replace(by_exe, enabled=False)]) == needs([])
    assert needs([rule(Criterion("descendant_of", names=("x",)), action=Action(ignore=True))]).forks
    assert not needs([by_exe]).second_look
    assert needs([rule(criterion("unit", "x"))]).second_look


LEADER, NO_LEADER = Criterion("session_leader", flag=True), Criterion("session_leader", flag=False)


@pytest.mark.parametrize(
    ("asked", "decides"),
    [
        (rule(NO_LEADER), True),
        (rule(LEADER), False),
        (rule(excluded=(LEADER,)), True),
        (rule(excluded=(NO_LEADER,)), False),
        (rule(criterion("comm", "a"), NO_LEADER), True),
        (rule(criterion("comm", "a")), False),
        (rule(excluded=(criterion("comm", "a"),)), False),
        (replace(rule(NO_LEADER), enabled=False), False),
    ],
)
def test_whether_a_rule_can_fit_a_new_process_that_did_not_fit_its_parent(asked: Rule, decides: bool) -> None:
    """The child of the leader of a session isn't the leader of one."""
    assert needs([rule(criterion("exe", "/x")), asked]).fork_decides is decides


def test_what_rules_name() -> None:
    below = (Criterion("descendant_of", names=("a", "b")), Criterion("user", names=("root",)))
    rules = RuleSet([rule(criterion("exe", "/x")), rule(*below[1:], excluded=below[:1]), rule(criterion("exe", "/y"))])

    assert rules.referenced == {"a", "b"}
    assert rules.by_exe == 0b101


# The model: no index, no bits, no memory.

WORDS = ["a", "ab", "b", "a*", "?b", "[ab]", "*", "\udcff"]


def plainly(asked: Rule, process: Process) -> bool:
    def value(key: str) -> str | None:
        found: str | None = getattr(process, key)
        return found

    def one(c: Criterion) -> bool | None:
        if c.key == "user":
            return None if process.uid is None else bool({process.uid, process.saved_uid} <= c.ids)
        text = value(c.key)
        if text is None:
            return None
        hit = any(fnmatch.fnmatchcase(text, p.text) if p.is_glob else text == p.text for p in c.patterns)
        if text == "" and c.key != "cmdline":
            return False
        return hit

    if not all(one(c) is True for c in asked.criteria):
        return False
    if any(c.key == "exe" for c in asked.criteria) and asked.action != RAISE and not process.exe_verified:
        return False
    if process.foreign_pid_ns and not asked.containers and (asked.action != RAISE or process.container is not False):
        return False
    if not asked.excluded:
        return True
    results = [one(c) for c in asked.excluded]
    return False in results


criteria_strategy = st.lists(
    st.one_of(
        st.builds(
            criterion,
            st.sampled_from(["exe", "comm", "cmdline", "unit", "slice", "cgroup"]),
            st.sampled_from(WORDS),
            st.sampled_from(WORDS),
        ),
        st.builds(lambda ids: Criterion("user", ids=ids), st.frozensets(st.sampled_from([0, 1]))),
    ),
    max_size=3,
    unique_by=lambda c: c.key,
).map(tuple)
facts = st.one_of(st.none(), st.sampled_from(["", "a", "ab", "b", "bb", "a\nb", "\udcff"]))
process_strategy = st.builds(
    Process,
    pid=st.just(42),
    starttime=st.just(1),
    ppid=st.just(1),
    comm=st.sampled_from(["a", "ab", "b"]),
    session_leader=st.booleans(),
    exe=facts,
    exe_verified=st.sampled_from([True, False, None]),
    cmdline=facts,
    uid=st.sampled_from([0, 1, None]),
    cgroup=facts,
    unit=facts,
    slice=facts,
    saved_uid=st.sampled_from([0, 1]),
    foreign_pid_ns=st.booleans(),
    container=st.sampled_from([True, False, None]),
)
RAISE = Action(low=300)


rule_strategy = st.builds(
    Rule,
    name=st.just(""),
    criteria=criteria_strategy,
    action=st.sampled_from([Action(500, 500), RAISE]),
    excluded=criteria_strategy,
    containers=st.booleans(),
)


@given(st.lists(rule_strategy, max_size=8), st.lists(process_strategy, max_size=4))
def test_decision_is_that_of_the_model(asked: list[Rule], processes: list[Process]) -> None:
    rules = [replace(each, name=str(i)) for i, each in enumerate(asked)]
    rule_set = RuleSet(rules)

    for process in processes * 2:  # the second time out of the memory
        expected = next((r for r in rules if plainly(r, process)), None)
        assert rule_set.decide(process) == expected
        for r in rules:
            assert (mismatch(r, process) is None) is plainly(r, process)


def test_globs_are_translated_once_and_whole() -> None:
    assert literal_or_glob("a*b").matches("a\nb")
    assert not literal_or_glob("a*b").matches("a\nbc")
    assert literal_or_glob("[*]").matches("*")
    assert re.compile(fnmatch.translate("*")).match("x")


@given(st.text("ab*?[]!-\n", min_size=1, max_size=6), st.text("ab*?[]!-\n", max_size=6))
def test_globs_match_what_fnmatch_does(glob: str, value: str) -> None:
    pattern = literal_or_glob(glob)
    assert bool(pattern.matches(value)) is fnmatch.fnmatchcase(value, glob)
    assert pattern.literal is not pattern.is_glob


def test_a_glob_that_ends_with_its_only_star_needs_no_regular_expression() -> None:
    pattern = literal_or_glob("/opt/my app/*")
    assert (pattern.regex, pattern.is_glob, pattern.literal, str(pattern)) == (None, True, False, "/opt/my app/*")
    assert pattern.matches("/opt/my app/bin/java")
    assert not pattern.matches("/opt/my app")
    rule = Rule("r", (Criterion("exe", (pattern,)),), Action(500, 500))
    assert RuleSet((rule,)).searches.keys == ()  # nothing that could take long


values = st.sampled_from(["a", "ab", "b", "", None, "c*", "/a"])


@given(st.lists(st.sampled_from(["a", "a*", "b", "*b", "c[*]", "", "ab"]), max_size=100), values, st.booleans())
def test_the_index_finds_what_trying_each_rule_finds(texts: list[str], value: str | None, also: bool) -> None:
    patterns = [tuple(map(literal_or_glob, {text, "b"} if also else {text})) if text else () for text in texts]
    rules = [
        Rule(str(i), (Criterion("comm", patterns=each),) if each else (), Action(1, 1))
        for i, each in enumerate(patterns)
    ]

    fits = [not each or bool(value and any(p.matches(value) for p in each)) for each in patterns]

    assert Index("comm", rules).possible(value) == sum(1 << i for i, fit in enumerate(fits) if fit)


def test_the_index_of_ids_wants_all_of_them() -> None:
    rules = [Rule("r", (Criterion("user", ids=frozenset({0, 5})),), Action(1, 1))]

    found = [Index("user", rules).possible(value) for value in (0, 1, (0, 5), (0, 1), (1, 0), None)]

    assert found == [1, 0, 1, 0, 0, 0]


def test_no_pattern_fits_a_fact_that_a_process_does_not_have() -> None:
    index = Index("unit", [rule(criterion("unit", "*")), rule(criterion("comm", "a"))])

    assert [index.possible(value) for value in ("a", "", None)] == [0b11, 0b10, 0b10]


@pytest.mark.parametrize("numbers", [[], [0], [2, 0], [7, 7], range(63), range(64), [*range(3, 1000, 9), 3], [5] * 99])
def test_numbers_as_bits(numbers: Sequence[int]) -> None:
    bits = as_bits(numbers)

    assert {number for number in range(1100) if bits >> number & 1} == set(numbers)
