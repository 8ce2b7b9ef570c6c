"""Makes records for the journal out of decisions and kills, and decides which decisions are logged one by one.

The fields are those of systemd.journal-fields(7) and of oomwatchd(8), "JOURNAL". The catalog
(systemd/oomwatchd.catalog) explains each MESSAGE_ID."""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from oomwatchd.base.text import printable
from oomwatchd.pinning.decisions import Decision
from oomwatchd.pinning.lineage import Node, Pin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.oomlog.record import Killed, OomKill

CRIT, ERR, WARNING, NOTICE, INFO, DEBUG = 2, 3, 4, 5, 6, 7
"""Priorities of syslog(3)."""

MESSAGE_IDS = {
    "started": "b351717f823b48f4b5acf07d25b456d3",
    "stopped": "b5ab4828bee8406b9460687f68ea3788",
    "reloaded": "82e17cf0a2bd4d3ab2c97298489bab20",
    "reload-failed": "f9d1eb4ef8454d86a92d5c15aca8227a",
    "pinned": "b0eba7c55c204fc880bb51e3450258b7",
    "released": "cf46b3ab9fd84cd38f8df8b3558c92a4",
    "reset-child": "b197fd880ea94e85aa0011c340f76b44",
    "drift": "3d2e9cc9ebc1470798386498b0bb72a9",
    "contended": "72348554962c40aa867e84e9b509bd01",
    "pin-failed": "15b02924ade042b09635e2d7df4054aa",
    "events-lost": "37ff391b32cb43d19be88f2a63e68556",
    "summary": "6c6b9641dcff4d14a5ab595e8ae33b48",
    "oom-kill": "965986cc168045a3920b55dbe0fd728c",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log. `event` is its OOMWATCHD_EVENT; `fields` are all fields but that one, MESSAGE, PRIORITY
    and MESSAGE_ID."""

    event: str
    priority: int
    message: str
    fields: Mapping[str, str | int] = field(default_factory=dict)


_PRIORITIES = {"drift": NOTICE, "contended": WARNING, "pin-failed": WARNING}


def decision_record(decision: Decision, *, dry_run: bool = False) -> Record:
    """The record of a decision. `dry_run`: nothing was written."""
    fields: dict[str, str | int] = {
        "OBJECT_PID": decision.pid,
        "OOMWATCHD_RULE": decision.rule,
        "OOMWATCHD_COMM": printable(decision.comm),
        "OOMWATCHD_EXE": printable(decision.exe),
        "OOMWATCHD_UNIT": printable(decision.unit),
        "OOMWATCHD_OLD": decision.old,
        "OOMWATCHD_NEW": decision.new,
        "OOMWATCHD_SOURCE": decision.source,
    }
    if decision.uid is not None:
        fields["OOMWATCHD_UID"] = decision.uid
    if decision.latency_us is not None:
        fields["OOMWATCHD_LATENCY_US"] = decision.latency_us
    priority = DEBUG if decision.quiet else _PRIORITIES.get(decision.event, INFO)
    message = _sentence(decision)
    return Record(decision.event, priority, _unreal(message) if dry_run else message, fields)


_WOULD = {"Pinned": "pin", "Released": "release", "Took": "take", "Set": "set", "Put": "put"}


def _unreal(message: str) -> str:
    """A message about something that a dry run has not done."""
    verb, _, rest = message.partition(" ")
    return f"Dry run: would {_WOULD[verb]} {rest}" if verb in _WOULD else f"Dry run: {message}"


def _sentence(decision: Decision) -> str:
    who = f"process {decision.pid} ({printable(decision.comm)})"
    old, new, rule = decision.old, decision.new, f"rule '{decision.rule}'"
    if decision.event == "pinned":
        return f"Pinned {who} to oom_score_adj {new}, from {old}, by {rule}"
    if decision.event == "released":
        return f"Released {who} to oom_score_adj {new}, from {old}: {rule} doesn't hold it any more"
    if decision.event == "reset-child":
        if decision.quiet:
            return f"Took the inherited floor of {rule} from {who}, which has oom_score_adj {new}"
        return f"Set {who} to oom_score_adj {new}, from the {old} that it inherited by {rule}"
    if decision.event == "drift":
        return f"Put {who} back to oom_score_adj {new}: someone had changed what {rule} pins to {old}"
    if decision.event == "contended":
        return (
            f"Someone keeps changing oom_score_adj of {who} to {old}, which {rule} pins to {new}; leaving the value "
            "alone for a while, then trying again less and less often"
        )
    return (
        f"Failed to set oom_score_adj of {who} to {new} by {rule}: {decision.error}{_advice(decision)}; not trying "
        "again, and not logging other failures of this rule for this reason, before the configuration is reloaded"
    )


def _advice(decision: Decision) -> str:
    if decision.error == os.strerror(errno.EACCES) and decision.new < decision.old:
        return " (lowering a value needs CAP_SYS_RESOURCE)"
    return ""


def kill_records(kill: "OomKill", nodes: Mapping[int, Node | None]) -> list[Record]:
    """The records of a kill by the kernel: one about the victim, and one about each process that a rule pinned and that
    died with it. `nodes`: the ledger's nodes by PID, as far as there are any. Raises ValueError if the kill has no
    victim."""
    killed = kill.victim
    if killed is None:
        raise ValueError("an OOM event without a victim")
    others = [other for other in kill.also_killed if other.pid != killed.pid]
    scope = {"OOMWATCHD_SCOPE": kill.scope, "OOMWATCHD_MEMCG": _shown(kill.memcg)}
    fields: dict[str, str | int | None] = {
        **_of_killed(killed, nodes.get(killed.pid)),
        **scope,
        "OOMWATCHD_TASK_MEMCG": _shown(kill.task_memcg),
        "OOMWATCHD_INVOKER": _shown(kill.invoker.comm),
        "OOMWATCHD_INVOKER_PID": kill.invoker.pid,
        "OOMWATCHD_ALSO_KILLED": " ".join(str(other.pid) for other in others) or None,
    }
    pin = _pin(nodes.get(killed.pid))
    where = f"in memory cgroup {_shown(kill.memcg)}" if kill.scope == "memcg" else f"({kill.scope or 'cause unknown'})"
    message = f"The OOM killer has killed process {killed.pid} ({printable(killed.comm or '?')}) {where}"
    if killed.anon_rss_kb is not None:
        message += f", which held {killed.anon_rss_kb // 1024} MiB"
    if killed.oom_score_adj is not None:
        message += f" at oom_score_adj {killed.oom_score_adj}"
    message += "; no rule held it" if pin is None else f"; rule '{pin.rule}' held it at {pin.target}"
    if kill.invoker.comm is not None:
        message += f"; memory was asked for by process {kill.invoker.pid or '?'} ({_shown(kill.invoker.comm)})"
    records = [_kill_record(message, pin, fields)]
    for other in others:
        with_it = _pin(nodes.get(other.pid))
        if with_it is not None:
            message = (
                f"The OOM killer has killed process {other.pid} ({printable(other.comm or '?')}), which rule "
                f"'{with_it.rule}' held at {with_it.target}, together with process {killed.pid} "
                f"({printable(killed.comm or '?')}): memory.oom.group is set"
            )
            records.append(_kill_record(message, with_it, {**_of_killed(other, nodes.get(other.pid)), **scope}))
    return records


def _of_killed(killed: "Killed", node: Node | None) -> dict[str, str | int | None]:
    return {
        "OOMWATCHD_KILLER": "kernel",
        "OBJECT_PID": killed.pid,
        "OOMWATCHD_COMM": _shown(killed.comm),
        "OOMWATCHD_UID": killed.uid,
        "OOMWATCHD_OLD": killed.oom_score_adj,
        "OOMWATCHD_ANON_RSS_KB": killed.anon_rss_kb,
        **_of_holding(node),
    }


def _pin(node: Node | None) -> Pin | None:
    return None if node is None else node.pin


def _of_holding(node: Node | None) -> dict[str, str | int | None]:
    """The fields that only a pinned process has: its rule, its target, its executable and unit."""
    if node is None or node.pin is None:
        return {}
    return {
        "OOMWATCHD_RULE": node.pin.rule,
        "OOMWATCHD_NEW": node.pin.target,
        "OOMWATCHD_EXE": printable(node.exe),
        "OOMWATCHD_UNIT": printable(node.unit),
    }


def _kill_record(message: str, pin: Pin | None, fields: Mapping[str, str | int | None]) -> Record:
    known = {name: value for name, value in fields.items() if value is not None}
    return Record("oom-kill", CRIT if pin is not None and pin.lowers else WARNING, message, known)


def other_kill_record(killer: str, node: Node, cgroup: str | None) -> Record:
    """The record of a pinned process that another killer than the kernel has taken. `killer`: its name; "systemd": it
    stopped the unit after an OOM kill in it. `cgroup`: the killer took all of that cgroup. Raises ValueError if the
    process isn't pinned."""
    pin = node.pin
    if pin is None:
        raise ValueError("it wasn't pinned")
    who = f"process {node.pid} ({printable(node.comm)}), which rule '{pin.rule}' held at {pin.target}"
    message = f"{killer} has killed {who}"
    if killer == "systemd":
        message = f"systemd has stopped {printable(node.unit)} after an OOM kill in it, with {who} (OOMPolicy=)"
    elif cgroup is not None:
        message += f", with all of {printable(cgroup)}; it doesn't look at oom_score_adj"
    fields: dict[str, str | int | None] = {
        "OOMWATCHD_KILLER": killer,
        "OBJECT_PID": node.pid,
        "OOMWATCHD_COMM": printable(node.comm),
        "OOMWATCHD_UID": node.uid,
        "OOMWATCHD_OLD": pin.target,
        "OOMWATCHD_CGROUP": _shown(cgroup),
        **_of_holding(node),
    }
    return _kill_record(message, pin, fields)


def _shown(text: str | None) -> str | None:
    return None if text is None else printable(text)


# Which decisions are logged one by one

_BURST = 20
"""The most decisions of one rule and event that are logged one by one in a window."""
_FIRST_WINDOW_SECONDS = 10.0
"""The length of a window after a quiet time, seconds."""
_WINDOW_SECONDS = 60.0
"""The length of a window that follows one with more than _BURST decisions, seconds."""


@dataclass(slots=True)
class _Flow:
    """The decisions of one rule and event in one window."""

    start: float
    """CLOCK_MONOTONIC, seconds."""
    count: int = 0
    """How many decisions there were."""
    suppressed: int = 0
    """How many of the decisions were not logged."""
    flooded: bool = False
    """Whether the window before had more than _BURST decisions."""

    @property
    def length(self) -> float:
        """The length of the window, seconds."""
        return _WINDOW_SECONDS if self.flooded else _FIRST_WINDOW_SECONDS


class PinLog:
    """Decides which decisions are logged one by one and which are summed up, by `log_pins` of the configuration. Time
    enters as an argument: CLOCK_MONOTONIC seconds."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._flows: dict[tuple[str, str], _Flow] = {}

    def go_by(self, mode: str) -> None:
        """Take another value of `log_pins`."""
        self._mode = mode

    def admits(self, decision: Decision, now: float) -> bool:
        """Whether to log this decision. If not, it is counted."""
        if decision.event not in ("pinned", "released", "reset-child") or self._mode == "each":
            return True
        if self._mode == "off":
            return False
        if self._mode == "auto" and decision.event == "pinned" and decision.new < decision.old:
            return True
        flow = self._flows.setdefault((decision.rule, decision.event), _Flow(now))
        if flow.suppressed == 0 and now - flow.start >= flow.length:
            flow.start, flow.count, flow.flooded = now, 0, False
        flow.count += 1
        if self._mode == "auto" and not flow.flooded and flow.count <= _BURST:
            return True
        flow.suppressed += 1
        return False

    def summaries(self, now: float, *, final: bool = False) -> Iterator[Record]:
        """A record for each rule and event whose window is over and had decisions that were not logged. `final`: all
        windows are over."""
        for (rule, event), flow in list(self._flows.items()):
            seconds = now - flow.start
            if seconds < flow.length and not final:
                continue
            if flow.suppressed == 0:
                del self._flows[rule, event]
                continue
            what = {"pinned": "pinned", "released": "released", "reset-child": "given their own value back"}[event]
            message = (
                f"Rule '{rule}': {flow.suppressed} processes {what} in {max(seconds, 1):.0f} s, too many to log each"
            )
            fields: dict[str, str | int] = {"OOMWATCHD_RULE": rule, "OOMWATCHD_COUNT": flow.suppressed}
            yield Record("summary", INFO, message, fields)
            self._flows[rule, event] = _Flow(now, flooded=flow.count > _BURST)
