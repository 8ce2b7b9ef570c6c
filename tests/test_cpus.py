"""When the daemon goes to a program's CPU, and that it leaves again."""

import os
from collections.abc import Iterable

import pytest

from oomwatchd.kernel.cpus import Cpus

NORMAL, REAL_TIME = 1000, 1001
"""Processes, by their priority."""


@pytest.fixture
def affinities(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Where this process went. It has CPUs 0 to 3, and real-time priority."""
    found: list[set[int]] = []

    policies = {0: os.SCHED_RR | os.SCHED_RESET_ON_FORK, NORMAL: os.SCHED_OTHER, REAL_TIME: os.SCHED_FIFO}

    def note(pid: int, cpus: Iterable[int]) -> None:
        assert pid == 0
        found.append(set(cpus))

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(os, "sched_setaffinity", note)
    monkeypatch.setattr(os, "sched_getscheduler", policies.__getitem__)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    return found


def see(monkeypatch: pytest.MonkeyPatch, cpus: Cpus, running: int) -> bool:
    line = f"0.21 0.14 0.09 {running}/312 4711\n".encode()
    monkeypatch.setattr(os, "pread", lambda *_: line)
    cpus.look_around()
    return cpus.taken


@pytest.mark.usefixtures("affinities")
def test_taken_if_more_want_to_run_besides_us_than_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = Cpus()

    assert [see(monkeypatch, cpus, running) for running in (1, 5, 6, 40)] == [False, False, True, True]


def test_goes_there_and_leaves(affinities: list[set[int]]) -> None:
    cpus = Cpus()
    cpus.look_around()

    cpus.join(NORMAL, 2)
    cpus.leave()
    cpus.leave()

    assert affinities == [{2}, {0, 1, 2, 3}]


@pytest.mark.parametrize(("pid", "cpu"), [(NORMAL, 4), (REAL_TIME, 2)])
def test_not_where_we_may_not_run_or_would_have_to_wait(affinities: list[set[int]], pid: int, cpu: int) -> None:
    cpus = Cpus()
    cpus.look_around()

    cpus.join(pid, cpu)
    cpus.leave()

    assert affinities == []


@pytest.mark.usefixtures("affinities")
def test_a_refusal_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = Cpus()
    cpus.look_around()

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)

    cpus.join(NORMAL, 2)
    cpus.leave()


@pytest.mark.usefixtures("affinities")
@pytest.mark.parametrize("line", [b"", b"0.1 0.1 0.1\n", b"a b c d/e 1\n"])
def test_a_line_that_is_none_is_no_error(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(os, "pread", lambda *_: line)
    cpus = Cpus()

    cpus.look_around()

    assert not cpus.taken


@pytest.mark.usefixtures("affinities")
def test_proc_without_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", missing)

    assert not see(monkeypatch, Cpus(), 40)


@pytest.mark.usefixtures("affinities")
def test_never_taken_at_normal_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_OTHER)

    assert not see(monkeypatch, Cpus(), 40)


@pytest.mark.usefixtures("affinities")
@pytest.mark.parametrize(("count", "taken"), [(-1, True), (1 << 30, False)])
def test_reads_what_the_kernel_writes(monkeypatch: pytest.MonkeyPatch, count: int, taken: bool) -> None:
    """At least we run, and so many never do."""
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    cpus = Cpus()

    cpus.look_around()

    assert cpus.taken is taken
