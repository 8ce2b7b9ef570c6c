"""Process events: which are subscribed, and which of them the kernel drops before they wake the daemon."""

import contextlib
import os
from collections.abc import Callable

from oomwatchd.kernel import exec_filter
from oomwatchd.kernel.exec_filter import ExecFilter
from oomwatchd.kernel.proc_connector import NAMES, Connector, Event, Unavailable
from oomwatchd.pinning.pid_table import OwnTable, Table
from oomwatchd.rules.kernel_names import KernelNames
from oomwatchd.rules.model import Rule

Reader = Callable[..., Event | None]

_KIND_OF = {name: kind for kind, name in NAMES.items()}


class EventSource:
    """Process events, or the reason why there are none; and how many of them the kernel drops."""

    def __init__(self, use_table: Callable[[Table], None]) -> None:
        """`use_table` is called before events go by another table."""
        self._use_table = use_table
        self._connector: Connector | None = None
        self.reason = ""
        """Why there are no events."""
        self.filter = "off"
        """What the kernel drops: "names", what no rule can fit; "kinds", by kind of event; "off": there are none."""
        self.filter_reason = ""
        """Why that isn't "names"."""
        self._loaded: ExecFilter | None = None
        self._not_loaded = ""
        self._kinds = frozenset[int]()
        self._wide: set[str] = set()
        """Who wants all events for now."""

    @property
    def on(self) -> bool:
        return self._connector is not None

    def comes_within(self, seconds: float) -> bool:
        """See Connector.comes_within()."""
        return self._connector is not None and self._connector.comes_within(seconds)

    def reader(self) -> Reader | None:
        """What reads the next event, Connector.next(); None: there are no events."""
        return None if self._connector is None else self._connector.next

    def descriptor(self) -> int | None:
        """What to wait for, for reading; another one after subscribe() and close(). None: there are no events."""
        return None if self._connector is None else self._connector.fileno()

    def load_filter(self) -> None:
        """Load the eBPF program, and give up the capabilities that this takes."""
        try:
            self._loaded = ExecFilter()
        except exec_filter.Unavailable as reason:
            self._not_loaded = str(reason)
        with contextlib.suppress(OSError):  # a sandbox without capset(2)
            exec_filter.give_up_capabilities()

    def subscribe(self, kinds: frozenset[str], names: KernelNames | Rule, mode: str) -> None:
        """Subscribe these kinds of events (of proc_connector.NAMES). `names`: what a program must have for a rule to
        fit it, or the rule for which that can't be said; `mode` is proc_events of the configuration. Raises Unavailable
        if there are no events to be had and the mode requires them."""
        self._kinds = frozenset(_KIND_OF[name] for name in kinds)
        try:
            if mode == "off":
                raise Unavailable('proc_events = "off"')
            if self._connector is None:
                self._connector = Connector(self._kinds)
            self._go_by(names)
            self.reason = ""
        except Unavailable as reason:
            self.close(str(reason))
            if mode == "required":
                raise

    def _go_by(self, names: KernelNames | Rule) -> None:
        reason = self._not_loaded
        if isinstance(names, Rule):
            reason = reason or f"rule '{names.name}' names nothing that the kernel can compare"
        if self._loaded is None or isinstance(names, Rule):
            self._by_kinds(reason)
            return
        try:
            if self.filter != "names":
                self._loaded.members.clear()
            self._loaded.let_through(
                map(os.fsencode, names.exes),
                map(os.fsencode, names.comms),
                map(os.fsencode, names.comm_prefixes),
                [*((False, uid) for uid in names.uids), *((True, gid) for gid in names.gids)],
            )
            self._listen()
            if self._connector is not None and self.filter != "names":
                self._use_table(self._loaded.members)
                self._loaded.attach(self._connector.socket)
            self.filter, self.filter_reason = "names", ""
        except OSError as error:
            self._by_kinds(f"failed to tell the kernel the names of the rules ({error.strerror})")

    def _by_kinds(self, reason: str) -> None:
        if self._connector is not None:
            self._connector.listen(self._kinds)
        if self.filter == "names":
            self._use_table(OwnTable())
        self.filter, self.filter_reason = "kinds", reason

    def _listen(self) -> None:
        if self._loaded is not None:
            self._loaded.listen(self._kinds, everything=bool(self._wide))

    def let_all_through(self, who: str, wanted: bool) -> None:
        """`who` wants the events of all processes, or no longer does. They pass for as long as anybody wants them."""
        before = bool(self._wide)
        (self._wide.add if wanted else self._wide.discard)(who)
        if self.filter == "names" and before != bool(self._wide):
            self._listen()

    @property
    def exact(self) -> bool:
        """Whether the kernel drops nearly all events about untracked processes."""
        return self.filter == "names" and not self._wide

    def fall_back(self) -> bool:
        """Whether the kernel's table of processes has become full, so that every event passes. If so, the daemon keeps
        a table of its own from now on."""
        if self._loaded is None or self.filter != "names" or not self._loaded.members.full:
            return False
        self._by_kinds("more processes are tracked than the kernel's table holds; until the next reload")
        return True

    def take_loss(self) -> int | None:
        """Since when events may have been lost, see Connector.take_loss(); None: none were."""
        return None if self._connector is None else self._connector.take_loss()

    def probe(self) -> None:
        """Ask the kernel for a sign of life. It comes like an event; silenced() says whether it has."""
        if self._connector is not None:
            self._connector.probe()

    def silenced(self) -> bool:
        """To be called after probe(), when all events have been read. Whether the kernel had stopped sending events;
        they are subscribed again then. Raises Unavailable if that fails."""
        if self._connector is None or not self._connector.silent:
            return False
        self._connector.subscribe()
        return True

    def close(self, reason: str = "") -> None:
        """Have no more events, and say why."""
        if self._connector is not None:
            self._connector.close()
            self._connector = None
        self.reason = self.filter_reason = reason
        if self.filter == "names":
            self._use_table(OwnTable())
        self.filter = "off"
