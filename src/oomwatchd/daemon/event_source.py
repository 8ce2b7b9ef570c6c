"""Where process events come from: the subscription, and the filter by which the kernel drops events."""

import contextlib
import os
from collections.abc import Callable

from oomwatchd.kernel import exec_filter
from oomwatchd.kernel.exec_filter import ExecFilter
from oomwatchd.kernel.proc_connector import NAMES, Connector, EventsUnavailable
from oomwatchd.pinning.pid_table import OwnTable, Table
from oomwatchd.rules.kernel_names import KernelNames
from oomwatchd.rules.model import Rule

_KIND_OF = {name: kind for kind, name in NAMES.items()}


class EventSource:
    """The subscription to process events, and the filter in the kernel. One of both may be missing, with a reason."""

    def __init__(self, use_table: Callable[[Table], None]) -> None:
        """`use_table` is called with another table of tracked processes, before events are filtered by that."""
        self._use_table = use_table
        self._connector: Connector | None = None
        """None: there are no events."""
        self.reason = ""
        """Why there are no events; empty: there are some."""
        self.filter = "off"
        """What the kernel drops. "names": events of programs that no rule can fit. "kinds": events of other kinds.
        "off": there are no events."""
        self.filter_reason = ""
        """Why `filter` isn't "names"; empty: it is."""
        self._loaded: ExecFilter | None = None
        self._not_loaded = ""
        """Why the eBPF program isn't loaded; empty: it is."""
        self._kinds = frozenset[int]()
        """The kinds of events that are subscribed, PROC_EVENT_*."""
        self._wide: set[str] = set()
        """Who wants the events of all processes now, see let_all_through()."""

    @property
    def on(self) -> bool:
        """Whether there are process events."""
        return self._connector is not None

    @property
    def connector(self) -> Connector | None:
        """What to wait for, and to read events from; another one after subscribe() and close(). None: there are no
        events."""
        return self._connector

    def load_filter(self) -> None:
        """Load the eBPF program if possible, and give up the capabilities that this takes."""
        try:
            self._loaded = ExecFilter()
        except exec_filter.FilterUnavailable as reason:
            self._not_loaded = str(reason)
        with contextlib.suppress(OSError):  # a sandbox without capset(2)
            exec_filter.give_up_capabilities()

    def subscribe(self, kinds: frozenset[str], names: KernelNames | Rule, mode: str) -> None:
        """Subscribe events of `kinds`, which are values of proc_connector.NAMES. `names`: the result of
        kernel_names.of_rules(). `mode`: proc_events of the configuration. Raises EventsUnavailable if there are
        no events and the mode is "required"."""
        self._kinds = frozenset(_KIND_OF[name] for name in kinds)
        try:
            if mode == "off":
                raise EventsUnavailable('proc_events = "off"')
            if self._connector is None:
                self._connector = Connector(self._kinds)
            self._filter_by(names)
            self.reason = ""
        except EventsUnavailable as reason:
            self.close(str(reason))
            if mode == "required":
                raise

    def _filter_by(self, names: KernelNames | Rule) -> None:
        """Have the kernel drop events by names if it can, else by kind."""
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
        """Have the kernel drop events by kind alone."""
        if self._connector is not None:
            self._connector.listen(self._kinds)
        if self.filter == "names":
            self._use_table(OwnTable())
        self.filter, self.filter_reason = "kinds", reason

    def _listen(self) -> None:
        if self._loaded is not None:
            self._loaded.listen(self._kinds, everything=bool(self._wide))

    def let_all_through(self, who: str, wanted: bool) -> None:
        """Note whether `who` wants the events of all processes. They pass for as long as anybody wants them."""
        before = bool(self._wide)
        (self._wide.add if wanted else self._wide.discard)(who)
        if self.filter == "names" and before != bool(self._wide):
            self._listen()

    @property
    def exact(self) -> bool:
        """Whether the kernel drops the events of untracked processes, except for programs whose name a rule may fit."""
        return self.filter == "names" and not self._wide

    def fall_back(self) -> bool:
        """If the kernel's table of processes has become full, so that every event passes: keep a table in the daemon
        from now on. Returns whether that was so."""
        if self._loaded is None or self.filter != "names" or not self._loaded.members.full:
            return False
        self._by_kinds("more processes are tracked than the kernel's table holds; until the next reload")
        return True

    def take_loss(self) -> int | None:
        """The time (CLOCK_MONOTONIC, ns) from which on events may have been lost since the last call; None: none were,
        or the loss isn't over."""
        return None if self._connector is None else self._connector.take_loss()

    def probe(self) -> None:
        """Ask the kernel for an ACK. It comes in the order of the events; see silenced()."""
        if self._connector is not None:
            self._connector.probe()

    def silenced(self) -> bool:
        """After probe(), when all events have been read: whether the kernel had stopped sending events. If so, they are
        subscribed again. Raises EventsUnavailable if that fails."""
        if self._connector is None or not self._connector.silent:
            return False
        self._connector.subscribe()
        return True

    def close(self, reason: str = "") -> None:
        """End the subscription. `reason`: why, for `reason` and `filter_reason`."""
        if self._connector is not None:
            self._connector.close()
            self._connector = None
        self.reason = self.filter_reason = reason
        if self.filter == "names":
            self._use_table(OwnTable())
        self.filter = "off"
