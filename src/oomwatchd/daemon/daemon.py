"""The daemon: one thread and one loop. This module puts the parts together, starts them and ends them. It has some more
than 300 lines, since each part is named."""

import signal
import time
from collections.abc import Callable
from functools import partial

from oomwatchd.base import footprint
from oomwatchd.base.helper import ForkServer
from oomwatchd.base.notyet import NotYet
from oomwatchd.base.text import counted
from oomwatchd.config import load as config
from oomwatchd.config.accounts import Accounts, look_up
from oomwatchd.config.lint_files import lint_files
from oomwatchd.config.load import Config, Layout
from oomwatchd.config.stamp import Stamp, stamp
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import Json, runtime_directory
from oomwatchd.daemon import status_text
from oomwatchd.daemon.account_names import AccountNames
from oomwatchd.daemon.applier import Applier
from oomwatchd.daemon.control_opening import ControlOpening
from oomwatchd.daemon.control_socket import ControlSocket
from oomwatchd.daemon.event_pump import EventPump
from oomwatchd.daemon.event_source import EventSource
from oomwatchd.daemon.helper_pool import HelperPool
from oomwatchd.daemon.hidden_processes import HiddenProcesses
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.kill_reports import KillReports
from oomwatchd.daemon.ledger_opening import new_ledger, open_ledger
from oomwatchd.daemon.log import Log
from oomwatchd.daemon.log_records import INFO, Record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.monitor_stream import MonitorStream
from oomwatchd.daemon.parts import Parts
from oomwatchd.daemon.put_off import PutOff
from oomwatchd.daemon.reloader import Reloader
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.daemon.rule_lint import RuleLint
from oomwatchd.daemon.runtime_pins import RuntimePins
from oomwatchd.daemon.scanner import Scanner
from oomwatchd.daemon.sd_notify import SdNotify
from oomwatchd.daemon.second_looks import SecondLooks
from oomwatchd.kernel.command_lines import read_command_line
from oomwatchd.kernel.nonblocking import stat_path
from oomwatchd.kernel.proc_status import missing_capabilities
from oomwatchd.pinning.agenda import EFFORT_AT_ONCE
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.ruleset import RuleSet
from oomwatchd.rules.search import search

RequestHandler = Callable[[Parts, Connection, Json], None]

_IN_HELPERS = (search, stamp, look_up, stat_path, read_command_line, lint_files)
"""The functions that helper processes call, since they may never return."""


