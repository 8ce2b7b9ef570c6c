"""What the service manager wants to hear: sd_notify(3), sd_watchdog_enabled(3)."""

import os
from collections.abc import Callable

from oomwatchd.base.alarm import Interrupted
from oomwatchd.daemon.loop import Loop

_SEND_SECONDS = 0.1
"""A service manager that doesn't read is not waited for."""
_UNTOLD = 8
_WATCHDOG_SHARE = 0.4
"""Of the time that it allows between pings."""


class SdNotify:
    """systemd, or nobody."""

    def __init__(self) -> None:
        self._notify: Callable[[str], object] | None = None
        self._status = ""
        self._untold: list[str] = []
        """States that were not taken, but the pings, which are of no use later."""
        if "NOTIFY_SOCKET" in os.environ:
            from systemd._daemon import notify  # systemd.daemon has the same function, and more

            self._notify = notify

    def tell(self, state: str) -> None:
        """Send a state such as "READY=1", and what wasn't taken before. Never raises: it is not worth dying for."""
        if self._notify is None:
            return
        self._untold.append(state)
        try:
            while self._untold:
                with Interrupted(_SEND_SECONDS):
                    self._notify(self._untold[0])
                del self._untold[0]
        except InterruptedError:
            self._untold = [state for state in self._untold if state != "WATCHDOG=1"][-_UNTOLD:]
        except OSError:
            self._untold.clear()

    def show(self, status: str) -> None:
        """One line for `systemctl status`."""
        if status != self._status:
            self._status = status
            self.tell(f"STATUS={status}")

    def keep_pinging(self, loop: Loop) -> None:
        """Tell the watchdog again and again that the loop still turns, if there is one."""
        seconds = self.ping_seconds
        if seconds is not None:
            self.tell("WATCHDOG=1")
            loop.later(seconds, lambda: self.keep_pinging(loop))

    @property
    def ping_seconds(self) -> float | None:
        """How often to tell WATCHDOG=1; None: never."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if not microseconds.isdigit() or not ours:
            return None
        return int(microseconds) / 1e6 * _WATCHDOG_SHARE
