"""One thread's waiting: descriptors, timers, signals. An exception in dealing with one thing never ends it."""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable

_AT_ONCE = 16
"""Descriptors that one turn deals with. For as many there is room in memory each time."""


class Loop:
    """epoll(7) and what hangs on it. `on_error` is told of each exception that a handler lets go."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: dict[Callable[[], None], float] = {}

    def add(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever there is something to read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._handlers[descriptor] = handler

    def remove(self, descriptor: int) -> None:
        self._handlers.pop(descriptor, None)
        with contextlib.suppress(OSError):  # closing it has removed it already
            self._epoll.unregister(descriptor)

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._handlers

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call `do` once after so long; a call that was to come before is put off."""
        self._timers[do] = time.monotonic() + seconds

    def cancel(self, do: Callable[[], None]) -> None:
        self._timers.pop(do, None)

    def awaits(self, do: Callable[[], None]) -> bool:
        """Whether `do` is still to come."""
        return do in self._timers

    def turn(self, *, wait: bool) -> None:
        """Wait for something if `wait`, and deal with all that there is."""
        timeout: float | None = 0.0
        if wait:
            timeout = max(min(self._timers.values()) - time.monotonic(), 0.0) if self._timers else None
        for descriptor, _ in self._epoll.poll(timeout, _AT_ONCE):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                self.guard(handler)
        now = time.monotonic()
        for do in [do for do, due in self._timers.items() if now >= due]:
            if self._timers.pop(do, None) is not None:
                self.guard(do)

    def guard(self, do: Callable[[], None]) -> None:
        """Call `do`; an exception is told of, and that is all."""
        try:
            do()
        except Exception as error:
            self._on_error(error)

    def catch_signals(self, numbers: tuple[int, ...], handler: Callable[[bytes], None]) -> None:
        """Call `handler` with the signals that have come, one byte each."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        self._wakeup = (receiver, sender)  # they close when they are collected
        self.add(receiver.fileno(), lambda: handler(receiver.recv(64)))
