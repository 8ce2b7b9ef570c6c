"""Process events, in their order: which are subscribed, what the kernel drops, and what is done about the rest."""

import contextlib
import os
from collections.abc import Callable

from oomwatchd.kernel import exec_filter
from oomwatchd.kernel.exec_filter import ExecFilter
from oomwatchd.kernel.proc_connector import (
    NAMES,
    PROC_EVENT_EXIT,
    PROC_EVENT_FORK,
    Connector,
    Event,
    Unavailable,
)
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.family import OwnTable, Table
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.kernel_names import KernelNames
from oomwatchd.rules.model import Rule

STAY_NS = 25_000_000
"""So long events that follow each other closely keep the loop from all else."""

_KINDS = {name: kind for kind, name in NAMES.items()}


class Events:
    """Process events, or the reason why there are none; and how many of them the kernel drops."""

    def __init__(self, use_table: Callable[[Table], None]) -> None:
        """`use_table` is called before events go by another table."""
        self._use_table = use_table
        self.connector: Connector | None = None
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
        return self.connector is not None

    def load_filter(self) -> None:
        """Load the eBPF program, and give up the capabilities that this takes."""
        try:
            self._loaded = ExecFilter()
        except exec_filter.Unavailable as reason:
            self._not_loaded = str(reason)
        with contextlib.suppress(OSError):  # a sandbox without capset(2)
            exec_filter.give_up_capabilities()

    def subscribe(self, kinds: frozenset[str], names: KernelNames | Rule, mode: str) -> None:
        """Have these kinds of events (of proc_connector.NAMES). `names`: what a program must have for a rule to fit it,
        or the rule for which that can't be said; `mode` is proc_events of the configuration. Raises Unavailable if
        there are none to be had and the mode requires them."""
        self._kinds = frozenset(_KINDS[name] for name in kinds)
        try:
            if mode == "off":
                raise Unavailable('proc_events = "off"')
            if self.connector is None:
                self.connector = Connector(self._kinds)
            self._filter(names)
            self.reason = ""
        except Unavailable as reason:
            self.close(str(reason))
            if mode == "required":
                raise

    def _filter(self, names: KernelNames | Rule) -> None:
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
            if self.connector is not None and self.filter != "names":
                self._use_table(self._loaded.members)
                self._loaded.attach(self.connector.socket)
            self.filter, self.filter_reason = "names", ""
        except OSError as error:
            self._by_kinds(f"failed to tell the kernel the names of the rules ({error.strerror})")

    def _by_kinds(self, reason: str) -> None:
        if self.connector is not None:
            self.connector.listen(self._kinds)
        if self.filter == "names":
            self._use_table(OwnTable())
        self.filter, self.filter_reason = "kinds", reason

    def _listen(self) -> None:
        if self._loaded is not None:
            self._loaded.listen(self._kinds, everything=bool(self._wide))

    def let_all_through(self, who: str, wanted: bool) -> None:
        """Somebody wants events of all processes, or no longer does."""
        before = bool(self._wide)
        (self._wide.add if wanted else self._wide.discard)(who)
        if self.filter == "names" and before != bool(self._wide):
            self._listen()

    @property
    def exact(self) -> bool:
        """Whether next to all events that come are about processes that matter."""
        return self.filter == "names" and not self._wide

    def fall_back(self) -> bool:
        """Whether the kernel's table is full, so that everything passes; from now on the daemon keeps one itself."""
        if self._loaded is None or self.filter != "names" or not self._loaded.members.full:
            return False
        self._by_kinds("more processes matter than the kernel's table holds; until the next reload")
        return True

    def take_loss(self) -> int | None:
        """See Connector.take_loss()."""
        return None if self.connector is None else self.connector.take_loss()

    def probe(self) -> None:
        """Ask for a sign of life; to read events hears it."""
        if self.connector is not None:
            self.connector.probe()

    def silenced(self) -> bool:
        """Whether the kernel, probed, has stopped to send events; then they are subscribed again. Raises
        Unavailable if that doesn't help."""
        if self.connector is None or not self.connector.silent:
            return False
        self.connector.subscribe()
        return True

    def close(self, reason: str = "") -> None:
        """Have no more events."""
        if self.connector is not None:
            self.connector.close()
            self.connector = None
        self.reason = self.filter_reason = reason
        if self.filter == "names":
            self._use_table(OwnTable())
        self.filter = "off"


class EventPump:
    """Reads events, and has the pinner deal with each as it comes."""

    def __init__(self, events: Events, pinner: Pinner, failed: Callable[[Exception], None]) -> None:
        self._events = events
        self._pinner = pinner
        self._failed = failed

    def turn(self, until_ns: int, *, wait: bool, watched: list[Event] | None) -> list[int]:
        """Deal with what the kernel has sent until then (CLOCK_MONOTONIC), and with what follows soon if it shall
        `wait`. All events are added to `watched`. Returns of which processes an event told that something about
        themselves has changed."""
        connector, pinner = self._events.connector, self._pinner
        changed = list[int]()
        if connector is None:
            return changed
        exact, count = self._events.exact, 0
        while (event := connector.next(until_ns, wait=wait)) is not None:
            count += 1
            if watched is not None:
                watched.append(event)
            timestamp_ns, what, pid, parent = event
            try:
                if what == PROC_EVENT_FORK:
                    pinner.forked(pid, parent, timestamp_ns)
                elif what == PROC_EVENT_EXIT:
                    pinner.family.exited(pid, timestamp_ns)
                elif exact or pinner.concerns(pid):
                    pinner.look(pid, Trigger(NAMES[what], timestamp_ns))
                    changed.append(pid)
            except Exception as error:
                self._failed(error)
            if timestamp_ns >= until_ns:
                break
        pinner.counters.events += count
        pinner.family.expire()
        pinner.ledger.flush()
        return changed