class Daemon:
    """The daemon, put together. run() starts it, and returns after a signal to stop."""

    def __init__(  # long, since each part is named
        self,
        where: Layout,
        loaded: Config,
        seen: Stamp,
        log: Log,
        request_handler: RequestHandler,
        *,
        accounts: Accounts | None = None,
        root: str = "/",
        dry_run: bool = False,
    ) -> None:
        """`seen`: the stamp of the configuration's files, taken before `loaded` was read, so that the first scan finds
        what is saved meanwhile. `request_handler` answers the requests that come over the control socket. `dry_run`:
        the command line has --dry-run."""
        self._where = where
        self._directory = runtime_directory(root)
        self._request_handler = request_handler
        self._accounts = accounts or Accounts()
        self._stopping = False
        self._asynchronous = False
        """Whether a look may be put off until a helper has answered. If not, the daemon waits for the answer."""
        self._loop = Loop(self._failed)
        self._manager = SdNotify()
        self._seen = seen
        in_force = self._in_force = InForce(loaded, always_dry=dry_run)
        ledger = new_ledger(self._directory, dry_run=in_force.dry_run)
        rules, dry, at_once = RuleSet(loaded.rules), in_force.dry_run, EFFORT_AT_ONCE
        self._pinner = Pinner(rules, ledger, dry_run=dry, defer=self._defer, effort_at_once=at_once)
        self._source = EventSource(lambda table: self._pinner.tracking.use(table))
        self._helpers = ForkServer({function.__name__: function for function in _IN_HELPERS})
        self._put_off = PutOff(self._loop, self._helpers, self._look_at_put_off)
        self._names = AccountNames(self._loop, self._helpers, self._accounts, lambda: self._applier.resolve_again())
        self._assemble_reporting(log)
        self._assemble_work()
        self.parts = Parts(
            where=where,
            in_force=in_force,
            pinner=self._pinner,
            source=self._source,
            pump=self._pump,
            scanner=self._scanner,
            reloader=self._reloader,
            applier=self._applier,
            pins=self._pins,
            kills=self._kills,
            control=self._control,
            hidden=self._hidden,
            started_at=time.time(),
            missing_capabilities=missing_capabilities(),
        )

    def _assemble_reporting(self, log: Log) -> None:
        """Make the parts that report: log, control socket, monitor stream, OOM kills."""
        loop, directory = self._loop, self._directory
        self._hidden = HiddenProcesses()
        self._control = ControlSocket(loop, directory, self._answer, self._failed, self._watching)
        self._report = Reporter(
            log,
            loop,
            self._pinner,
            self._in_force,
            MonitorStream(self._control, self._hidden),
            self._manager,
            status=lambda: status_text.line(self.parts),
            answers_again=lambda: self._scanner.soon(),
        )
        self._control_opening = ControlOpening(self._control, self._in_force, self._report, directory)
        self._kills = KillReports(loop, self._pinner, self._in_force, self._report, directory)

    def _assemble_work(self) -> None:  # long, since it names each part and what the part needs; it decides nothing
        """Make the parts that apply the rules: events, scans, runtime pins, and the configuration."""
        loop, pinner, source, report = self._loop, self._pinner, self._source, self._report
        self._scanner = Scanner(
            loop,
            pinner,
            source,
            report,
            seconds_between=self._scan_seconds,
            before=self._before_scan,
            read_events=lambda: self._pump.read_all(),
            after=self._after_scan,
        )
        self._second_looks = SecondLooks(loop, pinner, report.decisions)
        self._pump = EventPump(
            loop,
            source,
            pinner,
            self._in_force,
            report,
            scan_soon=self._scanner.soon,
            scanning=lambda: self._scanner.under_way,
            look_later=self._second_looks.add,
        )
        self._pins = RuntimePins(loop, pinner, subscribe=self._pump.subscribe, done=report.decisions)
        self._lint_helpers = HelperPool(loop, self._helpers, 1)
        self._lint = RuleLint(self._lint_helpers, self._where, self._in_force, report)
        self._applier = Applier(
            self._in_force,
            self._accounts,
            self._names,
            pinner,
            self._pump,
            self._scanner,
            self._pins,
            report,
            self._directory,
            taken=self._config_taken,
        )
        self._reloader = Reloader(
            self._where,
            self._in_force.config,
            self._seen,
            loop,
            load=lambda: config.load(self._where, self._accounts),
            apply=self._applier.apply_when_known,
            emit=report.emit_and_show,
        )

    def once(self) -> None:
        """Scan once, for --once. Raises Failure."""
        open_ledger(self._pinner, self._report.keep_warning)
        self._scanner.whole()
        self._report.decisions()
        for priority, message in status_text.scanned_once(self.parts):
            self._report.emit(Record("summary", priority, message))

    def run(self) -> None:
        """Start, work until a signal says to stop, and end. Raises Failure, and EventsUnavailable where the
        configuration requires process events and there are none."""
        self._start()
        footprint.release()
        while not self._stopping:
            self._loop.turn(wait=not self._scanner.has_work)
            if self._scanner.has_work:
                self._loop.guard(self._scanner.slice)
        self._stop()

    def _start(self) -> None:
        """Do all that comes before READY=1. At its end, each process that a rule fits is pinned, if its facts came in
        time."""
        self._source.load_filter()  # first, so that no helper inherits the capabilities that this takes
        self._asynchronous = True
        self._loop.catch_signals((signal.SIGHUP, signal.SIGTERM, signal.SIGINT), self._on_signals)
        open_ledger(self._pinner, self._report.keep_warning)
        self._control_opening.open()
        self._pump.subscribe()
        self._reloader.start(self._lint_helpers)
        self._names.watch()
        self._applier.wait_for_names(self._turn)
        self._kills.start()
        self._pins.expire()
        self._scanner.whole()
        self._put_off.finish(self._turn)
        self._report.emit_with_notes("started", *status_text.started(self.parts))
        self._lint.start("started")
        self._report.decisions()
        self._control.listen()
        self._manager.tell("READY=1")
        self._report.show_status()
        self._manager.keep_pinging(self._loop)
        self._scanner.wait()

    def _turn(self) -> bool:
        """Have the loop do one turn during the start. Returns whether the start goes on."""
        if not self._stopping:
            self._loop.turn(wait=True)
        return not self._stopping

    def _stop(self) -> None:
        pinner, report = self._pinner, self._report
        self._manager.tell("STOPPING=1")
        if self._in_force.config.settings.on_exit == "restore":
            self._pump.read_all()
            pinner.release_all()
            self._pump.read_all()  # children that were forked meanwhile
            pinner.catch_up()
            pinner.ledger.flush()
        self._put_off.close()
        self._names.close()
        pinner.descendants.identify_all()
        report.decisions()
        report.summaries(time.monotonic(), final=True)
        pinner.ledger.rewrite()
        report.emit(Record("stopped", INFO, f"Stopped; {counted(len(pinner.ledger.pinned()), 'process')} left pinned"))
        report.flush()
        self._pump.close()
        self._control.close()

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stopping = True
        elif signal.SIGHUP in numbers:
            self._reloader.request()

    def _failed(self, error: Exception, doing: str = "") -> None:
        self._report.internal_error(error, doing)

    def _answer(self, connection: Connection, request: Json) -> None:
        self._request_handler(self.parts, connection, request)

    def _watching(self, watching: bool) -> None:
        self._source.let_all_through("monitor", watching)

    def _config_taken(self, fresh: Config) -> None:
        self._reloader.taken(fresh)
        self._lint.start("reloaded")

    def _scan_seconds(self) -> float:
        return self._in_force.scan_seconds(events=self._source.on)

    def _before_scan(self, now: float) -> None:
        """Before each scan: look for changes that no event may have shown. `now`: CLOCK_MONOTONIC, in seconds."""
        self._each(
            lambda: self._reloader.look(now),
            lambda: self._names.refresh(now),
            self._pump.check,
            self._pins.expire,
            self._kills.count,
        )

    def _after_scan(self) -> None:
        """After each scan: log what it did, and start what has waited for it."""
        report, now = self._report, time.monotonic()
        self._each(
            report.decisions,
            self._kills.look_for_others,
            lambda: report.summaries(now),
            lambda: self._control.prune(now),
            self._control_opening.try_again,
            self._pump.scan_done,
            *(partial(self._put_off.when_done, done) for done in self._applier.take_waiting()),
            report.show_status,
        )

    def _each(self, *steps: Callable[[], None]) -> None:
        """Do all `steps`. An exception in one is logged, and keeps neither the others nor the scan from being done."""
        for step in steps:
            self._loop.guard(step)

    def _defer(self, pid: int, trigger: Trigger, owner: int, question: NotYet) -> bool:
        """Put a look off until its question is answered: see Defer in pinning/pinner.py. Returns whether it was."""
        if self._asynchronous:
            self._put_off.add(pid, trigger, owner, question)
        return self._asynchronous

    def _look_at_put_off(self, pid: int, trigger: Trigger) -> None:
        self._pinner.look(pid, trigger)
        self._second_looks.add(pid)
        self._pinner.ledger.flush()
        self._report.decisions()
