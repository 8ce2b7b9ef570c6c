"""The loop: what fails in one thing doesn't end it."""

import os
import signal
from collections.abc import Callable

import pytest

from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.sd_notify import SdNotify


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def loop(errors: list[Exception]) -> Loop:
    return Loop(errors.append)


def test_handlers_and_their_errors(loop: Loop, errors: list[Exception]) -> None:
    read, write = os.pipe()
    seen: list[bytes] = []

    def handler() -> None:
        seen.append(os.read(read, 10))
        raise ValueError(seen[-1])

    loop.add(read, handler)
    os.write(write, b"a")
    loop.turn(wait=True)
    os.write(write, b"b")
    loop.turn(wait=True)
    assert read in loop
    loop.remove(read)
    os.write(write, b"c")
    loop.turn(wait=False)

    assert read not in loop
    assert seen == [b"a", b"b"]
    assert [str(error) for error in errors] == ["b'a'", "b'b'"]


def test_timers_come_once_and_can_be_put_off_or_cancelled(loop: Loop) -> None:
    calls: list[str] = []

    def recorder(name: str) -> Callable[[], None]:
        return lambda: calls.append(name)

    first, second, third = recorder("first"), recorder("second"), recorder("third")
    loop.later(0.0, first)
    loop.later(0.0, second)
    loop.later(3600.0, second)
    loop.later(0.0, third)
    loop.cancel(third)
    loop.turn(wait=True)
    loop.turn(wait=False)

    assert calls == ["first"]
    assert loop.awaits(second)
    assert not loop.awaits(first)


def test_timer_may_cancel_another_that_is_due(loop: Loop) -> None:
    def second() -> None:
        raise AssertionError("was cancelled")

    loop.later(0.0, lambda: loop.cancel(second))
    loop.later(0.0, second)

    loop.turn(wait=False)


def test_signals(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGHUP)
    seen: list[bytes] = []
    try:
        loop.catch_signals((signal.SIGHUP,), seen.append)
        os.kill(os.getpid(), signal.SIGHUP)
        loop.turn(wait=True)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGHUP, before)
        for end in loop._wakeup:
            end.close()

    assert seen == [bytes([signal.SIGHUP])]


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [(None, None, None), ("30000000", None, 12.0), ("30000000", "1", None), ("soon", None, None)],
)
def test_watchdog(
    monkeypatch: pytest.MonkeyPatch, microseconds: str | None, pid: str | None, seconds: float | None
) -> None:
    for name, value in {"NOTIFY_SOCKET": None, "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    assert SdNotify().ping_seconds == seconds
