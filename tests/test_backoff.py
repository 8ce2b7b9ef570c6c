"""When a value that was changed again is written back, left alone, or warned about; time is the test's."""

import pytest

from oomwatchd.pinning.backoff import Backoff, DriftResponse

WRITE, WAIT, WARN = DriftResponse.WRITE, DriftResponse.WAIT, DriftResponse.WARN


def contended(since: float = 1000.0) -> Backoff:
    """A value that was changed four times in the same second, so that it is left alone for a minute."""
    backoff = Backoff()
    assert [backoff.drifted(since) for _ in range(4)] == [WRITE, WRITE, WRITE, WARN]
    assert backoff.contended
    return backoff


def test_three_changes_in_a_row_are_undone_and_the_fourth_is_warned_about() -> None:
    backoff = Backoff()

    for _ in range(3):
        assert backoff.drifted(0.0) is WRITE
        assert not backoff.contended
    assert backoff.drifted(0.0) is WARN


@pytest.mark.parametrize(("later", "response"), [(0.0, WAIT), (59.9, WAIT), (60.0, WRITE), (600.0, WRITE)])
def test_the_value_is_left_alone_for_a_minute(later: float, response: DriftResponse) -> None:
    assert contended(1000.0).drifted(1000.0 + later) is response


def test_each_wait_is_twice_as_long_up_to_an_hour() -> None:
    backoff, now = contended(1000.0), 1000.0

    for seconds in (60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, *[3600.0] * 20):
        assert backoff.drifted(now + seconds - 0.1) is WAIT
        now += seconds
        assert backoff.drifted(now) is WRITE
        assert backoff.contended


@pytest.mark.parametrize(("calm", "over"), [(600.0, False), (600.1, True)])
def test_ten_minutes_without_a_change_end_it(calm: float, over: bool) -> None:
    backoff = contended(1000.0)

    assert backoff.drifted(1060.0 + calm) is WRITE
    assert backoff.contended is not over
    assert backoff.drifted(1060.0 + calm) is (WRITE if over else WAIT)


@pytest.mark.parametrize(("calm", "fourth"), [(600.0, WARN), (600.1, WRITE)])
def test_changes_that_are_far_apart_are_not_in_a_row(calm: float, fourth: DriftResponse) -> None:
    backoff = Backoff()

    for now in (1000.0, 1000.0, 1000.0):
        backoff.drifted(now)

    assert backoff.drifted(1000.0 + calm) is fourth


def test_after_a_reset_the_next_change_is_the_first() -> None:
    backoff = contended(1000.0)

    backoff.reset()

    assert not backoff.contended
    assert [backoff.drifted(1000.0) for _ in range(4)] == [WRITE, WRITE, WRITE, WARN]
    assert backoff.drifted(1059.0) is WAIT
