"""Describes the daemon's state in a sentence: for the record `started`, and for `systemctl status`."""

from oomwatchd.base.text import counted
from oomwatchd.daemon.capabilities import losses
from oomwatchd.daemon.log_records import INFO, WARNING
from oomwatchd.daemon.parts import Parts
from oomwatchd.rules.criteria import Source
from oomwatchd.rules.ruleset import needs


def started(parts: Parts) -> tuple[int, str]:
    """The priority and the message of the record `started`. It is a warning if capabilities or process events are
    missing."""
    source, in_force, missing = parts.source, parts.in_force, parts.missing_capabilities
    pinned = counted(len(parts.pinner.ledger.pinned()), "process")
    words = [f"Started with {counted(in_force.enabled_rules, 'rule')}, {pinned} held"]
    if source.on:
        words.append("process events on")
    else:
        seconds = in_force.scan_seconds(events=False)
        words.append(f"no process events ({source.reason}), so scanning every {seconds:g} s")
    if in_force.dry_run:
        words.append("a dry run, which writes nothing")
    if missing:
        words.append(f"without {' and '.join(missing)}, so that {losses(missing)}")
    return WARNING if missing or not source.on else INFO, "; ".join(words)


def scanned_once(parts: Parts) -> list[tuple[int, str]]:
    """The priorities and messages to be logged after --once."""
    said, sight = [], "CAP_SYS_PTRACE"
    if sight in parts.missing_capabilities and Source.EXE in needs(parts.pinner.rules.rules).reads:
        said.append((WARNING, f"Without {sight}, which root has, {losses((sight,))}"))
    if not parts.pinner.ledger.pinned():
        said.append((INFO, "No rule fits a process that runs now: nobody is to be pinned"))
    return said


def line(parts: Parts) -> str:
    """The status line for `systemctl status`."""
    ledger, source = parts.pinner.ledger, parts.source
    if parts.reloader.error:
        first = parts.reloader.error.split("\n")[0]
        return f"Configuration not taken, old rules in force: {first}"
    rules = sum(rule.enabled for rule in parts.pinner.rules.rules)
    events = "process events on" if source.on else f"scans alone, {source.reason}"
    status = f"{counted(rules, 'rule')}, {counted(len(ledger.pinned()), 'process')} pinned, {events}"
    if parts.in_force.restored:
        status = "Holds nobody until the next reload, for that was asked for"
    return status + (f"; the ledger can't be written: {ledger.trouble}" if ledger.trouble else "")
