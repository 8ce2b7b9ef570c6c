"""Reads process events in their order, and has each dealt with as it comes."""

import contextlib
import time
from collections.abc import Callable

from oomwatchd.daemon.event_source import EventSource
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.journal import WARNING, Record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.kernel.proc_connector import NAMES, PROC_EVENT_EXIT, PROC_EVENT_FORK, Event, Unavailable
from oomwatchd.pinning.decisions import Trigger, runtime_rule
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules import kernel_names
from oomwatchd.rules.ruleset import needs

_STAY_NS = 25_000_000
"""So long events that follow each other closely keep the loop from everything else."""
_PAUSE_SECONDS = 0.0003
"""A program that has just been pinned runs on for so long, unless other events wait, before the daemon goes on with the
record: where both are on one CPU, the daemon has preempted it."""
_GROWTH = 20_000
"""So many processes may come into the ledger before a scan drops those that have died since."""


class EventPump:
    """Subscribes the events that rules and pins need, wakes up for them, and has the pinner deal with each.

    `scan_soon` begins a scan; `scanning` says whether one is under way; `look_later` is called with the PID of each
    process that has changed itself."""

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
        self._descriptor: int | None = None
        self._subscribed = frozenset[str]()
        self._nodes_after_scan = 0

    # What is subscribed

    def subscribe(self) -> None:
        """Subscribe the events that rules and runtime pins need now. Raises Unavailable where the configuration
        requires events and there are none."""
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
        """The kinds of events that rules and runtime pins need; forks and exits for as long as the ledger has
        processes, whose descendants have to be known."""
        ledger = self._pinner.ledger
        pins = map(runtime_rule, ledger.runtime_pins.values())
        wanted = needs([*pins, *self._pinner.rules.rules])
        forks = wanted.forks or bool(ledger.nodes)
        return wanted.events | {"exec"} | ({"fork", "exit"} if forks else set())

    def scan_done(self) -> None:
        """A scan has brought the ledger up to date: other kinds of events may be needed now."""
        self._nodes_after_scan = len(self._pinner.ledger.nodes)
        if self._needed() != self._subscribed:
            with contextlib.suppress(Unavailable):  # logged when the configuration was applied
                self.subscribe()

    def _wake_up(self) -> None:
        """Wake up for the socket of events. A new one may have the descriptor of one that was closed, which the kernel
        has then forgotten to wake us for."""
        if self._descriptor is not None:
            self._loop.remove(self._descriptor)
        self._descriptor = self._source.descriptor()
        if self._descriptor is not None:
            self._loop.add(self._descriptor, self._on_events)

    # Reading

    def _on_events(self) -> None:
        """Deal with what woke us."""
        self._deal_with(time.monotonic_ns() + _STAY_NS, wait=True)

    def read_all(self) -> None:
        """Deal with all events that the kernel has sent up to now."""
        self._deal_with(time.monotonic_ns(), wait=False)

    def _deal_with(self, until_ns: int, *, wait: bool) -> None:
        """Deal with the events that the kernel has sent until then (CLOCK_MONOTONIC); `wait` as for turn()."""
        events = list[Event]()
        for pid in self.turn(until_ns, events, wait=wait):
            self._look_later(pid)
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

    def turn(self, until_ns: int, events: list[Event], *, wait: bool) -> list[int]:
        """Deal with what the kernel has sent until then (CLOCK_MONOTONIC). If it shall `wait`, and the kernel lets all
        events through, deal with what follows soon, too. Where somebody watches, all are added to `events`. Returns the
        PIDs of the processes that have changed themselves, by exec, comm, uid or gid."""
        read, pinner = self._source.reader(), self._pinner
        changed = list[int]()
        if read is None:
            return changed
        exact, count, written = self._source.exact, 0, False
        wait = wait and not exact and not self._scanning()
        while True:
            event = read(until_ns, wait=wait)
            if written:
                if event is None and self._source.comes_within(_PAUSE_SECONDS):
                    event = read(until_ns, wait=False)
                self._finish()
            if event is None:
                break
            written = self._deal_with_one(event, changed, exact=exact)
            if count == 0:  # after the first one: its write shouldn't wait for the answer
                watched = self._report.watched
            count += 1
            if watched:
                events.append(event)
            if event[0] >= until_ns:
                break
        if event is not None and written:
            self._finish()
        self.heard += count
        pinner.tracking.expire()
        pinner.ledger.flush()
        return changed

    def _deal_with_one(self, event: Event, changed: list[int], *, exact: bool) -> bool:
        """Deal with one event. The PID of a process that has changed itself is added to `changed`. Whether a value has
        been written, so that _finish() is still to be called."""
        timestamp_ns, what, pid, parent = event
        pinner = self._pinner
        try:
            if what == PROC_EVENT_FORK:
                pinner.forked(pid, parent, timestamp_ns)
            elif what == PROC_EVENT_EXIT:
                pinner.family.exited(pid, timestamp_ns)
            elif exact or pinner.candidates.concerns(pid):
                changed.append(pid)
                if pinner.begin(pid, Trigger(NAMES[what], timestamp_ns)):
                    return True
                pinner.finish()
        except Exception as error:
            self._report.internal_error(error)
        return False

    def _finish(self) -> None:
        """Do what follows a write."""
        try:
            self._pinner.finish()
        except Exception as error:
            self._report.internal_error(error)

    # Losses

    def check(self) -> None:
        """Read all events, and see whether they still come: up to Linux 6.5 another program can silence them for
        everyone (drivers/connector/cn_proc.c)."""
        self._source.probe()
        self.read_all()
        try:
            if self._source.silenced():
                self._note_loss(
                    "The kernel had stopped sending process events; subscribed again, scanning all processes"
                )
        except Unavailable as reason:
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
        self._source.close()
