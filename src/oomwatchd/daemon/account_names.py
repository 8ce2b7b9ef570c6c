"""Keeps the numbers of users and groups up to date while the daemon runs."""

import time
from collections.abc import Callable

from oomwatchd.base.helper import ForkServer
from oomwatchd.config.accounts import GROUP, PASSWD, Accounts, Name, look_up
from oomwatchd.daemon.helper_pool import Call, HelperPool
from oomwatchd.daemon.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.config.accounts_watch import AccountsWatch

_HELPERS = 2
_OVERDUE_SECONDS = 60.0
"""A name service that hasn't answered then is asked anew."""
_INTERVAL_SECONDS = 30.0
"""How often name services are asked again: nothing tells when they have changed."""
_WAIT_SECONDS = 1.0
"""So long a start or a reload waits for them."""


class AccountNames:
    """Asks name services by helpers. `changed` is called when an answer has come that may concern rules. Time enters as
    an argument: CLOCK_MONOTONIC seconds."""

    def __init__(self, loop: Loop, server: ForkServer, accounts: Accounts, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._pool = HelperPool(loop, server, _HELPERS)
        self._accounts = accounts
        self._changed = changed
        self._asked: set[Name] = set()
        """Those that are waited for."""
        self._waiting: list[tuple[set[Name], Callable[[], None]]] = []
        self._wanted: list[Name] = []
        self._due = 0.0
        self._watch: AccountsWatch | None = None

    def watch(self) -> None:
        """Have the loop wake up when the files of users or groups have changed. Scans find that too."""
        from oomwatchd.config.accounts_watch import AccountsWatch

        try:
            watch = self._watch = AccountsWatch(PASSWD, GROUP)
        except OSError:
            return
        self._loop.add(watch.fileno(), self._on_change)

    def _on_change(self) -> None:
        if self._watch is not None and self._watch.changed():
            self.refresh(time.monotonic())

    def refresh(self, now: float) -> None:
        """Take note of changes of the files, and ask name services again from time to time."""
        if self._accounts.refresh():
            self._changed()
        if now >= self._due:
            self._due = now + _INTERVAL_SECONDS
            self._ask(self._accounts.not_in_files(self._wanted))

    def when_known(self, names: list[Name], do: Callable[[], None]) -> None:
        """Call `do` when it is known which of `names` exist, or name services take too long to say. From now on these
        are kept up to date."""
        self._wanted = names
        self._accounts.refresh()
        unknown = [name for name in names if not self._accounts.is_known(*name)]
        if not unknown:
            do()
            return
        self._ask(unknown)
        self._waiting.append((set(unknown), do))
        self._loop.later(_WAIT_SECONDS, self._go_on)

    def _ask(self, names: list[Name]) -> None:
        for name in names:
            if name not in self._asked and self._pool.submit(self._call(name)):
                self._asked.add(name)

    def _call(self, name: Name) -> Call:
        def done(answer: object) -> None:
            self._asked.discard(name)
            if isinstance(answer, tuple):
                before = self._accounts.number(*name)
                self._accounts.learn(*name, answer[0])
                if self._accounts.number(*name) != before:
                    self._changed()
            self._answered(name)

        return Call(look_up.__name__, name, done, 0, _OVERDUE_SECONDS)

    def _answered(self, name: Name) -> None:
        for unknown, _ in self._waiting:
            unknown.discard(name)
        if all(not unknown for unknown, _ in self._waiting):
            self._go_on()

    def _go_on(self) -> None:
        self._loop.cancel(self._go_on)
        waiting, self._waiting = self._waiting, []
        for _, do in waiting:
            do()

    def close(self) -> None:
        self._pool.close()
