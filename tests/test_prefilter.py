"""Which processes are asked about again, on a made-up /proc."""

import errno
import os
from pathlib import Path

import pytest

from oomwatchd.kernel import procfs
from oomwatchd.pinning.prefilter import ROUNDS, Prefilter
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet


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


def test_a_scan_has_it_remembered_that_one_does_not_pass(tmp_path: Path) -> None:
    asks = prefilter(tmp_path, exe="/wanted")
    process(tmp_path, 7, "/wanted")
    process(tmp_path, 8, "/other")
    (tmp_path / "9").mkdir()  # as a kernel thread, without an executable

    for pid in (7, 8, 9):
        asks.passes(pid, 100 + pid)
    assert not asks.passes(8)

    assert asks.ruled_out == {8: 108, 9: 109}


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
