"""Which process events are subscribed, and by which sockets. What the rules need decides."""

import select
from collections.abc import Callable

from oomwatchd.kernel import proc_connector
from oomwatchd.kernel.proc_connector import Connector, Event, Unavailable
from oomwatchd.pinning.lineage import Birth
from oomwatchd.rules.ruleset import Needs

_PAUSE_SECONDS = 600e-6
"""A program takes about as long from its exec event to its first instruction."""


class Events:
    """Process events, or the reason why there are none.

    Births come between the others where a rule's `children` can't wait. Where the kernel by itself lets children
    inherit the right value, they come by a socket of their own, which wakes nobody, and are read after the write that
    an event leads to, and by scans: they matter only for what was born between its parent's exec and our write, or
    our look, if it came too late."""

    def __init__(self) -> None:
        self.execs: Connector | None = None
        self.forks: Connector | None = None
        self._left: list[Birth] = []
        """Births from a socket that is closed now."""
        self.reason = ""
        self.births_come = ""
        """How: "between" the others, "apart", or empty: not at all."""

    @property
    def on(self) -> bool:
        return self.execs is not None

    def subscribe(self, needs: Needs, mode: str) -> None:
        """Have the events that `needs` asks for; `mode` is proc_events of the configuration. Raises Unavailable if
        there are none to be had and the mode requires them."""
        try:
            if mode == "off":
                raise Unavailable('proc_events = "off"')
            self._subscribe(needs)
            self.reason = ""
        except Unavailable as reason:
            self.close()
            self.reason = str(reason)
            if mode == "required":
                raise

    def _subscribe(self, needs: Needs) -> None:
        wanted = {proc_connector.PROC_EVENT_EXEC}
        wanted |= {proc_connector.PROC_EVENT_COMM} if "comm" in needs.events else set()
        wanted |= {proc_connector.PROC_EVENT_UID} if "uid" in needs.events else set()
        wanted |= {proc_connector.PROC_EVENT_GID} if "gid" in needs.events else set()
        births_come = "between" if needs.forks_at_once else "apart" if needs.forks else ""
        wanted |= {proc_connector.PROC_EVENT_FORK} if births_come == "between" else set()
        # The new way first, then the end of the old one: so some births come twice, and none is missed.
        if births_come == "apart" and self.forks is None:
            self.forks = Connector(frozenset({proc_connector.PROC_EVENT_FORK}))
        if self.execs is None:
            self.execs = Connector(frozenset(wanted))
        else:
            self.execs.listen(frozenset(wanted))
        if births_come != "apart" and self.forks is not None:
            self._left = self.births()
            self.forks.close()
            self.forks = None
        self.births_come = births_come

    def next(self, wait: bool, gather: bool, concerns: Callable[[int], bool], until_ns: int) -> Event | None:
        """What happened next, see Connector.next."""
        return None if self.execs is None else self.execs.next(wait, gather, concerns, until_ns)

    def pause(self) -> None:
        """Let others run, unless the next event is there: at real-time priority we may stand in the way of the very
        process that has just been pinned."""
        if self.execs is not None:
            select.select((self.execs,), (), (), _PAUSE_SECONDS)

    def seen(self) -> int:
        """How many events next() has read of the present subscription."""
        return 0 if self.execs is None else self.execs.seen

    def births(self) -> list[Birth]:
        """Those that have come by their own socket up to now."""
        births, self._left = self._left, []
        if self.forks is not None:
            births += self.forks.births()
        return births

    def lost(self) -> bool:
        """Whether the kernel has lost events since the last call."""
        sockets = [socket for socket in (self.execs, self.forks) if socket is not None]
        lost = any(socket.lost for socket in sockets)
        for socket in sockets:
            socket.lost = False
        return lost

    def probe(self) -> None:
        """Ask for a sign of life; next() hears it."""
        if self.execs is not None:
            self.execs.probe()

    def silenced(self) -> bool:
        """Whether the kernel, probed, has stopped to send events; then they are subscribed again. Raises
        Unavailable if that doesn't help."""
        if self.execs is None or not self.execs.silent:
            return False
        self.execs.subscribe()
        return True

    def close(self) -> None:
        for socket in (self.execs, self.forks):
            if socket is not None:
                socket.close()
        self.execs = self.forks = None
        self.births_come = ""
