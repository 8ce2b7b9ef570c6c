"""The daemon: one thread, one selector. The only place that logs."""

import contextlib
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oomwatchd.base import footprint
from oomwatchd.base.clock import boottime
from oomwatchd.base.helper import ForkServer
from oomwatchd.base.notyet import NotYet
from oomwatchd.base.text import counted
from oomwatchd.config import load as config
from oomwatchd.config.accounts import GROUP, PASSWD, Accounts, look_up, names_in
from oomwatchd.config.load import Config, Layout
from oomwatchd.config.overlooked import overlooked
from oomwatchd.config.stamp import stamp
from oomwatchd.control.client import Client, NotRunning
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import SOCKET_NAME, Json, runtime_directory
from oomwatchd.control.server import Server
from oomwatchd.daemon import monitor_stream
from oomwatchd.daemon.account_names import AccountNames
from oomwatchd.daemon.event_pump import STAY_NS, EventPump, Events
from oomwatchd.daemon.helper_pool import Call, HelperPool
from oomwatchd.daemon.internal_errors import InternalErrors
from oomwatchd.daemon.journal import INFO, NOTICE, WARNING, PinLog, Record, of_decision, of_other_kill
from oomwatchd.daemon.last_kill import write_last_kill
from oomwatchd.daemon.log import Log
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.oom_kills import OomKills
from oomwatchd.daemon.other_kills import OtherKills
from oomwatchd.daemon.put_off import OverdueLog, PutOff, of_file_system
from oomwatchd.daemon.reloader import Reloader
from oomwatchd.daemon.sd_notify import SdNotify
from oomwatchd.kernel import procfs
from oomwatchd.kernel.command_lines import read_command_line
from oomwatchd.kernel.nonblocking import stat_path
from oomwatchd.kernel.proc_connector import Event, Unavailable
from oomwatchd.pinning.decisions import SCAN, Trigger, runtime_rule
from oomwatchd.pinning.family import Table
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules import kernel_names
from oomwatchd.rules.criteria import Source
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet, needs
from oomwatchd.rules.search import search

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.config.accounts_watch import AccountsWatch

_BLIND_SCAN_SECONDS = 1.0
"""Without process events nothing but scans finds a new process."""
_SLICE_SECONDS = 0.005
"""A scan pauses for events so often."""
_BREATH_SECONDS = 50e-6
"""And then lets others run for so long: the daemon runs at real-time priority."""
_LISTED = 64
"""So many processes are listed between two looks at the clock."""
_LINT_SECONDS = 30.0
_LINTED = 20
"""So many warnings about rules are told of at once; `oomwatchctl check` has all."""
_SECOND_LOOK_SECONDS = 0.5
"""Cgroup moves and setsid(2) raise no event of ours, and mostly follow soon after the start."""
_SECOND_LOOKS = 4096
_REPORT_SECONDS = 0.3
"""The kernel writes an OOM report in one go; after so long without a line it is complete."""
_JOURNAL_SECONDS = 0.5
"""So long the journal has to be read, before it is asked what it says."""
_STOP_SECONDS = 120.0
"""After a kill in it, systemd stops a unit within this time, if TimeoutStopSec= isn't longer than by default."""
_GROWTH = 20_000
"""So many processes may come into the ledger until a scan drops those that have died since."""
_PUT_OFF_SECONDS = 2.0
"""How long READY=1 waits for what the first scan could not decide at once."""
_HIDEPID_SECONDS = 60.0
"""How long an answer to whether /proc is mounted with hidepid= is good for."""


RequestHandler = Callable[["Daemon", Connection, Json], None]


class Failure(Exception):
    """The daemon can't start, and why."""


@dataclass(slots=True)
class State:
    """What `oomwatchctl status` tells besides counters and rules."""

    started_at: float
    """Seconds since the epoch."""
    loaded_at: float
    missing_capabilities: tuple[str, ...] = ()
    restored: bool = False
    """Whether somebody has asked for nobody to be held, and nobody for a reload since."""
    scan_seconds: float = 0.0
    """All scans taken together."""


def _nobody_answers(daemon: "Daemon", connection: Connection, request: Json) -> None:
    """For a daemon without a control socket."""
    raise NotImplementedError


