"""What a rule may ask, whether a process fits, and why not. Pure: imports nothing of ours, touches no file.

Text facts are `str` decoded as UTF-8 with surrogateescape, so that a name of any bytes can be compared."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OOM_SCORE_ADJ_MIN = -1000
"""include/uapi/linux/oom.h: a process with this value is never chosen."""
OOM_SCORE_ADJ_MAX = 1000
OOM_DISABLE = -17
"""include/uapi/linux/oom.h: the legacy oom_adj that is the same as OOM_SCORE_ADJ_MIN."""
OOM_ADJUST_MAX = 15

STRING_KEYS = ("exe", "comm", "cmdline", "unit", "user_unit", "slice", "cgroup")
ID_KEYS = ("user", "group")
CRITERIA = (*STRING_KEYS, *ID_KEYS, "session_leader", "descendant_of")
FAKEABLE = frozenset({"comm", "cmdline", "user_unit", "cgroup", "session_leader"})
"""Criteria that the process's own user can make true of any program."""

Value = str | int | None

_MEMO_LIMIT = 8192
_REMEMBERED_KEYS = ("user", "group", "unit", "user_unit", "slice", "cgroup")
"""Besides exe and comm: whether they rule a rule out is remembered for each value."""
_FACTS = {"user": "uid", "group": "gid"}
"""Where a fact of a process bears another name than the criterion."""


@dataclass(slots=True)
class Process:
    """What rules are compared with. None: the fact was refused or not read, so that no criterion over it holds,
    nor its `not`. An empty string: the process has none (a kernel without cgroups, a process outside units).

    Nobody changes one that has been read. It isn't frozen because a frozen one takes four times as long to make, before
    each write."""

    pid: int
    starttime: int
    """Clock ticks since boot: field 22 of /proc/PID/stat."""
    ppid: int
    comm: str
    session_leader: bool
    exe: str | None = None
    exe_verified: bool | None = None
    """Whether the path, in the daemon's own view, leads to the file that runs."""
    exe_doubt: str = ""
    """Why `exe_verified` isn't True, for people."""
    cmdline: str | None = None
    uid: int | None = None
    """Effective uid."""
    gid: int | None = None
    cgroup: str | None = None
    unit: str | None = None
    user_unit: str | None = None
    slice: str | None = None
    foreign_pid_ns: bool | None = None
    """Whether the process lives in another PID namespace than the daemon."""
    ancestors: frozenset[str] = frozenset()
    """Names of the rules that hold an ancestor, or held one when it died."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One string of a criterion: literal, shell glob over the whole value (fnmatch(3) without escapes and without
    special treatment of slashes), or unanchored regular expression."""

    text: str
    regex: re.Pattern[str] | None = None
    is_glob: bool = False

    def matches(self, value: str) -> bool:
        if self.regex is None:
            return value == self.text
        return self.regex.search(value) is not None

    @property
    def literal(self) -> bool:
        return self.regex is None

    def __str__(self) -> str:
        return self.text if self.literal or self.is_glob else f"regex {self.text}"


def literal_or_glob(text: str) -> Pattern:
    """A pattern out of a plain string of the configuration."""
    if not any(c in text for c in "*?["):
        return Pattern(text)
    return Pattern(text, re.compile(r"\A" + fnmatch.translate(text)), is_glob=True)


def regex(text: str) -> Pattern:
    """A pattern out of `{ regex = text }`. Raises re.error."""
    return Pattern(text, re.compile(text))


@dataclass(frozen=True, slots=True)
class Criterion:
    """One key of a rule. Which of the members means something depends on the key."""

    key: str
    patterns: tuple[Pattern, ...] = ()
    """For STRING_KEYS."""
    names: tuple[str, ...] = ()
    """For user and group: as written; for descendant_of: rules."""
    ids: frozenset[int] = frozenset()
    """For user and group: what the names stand for now; a name that doesn't exist adds none."""
    flag: bool = False
    """For session_leader."""

    def holds(self, process: Process) -> bool | None:
        """Whether the process is so; None where the fact was refused."""
        if self.key == "session_leader":
            return process.session_leader is self.flag
        if self.key == "descendant_of":
            return not process.ancestors.isdisjoint(self.names)
        if self.key == "user":
            return None if process.uid is None else process.uid in self.ids
        if self.key == "group":
            return None if process.gid is None else process.gid in self.ids
        value: str | None = getattr(process, self.key)
        if value is None:
            return None
        if not value and self.key != "cmdline":
            return False
        if not self.matches(value):
            return False
        return process.exe_verified if self.key == "exe" else True

    def matches(self, value: str) -> bool:
        return any(pattern.matches(value) for pattern in self.patterns)

    @property
    def wanted(self) -> str | list[str] | bool:
        """As it stands in the file, for `explain`."""
        if self.key == "session_leader":
            return self.flag
        texts = [str(p) for p in self.patterns] or list(self.names)
        return texts[0] if len(texts) == 1 else texts


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule wants of `oom_score_adj`: at least `low`, at most `high` (both the same: exactly that), or, with
    `ignore`, nothing."""

    low: int | None = None
    high: int | None = None
    ignore: bool = False

    @property
    def exact(self) -> bool:
        return self.low is not None and self.low == self.high

    @property
    def can_lower(self) -> bool:
        """Whether a process can gain by the rule. An exact value from 0 up doesn't count: see `Rule.target`."""
        if self.high is None:
            return False
        return self.high < 0 if self.exact else self.high < OOM_SCORE_ADJ_MAX

    def __str__(self) -> str:
        if self.ignore:
            return "ignore"
        if self.exact:
            return str(self.low)
        low = [] if self.low is None else [f"at least {self.low}"]
        high = [] if self.high is None else [f"at most {self.high}"]
        return ", ".join(low + high)


