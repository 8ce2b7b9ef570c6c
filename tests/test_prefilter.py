"""Which processes are asked about again, on a made-up /proc."""

import errno
import os
from pathlib import Path

import pytest

from oomwatchd.kernel import procfs
from oomwatchd.pinning.prefilter import ROUNDS, Prefilter
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule, regex
from oomwatchd.rules.ruleset import RuleSet

RAISES, LOWERS = Action(low=500), Action(5, 5)


def prefilter(proc: Path, **criteria: str) -> Prefilter:
    criterion = tuple(Criterion(key, (Pattern(value),)) for key, value in criteria.items())
    return Prefilter(RuleSet((Rule("rule", criterion, Action(500, 500)),)), str(proc))


def process(proc: Path, pid: int, exe: str, comm: str = "name") -> None:
    directory = proc / str(pid)
    directory.mkdir()
    (directory / "exe").symlink_to(exe)
    (directory / "comm").write_text(f"{comm}\n")


def times_asked(asks: Prefilter, pid: int, inode: int) -> int:
    return sum(asks.doubtful({pid: inode}, scan) == [pid] for scan in range(ROUNDS))


@pytest.mark.parametrize("pid", range(1, ROUNDS + 1))
def test_one_that_is_ruled_out_is_asked_about_once_in_so_many_scans(tmp_path: Path, pid: int) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    assert times_asked(asks, pid, 3) == ROUNDS

    asks.ruled_out[pid] = 3

    assert times_asked(asks, pid, 3) == 1
    assert times_asked(asks, pid, 4) == ROUNDS


