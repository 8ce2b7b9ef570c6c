"""Events of processes that change themselves over and over: they are looked at as they are in the end, and others don't
wait for each change. And for which events the daemon waits, where the kernel lets all of them through."""

from types import SimpleNamespace

import pytest

from oomwatchd.daemon.event_pump import EventPump
from oomwatchd.daemon.loop import Loop
from oomwatchd.kernel.proc_connector import (
    PROC_EVENT_COMM,
    PROC_EVENT_EXEC,
    PROC_EVENT_EXIT,
    PROC_EVENT_FORK,
    PROC_EVENT_UID,
    Event,
)

FLOODING, INNOCENT = 10, 20


class Pumping:
    """An EventPump, and the looks that it asks for: PID and source."""

    def __init__(self, *, exact: bool = True) -> None:
        self.looks: list[tuple[int, str]] = []
        self.events: list[Event] = []
        self.later: list[int] = []
        self.doubted: list[int] = []
        self.waits: list[bool] = []
        """For each attempt to read an event: whether it waits for one."""
        none = lambda *_: None  # noqa: E731
        connector = SimpleNamespace(next=self._next, comes_within=none)
        source = SimpleNamespace(connector=connector, exact=exact, fall_back=lambda: False, take_loss=none)
        pinner = SimpleNamespace(
            forked=none,
            family=SimpleNamespace(exited=none),
            candidates=SimpleNamespace(concerns=lambda _pid: False),
            begin=lambda pid, source, _ns: self.looks.append((pid, source)),
            finish=none,
            tracking=SimpleNamespace(expire=none),
            ledger=SimpleNamespace(flush=none, nodes={}),
            relatives=None,
            prefilter=SimpleNamespace(doubt=self.doubted.append),
        )
        errors: list[Exception] = []
        report = SimpleNamespace(watched=False, decisions=none, internal_error=errors.append)
        parts = (Loop(errors.append), source, pinner, None, report)
        options = {"scan_soon": none, "scanning": lambda: False, "look_later": self.later.append}
        self.pump = EventPump(*parts, **options)  # type: ignore[arg-type]
        self.pump._connector = connector  # type: ignore[assignment]
        self.errors = errors

    def _next(self, _until_ns: int, wait: bool) -> Event | None:
        self.waits.append(wait)
        return self.events.pop(0) if self.events else None

    def turn(self, *events: tuple[int, int]) -> list[tuple[int, str]]:
        """The looks that follow from these events: pairs of a kind and a PID."""
        self.events = [(i, what, pid, 0) for i, (what, pid) in enumerate(events, 1)]
        self.looks.clear()
        self.pump.read_all()
        assert self.errors == []
        return list(self.looks)


@pytest.fixture
def pumping() -> Pumping:
    return Pumping()


@pytest.mark.parametrize(("kind", "source"), [(PROC_EVENT_COMM, "comm"), (PROC_EVENT_UID, "uid")])
def test_a_flood_of_changes_is_a_few_looks_and_one_in_the_end(pumping: Pumping, kind: int, source: str) -> None:
    looks = pumping.turn(*[(kind, FLOODING)] * 1000, (PROC_EVENT_EXEC, INNOCENT))

    assert looks == [(FLOODING, source)] * 4 + [(INNOCENT, "exec"), (FLOODING, source)]
    assert sorted(pumping.later) == sorted(pumping.doubted) == [FLOODING, INNOCENT]
    assert pumping.pump.heard == 1001


def test_a_few_changes_are_looked_at_at_once(pumping: Pumping) -> None:
    """As when a service drops its privileges, and takes a name."""
    few = [(PROC_EVENT_UID, 1), (PROC_EVENT_COMM, 1), (PROC_EVENT_UID, 2), (PROC_EVENT_COMM, 1)]
    assert pumping.turn(*few) == [(1, "uid"), (1, "comm"), (2, "uid"), (1, "comm")]
    assert pumping.turn(*few) == [(1, "uid"), (1, "comm"), (2, "uid"), (1, "comm")]


def test_each_exec_is_looked_at_at_once(pumping: Pumping) -> None:
    looks = pumping.turn(*[(PROC_EVENT_COMM, 1)] * 5, *[(PROC_EVENT_EXEC, 1)] * 6)
    assert looks == [(1, "comm")] * 4 + [(1, "exec")] * 6 + [(1, "comm")]


def test_nothing_is_awaited_after_the_exit_of_a_lone_program() -> None:
    """The wake-up at the end of the wait would cost as much as an event."""
    pumping = Pumping(exact=False)
    lone = [(PROC_EVENT_FORK, 30), (PROC_EVENT_EXEC, 30), (PROC_EVENT_EXIT, 30)]

    def waits(start_ms: int) -> list[bool]:
        pumping.events = [((start_ms + i) * 1_000_000, what, pid, 1) for i, (what, pid) in enumerate(lone)]
        pumping.waits.clear()
        pumping.pump._on_events(10**18)
        assert pumping.errors == []
        return pumping.waits

    assert waits(1000) == [True, True, True, False]
    assert waits(1005) == [True, True, True, True]  # it follows the exit of the one before by 3 ms
    assert waits(1030) == [True, True, True, False]
