"""Writes values, and keeps what was done as decisions and counters."""

import os

from oomwatchd.kernel.facts import View
from oomwatchd.pinning.decisions import Decision, Latencies, PinCounters
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.look import Look, Written, describe


class Writer:
    """Writes values. What was done is kept as decisions, until take_decisions() is called."""

    def __init__(self, ledger: Ledger, view: View, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.counters = PinCounters()
        self.latencies = Latencies()
        self.hits: dict[str, int] = {}
        """For each rule, how often it came to fit a process since the start."""
        self._ledger = ledger
        self._view = view
        self._decisions: list[Decision] = []
        self._reported: set[tuple[str, int]] = set()
        """Rule and errno of the refused writes that were reported already."""

    def use(self, ledger: Ledger, *, dry_run: bool) -> None:
        """Go by another ledger from now on."""
        self._ledger, self.dry_run = ledger, dry_run

    def forgive(self) -> None:
        """Report each refused write again."""
        self._reported.clear()

    def take_decisions(self) -> list[Decision]:
        """What was done since the last call."""
        taken, self._decisions = self._decisions, []
        return taken

    def count_hit(self, rule: str) -> None:
        """Note that a rule has come to fit a process."""
        self.hits[rule] = self.hits.get(rule, 0) + 1

    def write(self, look: Look, value: int, rule: str, current: int) -> bool:
        """Write a value. Returns False if the kernel refuses, which is reported once for each rule and reason. In a dry
        run, nothing is written. Raises Vanished."""
        if self.dry_run:
            return True
        try:
            look.directory.write_oom_score_adj(value)
        except OSError as error:
            number = error.errno or 0
            look.node.refused = (rule, number)
            self.counters.failures += 1
            if (rule, number) not in self._reported:
                self._reported.add((rule, number))
                self.decided("pin-failed", look, rule, current, value, error=os.strerror(number))
            return False
        look.node.refused = None
        return True

    def tell_pin(self, look: Look, written: Written) -> None:
        """Note a value that has been written because a rule fits."""
        if written.same:
            self.counters.drifts += 1
        else:
            self.counters.pins += 1
            if written.latency_us is not None:
                self.latencies.add(written.latency_us)
        event = "drift" if written.same else "pinned"
        self.decided(event, look, written.rule, written.was, written.target, written.latency_us)

    def decided(
        self,
        event: str,
        look: Look,
        rule: str,
        old: int,
        new: int,
        latency_us: int | None = None,
        *,
        error: str = "",
        quiet: bool = False,
    ) -> None:
        """Note a decision, with the facts of the process that its record shows."""
        describe(look, self._ledger, None if quiet else self._view)
        node = look.node
        self._decisions.append(
            Decision(
                event=event,
                pid=node.pid,
                rule=rule,
                old=old,
                new=new,
                source=look.trigger.source,
                comm=node.comm,
                exe=look.exe or node.exe,
                uid=node.uid,
                unit=node.unit,
                latency_us=latency_us,
                error=error,
                quiet=quiet,
            )
        )