def test_one_that_passes_and_one_that_does_not(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted", comm="name")
    process(tmp_path, 7, "/wanted")
    process(tmp_path, 8, "/wanted", "another")
    process(tmp_path, 9, "/other")

    assert [asks.passes(pid) for pid in (7, 8, 9)] == [True, False, False]


def rule(name: str, *criteria: tuple[str, str], action: Action = RAISES) -> Rule:
    return Rule(name, tuple(Criterion(key, (Pattern(value),)) for key, value in criteria), action)


def test_executable_and_name_have_to_fit_the_same_rule(tmp_path: Path) -> None:
    rules = rule("a", ("exe", "/a"), ("comm", "a")), rule("b", ("exe", "/b"), ("comm", "b"))
    asks = Prefilter(RuleSet(rules), str(tmp_path))
    process(tmp_path, 7, "/a", "b")
    process(tmp_path, 8, "/b", "b")

    assert [asks.passes(pid) for pid in (7, 8)] == [False, True]
    assert [asks.sift(b"/a", comm)[0] for comm in (b"a", b"b", b"c")] == [0b1, 0, 0]
    lowers = Prefilter(RuleSet([rule("a", ("exe", "/a"), ("comm", "a"), action=LOWERS)]), str(tmp_path))
    assert lowers.may_be_renamed(b"/a")
    assert [lowers.sift(b"/a", comm) for comm in (b"a", b"b")] == [(1, True), (0, True)]


def test_what_is_remembered_of_a_refused_executable_is_of_no_other_one(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    process(tmp_path, 7, "/wanted")

    assert asks.sift(None, b"name") == (0, False)
    assert not asks.may_be_renamed(None)

    assert asks.passes(7)
    assert asks.sift(b"/wanted", b"name") == (1, True)
    assert asks.may_be_renamed(b"/wanted")
    assert not asks.may_be_renamed(b"/other")
    assert asks.decided_by(b"/unasked") is None


@pytest.mark.parametrize(
    ("asked", "link", "possible", "verify", "renamed"),
    [
        (rule("r", ("exe", "/wanted"), action=LOWERS), b"/wanted", True, True, True),
        (rule("r", ("exe", "/wanted"), action=LOWERS), b"/wanted (deleted)", True, True, True),
        (rule("r", ("exe", "/wanted"), action=LOWERS), b"/other", False, False, False),
        (rule("r", ("exe", "/wanted"), action=LOWERS), None, False, False, False),
        (rule("r", ("exe", "/wanted")), b"/wanted", True, False, True),
        (rule("r", ("unit", "a.service"), action=LOWERS), b"/wanted", True, False, False),
        (rule("r", ("unit", "a.service"), action=LOWERS), None, True, False, False),
    ],
)
def test_which_path_has_to_be_verified_and_whose_name_matters(
    tmp_path: Path, asked: Rule, link: bytes | None, possible: bool, verify: bool, renamed: bool
) -> None:
    asks = Prefilter(RuleSet((asked,)), str(tmp_path))

    for _ in ("the first time", "as it is remembered"):
        assert asks.sift(link, b"name") == (int(possible), verify)
        assert asks.may_be_renamed(link) is renamed


def test_a_path_that_takes_long_to_search_passes(tmp_path: Path) -> None:
    slow = Rule("r", (Criterion("exe", (regex("(a+)+$"),)),), RAISES)
    process(tmp_path, 7, "/" + "a" * 3000 + "!")

    assert Prefilter(RuleSet((slow,)), str(tmp_path)).passes(7)


@pytest.mark.parametrize(("known_inode", "passes"), [(None, True), (108, True), (107, False)])
def test_one_whose_first_thread_has_ended_passes_unless_it_did_not_before(
    tmp_path: Path, known_inode: int | None, passes: bool
) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (a) Z 1 7 7 0 -1 0 " + "0 " * 10 + "2 0 70 0\n")
    if known_inode is not None:
        asks.ruled_out[7] = known_inode

    assert asks.passes(7, 107) is passes
    assert asks.passes(7)  # an event tells that it is to be asked about


def test_what_an_event_shows_is_asked_about_in_the_next_scan(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    asks.ruled_out = {7: 107, 8: 108, 9: 109}

    asks.doubt(7)
    asks.doubt(70)
    assert asks.ruled_out == {8: 108, 9: 109}
    asks.doubt_all()
    assert asks.ruled_out == {}


def test_a_scan_has_it_remembered_that_one_does_not_pass(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    process(tmp_path, 7, "/wanted")
    process(tmp_path, 8, "/other")
    (tmp_path / "9").mkdir()  # as a kernel thread, without an executable

    for pid in (7, 8, 9):
        asks.passes(pid, 100 + pid)
    assert not asks.passes(8)

    assert asks.ruled_out == {8: 108, 9: 109}


@pytest.mark.parametrize("inode", [0, 107], ids=["in an event", "in a scan"])
def test_one_that_passes_later_is_asked_about_in_each_scan_from_then_on(tmp_path: Path, inode: int) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    asks.ruled_out = {7: 107}
    process(tmp_path, 7, "/wanted")

    assert asks.passes(7, inode)

    assert times_asked(asks, 7, 107) == ROUNDS


def test_the_dead_are_forgotten_before_they_are_the_most(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    asks.ruled_out = {pid: pid for pid in range(20)}

    asks.prune({pid: pid for pid in range(5, 15)})
    assert len(asks.ruled_out) == 20
    asks.prune({pid: pid for pid in range(5, 14)})
    assert asks.ruled_out.keys() == set(range(5, 14))


def test_no_inode_is_not_remembered(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    process(tmp_path, 8, "/other")

    asks.passes(8, 1)
    asks.passes(8)

    assert asks.ruled_out == {}


def test_no_room_to_ask_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = prefilter(tmp_path, comm="name")
    process(tmp_path, 7, "/other", "another")
    assert not asks.passes(7, 107)

    def full(*_: object) -> int:
        raise OSError(errno.ENFILE, "")

    monkeypatch.setattr(os, "open", full)

    assert not asks.passes(7, 107)
    assert not asks.passes(7, 107)
    assert asks.ruled_out == {}


def test_one_that_is_gone_does_not_pass(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")

    assert not asks.passes(7, 107)
    with pytest.raises(procfs.Vanished):
        asks.passes(7)


def test_inode_of_a_process_stays_the_same() -> None:
    assert dict(procfs.processes())[1] == dict(procfs.processes())[1]


@pytest.mark.parametrize("name", ["self", "sys", "1x"])
def test_only_processes_are_listed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "12").mkdir()

    assert list(procfs.processes(str(tmp_path))) == [(12, (tmp_path / "12").stat().st_ino)]