INHERIT, RESET = "inherit", "reset"


@dataclass(frozen=True, slots=True)
class Rule:
    """One [[rule]], checked. `children` None is the default: "reset" where the pin lowered, else "inherit"."""

    name: str
    criteria: tuple[Criterion, ...]
    action: Action
    excluded: tuple[Criterion, ...] = ()
    """`not`: a process for which all of these hold doesn't fit."""
    children: str | int | None = None
    containers: bool = False
    spoofable: bool = False
    enabled: bool = True
    description: str = ""
    file: str = ""
    line: int = 0
    guarded: bool = True
    """Whether the rule may lower: it names a criterion that can't be faked, or says `spoofable = true`."""

    def target(self, first: int) -> int:
        """The value for a process that has, or set itself, `first`. A rule that anyone can enter by faking a name
        never lowers: what it pins exactly is then a lower bound."""
        low, high = self.action.low, self.action.high
        if low is not None and (first < low or (low == high and not self.guarded)):
            return max(first, low)
        return first if high is None or first < high else high

    def child_value(self, value: int, first: int) -> int:
        """The value for a descendant that no rule fits, of a process pinned to `value` that had `first`."""
        policy = self.children
        if policy is None:
            policy = RESET if value < first else INHERIT
        if policy == INHERIT:
            return value
        if policy == RESET:
            return first
        return int(policy) if self.guarded else max(first, int(policy))

    @property
    def can_lower(self) -> bool:
        """Whether a process can gain by the rule, or by descending from one that it fits."""
        if self.action.ignore:
            return False
        return self.action.can_lower or (isinstance(self.children, int) and self.children < 0)

    @property
    def eager_children(self) -> bool:
        """Whether children need a look as soon as they are born: what the kernel lets them inherit is wrong."""
        if self.action.ignore or not self.enabled:
            return False
        return self.action.can_lower if self.children is None else self.children != INHERIT

    def criterion(self, key: str) -> Criterion | None:
        return next((c for c in self.criteria if c.key == key), None)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a rule doesn't fit: the first criterion that fails, what it wants, what was found (None: refused)."""

    key: str
    wanted: str | list[str] | bool
    found: str | int | bool | list[str] | None


def mismatch(rule: Rule, process: Process) -> Mismatch | None:
    """The first thing that keeps `process` from fitting `rule`; None if it fits."""
    if not rule.enabled:
        return Mismatch("enabled", True, False)
    for criterion in rule.criteria:
        if criterion.holds(process) is not True:
            return Mismatch(criterion.key, criterion.wanted, _found(criterion, process))
    if rule.excluded:
        results = [criterion.holds(process) for criterion in rule.excluded]
        if False not in results:
            wanted = [f"{c.key} = {_shown(c.wanted)}" for c in rule.excluded]
            found = None if None in results else [f"{c.key} = {_shown(_found(c, process))}" for c in rule.excluded]
            return Mismatch("not", wanted, found)
    if not rule.containers and process.foreign_pid_ns is not False:
        found_ns = None if process.foreign_pid_ns is None else "another PID namespace"
        return Mismatch("containers", "this PID namespace", found_ns)
    return None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " or ".join(value) if isinstance(value, list) else str(value)


def _found(criterion: Criterion, process: Process) -> str | int | bool | list[str] | None:
    key = criterion.key
    if key == "user":
        return process.uid
    if key == "group":
        return process.gid
    if key == "descendant_of":
        return sorted(process.ancestors)
    if key == "exe" and process.exe and criterion.matches(process.exe) and process.exe_doubt:
        return f"{process.exe} ({process.exe_doubt})"
    value: str | bool | None = getattr(process, key)
    return value


@dataclass(frozen=True, slots=True)
class Needs:
    """What a set of rules asks of the kernel: facts to read, events to hear of."""

    exe: bool = False
    cmdline: bool = False
    cgroup: bool = False
    comm_events: bool = False
    uid_events: bool = False
    gid_events: bool = False
    forks: bool = False
    """Fork events are needed at all: a rule holds processes that can have children."""
    forks_at_once: bool = False
    """... and each one as it comes, not just after the next write."""
    second_look: bool = False
    """A rule asks for what changes without an event: the cgroup, being a session's leader."""
    fork_decides: bool = False
    """A rule can fit a process just born whose parent it doesn't fit."""


