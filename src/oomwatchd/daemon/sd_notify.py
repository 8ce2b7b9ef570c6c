"""Sends states to the service manager: sd_notify(3), sd_watchdog_enabled(3)."""

import os
from collections.abc import Callable

from oomwatchd.base.alarm import Interrupted
from oomwatchd.daemon.loop import Loop

_SEND_SECONDS = 0.1
"""How long sending one state may take, where the service manager doesn't read."""
_KEPT = 8
"""The most states that are kept until the service manager takes them."""
_WATCHDOG_SHARE = 0.4
"""The interval of pings, as a share of the time that the watchdog allows."""


class SdNotify:
    """The connection to the service manager. Without one, its methods do nothing."""

    def __init__(self) -> None:
        self._notify: Callable[[str], object] | None = None
        """None: there is no service manager."""
        self._status = ""
        """The status line that was sent last."""
        self._kept: list[str] = []
        """States that were not taken. Pings aren't kept, since they are of no use later."""
        if "NOTIFY_SOCKET" in os.environ:
            from systemd._daemon import notify  # systemd.daemon has the same function, and more

            self._notify = notify

    def tell(self, state: str) -> None:
        """Send a state such as "READY=1", after those that weren't taken before. Never raises."""
        if self._notify is None:
            return
        self._kept.append(state)
        try:
            while self._kept:
                with Interrupted(_SEND_SECONDS):
                    self._notify(self._kept[0])
                del self._kept[0]
        except InterruptedError:
            self._kept = [state for state in self._kept if state != "WATCHDOG=1"][-_KEPT:]
        except OSError:
            self._kept.clear()

    def show(self, status: str) -> None:
        """Send the line that `systemctl status` shows, if it has changed."""
        if status != self._status:
            self._status = status
            self.tell(f"STATUS={status}")

    def keep_pinging(self, loop: Loop) -> None:
        """Ping the watchdog at its interval from now on, if there is a watchdog. The loop sends the pings, so they end
        when the loop hangs."""
        seconds = self.ping_seconds
        if seconds is not None:
            self.tell("WATCHDOG=1")
            loop.later(seconds, lambda: self.keep_pinging(loop))

    @property
    def ping_seconds(self) -> float | None:
        """The interval of WATCHDOG=1 in seconds; None: there is no watchdog."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if not microseconds.isdigit() or not ours:
            return None
        return int(microseconds) / 1e6 * _WATCHDOG_SHARE
