"""The event loop: it waits for descriptors, timers and signals, and calls their handlers. An exception in a handler
doesn't end it."""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable

_AT_ONCE = 16
"""The most descriptors that are dealt with in one turn. It is small, since each turn allocates room for all of them."""


class Loop:
    """The event loop of one thread, by epoll(7). `on_error` is called with each exception that a handler raises."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: dict[Callable[[], None], float] = {}

    def add(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever the descriptor is readable. Raises OSError."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._handlers[descriptor] = handler

    def remove(self, descriptor: int) -> None:
        """Stop calling the handler of the descriptor. It is no error if the descriptor was never added, or is
        closed."""
        self._handlers.pop(descriptor, None)
        with contextlib.suppress(OSError):  # the kernel has removed a closed descriptor already
            self._epoll.unregister(descriptor)

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._handlers

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call `do` once, after `seconds`. If a call of `do` is planned already, its time is changed."""
        self._timers[do] = time.monotonic() + seconds

    def cancel(self, do: Callable[[], None]) -> None:
        """Cancel the planned call of `do`. It is no error if there is none."""
        self._timers.pop(do, None)

    def awaits(self, do: Callable[[], None]) -> bool:
        """Whether a call of `do` is planned."""
        return do in self._timers

    def turn(self, *, wait: bool) -> None:
        """Call the handlers of the descriptors that are readable and of the timers that are due. `wait`: wait until
        there is one."""
        timeout: float | None = 0.0
        if wait:
            timeout = max(min(self._timers.values()) - time.monotonic(), 0.0) if self._timers else None
        for descriptor, _ in self._epoll.poll(timeout, _AT_ONCE):
            handler = self._handlers.get(descriptor)
            if handler is None:
                continue
            try:  # not by guard(), since its call takes time, and a pin may wait for it
                handler()
            except Exception as error:
                self._on_error(error)
        now = time.monotonic()
        for do in [do for do, due in self._timers.items() if now >= due]:
            if self._timers.pop(do, None) is not None:
                self.guard(do)

    def guard(self, do: Callable[[], None]) -> None:
        """Call `do`. If it raises an exception, `on_error` is called with it, and nothing else happens."""
        try:
            do()
        except Exception as error:
            self._on_error(error)

    def catch_signals(self, numbers: tuple[int, ...], handler: Callable[[bytes], None]) -> None:
        """Catch the signals `numbers`. In the next turn, `handler` is called with those that have come, one byte for
        each."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        self._wakeup = (receiver, sender)  # kept, since they are closed when they are collected
        self.add(receiver.fileno(), lambda: handler(receiver.recv(64)))
