"""Reads process events in their order, and has the pinner deal with each as it comes."""

import contextlib
import time
from collections.abc import Callable, Iterable

from oomwatchd.daemon.event_source import EventSource
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.log_records import WARNING, Record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.kernel.proc_connector import (
    NAMES,
    PROC_EVENT_EXIT,
    PROC_EVENT_FORK,
    SOON_US,
    Connector,
    Event,
    EventsUnavailable,
)
from oomwatchd.pinning.decisions import runtime_rule
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules import kernel_names
from oomwatchd.rules.ruleset import needs

_STAY_NS = 25_000_000
"""How long one turn goes on while events follow each other closely. Other descriptors and timers wait meanwhile."""
_PAUSE_SECONDS = 0.0003
"""How long the daemon pauses between a write and what follows it, unless other events wait. If both are on one CPU, the
daemon has preempted the program that it pinned; in the pause that runs on."""
_NAME_OR_IDS = frozenset(kind for kind, name in NAMES.items() if name in ("comm", "uid", "gid"))
_CHANGES = 4
"""How many changes of its name or its IDs a process is looked at for in one turn. If there are more, one look at the
end of the turn is for all of them: a process can change its name a million times a second."""
_GROWTH = 20_000
"""A scan begins when more processes than this have come into the ledger since the last scan. It drops the dead ones."""


