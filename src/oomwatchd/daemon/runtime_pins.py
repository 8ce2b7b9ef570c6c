"""Adds and ends runtime pins, which `oomwatchctl pin` makes."""

import contextlib
import errno
import os
from collections.abc import Callable

from oomwatchd.base.clock import boottime
from oomwatchd.daemon.loop import Loop
from oomwatchd.kernel.proc_connector import EventsUnavailable
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.pinner import Pinner


class PinRefused(Exception):
    """The value of a pin couldn't be written. The message says why. `lacks_privilege`: whether a privilege was
    missing."""

    def __init__(self, reason: str, *, lacks_privilege: bool) -> None:
        super().__init__(reason)
        self.lacks_privilege = lacks_privilege


class RuntimePins:
    """Adds and ends runtime pins. `subscribe` subscribes the events that pins need; `done` is called after looks."""

    def __init__(self, loop: Loop, pinner: Pinner, *, subscribe: Callable[[], None], done: Callable[[], None]) -> None:
        self._loop = loop
        self._pinner = pinner
        self._subscribe = subscribe
        self._done = done

    def put_in_force(self, pin: RuntimePin) -> None:
        """Pin a process. If it raises PinRefused, nothing has changed."""
        ledger = self._pinner.ledger
        before = ledger.runtime_pins.get(pin.pid)
        ledger.add_pin(pin)
        self.apply()
        self._look_afresh(pin.pid)
        node = ledger.nodes.get(pin.pid)
        if node is not None and node.pin is not None and (node.pin.rule, node.pin.target) == (pin.rule, pin.value):
            return
        number = None if node is None or node.refused is None else node.refused[1]
        ledger.remove_pin(pin)
        if before is not None and before.starttime == pin.starttime:
            ledger.add_pin(before)
        self._look_afresh(pin.pid)
        self.apply()
        reason = "it has ended" if number is None else os.strerror(number)
        raise PinRefused(reason, lacks_privilege=number == errno.EACCES)

    def end(self, pin: RuntimePin) -> None:
        """End a pin. The process is released, or pinned by the first rule that fits it."""
        self._pinner.ledger.remove_pin(pin)
        self._look_afresh(pin.pid)
        self.apply()

    def remove_all(self) -> None:
        """Remove all pins. A scan has to follow, which releases their processes."""
        ledger = self._pinner.ledger
        for pin in list(ledger.runtime_pins.values()):
            ledger.remove_pin(pin)

    def _look_afresh(self, pid: int) -> None:
        """Look at a process, and write its value also if a write was refused or the value was contended before."""
        ledger = self._pinner.ledger
        node = ledger.nodes.get(pid)
        if node is not None:
            node.forgive()
        self._pinner.look(pid, Trigger("control"))
        ledger.flush()
        self._done()

    def apply(self) -> None:
        """After pins were added or removed: subscribe the events that they need, and set the timer for the next that
        ends."""
        with contextlib.suppress(EventsUnavailable):  # logged when the configuration was applied
            self._subscribe()
        self._await_end()

    def _await_end(self) -> None:
        self._loop.cancel(self.expire)
        ends = [pin.ends for pin in self._pinner.ledger.runtime_pins.values() if pin.ends is not None]
        if ends:
            self._loop.later(max(min(ends) - boottime(), 0.0), self.expire)

    def expire(self) -> None:
        """End the pins whose time is over. A timer calls this, and so does each scan: timers stand still while the
        machine sleeps."""
        now = boottime()
        pins = self._pinner.ledger.runtime_pins.values()
        expired = [pin for pin in pins if pin.ends is not None and now >= pin.ends]
        for pin in expired:
            self._pinner.ledger.remove_pin(pin)
            self._pinner.look(pin.pid, Trigger("control"))
        if not expired:
            self._await_end()
            return
        self._pinner.ledger.flush()
        self.apply()
        self._done()
