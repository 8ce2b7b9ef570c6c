"""In which order looks that wait are done, and how many of them at once."""

from collections.abc import Iterator

from oomwatchd.pinning.agenda import Agenda
from oomwatchd.pinning.decisions import SCAN, Trigger

RELOAD = Trigger("reload")


def agenda(effort: float, *waiting: list[int | None]) -> Agenda:
    made = Agenda(effort)
    for pids in waiting:
        made.add(pids, SCAN)
    return made


def pids(steps: Iterator[tuple[int | None, Trigger]]) -> list[int | None]:
    return [pid for pid, _ in steps]


def test_all_that_waits_is_done_at_once_if_it_is_little() -> None:
    looks = agenda(1000, [1, None, 2])
    looks.add([3], RELOAD)

    assert not looks.empty
    assert list(looks.at_once()) == [(1, SCAN), (None, SCAN), (2, SCAN), (3, RELOAD)]
    assert looks.empty
    assert not looks.behind
    assert pids(looks.at_once()) == []
    assert not looks.behind


def test_a_look_takes_as_long_as_sixteen_pauses() -> None:
    looks = agenda(33, [*range(1, 9)], [9])

    assert pids(looks.at_once()) == [1, 2, 3]  # an effort of 16, 32, 48
    assert looks.behind
    assert pids(agenda(32, [None] * 40).at_once()) == [None] * 33
    assert pids(agenda(32, [None, 1, 2, 3]).at_once()) == [None, 1, 2]


def test_what_was_too_much_at_once_waits_for_rounds_and_all_that_comes_later_too() -> None:
    looks = agenda(10, [1, 2], [3])
    assert pids(looks.at_once()) == [1]

    looks.add([4], SCAN)

    assert pids(looks.at_once()) == []
    assert pids(looks.rounds()) == [2, 3, 4]
    assert (looks.empty, looks.behind) == (True, False)
    looks.add([5], SCAN)
    assert pids(looks.at_once()) == [5]


def test_rounds_end_although_each_look_brings_about_another() -> None:
    looks = agenda(10, [1])

    done = []
    for pid, _ in looks.rounds():
        assert pid is not None
        done.append(pid)
        looks.add([pid + 1], SCAN)

    assert done == [1, 2, 3, 4, 5, 6, 7, 8]
    assert looks.behind
    assert not looks.empty
    assert pids(looks.at_once()) == []


def test_a_caller_that_stops_leaves_the_rest() -> None:
    looks = agenda(1000, [1, 2, 3], [4])
    steps = looks.at_once()

    assert next(steps)[0] == 1
    assert looks.behind  # what comes meanwhile waits

    assert pids(looks.rounds()) == [2, 3, 4]
    assert pids(steps) == []
    assert looks.empty


def test_two_callers_take_each_look_once() -> None:
    """The second comes to the end of the first item while the first one is in it."""
    looks = agenda(1000, [1, 2], [3, 4])
    first, second = looks.at_once(), looks.rounds()

    taken = [next(first)[0], next(second)[0], next(second)[0], *pids(first), *pids(second)]

    assert taken == [1, 2, 3, 4]
    assert looks.empty


def test_nothing_is_left_after_clear() -> None:
    looks = agenda(10, [1, 2])
    assert pids(looks.at_once()) == [1]

    looks.clear()

    assert (looks.empty, looks.behind) == (True, False)
    assert pids(looks.rounds()) == []