class EventPump:
    """Subscribes the events that rules and pins need, reads them, and has the pinner deal with each.

    `scan_soon` begins a scan; `scanning` says whether one is under way; `look_later` is called with the PID of each
    process that has changed itself by exec, comm, uid or gid."""

    def __init__(
        self,
        loop: Loop,
        source: EventSource,
        pinner: Pinner,
        in_force: InForce,
        report: Reporter,
        *,
        scan_soon: Callable[[], None],
        scanning: Callable[[], bool],
        look_later: Callable[[int], None],
    ) -> None:
        self.heard = 0
        """Events read since the start."""
        self.losses = 0
        """How often events were lost since the start."""
        self._loop = loop
        self._source = source
        self._pinner = pinner
        self._in_force = in_force
        self._report = report
        self._scan_soon = scan_soon
        self._scanning = scanning
        self._look_later = look_later
        self._connector: Connector | None = None
        self._descriptor = -1
        self._subscribed = frozenset[str]()
        self._nodes_after_scan = 0
        self._last_ns = 0
        """When the last event that was read was sent, CLOCK_MONOTONIC."""

    # Subscribing

    def subscribe(self) -> None:
        """Subscribe the events that rules and runtime pins need now. Raises EventsUnavailable if there are no events
        and the configuration requires them."""
        pinner = self._pinner
        were_on, before = self._source.on, self._subscribed
        self._subscribed = self._needed()
        names = kernel_names.of_rules(pinner.rules.rules)
        try:
            self._source.subscribe(self._subscribed, names, self._in_force.config.settings.proc_events)
        finally:
            self._wake_up()
            if not were_on:
                pinner.prefilter.doubt_all()
            if not were_on or "fork" not in before:
                pinner.relatives.note_unheard_forks()

    def _needed(self) -> frozenset[str]:
        """The kinds of events that rules and runtime pins need. While the ledger has processes, forks and exits are
        needed, to know their descendants."""
        ledger = self._pinner.ledger
        by_rules, by_pins = self._pinner.rules.needs, needs(list(map(runtime_rule, ledger.runtime_pins.values())))
        forks = by_rules.forks or by_pins.forks or bool(ledger.nodes)
        return by_rules.events | by_pins.events | {"exec"} | ({"fork", "exit"} if forks else set())

    def scan_done(self) -> None:
        """After a scan, which has brought the ledger up to date: subscribe other kinds of events if they are needed
        now."""
        self._nodes_after_scan = len(self._pinner.ledger.nodes)
        if self._needed() != self._subscribed:
            with contextlib.suppress(EventsUnavailable):  # logged when the configuration was applied
                self.subscribe()

    def _wake_up(self) -> None:
        """Have the loop wake up for the socket of events. It is added anew each time: a new socket may have the number
        of a closed one, which the kernel has removed from the epoll set."""
        if self._connector is not None:
            self._loop.remove(self._descriptor)
        self._connector = self._source.connector
        if self._connector is not None:
            self._descriptor = self._connector.fileno()
            self._loop.add(self._descriptor, self._on_events)

    # Reading

    def read_all(self) -> None:
        """Deal with all events that the kernel has sent until now."""
        self._on_events(0)

    def _on_events(self, stay_ns: int = _STAY_NS) -> None:
        """Deal with the events that have woken the loop, and with those that the kernel sends within `stay_ns`. Little
        is done before the first event is read, because its write waits for all that. Where the kernel lets all events
        through, wait for events that follow soon, too. After an exit none does, unless programs start one after the
        other."""
        connector = self._connector
        if connector is None:
            return
        exact, count, watched, busy = self._source.exact, 0, False, False
        wait = may_wait = stay_ns > 0 and not exact and not self._scanning()
        until_ns = time.monotonic_ns() + stay_ns
        events: list[Event] = []
        changed: dict[int, int] = {}
        left: dict[int, Event] = {}
        while (event := connector.next(until_ns, wait)) is not None:
            if event[1] in _NAME_OR_IDS and changed.get(event[2], 0) >= _CHANGES:
                left[event[2]] = event
            else:
                self._deal_with(event, connector, changed, exact=exact)
            if count == 0:  # asked after the first event, so that its write doesn't wait for this
                watched = self._report.watched
                busy = event[0] - self._last_ns < SOON_US * 1000
            count += 1
            self._last_ns = event[0]
            wait = may_wait and (busy or event[1] != PROC_EVENT_EXIT)
            if watched:
                events.append(event)
            if event[0] >= until_ns:
                break
        self.heard += count
        for event in left.values():
            self._deal_with(event, connector, changed, exact=exact)
        self._after_events(events, changed)

    def _after_events(self, events: list[Event], changed: Iterable[int]) -> None:
        """Do what is done once after many events. `events`: those that were read, where somebody monitors them.
        `changed`: PIDs of the processes that have changed themselves by exec, comm, uid or gid."""
        for pid in changed:
            self._pinner.prefilter.doubt(pid)
            self._look_later(pid)
        self._pinner.tracking.expire()
        self._pinner.ledger.flush()
        relatives = self._pinner.relatives
        if self._source.fall_back():  # after the events: no write waits for the system call that this takes
            relatives.note_unheard_forks()
            self._scan_soon()
        if len(self._pinner.ledger.nodes) > self._nodes_after_scan + _GROWTH:
            self._scan_soon()
        lost_from_ns = self._source.take_loss()
        if lost_from_ns is not None:
            relatives.note_loss(lost_from_ns)
            self._scan_soon()
            self._note_loss(
                "The kernel lost process events, more than there was room for; scanning all processes instead"
            )
        self._report.decisions(events)

    def _deal_with(self, event: Event, connector: Connector, changed: dict[int, int], *, exact: bool) -> None:
        """Deal with one event. A process that has changed itself is counted in `changed`, by PID."""
        timestamp_ns, what, pid, parent = event
        pinner = self._pinner
        try:
            if what == PROC_EVENT_FORK:
                pinner.forked(pid, parent, timestamp_ns)
            elif what == PROC_EVENT_EXIT:
                pinner.family.exited(pid, timestamp_ns)
            elif exact or pinner.candidates.concerns(pid):
                changed[pid] = changed.get(pid, 0) + 1
                if pinner.begin(pid, NAMES[what], timestamp_ns):
                    connector.comes_within(_PAUSE_SECONDS)
                pinner.finish()
        except Exception as error:
            self._report.internal_error(error)

    # Losses

    def check(self) -> None:
        """Read all events, and check whether the kernel still sends them: up to Linux 6.5 another program can end them
        for all (drivers/connector/cn_proc.c)."""
        self._source.probe()
        self.read_all()
        try:
            if self._source.silenced():
                self._note_loss(
                    "The kernel had stopped sending process events; subscribed again, scanning all processes"
                )
        except EventsUnavailable as reason:
            self._source.close(str(reason))
            self._wake_up()
            seconds = self._in_force.scan_seconds(events=False)
            message = f"Process events are gone: {reason}; scanning every {seconds:g} s"
            self._report.emit(Record("events-lost", WARNING, message))

    def _note_loss(self, message: str) -> None:
        self.losses += 1
        self._pinner.prefilter.doubt_all()
        self._report.emit(Record("events-lost", WARNING, message))

    def close(self) -> None:
        """Close the source of events."""
        self._source.close()