def needs(rules: Sequence[Rule]) -> Needs:
    """What the enabled ones of `rules` need."""
    active = [rule for rule in rules if rule.enabled]
    keys = {c.key for rule in active for c in (*rule.criteria, *rule.excluded)}
    fork_decides = any(
        c.key == "session_leader" and c.flag is wanted
        for rule in active
        for criteria, wanted in ((rule.criteria, False), (rule.excluded, True))
        for c in criteria
    )
    return Needs(
        exe="exe" in keys,
        cmdline="cmdline" in keys,
        cgroup=not keys.isdisjoint({"cgroup", "unit", "user_unit", "slice"}),
        comm_events="comm" in keys,
        uid_events="user" in keys,
        gid_events="group" in keys,
        forks=any(not rule.action.ignore for rule in active) or "descendant_of" in keys,
        forks_at_once=fork_decides or "descendant_of" in keys or any(rule.eager_children for rule in active),
        second_look=not keys.isdisjoint({"cgroup", "unit", "user_unit", "slice", "session_leader"}),
        fork_decides=fork_decides,
    )


class RuleSet:
    """Rules in the order in which they are tried, with what makes a thousand cost what one costs: for a value of
    `exe`, `comm`, … the set of rules that it doesn't rule out, as the bits of an integer, remembered per value."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.needs = needs(self.rules)
        self.by_name: Mapping[str, Rule] = {rule.name: rule for rule in self.rules}
        self.referenced = frozenset(
            name
            for rule in self.rules
            for c in (*rule.criteria, *rule.excluded)
            if c.key == "descendant_of"
            for name in c.names
        )
        """Rules that a descendant_of names."""
        self._enabled = sum(1 << i for i, rule in enumerate(self.rules) if rule.enabled)
        asked = {c.key for rule in self.rules for c in rule.criteria}
        self.asks_comm = "comm" in asked
        self._names: dict[str, dict[Value, int]] = {key: {} for key in ("exe", "comm") if key in asked}
        self._others: dict[str, dict[Value, int]] = {key: {} for key in _REMEMBERED_KEYS if key in asked}
        self._open = tuple(map(_left_open, self.rules))

    def possible_exe(self, exe: str | None) -> int:
        """The rules that `exe` alone doesn't rule out, as bits; 0 for most processes of a machine, which then need no
        further look. None: refused; so that no rule over it fits. Not remembered: the caller asks once for each."""
        return self._enabled & self._possible("exe", exe)

    def possible_comm(self, comm: str | None) -> int:
        """The same for `comm`."""
        return self._enabled & self._possible("comm", comm)

    def names_exe(self, exe: str) -> bool:
        """Whether a rule asks for an executable at this path, so that it matters if the path can be believed. Not
        remembered either."""
        return any(c.key == "exe" and c.matches(exe) for rule in self.rules for c in (*rule.criteria, *rule.excluded))

    def decide(self, process: Process, possible: int | None = None) -> Rule | None:
        """The first rule that fits; `possible` where it is known already which ones exe and comm don't rule out."""
        bits = self._enabled if possible is None else possible
        if possible is None:
            bits = self._narrow(bits, self._names, process)
        if self._others:
            bits = self._narrow(bits, self._others, process)
        while bits:
            lowest = bits & -bits
            number = lowest.bit_length() - 1
            rule, left = self.rules[number], self._open[number]
            if left == "all":
                fits = mismatch(rule, process) is None
            elif process.foreign_pid_ns is not False and not rule.containers:
                fits = False
            else:
                fits = left == "" or process.exe_verified is True
            if fits:
                return rule
            bits ^= lowest
        return None

    def _narrow(self, bits: int, memos: dict[str, dict[Value, int]], process: Process) -> int:
        for key, memo in memos.items():
            if not bits:
                break
            value = getattr(process, _FACTS.get(key, key))
            found = memo.get(value)
            if found is None:
                if len(memo) >= _MEMO_LIMIT:  # whoever invents names without end must not make us grow
                    memo.clear()
                found = memo[value] = self._possible(key, value)
            bits &= found
        return bits

    def _possible(self, key: str, value: Value) -> int:
        return sum(1 << i for i, rule in enumerate(self.rules) if _not_ruled_out(rule.criterion(key), value))


def _left_open(rule: Rule) -> str:
    """What the bits of a rule leave to be asked: nothing, "belief" in its exe, or, since it asks for what has no bits,
    "all"."""
    keys = {criterion.key for criterion in rule.criteria}
    if rule.excluded or not keys <= {"exe", "comm", *_REMEMBERED_KEYS}:
        return "all"
    return "belief" if "exe" in keys else ""


def _not_ruled_out(criterion: Criterion | None, value: Value) -> bool:
    if criterion is None:
        return True
    if isinstance(value, int):
        return value in criterion.ids
    return bool(value) and value is not None and criterion.matches(value)


def oom_adj_to_score(oom_adj: int) -> int:
    """The kernel's conversion of the legacy value (fs/proc/base.c, oom_adj_write): -17…15 to -1000…1000."""
    if oom_adj == OOM_ADJUST_MAX:
        return OOM_SCORE_ADJ_MAX
    return int(oom_adj * OOM_SCORE_ADJ_MAX / -OOM_DISABLE)