class Daemon:
    """Everything that runs."""

    def __init__(
        self,
        where: Layout,
        loaded: Config,
        log: Log,
        *,
        accounts: Accounts | None = None,
        root: str = "/",
        dry_run: bool = False,
        request_handler: RequestHandler = _nobody_answers,
    ) -> None:
        """`request_handler` answers what comes over the control socket."""
        self.where = where
        self._request_handler = request_handler
        self.config = loaded
        self._newest = loaded
        """The configuration that was read last; it may wait for name services."""
        self._accounts = accounts or Accounts()
        self._names: AccountNames | None = None
        self._accounts_watch: AccountsWatch | None = None
        self.log = log
        self.always_dry = dry_run
        self.state = State(time.time(), time.time())
        self.directory = runtime_directory(root)
        self.events = Events(self._use_table)
        self._waking: int | None = None
        self._put_off: PutOff | None = None
        """None: answers are waited for."""
        self._overdue_log = OverdueLog()
        self._unread_log = OverdueLog()
        self.pinner = Pinner(RuleSet(loaded.rules), self._new_ledger(), dry_run=self.dry_run, defer=self._put_look_off)
        self._pump = EventPump(self.events, self.pinner, self._internal_error)
        self._heard_kinds = frozenset[str]()
        self.pin_log = PinLog(loaded.settings.log_pins)
        self.server: Server | None = None
        self.kills = OomKills()
        self._errors = InternalErrors()
        self.other_kills = OtherKills()
        self._kernel_killed_at = -math.inf
        """CLOCK_MONOTONIC."""
        self._loop = Loop(self._internal_error)
        self._supervisor = SdNotify()
        self._scan: Iterator[None] | None = None
        self._scan_again = False
        self._scans_begun = 0
        self._nodes_after_scan = 0
        self._second_looks: deque[tuple[float, int]] = deque()
        self._after_scan: list[Callable[[], None]] = []
        self._source = "scan"
        self._stopping = False
        self._hidepid_due = 0.0
        self._hides_processes = True
        self._notes: list[str] = []
        self._lint_helpers: HelperPool | None = None
        self.reloader = Reloader(where, loaded, self._loop, self._load, self._apply_when_known, self._emit_and_show)
        self._server_is_missing = False
        """Whether the control socket could not be opened, and is to be tried again."""
        self._ledger_trouble = ""
        """What was told of it last."""

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
        sight = "CAP_SYS_PTRACE"
        if sight in procfs.missing_capabilities() and Source.EXE in needs(self.pinner.rules.rules).reads:
            self.emit(Record("summary", WARNING, f"Without {sight}, which root has, {_losses((sight,))}"))
        if not self.pinner.ledger.held():
            self.emit(Record("summary", INFO, "No rule fits a process that runs now: nobody is to be pinned"))

    def run(self) -> None:
        """Start, work until told to stop, end. Raises Failure, and Unavailable where process events are required."""
        self.events.load_filter()  # first, so that helpers don't have the capabilities that it takes
        functions = (search, stamp, look_up, stat_path, read_command_line, overlooked)
        fork_server = ForkServer({function.__name__: function for function in functions})
        self._put_off = PutOff(self._loop, fork_server, self._look_at_put_off)
        self._names = AccountNames(self._loop, fork_server, self._accounts, self._resolve_again)
        self._loop.catch_signals((signal.SIGHUP, signal.SIGTERM, signal.SIGINT), self._on_signals)
        self._open_ledger()
        self._open_server()
        self._subscribe()
        self._lint_helpers = HelperPool(self._loop, fork_server, 1)
        self.reloader.start(self._lint_helpers)
        self._watch_accounts()
        self._wait_for_names()
        if self.kills.log is not None:
            self._loop.add(self.kills.log.fileno(), self._on_kernel_log)
        self.state.missing_capabilities = procfs.missing_capabilities()
        self._end_expired_pins()
        self._scan_whole()
        self._finish_put_off()
        self._log_started()
        self.log_decisions()
        if self.server is not None and self.server.fileno() not in self._loop:
            self._loop.add(self.server.fileno(), self._on_client)
        self._supervisor.tell("READY=1")
        self._show_status()
        self._ping()
        self._loop.later(self.interval, self._begin_scan)
        footprint.release()
        while not self._stopping:
            self._loop.turn(wait=self._scan is None)
            if self._scan is not None:
                self._loop.guard(self._scan_slice)
        self._stop()

    def _log_started(self) -> None:
        rules = sum(rule.enabled for rule in self.pinner.rules.rules)
        parts = [f"Started with {counted(rules, 'rule')}, {counted(len(self.pinner.ledger.held()), 'process')} held"]
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
        self._lint("started")

    def _lint(self, event: str) -> None:
        """Have the rules looked through for what `oomwatchctl check` warns of, and tell of it when it is known."""
        if self._lint_helpers is None:
            return

        def tell(answer: object) -> None:
            found = answer if isinstance(answer, tuple) else ()
            if found and self.config is looked_at:
                lines = [f"Warning: {file}:{line}:{column}: {message}" for file, line, column, message in found]
                self.emit(Record(event, WARNING, "\n".join(["Rules that may not do what they say:", *lines[:_LINTED]])))

        looked_at = self.config
        arguments = (self.where.main_file, self.where.drop_in_dirs)
        self._lint_helpers.submit(Call(overlooked.__name__, arguments, tell, 0, _LINT_SECONDS))

    def _stop(self) -> None:
        self._supervisor.tell("STOPPING=1")
        if self.config.settings.on_exit == "restore":
            self._read_all_events()
            self.pinner.release_all()
            self._read_all_events()  # children born meanwhile
            self.pinner.ledger.flush()
        if self._put_off is not None:
            self._put_off.close()
        if self._names is not None:
            self._names.close()
        self.pinner.identify_all()
        self.log_decisions()
        now = time.monotonic()
        for record in (*self.pin_log.summaries(now, final=True), *self._errors.summaries(now, final=True)):
            self.emit(record)
        self.pinner.ledger.rewrite()
        self.emit(Record("stopped", INFO, f"Stopped; {counted(len(self.pinner.ledger.held()), 'process')} left pinned"))
        self.log.flush()
        self.events.close()
        if self.server is not None:
            self.server.close()

    def _new_ledger(self) -> Ledger:
        return Ledger(None if self.dry_run else f"{self.directory}/ledger.json", procfs.read_boot_id())

    def _open_ledger(self) -> None:
        ledger = self.pinner.ledger
        if ledger.path is None:
            return
        damage = ledger.load(procfs.is_alive)
        if ledger.trouble and os.geteuid() != 0:
            raise Failure(f"Failed to write '{ledger.path}': {ledger.trouble}. Run as root, or --dry-run")
        self.pinner.family.use(self.pinner.family.table)
        if damage is not None:
            self._notes.append(
                f"The ledger '{ledger.path}' is damaged: {damage}; going on with what could be read of it"
            )

    def _open_server(self) -> None:
        if self.always_dry and _listens(self.directory):
            self._notes.append("Another oomwatchd runs, and oomwatchctl reaches that one, not this dry run")
            return
        try:
            os.makedirs(self.directory, mode=0o755, exist_ok=True)
            self.server = Server(f"{self.directory}/{SOCKET_NAME}")
        except OSError as error:
            message = f"Failed to open the control socket in '{self.directory}': {error.strerror}"
            if self.dry_run:
                self._notes.append(f"{message}; oomwatchctl won't reach this dry run")
                return
            if os.geteuid() != 0:
                raise Failure(message) from None
            if not self._server_is_missing:
                self._server_is_missing = True
                self.emit(Record("summary", WARNING, f"{message}; going on without, and trying again"))
            return
        if self._server_is_missing:
            self._server_is_missing = False
            self.emit(Record("summary", NOTICE, f"The control socket in '{self.directory}' is open"))
            self._loop.add(self.server.fileno(), self._on_client)

    def _watch_accounts(self) -> None:
        from oomwatchd.config.accounts_watch import AccountsWatch

        try:
            self._accounts_watch = AccountsWatch(PASSWD, GROUP)
        except OSError:
            return  # each scan looks at them too
        self._loop.add(self._accounts_watch.fileno(), self._on_accounts_change)

    def _ping(self) -> None:
        """Tell the watchdog that the loop still turns."""
        seconds = self._supervisor.ping_seconds
        if seconds is not None:
            self._supervisor.tell("WATCHDOG=1")
            self._loop.later(seconds, self._ping)

    def _internal_error(self, error: Exception, doing: str = "") -> None:
        record = self._errors.note(error, time.monotonic(), doing)
        if record is not None:
            self.emit(record)

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stopping = True
        elif signal.SIGHUP in numbers:
            self.reloader.request()

    # Events

    def _kinds(self) -> frozenset[str]:
        """Which events rules and runtime pins need; and who descends from whom for as long as somebody is in the
        ledger."""
        pins = map(runtime_rule, self.pinner.ledger.runtime_pins.values())
        wanted = needs([*pins, *self.pinner.rules.rules])
        forks = wanted.forks or bool(self.pinner.ledger.nodes)
        return wanted.events | {"exec"} | ({"fork", "exit"} if forks else set())

    def _subscribe(self) -> None:
        """Have the events that are needed. Raises Unavailable where they are required."""
        were_on, heard = self.events.on, self._heard_kinds
        self._heard_kinds = self._kinds()
        names = kernel_names.of_rules(self.pinner.rules.rules)
        try:
            self.events.subscribe(self._heard_kinds, names, self.config.settings.proc_events)
        finally:
            self._watch_events()
            if not were_on:
                self.pinner.prefilter.doubt_all()
            if not were_on or "fork" not in heard:
                self.pinner.family.note_unheard_forks()

    def _use_table(self, table: Table) -> None:
        self.pinner.family.use(table)

    def _watch_events(self) -> None:
        """Wake up for the socket of events. A new one may have the descriptor of one that was closed, which the kernel
        has then forgotten to wake us for."""
        if self._waking is not None:
            self._loop.remove(self._waking)
            self._waking = None
        if self.events.connector is not None:
            self._waking = self.events.connector.fileno()
            self._loop.add(self._waking, self._on_events)

    def _on_events(self) -> None:
        """Deal with what woke us. Where the kernel lets all through, more follows soon."""
        self._deal_with_events(time.monotonic_ns() + STAY_NS, wait=self._scan is None and not self.events.exact)

    def _read_all_events(self) -> None:
        """Deal with all events that the kernel has sent up to now."""
        self._deal_with_events(time.monotonic_ns(), wait=False)

    def _deal_with_events(self, until_ns: int, *, wait: bool) -> None:
        """... that it has sent until then."""
        pinner = self.pinner
        if self.events.fall_back():
            pinner.family.note_unheard_forks()
            self._scan_soon()
        watched: list[Event] | None = [] if self.server is not None and self.server.monitors else None
        for pid in self._pump.turn(until_ns, wait=wait, watched=watched):
            self._remember_second_look(pid)
        if len(pinner.ledger.nodes) > self._nodes_after_scan + _GROWTH:
            self._scan_soon()
        lost_from_ns = self.events.take_loss()
        if lost_from_ns is not None:
            pinner.family.note_loss(lost_from_ns)
            self._make_up_for_loss()
        self.log_decisions(watched or ())

    def _make_up_for_loss(self) -> None:
        self.pinner.counters.lost += 1
        self.pinner.prefilter.doubt_all()
        self._scan_soon()
        message = "The kernel lost process events, more than there was room for; scanning all processes instead"
        self.emit(Record("events-lost", WARNING, message))

    def _remember_second_look(self, pid: int) -> None:
        if not self.pinner.rules.needs.second_look or len(self._second_looks) >= _SECOND_LOOKS:
            return
        self._second_looks.append((time.monotonic() + _SECOND_LOOK_SECONDS, pid))
        if len(self._second_looks) == 1:
            self._loop.later(_SECOND_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        now = time.monotonic()
        while self._second_looks and self._second_looks[0][0] <= now:
            self.pinner.look(self._second_looks.popleft()[1], SCAN)
        if self._second_looks:
            self._loop.later(self._second_looks[0][0] - now, self._look_again)
        self.log_decisions()

    def _check_events(self) -> None:
        """Whether events still come: up to Linux 6.5 another program can silence them for everyone."""
        self.events.probe()
        self._read_all_events()
        try:
            if self.events.silenced():
                self.pinner.counters.lost += 1
                self.pinner.prefilter.doubt_all()
                message = "The kernel had stopped sending process events; subscribed again, scanning all processes"
                self.emit(Record("events-lost", WARNING, message))
        except Unavailable as reason:
            self.events.close()
            self._watch_events()
            self.events.reason = str(reason)
            message = f"Process events are gone: {reason}; scanning every {self.interval:g} s"
            self.emit(Record("events-lost", WARNING, message))

    def _put_look_off(self, pid: int, trigger: Trigger, owner: int, question: NotYet) -> bool:
        if self._put_off is None:
            return False
        self._put_off.add(pid, trigger, owner, question)
        return True

    def _finish_put_off(self) -> None:
        """Have done what the first scan has put off, unless that takes too long."""
        finished: list[bool] = []
        give_up = lambda: finished.append(False)  # noqa: E731 - the loop knows timers by what they call
        if self._put_off is not None:
            self._put_off.when_done(lambda: finished.append(True))
        self._loop.later(_PUT_OFF_SECONDS, give_up)
        while not finished and not self._stopping:
            self._loop.turn(wait=True)
        self._loop.cancel(give_up)

    def _look_at_put_off(self, pid: int, trigger: Trigger) -> None:
        self.pinner.look(pid, trigger)
        self._remember_second_look(pid)
        self.pinner.ledger.flush()
        self.log_decisions()

    # Scans

    def _scan_whole(self) -> None:
        for _ in self._scanning():
            pass

    def _scan_soon(self) -> None:
        """Begin a scan now, or, if one is under way, another one after it."""
        if self._scan is None:
            self._begin_scan()
        else:
            self._scan_again = True

    def _begin_scan(self) -> None:
        self._loop.cancel(self._begin_scan)
        self._scan_again = False
        self._scan = self._scanning()

    def _scan_slice(self) -> None:
        """Go on with the scan until it pauses or ends. One that fails is tried again after the interval."""
        going_on = False
        try:
            going_on = self._scan is not None and next(self._scan, self) is not self
        finally:
            if not going_on:
                self._scan = None
                self._loop.later(0.0 if self._scan_again else self.interval, self._begin_scan)

    def _scanning(self) -> Iterator[None]:
        """Look at all processes, in slices. Events were subscribed before, so that what starts meanwhile is seen."""
        started = time.monotonic()
        trigger = Trigger(self._source)
        self._scans_begun += 1
        self.reloader.look(started)
        if self._names is not None:
            self._names.refresh(started)
        self._check_events()
        pinner = self.pinner
        self._end_expired_pins()
        self._count_kills()
        family = pinner.family
        members, known = family.table.items(), pinner.ledger.nodes.copy()
        present: dict[int, int] = {}
        yield from self._paced(_listing(present), started)
        self._read_all_events()  # of what is gone: whose children it had, and its end
        for pid in known.keys() - present.keys():
            if pinner.ledger.nodes.get(pid) is known[pid]:  # else it is another process, born since
                family.died(known[pid])
        family.prune(members, present)
        pinner.prefilter.prune(present)
        yield
        relatives = family.unknown or not self.events.on
        try:
            if relatives:
                # Births must be told of from before it is read who descends from whom.
                self.events.let_all_through("scan", True)
                yield from self._paced(family.gather(present), time.monotonic())
            yield from self._paced(self._looking(present, trigger), time.monotonic())
            self._read_all_events()
            yield from self._paced(pinner.look_at_relatives(), time.monotonic())
        except BaseException:
            family.give_up_gathering()
            raise
        finally:
            self.events.let_all_through("scan", False)
        family.expire()
        pinner.refresh_dead()
        pinner.ledger.flush()
        now = time.monotonic()
        yield from self._paced(pinner.ledger.tidying(now), now)
        self._scan_done(started)

    def _looking(self, present: dict[int, int], trigger: Trigger) -> Iterator[None]:
        pinner = self.pinner
        for pid in pinner.doubtful(present, self._scans_begun) if self.events.on else present:
            try:
                if pinner.may_fit(pid, present[pid]):
                    pinner.look(pid, trigger)
            except Exception as error:
                self._internal_error(error)
            yield

    def _paced(self, work: Iterator[None], started: float) -> Iterator[None]:
        """Do `work`, and pause after each slice of time."""
        pause_at = started + _SLICE_SECONDS
        for _ in work:
            if time.monotonic() >= pause_at:
                self.log_decisions()
                # Waiting, however short, lets others run and ends the time that the unit's LimitRTTIME= counts.
                time.sleep(_BREATH_SECONDS)
                yield
                pause_at = time.monotonic() + _SLICE_SECONDS

    def _scan_done(self, started: float) -> None:
        now = time.monotonic()
        self.pinner.counters.scans += 1
        self._nodes_after_scan = len(self.pinner.ledger.nodes)
        self.state.scan_seconds += now - started
        self._source = "scan"
        self.log_decisions()
        self._look_for_other_kills()
        for record in (*self.pin_log.summaries(now), *self._errors.summaries(now)):
            self.emit(record)
        if self.server is not None:
            self.server.prune(now)
            self.events.let_all_through("monitor", bool(self.server.monitors))
        elif self._server_is_missing:
            self._open_server()
        if self._kinds() != self._heard_kinds:
            with contextlib.suppress(Unavailable):  # told of when the configuration was loaded
                self._subscribe()
        waiting, self._after_scan = self._after_scan, []
        for done in waiting:
            if self._put_off is None:
                done()
            else:
                self._put_off.when_done(done)
        self._show_status()

    # Users and groups

    def _wait_for_names(self) -> None:
        """Name services that answer at once are heard before the first scan."""
        known: list[bool] = []
        if self._names is not None:
            self._names.when_known(names_in(self.config.rules), lambda: known.append(True))
        while self._names is not None and not known and not self._stopping:
            self._loop.turn(wait=True)
        self.config = config.resolve_again(self.config, self._accounts)
        self.pinner.set_rules(RuleSet(self.config.rules))

    def _on_accounts_change(self) -> None:
        if self._names is not None and self._accounts_watch is not None and self._accounts_watch.changed():
            self._names.refresh(time.monotonic())

    def _resolve_again(self) -> None:
        """Users and groups have come, gone, or changed their numbers."""
        before, self.config = self.config, config.resolve_again(self.config, self._accounts)
        unchanged = self.config.rules == before.rules
        if unchanged or self.state.restored or self.pinner.counters.scans == 0:
            return
        self._read_all_events()  # that happened under the old numbers
        self.pinner.set_rules(RuleSet(self.config.rules))
        changes = "; ".join(config.changed_numbers(before, self.config))
        self._emit_with_notes("reloaded", NOTICE, f"Users or groups have changed, and the rules follow: {changes}")
        self._source = "reload"
        self._begin_scan()

    # Runtime pins

    def restore(self, done: Callable[[], None]) -> None:
        """Give everybody back what they had, and hold nobody until the configuration is loaded again. `done` is called
        when that has been done to all."""
        self._read_all_events()  # that happened under the rules
        self.state.restored = True
        for pin in list(self.pinner.ledger.runtime_pins.values()):
            self.pinner.ledger.remove_pin(pin)
        self.pinner.set_rules(RuleSet(()))
        self.heed_runtime_pins()
        message = "As asked for, everybody gets back what they had; nobody is held until the next reload or start"
        self.emit(Record("reloaded", NOTICE, message))
        self._source = "control"
        self._after_scan.append(done)
        self._begin_scan()

    def heed_runtime_pins(self) -> None:
        """After runtime pins have come or gone: have the events that they need, and wake up when one ends."""
        with contextlib.suppress(Unavailable):  # told of when the configuration was loaded
            self._subscribe()
        self._await_end_of_pins()

    def _await_end_of_pins(self) -> None:
        self._loop.cancel(self._end_expired_pins)
        ends = [pin.ends for pin in self.pinner.ledger.runtime_pins.values() if pin.ends is not None]
        if ends:
            self._loop.later(max(min(ends) - boottime(), 0.0), self._end_expired_pins)

    def _end_expired_pins(self) -> None:
        """By timer, and by scans, since the loop's timers stop while the machine sleeps."""
        now = boottime()
        pins = self.pinner.ledger.runtime_pins.values()
        expired = [pin for pin in pins if pin.ends is not None and now >= pin.ends]
        for pin in expired:
            self.pinner.ledger.remove_pin(pin)
            self.pinner.look(pin.pid, Trigger("control"))
        if expired:
            self.pinner.ledger.flush()
            self.heed_runtime_pins()
            self.log_decisions()
        else:
            self._await_end_of_pins()

    # OOM kills

    def _on_kernel_log(self) -> None:
        if self.kills.read(self.pinner.ledger):
            self._kernel_killed_at = time.monotonic()
            self._loop.later(_REPORT_SECONDS, self._tell_kills)

    def _tell_kills(self) -> None:
        for records in self.kills.records():
            self._kernel_killed_at = time.monotonic()
            self._tell_kill(records)

    def _tell_kill(self, records: list[Record]) -> None:
        """Log a kill, and leave it in a file for whoever acts upon it."""
        for record in records:
            self.emit(record)
        if not self.dry_run:
            with contextlib.suppress(OSError):  # a full disk: the journal has it
                write_last_kill(self.directory, records, time.time())

    def _look_for_other_kills(self) -> None:
        """After held processes have died: whether somebody else than the kernel has killed them."""
        now = time.monotonic()
        departed = self.pinner.ledger.take_departed()
        stopping = now - self._kernel_killed_at < _STOP_SECONDS
        if self.other_kills.note(departed, self.kills.recent, now, kernel_killed=stopping):
            self.other_kills.look()
            self._loop.later(_JOURNAL_SECONDS, self._tell_other_kills)

    def _tell_other_kills(self) -> None:
        for kill, nodes in self.other_kills.take(
            time.monotonic()
        ):  # what isn't read yet is asked for after the next scan
            self.kills.add(kill.killer, [node.rule for node in nodes])
            self._tell_kill([of_other_kill(kill.killer, node, kill.cgroup) for node in nodes])

    def _count_kills(self) -> None:
        # In this order: the kernel counts a kill before it writes it to the log.
        if self.kills.count():
            self.pinner.prefilter.doubt_all()  # the kernel may have had no memory for events
        self._on_kernel_log()
        if self._loop.awaits(self._tell_kills):
            return
        if (record := self.kills.untold()) is not None:
            self._kernel_killed_at = time.monotonic()
            self._tell_kill([record])
        if self.kills.awaited:
            self._loop.later(_REPORT_SECONDS, self._count_kills)

    # Configuration

    def _load(self) -> Config:
        """Raises ConfigError."""
        return config.load(self.where, self._accounts)

    def _apply_when_known(self, fresh: Config, done: Callable[[], None]) -> None:
        """Have the rules in force once it is known which users and groups they name."""
        self._newest = fresh

        def apply() -> None:
            if self._newest is fresh:  # else another one has been read meanwhile, and is or comes in force
                self._apply(config.resolve_again(fresh, self._accounts))
            self._after_scan.append(done)

        if self._names is None:
            apply()
        else:
            self._names.when_known(names_in(fresh.rules), apply)

    def _apply(self, fresh: Config) -> None:
        self._read_all_events()  # that happened under the old rules
        was_dry = self.dry_run
        self.config = fresh
        self.reloader.taken(fresh)
        self.state.restored = False
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
        self._emit_with_notes("reloaded", NOTICE, f"Configuration reloaded: {counted(rules, 'rule')}")
        self._lint("reloaded")
        self._source = "reload"
        self._begin_scan()
        footprint.release()

    def _change_dryness(self) -> None:
        """What a dry run holds is made up, so it has a ledger of its own; the real one waits in its file."""
        self.pinner.ledger.flush()
        self.pinner.ledger.close()
        self.pinner.change_ledger(self._new_ledger(), dry_run=self.dry_run)
        self._open_ledger()

    # Clients

    def _on_client(self) -> None:
        if self.server is not None:
            self._resume_clients_after(self.server.turn(self._answer, self._client_error, time.monotonic()))
            self.events.let_all_through("monitor", bool(self.server.monitors))

    def _resume_clients(self) -> None:
        if self.server is not None:
            self._resume_clients_after(self.server.resume(time.monotonic()))

    def _resume_clients_after(self, seconds: float | None) -> None:
        if seconds is not None:
            self._loop.later(seconds, self._resume_clients)

    def _client_error(self, connection: Connection, error: Exception) -> None:
        self._internal_error(error, f" in answering a client of uid {connection.uid}")

    def _answer(self, connection: Connection, request: Json) -> None:
        self._request_handler(self, connection, request)

    @property
    def own_hidepid(self) -> str | None:
        """hidepid= of the /proc that the daemon sees, which may be another than its clients'; None: it sees all."""
        try:
            return procfs.read_hidepid()
        except OSError:
            return None

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
        self._await_log()
        if self.server is not None and self.server.monitors:
            monitor_stream.tell_record(self.server, record)

    def _emit_and_show(self, record: Record) -> None:
        """Log what `systemctl status` says too."""
        self.emit(record)
        self._show_status()

    def _await_log(self) -> None:
        """Send later what the journal doesn't take now."""
        seconds = self.log.retry_seconds()
        if seconds is not None and not self._loop.awaits(self._flush_log):
            self._loop.later(seconds, self._flush_log)

    def _flush_log(self) -> None:
        self.log.flush()
        self._await_log()

    def _emit_with_notes(self, event: str, priority: int, message: str) -> None:
        """A record about the whole, with what is worth a warning below it."""
        notes = [*self._notes, *map(str, self.config.warnings)]
        self._notes.clear()
        text = "\n".join([message, *(f"Warning: {note}" for note in notes)])
        self.emit(Record(event, WARNING if notes else priority, text))

    def log_decisions(self, events: Iterable[Event] = ()) -> None:
        """Tell of what was done, those who watch live of all of it. `events` are what brought it about."""
        if self.pinner.ledger.trouble != self._ledger_trouble:
            self._tell_ledger_trouble()
        now = time.monotonic()
        decisions = self.pinner.take_decisions()
        for path, answers in self.pinner.view.namespaces.files.take_news():
            named = [rule.name for rule in self.config.rules if _asks_for(rule, procfs.text(path))]
            self.emit(of_file_system(procfs.text(path), named, answers=answers))
            if answers:
                self._scan_soon()
        unread = [(pid, "") for pid in self.pinner.view.command_lines.take_news()]
        for record in self._unread_log.records(unread, now) if unread else ():
            self.emit(record)
        overdue = self.pinner.rules.searches.take_news()
        for record in self._overdue_log.records(overdue, now) if overdue else ():
            self.emit(record)
        for decision in decisions:
            if self.pin_log.admits(decision, now):
                self.emit(of_decision(decision, dry_run=self.dry_run))
        if self.server is not None and self.server.monitors:
            monitor_stream.tell(self.server, decisions, events, self.pinner.ledger, hidden=self.hides_processes())

    def _tell_ledger_trouble(self) -> None:
        ledger = self.pinner.ledger
        self._ledger_trouble = ledger.trouble
        if ledger.trouble:
            message = (
                f"Failed to write the ledger '{ledger.path}': {ledger.trouble}; going on without, and trying again. If "
                "the daemon is killed before that succeeds, it won't know what processes had before they were pinned"
            )
            self.emit(Record("summary", WARNING, message))
        else:
            self.emit(Record("summary", NOTICE, f"The ledger '{ledger.path}' is written again"))
        self._show_status()

    def _show_status(self) -> None:
        """One line for `systemctl status`."""
        rules = sum(rule.enabled for rule in self.pinner.rules.rules)
        events = "process events on" if self.events.on else f"scans alone, {self.events.reason}"
        status = f"{counted(rules, 'rule')}, {counted(len(self.pinner.ledger.held()), 'process')} pinned, {events}"
        if self.state.restored:
            status = "Holds nobody until the next reload, for that was asked for"
        if self.pinner.ledger.trouble:
            status += f"; the ledger can't be written: {self.pinner.ledger.trouble}"
        if self.reloader.error:
            first = self.reloader.error.split("\n")[0]
            status = f"Configuration not taken, old rules in force: {first}"
        self._supervisor.show(status)


def _listing(present: dict[int, int]) -> Iterator[None]:
    """Add all processes to `present`, as procfs.processes() has them; pauses after some."""
    for pid, inode in procfs.processes():
        present[pid] = inode
        if len(present) % _LISTED == 0:
            yield


def _asks_for(rule: Rule, path: str) -> bool:
    """Whether a rule names an executable at that path: literally or by a glob. Expressions aren't searched for."""
    patterns = (p for c in (*rule.criteria, *rule.excluded) if c.key == "exe" for p in c.patterns)
    return any((pattern.literal or pattern.is_glob) and pattern.matches(path) for pattern in patterns)


def _listens(directory: str) -> bool:
    try:
        with Client(directory):
            return True
    except NotRunning:
        return False


def _losses(missing: tuple[str, ...]) -> str:
    meaning = {
        "CAP_SYS_RESOURCE": "values can be raised, but not lowered below where they started",
        "CAP_DAC_OVERRIDE": "other users' processes can't be written",
        "CAP_SYS_PTRACE": "the executable of other users' processes isn't known, and rules with exe don't fit them",
        "CAP_NET_ADMIN": "process events may not be had",
    }
    return "; ".join(meaning[name] for name in missing)
