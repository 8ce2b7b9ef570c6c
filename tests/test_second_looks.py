"""The second looks at processes that have changed: soon, once each, and a few at a time."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from oomwatchd.daemon.second_looks import SecondLooks


class Timers:
    """In the place of the loop, for one timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due = 0.0
        self._do: Callable[[], None] | None = None

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self._due, self._do = self.now + seconds, do

    def awaits(self, do: Callable[[], None]) -> bool:
        return self._do == do

    def turn(self) -> None:
        do = self._do
        if do is not None and self._due <= self.now:
            self._do = None
            do()


class Looking:
    """SecondLooks, and the PIDs that were looked at. Time goes on as the test says."""

    def __init__(self) -> None:
        self.looked: list[int] = []
        self.timers = Timers()
        rules = SimpleNamespace(needs=SimpleNamespace(second_look=True))
        pinner = SimpleNamespace(rules=rules, look=lambda pid, _trigger: self.looked.append(pid))
        self.looks = SecondLooks(self.timers, pinner, lambda: None, lambda: self.timers.now)  # type: ignore[arg-type]

    def after(self, seconds: float) -> list[int]:
        """The PIDs that are looked at in the turn after so many seconds."""
        self.timers.now += seconds
        self.looked.clear()
        self.timers.turn()
        return list(self.looked)


@pytest.fixture
def looking() -> Looking:
    return Looking()


def test_each_is_looked_at_once_after_its_last_change(looking: Looking) -> None:
    looking.looks.add(1)
    looking.looks.add(2)
    assert looking.after(0.3) == []
    looking.looks.add(1)

    assert looking.after(0.3) == [2]
    assert looking.after(0.3) == [1]
    assert looking.after(1.0) == []


def test_one_that_changes_over_and_over_takes_no_room(looking: Looking) -> None:
    for _ in range(5000):
        looking.looks.add(1)
    looking.looks.add(2)

    assert looking.after(0.6) == [1, 2]


def test_events_are_read_between_a_few_of_them(looking: Looking) -> None:
    for pid in range(1, 41):
        looking.looks.add(pid)

    turns = [looking.after(0.6), looking.after(0.0), looking.after(0.0), looking.after(0.0)]

    assert [len(looked) for looked in turns] == [16, 16, 8, 0]
    assert [pid for looked in turns for pid in looked] == list(range(1, 41))


def test_more_than_there_is_room_for_are_left_to_scans(looking: Looking) -> None:
    for pid in range(1, 5001):
        looking.looks.add(pid)

    looked = [looking.after(0.6)]
    while looked[-1]:
        looked.append(looking.after(0.0))

    assert sum(map(len, looked)) == 4096
