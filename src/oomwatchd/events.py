"""Which process events are subscribed, and by which sockets. What the rules need decides."""

from oomwatchd import connector
from oomwatchd.connector import Connector, Event, Unavailable
from oomwatchd.rules import Needs


class Events:
    """Process events, or the reason why there are none.

    Fork events come by a socket of their own, which wakes the daemon only where a rule's `children` can't wait.
    Where the kernel by itself lets children inherit the right value, they are read before the next exec is dealt
    with, and by scans: they matter only for what was born between its parent's exec and our write."""

    def __init__(self) -> None:
        self.execs: Connector | None = None
        self.forks: Connector | None = None
        self.reason = ""
        self.wakes_on_forks = False

    @property
    def on(self) -> bool:
        return self.execs is not None

    def sockets(self) -> list[Connector]:
        """Those that should wake the daemon."""
        waking = [self.execs, self.forks if self.wakes_on_forks else None]
        return [socket for socket in waking if socket is not None]

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
        wanted = {connector.PROC_EVENT_EXEC}
        wanted |= {connector.PROC_EVENT_COMM} if needs.comm_events else set()
        wanted |= {connector.PROC_EVENT_UID} if needs.uid_events else set()
        wanted |= {connector.PROC_EVENT_GID} if needs.gid_events else set()
        if self.execs is None:
            self.execs = Connector(frozenset(wanted))
        else:
            self.execs.listen(frozenset(wanted))
        self.wakes_on_forks = needs.forks_at_once
        if needs.forks and self.forks is None:
            self.forks = Connector(frozenset({connector.PROC_EVENT_FORK}))
        elif not needs.forks and self.forks is not None:
            self.forks.close()
            self.forks = None

    def receive(self) -> tuple[list[Event], bool]:
        """What has happened, in that order, and whether the kernel lost some of it."""
        if self.execs is None:
            return [], False
        events, lost = self.execs.receive()
        if self.forks is None:
            return events, lost
        births, lost_births = self.forks.receive()
        if births:
            events += births
            events.sort()
        return events, lost or lost_births

    def probe(self) -> None:
        """Ask for a sign of life; the next receive() hears it."""
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
