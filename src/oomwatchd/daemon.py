"""The daemon: one thread, one selector. The only place that logs."""

import contextlib
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oomwatchd import config, feed, memory, procfs
from oomwatchd.config import Config, ConfigError, Layout
from oomwatchd.connector import NAMES, PROC_EVENT_FORK, Event, Unavailable
from oomwatchd.control import SOCKET_NAME, Connection, Json, Server, runtime_directory
from oomwatchd.events import Events
from oomwatchd.journal import ERR, INFO, NOTICE, WARNING, Log, PinLog, Record, of_decision, of_kill
from oomwatchd.kernellog import KernelLog, read_kill_counter
from oomwatchd.ledger import Ledger
from oomwatchd.lineage import Node
from oomwatchd.pin import SCAN, Occasion, Pinner, runtime_rule
from oomwatchd.problems import Problem
from oomwatchd.rules import RuleSet, needs

_BLIND_SCAN_SECONDS = 1.0
"""Without process events nothing but scans finds a new process."""
_SLICE_SECONDS = 0.005
"""A scan pauses for events so often."""
_FAMILY_SCANS = 4
_SAVING_SECONDS = 0.1
"""Editors save in several steps; what comes within this time is one change."""
_SECOND_LOOK_SECONDS = 0.5
"""Cgroup moves and setsid(2) raise no event of ours, and mostly follow soon after the start."""
_SECOND_LOOKS = 4096
_REPORT_SECONDS = 0.3
"""The kernel writes an OOM report in one go; after so long without a line it is complete."""
_GROWTH = 20_000
"""So many processes may come into the ledger until a scan drops those that have died since."""
_HIDEPID_SECONDS = 60.0
"""How long an answer to whether /proc is mounted with hidepid= is good for."""
_WATCHDOG_SHARE = 0.4
"""Of the time that systemd allows between pings, sd_watchdog_enabled(3)."""


class Failure(Exception):
    """The daemon can't start, and why."""


@dataclass(slots=True)
class State:
    """What `oomwatchctl status` tells besides counters and rules."""

    started_at: float
    """Seconds since the epoch."""
    loaded_at: float
    config_error: str = ""
    missing_capabilities: tuple[str, ...] = ()
    kernel_log: str = ""
    """Why the kernel's log can't be followed; empty: it is."""
    oom_kills: int = 0
    """Since the daemon's start."""
    scan_seconds: float = 0.0
    """All scans taken together."""


