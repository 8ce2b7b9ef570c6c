"""Puts a configuration in force: on all processes, and with the numbers that users and groups have now."""

from collections.abc import Callable

from oomwatchd.base import footprint
from oomwatchd.base.text import counted
from oomwatchd.config import load as config
from oomwatchd.config.accounts import Accounts, names_in
from oomwatchd.config.load import Config
from oomwatchd.daemon.account_names import AccountNames
from oomwatchd.daemon.event_pump import EventPump
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.ledger_opening import new_ledger, open_ledger
from oomwatchd.daemon.log_records import NOTICE, Record
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.daemon.runtime_pins import RuntimePins
from oomwatchd.daemon.scanner import Scanner
from oomwatchd.kernel.proc_connector import EventsUnavailable
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.ruleset import RuleSet

Done = Callable[[], None]


class Applier:
    """Puts configurations in force. First the events that wait are dealt with under the old rules. Then a scan looks at
    all processes under the new ones.

    `names` asks name services; `taken` is called with each configuration that comes in force."""

    def __init__(
        self,
        in_force: InForce,
        accounts: Accounts,
        names: AccountNames,
        pinner: Pinner,
        pump: EventPump,
        scanner: Scanner,
        pins: RuntimePins,
        report: Reporter,
        directory: str,
        *,
        taken: Callable[[Config], None],
    ) -> None:
        self._in_force = in_force
        self._newest = in_force.config
        """The configuration that was read last. It may still wait for name services."""
        self._accounts = accounts
        self._names = names
        self._pinner = pinner
        self._pump = pump
        self._scanner = scanner
        self._pins = pins
        self._report = report
        self._directory = directory
        self._taken = taken
        self._waiting: list[Done] = []
        """What take_waiting() returns."""

    def take_waiting(self) -> list[Done]:
        """The functions to be called after the scan that has just ended, when the looks that it has put off are done,
        too. Each is returned once."""
        waiting, self._waiting = self._waiting, []
        return waiting

    # A configuration

    def apply_when_known(self, fresh: Config, done: Done) -> None:
        """Apply a configuration when the numbers of its users and groups are known. `done` is called when it is in
        force on all processes, or when another one is in its place."""
        self._newest = fresh

        def apply() -> None:
            if self._newest is fresh:  # else a newer one was read meanwhile, and is applied in its place
                self._apply(config.resolve_again(fresh, self._accounts))
            self._waiting.append(done)

        self._names.when_known(names_in(fresh.rules), apply)

    def _apply(self, fresh: Config) -> None:
        self._pump.read_all()  # these events happened under the old rules
        was_dry = self._in_force.dry_run
        self._in_force.take(fresh)
        self._report.log_pins(fresh.settings.log_pins)
        if self._in_force.dry_run != was_dry:
            self._change_dryness()
        self._pinner.set_rules(RuleSet(fresh.rules))
        try:
            self._pump.subscribe()
        except EventsUnavailable as reason:
            self._report.keep_warning(
                f'proc_events = "required", but there are none: {reason}; going on with scans alone'
            )
        rules = counted(self._in_force.enabled_rules, "rule")
        self._report.emit_with_notes("reloaded", NOTICE, f"Configuration reloaded: {rules}")
        self._taken(fresh)
        self._scanner.begin("reload")
        footprint.release()

    def _change_dryness(self) -> None:
        """Replace the ledger when a dry run begins or ends. The ledger of a dry run holds pins that were never written,
        and has no file. The real ledger stays in its file during a dry run."""
        pinner = self._pinner
        pinner.ledger.flush()
        pinner.ledger.close()
        dry_run = self._in_force.dry_run
        pinner.change_ledger(new_ledger(self._directory, dry_run=dry_run), dry_run=dry_run)
        open_ledger(pinner, self._report.keep_warning)

    # Users and groups

    def wait_for_names(self, turn: Callable[[], bool]) -> None:
        """At the start: wait for name services, for a short time. `turn` has the loop do one turn, and returns whether
        to go on waiting."""
        known: list[bool] = []
        self._names.when_known(names_in(self._in_force.config.rules), lambda: known.append(True))
        while not known and turn():
            pass
        self._in_force.renumber(config.resolve_again(self._in_force.config, self._accounts))
        # The configuration has the numbers that name services have told meanwhile. The pinner doesn't have them yet.
        if self._in_force.config.rules != self._pinner.rules.rules:
            self._pinner.set_rules(RuleSet(self._in_force.config.rules))

    def resolve_again(self) -> None:
        """Apply the present numbers of users and groups, after some have been added, removed, or given other
        numbers."""
        before = self._in_force.config
        now = config.resolve_again(before, self._accounts)
        self._in_force.renumber(now)
        if now.rules == before.rules or self._in_force.restored or self._scanner.scans == 0:
            return
        self._pump.read_all()  # these events happened under the old numbers
        self._pinner.set_rules(RuleSet(now.rules))
        changes = "; ".join(config.changed_numbers(before, now))
        message = f"Users or groups have changed, and the rules follow: {changes}"
        self._report.emit_with_notes("reloaded", NOTICE, message)
        self._scanner.begin("reload")

    # Restore

    def restore(self, done: Done) -> None:
        """Give every process its original value back, and pin no process until a configuration is applied again.
        `done` is called when that is done."""
        self._pump.read_all()  # these events happened under the rules
        self._in_force.restore()
        self._pins.remove_all()
        self._pinner.set_rules(RuleSet(()))
        self._pins.apply()
        message = "As asked for, everybody gets back what they had; nobody is held until the next reload or start"
        self._report.emit(Record("reloaded", NOTICE, message))
        self._waiting.append(done)
        self._scanner.begin("control")
