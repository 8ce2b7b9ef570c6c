"""Has configurations in force: on all processes, and with the numbers that users and groups have now."""

from collections.abc import Callable

from oomwatchd.base import footprint
from oomwatchd.base.text import counted
from oomwatchd.config import load as config
from oomwatchd.config.accounts import Accounts, names_in
from oomwatchd.config.load import Config
from oomwatchd.daemon.account_names import AccountNames
from oomwatchd.daemon.event_pump import EventPump
from oomwatchd.daemon.in_force import InForce
from oomwatchd.daemon.journal import NOTICE, Record
from oomwatchd.daemon.ledger_opening import new_ledger, open_ledger
from oomwatchd.daemon.reporter import Reporter
from oomwatchd.daemon.runtime_pins import RuntimePins
from oomwatchd.daemon.scanner import Scanner
from oomwatchd.kernel.proc_connector import Unavailable
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.ruleset import RuleSet

Done = Callable[[], None]


class Applier:
    """Changes what is in force. Events of before are dealt with under the old rules; then a scan goes over all
    processes under the new ones.

    `names` asks name services; `taken` is told of the configuration that came in force."""

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
        """The configuration that was read last; it may wait for name services."""
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

    def take_waiting(self) -> list[Done]:
        """What is to be called when the scan that has just ended, and what it has put off, is done."""
        waiting, self._waiting = self._waiting, []
        return waiting

    # A configuration

    def apply_when_known(self, fresh: Config, done: Done) -> None:
        """Apply a configuration once it is known which users and groups it names. `done` is called when it is in force
        on all processes, or another one in its place."""
        self._newest = fresh

        def apply() -> None:
            if self._newest is fresh:  # else another one has been read meanwhile, and is or comes in force
                self._apply(config.resolve_again(fresh, self._accounts))
            self._waiting.append(done)

        self._names.when_known(names_in(fresh.rules), apply)

    def _apply(self, fresh: Config) -> None:
        self._pump.read_all()  # that happened under the old rules
        was_dry = self._in_force.dry_run
        self._in_force.take(fresh)
        self._report.log_pins(fresh.settings.log_pins)
        if self._in_force.dry_run != was_dry:
            self._change_dryness()
        self._pinner.set_rules(RuleSet(fresh.rules))
        try:
            self._pump.subscribe()
        except Unavailable as reason:
            self._report.note(f'proc_events = "required", but there are none: {reason}; going on with scans alone')
        rules = counted(self._in_force.enabled_rules, "rule")
        self._report.emit_with_notes("reloaded", NOTICE, f"Configuration reloaded: {rules}")
        self._taken(fresh)
        self._scanner.begin("reload")
        footprint.release()

    def _change_dryness(self) -> None:
        """Go on with another ledger. What a dry run holds is made up; the real ledger waits in its file."""
        pinner = self._pinner
        pinner.ledger.flush()
        pinner.ledger.close()
        dry_run = self._in_force.dry_run
        pinner.change_ledger(new_ledger(self._directory, dry_run=dry_run), dry_run=dry_run)
        open_ledger(pinner, self._report.note)

    # Users and groups

    def wait_for_names(self, turn: Callable[[], bool]) -> None:
        """At the start: give name services the time to tell which users and groups the rules name. `turn` has the loop
        go on, and says whether to go on waiting."""
        known: list[bool] = []
        self._names.when_known(names_in(self._in_force.config.rules), lambda: known.append(True))
        while not known and turn():
            pass
        self._in_force.renumber(config.resolve_again(self._in_force.config, self._accounts))
        # What name services answered meanwhile is in the configuration by resolve_again(), but not yet in the pinner.
        if self._in_force.config.rules != self._pinner.rules.rules:
            self._pinner.set_rules(RuleSet(self._in_force.config.rules))

    def resolve_again(self) -> None:
        """Users and groups have come, gone, or changed their numbers: have the rules follow."""
        before = self._in_force.config
        now = config.resolve_again(before, self._accounts)
        self._in_force.renumber(now)
        if now.rules == before.rules or self._in_force.restored or self._scanner.scans == 0:
            return
        self._pump.read_all()  # that happened under the old numbers
        self._pinner.set_rules(RuleSet(now.rules))
        changes = "; ".join(config.changed_numbers(before, now))
        message = f"Users or groups have changed, and the rules follow: {changes}"
        self._report.emit_with_notes("reloaded", NOTICE, message)
        self._scanner.begin("reload")

    # Restore

    def restore(self, done: Done) -> None:
        """Give every process back what it had, and hold nobody until a configuration is applied again. `done` is called
        when that has been done to all."""
        self._pump.read_all()  # that happened under the rules
        self._in_force.restore()
        self._pins.remove_all()
        self._pinner.set_rules(RuleSet(()))
        self._pins.apply()
        message = "As asked for, everybody gets back what they had; nobody is held until the next reload or start"
        self._report.emit(Record("reloaded", NOTICE, message))
        self._waiting.append(done)
        self._scanner.begin("control")