class Daemon:
    """Everything that runs."""

    def __init__(self, where: Layout, loaded: Config, log: Log, *, root: str = "/", dry_run: bool = False) -> None:
        self.where = where
        self.config = loaded
        self.log = log
        self.always_dry = dry_run
        self.state = State(time.time(), time.time())
        self.directory = runtime_directory(root)
        self.events = Events()
        self.pinner = Pinner(RuleSet(loaded.rules), self._new_ledger(), dry_run=self.dry_run)
        self.pin_log = PinLog(loaded.settings.log_pins)
        self.server: Server | None = None
        self._kernel_log: KernelLog | None = None
        self._kills_counted = read_kill_counter() or 0
        self._kills_told = 0
        self._victims: dict[int, Node | None] = {}
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._scan: Iterator[None] | None = None
        self._scan_again = False
        self._nodes_after_scan = 0
        self._next_scan = 0.0
        self._timers: dict[Callable[[], None], float] = {}
        self._second_looks: list[tuple[float, int]] = []
        self._after_scan: list[Callable[[], None]] = []
        self._source = "scan"
        self._stopping = False
        self._hidepid_due = 0.0
        self._hides_processes = True
        self._notify = _notifier()
        self._watchdog = _watchdog_seconds()
        self._next_ping = 0.0
        self._status = ""
        self._notes: list[str] = []

    @property
    def dry_run(self) -> bool:
        return self.always_dry or self.config.settings.dry_run

    @property
    def interval(self) -> float:
        """Seconds between scans."""
        wanted = self.config.settings.scan_interval
        if self.events.on or self.config.settings.proc_events == "off":
            return wanted
        return min(wanted, _BLIND_SCAN_SECONDS)

    # Start and end

    def once(self) -> None:
        """One scan. Raises Failure."""
        self._open_ledger()
        self._scan_whole()
        self.log_decisions()

    def run(self) -> None:
        """Start, work until told to stop, end. Raises Failure, and Unavailable where process events are required."""
        wakeup = self._catch_signals()
        self._open_ledger()
        self._open_server()
        self._subscribe()
        self._open_watch()
        self._open_kernel_log()
        self.state.missing_capabilities = procfs.missing_capabilities()
        self._end_expired_pins()
        self._scan_whole()
        self._log_started()
        self.log_decisions()
        self._tell_systemd("READY=1")
        self._show_status()
        memory.release()
        while not self._stopping:
            self._turn()
        self._stop()
        wakeup.close()

    def _log_started(self) -> None:
        rules = sum(rule.enabled for rule in self.pinner.rules.rules)
        parts = [f"Started with {_count(rules, 'rule')}, {_count(len(self.pinner.ledger.held()), 'process')} held"]
        missing = self.state.missing_capabilities
        if self.events.on:
            parts.append("process events on")
        else:
            parts.append(f"no process events ({self.events.reason}), so scanning every {self.interval:g} s")
        if self.dry_run:
            parts.append("a dry run, which writes nothing")
        if missing:
            parts.append(f"without {' and '.join(missing)}, so that {_losses(missing)}")
        degraded = bool(missing) or not self.events.on
        self._emit_with_notes("started", WARNING if degraded else INFO, "; ".join(parts))

    def _stop(self) -> None:
        self._tell_systemd("STOPPING=1")
        if self.config.settings.on_exit == "restore":
            self._on_events()
            self.pinner.release_all()
            self._on_events()  # children born meanwhile
            self.pinner.ledger.flush()
        self.pinner.identify_all()
        self.log_decisions()
        for record in self.pin_log.summaries(time.monotonic(), final=True):
            self.emit(record)
        with contextlib.suppress(OSError):
            self.pinner.ledger.rewrite()
        self.emit(Record("stopped", INFO, f"Stopped; {_count(len(self.pinner.ledger.held()), 'process')} left pinned"))
        self.events.close()
        if self.server is not None:
            self.server.close()

    def _new_ledger(self) -> Ledger:
        return Ledger(None if self.dry_run else f"{self.directory}/ledger.json", procfs.read_boot_id())

    def _open_ledger(self) -> None:
        ledger = self.pinner.ledger
        if ledger.path is None:
            return
        try:
            os.makedirs(self.directory, mode=0o755, exist_ok=True)
            trouble = ledger.load(procfs.is_alive)
        except OSError as error:
            raise Failure(f"Failed to write '{ledger.path}': {error.strerror}. Run as root, or --dry-run") from None
        if trouble is not None:
            self._notes.append(
                f"The ledger '{ledger.path}' is damaged: {trouble}; going on with what could be read of it"
            )

    def _open_server(self) -> None:
        try:
            os.makedirs(self.directory, mode=0o755, exist_ok=True)
            self.server = Server(f"{self.directory}/{SOCKET_NAME}")
        except OSError as error:
            message = f"Failed to open the control socket in '{self.directory}': {error.strerror}"
            if not self.dry_run:
                raise Failure(message) from None
            self._notes.append(f"{message}; oomwatchctl won't reach this dry run")
            return
        self._add(self.server.fileno(), self._on_client)

    def _open_watch(self) -> None:
        from oomwatchd.watch import ConfigWatch  # heavy; --check and --once do without

        try:
            self._watch = ConfigWatch(self.where)
        except OSError as error:
            self._notes.append(f"Failed to watch the configuration ({error}); it is read again on reload only")
            return
        self._add(self._watch.fileno(), self._on_file_change)

    def _open_kernel_log(self) -> None:
        try:
            self._kernel_log = KernelLog()
        except OSError as error:
            # Not worth a warning: the counter tells that something was killed, and the kernel's log whom.
            self.state.kernel_log = f"may not be read: {error.strerror}"
            return
        self._add(self._kernel_log.fileno(), self._on_kernel_log)

    # The loop

    def _add(self, descriptor: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def _remove(self, descriptor: int) -> None:
        self._handlers.pop(descriptor, None)
        with contextlib.suppress(OSError):  # closing it has removed it already
            self._epoll.unregister(descriptor)

    def _turn(self) -> None:
        """Wait for something, and deal with it."""
        for descriptor, events in self._epoll.poll(self._timeout()):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                self._guarded(handler, events)
        now = time.monotonic()
        for do in [do for do, due in self._timers.items() if now >= due]:
            del self._timers[do]
            self._guarded(do)
        if self._second_looks and now >= self._second_looks[0][0]:
            self._guarded(self._look_again, now)
        if self._scan is None and (self._scan_again or now >= self._next_scan):
            self._scan_again = False
            self._scan = self._scanning()
        if self._scan is not None:
            self._guarded(self._scan_slice)
        if now >= self._next_ping:
            self._next_ping = now + self._watchdog
            self._tell_systemd("WATCHDOG=1")

    def _timeout(self) -> float:
        if self._scan is not None or self._scan_again or self._stopping:
            return 0.0
        due = min(self._next_scan, self._next_ping)
        if self._timers:
            due = min(due, *self._timers.values())
        if self._second_looks:
            due = min(due, self._second_looks[0][0])
        return max(due - time.monotonic(), 0.0)

    def _guarded(self, do: Callable[..., None], *arguments: object) -> None:
        """An exception in dealing with one thing is told, and never ends the daemon."""
        try:
            do(*arguments)
        except Exception as error:
            self._internal_error(error)

    def _internal_error(self, error: Exception) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        self.emit(
            Record("pin-failed", ERR, f"Internal error at {where}, going on: {type(error).__name__}: {str(error)!a}")
        )

    def _catch_signals(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._add(ours.fileno(), lambda _: self._on_signals(ours.recv(64)))
        self._signals = ours
        return theirs

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stopping = True
        elif signal.SIGHUP in numbers:
            self.reload()

    # Events

    def _subscribe(self) -> None:
        """Have the events that rules and runtime pins need. Raises Unavailable where they are required."""
        pins = map(runtime_rule, self.pinner.ledger.runtime_pins.values())
        try:
            self.events.subscribe(needs([*pins, *self.pinner.rules.rules]), self.config.settings.proc_events)
        finally:
            self._watch_events()

    def _watch_events(self) -> None:
        """Wake up for the sockets that should wake us, and for no others."""
        waking = {connector.fileno() for connector in self.events.sockets()}
        for connector in (self.events.execs, self.events.forks):
            if connector is None:
                continue
            descriptor = connector.fileno()
            if descriptor in waking and descriptor not in self._handlers:
                self._add(descriptor, self._on_events)
            elif descriptor not in waking and descriptor in self._handlers:
                self._remove(descriptor)

    def _on_events(self, _: int = 0) -> None:
        events, lost = self.events.receive()
        pinner = self.pinner
        pinner.counters.events += len(events)
        for timestamp_ns, what, pid, parent in events:
            try:
                if what == PROC_EVENT_FORK:
                    pinner.forked(pid, parent, timestamp_ns)
                elif pinner.may_fit(pid):
                    pinner.look(pid, Occasion(NAMES[what], timestamp_ns))
                    self._remember_second_look(pid)
            except Exception as error:
                self._internal_error(error)
        pinner.ledger.lay_ghosts()
        pinner.ledger.flush()
        if len(pinner.ledger.nodes) > self._nodes_after_scan + _GROWTH:
            self._scan_again = True
        if lost:
            pinner.counters.lost += 1
            pinner.births.clear()
            pinner.family_unknown = True
            self._scan_again = True
            message = "The kernel lost process events, more than there was room for; scanning all processes instead"
            self.emit(Record("events-lost", WARNING, message))
        self.log_decisions(events)

    def _remember_second_look(self, pid: int) -> None:
        if self.pinner.rules.needs.second_look and len(self._second_looks) < _SECOND_LOOKS:
            self._second_looks.append((time.monotonic() + _SECOND_LOOK_SECONDS, pid))

    def _look_again(self, now: float) -> None:
        while self._second_looks and self._second_looks[0][0] <= now:
            self.pinner.look(self._second_looks.pop(0)[1], SCAN)
        self.log_decisions()

    def _check_events(self) -> None:
        """Whether events still come: up to Linux 6.5 another program can silence them for everyone."""
        self.events.probe()
        self._on_events()
        try:
            if self.events.silenced():
                self.pinner.counters.lost += 1
                message = "The kernel had stopped sending process events; subscribed again, scanning all processes"
                self.emit(Record("events-lost", WARNING, message))
        except Unavailable as reason:
            self.events.close()
            self.events.reason = str(reason)
            message = f"Process events are gone: {reason}; scanning every {self.interval:g} s"
            self.emit(Record("events-lost", WARNING, message))

    # Scans

    def _scan_whole(self) -> None:
        for _ in self._scanning():
            pass

    def _scan_slice(self) -> None:
        try:
            if self._scan is not None and next(self._scan, self) is self:
                self._scan = None
        except Exception:
            self._scan = None
            self._next_scan = time.monotonic() + self.interval
            raise

    def _scanning(self) -> Iterator[None]:
        """Look at all processes, in slices. Events were subscribed before, so that what starts meanwhile is seen."""
        started = time.monotonic()
        occasion = Occasion(self._source)
        self._resolve_again()
        self._check_events()
        pinner = self.pinner
        self._end_expired_pins()
        self._count_kills()
        pinner.forget_former()
        known = set(pinner.ledger.nodes)
        present = procfs.pids()
        for pid in known.difference(present):
            pinner.ledger.died(pid)
        yield from self._paced(self._looking(present, occasion), started)
        pinner.family_unknown = pinner.family_unknown or not self.events.on
        for _ in range(_FAMILY_SCANS if self.events.on else 1):
            if pinner.family_unknown:
                yield from self._paced(pinner.find_families(procfs.pids()), time.monotonic())
        pinner.refresh_dead()
        pinner.ledger.flush()
        pinner.ledger.compact()
        self._scan_done(started)

    def _looking(self, pids: list[int], occasion: Occasion) -> Iterator[None]:
        for pid in pids:
            try:
                if self.pinner.may_fit(pid):
                    self.pinner.look(pid, occasion)
            except Exception as error:
                self._internal_error(error)
            yield

    def _paced(self, work: Iterator[None], started: float) -> Iterator[None]:
        """Do `work`, and pause after each slice of time."""
        pause_at = started + _SLICE_SECONDS
        for _ in work:
            if time.monotonic() >= pause_at:
                self.log_decisions()
                yield
                pause_at = time.monotonic() + _SLICE_SECONDS

    def _scan_done(self, started: float) -> None:
        now = time.monotonic()
        self.pinner.counters.scans += 1
        self._nodes_after_scan = len(self.pinner.ledger.nodes)
        self.state.scan_seconds += now - started
        self._source = "scan"
        self._next_scan = now + self.interval
        self.log_decisions()
        for record in self.pin_log.summaries(now):
            self.emit(record)
        if self.server is not None:
            self.server.prune(now)
        waiting, self._after_scan = self._after_scan, []
        for done in waiting:
            done()
        self._show_status()

    def _resolve_again(self) -> None:
        """Users and groups that didn't exist when the rules were read may do so by now."""
        if not self.config.unresolved:
            return
        fresh = config.resolve_again(self.config)
        if fresh is not self.config:
            self.config = fresh
            self.pinner.set_rules(RuleSet(fresh.rules))

    # Runtime pins

    def heed_runtime_pins(self) -> None:
        """After runtime pins have come or gone: have the events that they need, and wake up when one ends."""
        with contextlib.suppress(Unavailable):  # told of when the configuration was loaded
            self._subscribe()
        self._await_end_of_pins()

    def _await_end_of_pins(self) -> None:
        self._timers.pop(self._end_expired_pins, None)
        ends = [pin.until for pin in self.pinner.ledger.runtime_pins.values() if pin.until is not None]
        if ends:
            self._timers[self._end_expired_pins] = time.monotonic() + max(min(ends) - time.time(), 0.0)

    def _end_expired_pins(self) -> None:
        """By timer, and by scans, since someone may have set the clock."""
        now = time.time()
        pins = self.pinner.ledger.runtime_pins.values()
        expired = [pin for pin in pins if pin.until is not None and now >= pin.until]
        for pin in expired:
            self.pinner.ledger.remove_pin(pin)
            self.pinner.look(pin.pid, Occasion("control"))
        if expired:
            self.pinner.ledger.flush()
            self.heed_runtime_pins()
            self.log_decisions()
        else:
            self._await_end_of_pins()

    # OOM kills

    def _on_kernel_log(self, _: int = 0) -> None:
        if self._kernel_log is None:
            return
        if self._kernel_log.read():
            self._timers[self._tell_kills] = time.monotonic() + _REPORT_SECONDS
        for pid in self._kernel_log.dying:
            self._kills_told += 1
            # The next scan forgets it, and may come before the report has ended.
            self._victims[pid] = self.pinner.ledger.nodes.get(pid)
        self._kernel_log.dying.clear()

    def _tell_kills(self) -> None:
        if self._kernel_log is None:
            return
        for kill in self._kernel_log.finish():
            self.state.oom_kills += 1
            self.emit(of_kill(kill, self._victims.get(kill.victim.pid) if kill.victim is not None else None))
        self._victims.clear()

    def _count_kills(self) -> None:
        """The kernel's log is limited and can be closed to us; its counter is not."""
        self._on_kernel_log()
        if self._tell_kills in self._timers:
            return  # being told of just now
        counted = read_kill_counter()
        if counted is None:
            return
        unseen = counted - self._kills_counted - self._kills_told
        self._kills_counted, self._kills_told = counted, 0
        if unseen > 0:
            self.state.oom_kills += unseen
            message = f"The OOM killer has killed {_count(unseen, 'process')}; the kernel's log didn't tell whom"
            self.emit(Record("oom-kill", WARNING, message, {"OOMWATCHD_COUNT": unseen}))

    # Configuration

    def _on_file_change(self, _: int) -> None:
        if self._watch.changed():
            self._timers[self._reload_if_changed] = time.monotonic() + _SAVING_SECONDS

    def _reload_if_changed(self) -> None:
        self._watch.renew()
        try:
            fresh = config.load(self.where)
        except ConfigError as error:
            if str(error) != self.state.config_error:
                self._refuse(error)
            return
        if fresh.sources != self.config.sources or self.state.config_error:
            self._apply(fresh)

    def reload(self, done: Callable[[], None] | None = None) -> tuple[Problem, ...]:
        """Read the configuration again. Returns what is wrong with it; then the old one stays. `done` is called when
        the new one is in force on all processes."""
        try:
            fresh = config.load(self.where)
        except ConfigError as error:
            self._refuse(error)
            return error.problems
        self._apply(fresh)
        if done is not None:
            self._after_scan.append(done)
        return ()

    def _refuse(self, error: ConfigError) -> None:
        self.state.config_error = str(error)
        errors = _count(len(error.problems), "error")
        message = f"Configuration not reloaded, the old rules stay in force; {errors}:\n{error}"
        self.emit(Record("reload-failed", ERR, message, {"OOMWATCHD_ERRORS": len(error.problems)}))
        self._show_status()

    def _apply(self, fresh: Config) -> None:
        was_dry = self.dry_run
        self.config = fresh
        self.state.config_error = ""
        self.state.loaded_at = time.time()
        self.pin_log.mode = fresh.settings.log_pins
        if self.dry_run != was_dry:
            self._change_dryness()
        self.pinner.set_rules(RuleSet(fresh.rules))
        try:
            self._subscribe()
        except Unavailable as reason:
            self._notes.append(f'proc_events = "required", but there are none: {reason}; going on with scans alone')
        rules = sum(rule.enabled for rule in fresh.rules)
        self._emit_with_notes("reloaded", NOTICE, f"Configuration reloaded: {_count(rules, 'rule')}")
        self._source = "reload"
        self._scan, self._scan_again = None, True
        memory.release()

    def _change_dryness(self) -> None:
        """What a dry run holds is made up, so it has a ledger of its own; the real one waits in its file."""
        self.pinner.ledger.flush()
        self.pinner.ledger.close()
        self.pinner.ledger = self._new_ledger()
        self.pinner.dry_run = self.dry_run
        self._open_ledger()

    # Clients

    def _on_client(self, _: int) -> None:
        if self.server is not None:
            self.server.turn(self._answer, time.monotonic())

    def _answer(self, connection: Connection, request: Json) -> None:
        from oomwatchd import answers

        answers.answer(self, connection, request)

    def hides_processes(self) -> bool:
        """Whether this machine's /proc hides other users' processes, so that we mustn't show them either."""
        now = time.monotonic()
        if now >= self._hidepid_due:
            self._hidepid_due = now + _HIDEPID_SECONDS
            self._hides_processes = procfs.hides_processes()
        return self._hides_processes

    # The log

    def emit(self, record: Record) -> None:
        self.log.write(record)
        if self.server is not None and self.server.monitors:
            feed.tell_record(self.server, record)

    def _emit_with_notes(self, event: str, priority: int, message: str) -> None:
        """A record about the whole, with what is worth a warning below it."""
        notes = [*self._notes, *map(str, self.config.warnings)]
        self._notes.clear()
        text = "\n".join([message, *(f"Warning: {note}" for note in notes)])
        self.emit(Record(event, WARNING if notes else priority, text))

    def log_decisions(self, events: Iterable[Event] = ()) -> None:
        """Tell of what was done, those who watch live of all of it. `events` are what brought it about."""
        now = time.monotonic()
        decisions = self.pinner.take_decisions()
        for decision in decisions:
            if self.pin_log.admits(decision, now):
                self.emit(of_decision(decision, dry_run=self.dry_run))
        if self.server is not None and self.server.monitors:
            feed.tell(self.server, decisions, events, self.pinner.ledger, hidden=self.hides_processes())

    def _tell_systemd(self, state: str) -> None:
        if self._notify is not None:
            self._notify(state)

    def _show_status(self) -> None:
        """One line for `systemctl status`."""
        rules = sum(rule.enabled for rule in self.pinner.rules.rules)
        events = "process events on" if self.events.on else f"scans alone, {self.events.reason}"
        status = f"{_count(rules, 'rule')}, {_count(len(self.pinner.ledger.held()), 'process')} pinned, {events}"
        if self.state.config_error:
            first = self.state.config_error.split("\n")[0]
            status = f"Configuration refused, old rules in force: {first}"
        if status != self._status:
            self._status = status
            self._tell_systemd(f"STATUS={status}")


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def _losses(missing: tuple[str, ...]) -> str:
    meaning = {
        "CAP_SYS_RESOURCE": "values can be raised, but not lowered below where they started",
        "CAP_DAC_OVERRIDE": "other users' processes can't be written",
        "CAP_SYS_PTRACE": "the executable of other users' processes isn't known, and rules with exe don't fit them",
        "CAP_NET_ADMIN": "process events may not be had",
    }
    return "; ".join(meaning[name] for name in missing)


def _notifier() -> Callable[[str], object] | None:
    """sd_notify(3), where systemd wants to hear."""
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from systemd._daemon import notify

    return lambda state: notify(state)


def _watchdog_seconds() -> float:
    """How often to ping, sd_watchdog_enabled(3)."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not microseconds.isdigit() or not for_us:
        return float("inf")
    return int(microseconds) / 1e6 * _WATCHDOG_SHARE
