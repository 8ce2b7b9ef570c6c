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
"""How long a helper may take. Then it is ended, and a new helper asks again."""
_INTERVAL_SECONDS = 30.0
"""How often name services are asked again. They don't report changes."""
_WAIT_SECONDS = 1.0
"""How long a start or a reload waits for name services."""


class AccountNames:
    """Has helpers ask name services. `changed` is called when a number that may concern rules has changed. Time enters
    as an argument: CLOCK_MONOTONIC seconds."""

    def __init__(self, loop: Loop, server: ForkServer, accounts: Accounts, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._pool = HelperPool(loop, server, _HELPERS)
        self._accounts = accounts
        self._changed = changed
        self._asked: set[Name] = set()
        """The names that helpers ask for now."""
        self._waiting: list[tuple[set[Name], Callable[[], None]]] = []
        """Functions to be called, and the names that each waits for."""
        self._wanted: list[Name] = []
        """The names that are kept up to date."""
        self._due = 0.0
        """When name services are to be asked again."""
        self._watch: AccountsWatch | None = None

    def watch(self) -> None:
        """Have the loop wake up when the files of users or groups change. Where that isn't possible, scans find the
        change."""
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
        """Read the files again if they have changed, and ask name services again if it is time."""
        if self._accounts.refresh():
            self._changed()
        if now >= self._due:
            self._due = now + _INTERVAL_SECONDS
            self._ask(self._accounts.not_in_files(self._wanted))

    def when_known(self, names: list[Name], do: Callable[[], None]) -> None:
        """Call `do` when the numbers of `names` are known, or when name services have taken too long. From now on these
        names, and no others, are kept up to date."""
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
        """End the helpers."""
        self._pool.close()
