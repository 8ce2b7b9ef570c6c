"""All rules together: what they ask of the kernel, and the first one that fits a process. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from oomwatchd.rules.criteria import CRITERIA, Form, Process, Source
from oomwatchd.rules.index import Index, as_bits
from oomwatchd.rules.match import container_mismatch, mismatch
from oomwatchd.rules.model import Rule
from oomwatchd.rules.search import Searches

Value = str | tuple[int, int] | None

_MEMO_LIMIT = 8192
_INDEXED = tuple(row.key for row in CRITERIA.values() if row.indexed)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a set of rules needs from the kernel: facts to read, events to subscribe to."""

    reads: frozenset[Source] = frozenset()
    events: frozenset[str] = frozenset()
    """Events that report a change of a fact, besides exec and fork: comm, uid, gid."""
    forks: bool = False
    """Whether fork events are needed at all: some rule pins processes, and these can have children."""
    second_look: bool = False
    """Whether some rule asks for a fact that changes without an event: the cgroup, or being a session leader. Then a
    process that has changed is looked at again later."""
    fork_decides: bool = False
    """Whether a rule can fit a process that was just forked although it doesn't fit the parent."""


def needs(rules: Sequence[Rule]) -> Needs:
    """What the enabled rules among `rules` need from the kernel."""
    active = [rule for rule in rules if rule.enabled]
    rows = {CRITERIA[c.key] for rule in active for c in (*rule.criteria, *rule.excluded)}
    by_descent = any(row.form is Form.RULE for row in rows)
    fork_decides = any(
        c.key == "session_leader" and c.flag is wanted
        for rule in active
        for criteria, wanted in ((rule.criteria, False), (rule.excluded, True))
        for c in criteria
    )
    return Needs(
        reads=frozenset(row.source for row in rows),
        events=frozenset(row.event for row in rows if row.event is not None) - {"exec", "fork"},
        forks=any(not rule.action.ignore for rule in active) or by_descent,
        second_look=any(row.event is None for row in rows),
        fork_decides=fork_decides,
    )


class RuleSet:
    """Rules in the order in which they are tried.

    A thousand rules cost as much as one: for each value of `exe`, `comm` and so on, it is remembered which rules may
    still fit. A set of rules is an integer: bit N stands for rule N."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.needs = needs(self.rules)
        self.by_name: Mapping[str, Rule] = {rule.name: rule for rule in self.rules}
        self.referenced = frozenset(
            name
            for rule in self.rules
            for c in (*rule.criteria, *rule.excluded)
            if CRITERIA[c.key].form is Form.RULE
            for name in c.names
        )
        """Rules that a descendant_of names."""
        self.by_exe = as_bits(i for i, rule in enumerate(self.rules) if rule.criterion("exe") is not None)
        """Rules that ask for the executable."""
        self._enabled = as_bits(i for i, rule in enumerate(self.rules) if rule.enabled)
        asked = {c.key for rule in self.rules for c in rule.criteria}
        self.asks_comm = "comm" in asked
        self._index = {key: Index(key, self.rules) for key in _INDEXED if key in asked}
        self._memos: dict[str, dict[Value, int]] = {key: {} for key in self._index if key not in ("exe", "comm")}
        """The results of possible(), for the criteria whose results the prefilter doesn't remember."""
        self._open = tuple(map(_left_open, self.rules))
        self.searches = Searches(self.rules)

    def possible(self, key: str, value: Value) -> int:
        """The rules that may still fit a process for which the fact of criterion `key` is `value`, as bits. `value`
        None: the kernel refused the fact, so no rule with that criterion fits. For most executables the result is 0,
        and then the process needs no further look. Nothing is remembered here. Raises NotYet."""
        if isinstance(value, str) and key in self.searches.keys:
            value = self.searches.prepare(key, self._enabled, value)
        index = self._index.get(key)
        return self._enabled if index is None else self._enabled & index.possible(value)

    def names_exe(self, exe: str) -> bool:
        """Whether a rule that can lower names this path, so that the path has to be verified. Nothing is remembered
        here: the caller asks once for each executable."""
        if "exe" in self.searches.keys:
            exe = self.searches.prepare("exe", self._enabled, exe)
        criteria = (c for rule in self.rules if rule.can_lower for c in rule.criteria)
        return any(c.key == "exe" and c.matches(exe) is not False for c in criteria)

    def decided_by_exe(self, possible: int) -> Rule | None:
        """The rule that fits every process with some executable, except in containers; None: other facts decide, or the
        rule writes nothing. `possible`: the result of possible() for the executable."""
        if not possible:
            return None
        rule = self.rules[(possible & -possible).bit_length() - 1]
        by_exe_alone = {criterion.key for criterion in rule.criteria} == {"exe"} and not rule.excluded
        return rule if by_exe_alone and not rule.can_lower and not rule.action.ignore else None

    def decide(self, process: Process, possible: int | None = None) -> Rule | None:
        """The first rule that fits `process`; None: none does. `possible`: the rules that exe and comm don't rule out,
        as bits, where that is known already. Raises NotYet."""
        if possible is None:
            possible = self.possible("exe", process.exe) & self.possible("comm", process.comm)
        bits = self._narrow(possible, process)
        prepared = False
        while bits:
            lowest = bits & -bits
            number = lowest.bit_length() - 1
            rule, left = self.rules[number], self._open[number]
            if left == "all":
                if not prepared:  # for all rules that may still fit: one call for many searches
                    self.prepare(process, bits)
                    prepared = True
                fits = mismatch(rule, process) is None
            elif left == "verify" and process.exe_verified is not True:
                fits = False
            else:
                fits = rule.containers or container_mismatch(rule, process) is None
            if fits:
                return rule
            bits ^= lowest
        return None

    def prepare(self, process: Process, possible: int | None = None) -> None:
        """Do the searches that can take long: those of all rules, or of the `possible` ones (as bits), in the texts of
        `process`. Raises NotYet."""
        bits = self._enabled if possible is None else possible
        searches = self.searches
        if not searches.keys:
            return
        skip = searches.exceeded_by(process)
        for key in searches.keys:
            fact = CRITERIA[key].fact
            value = getattr(process, fact)
            if value:
                prepared = searches.prepare(key, bits, value, skip)
                setattr(process, fact, prepared)
                searches.note_exceeded(process, prepared)

    def _narrow(self, bits: int, process: Process) -> int:
        for key, memo in self._memos.items():
            if not bits:
                break
            value = getattr(process, CRITERIA[key].fact)
            found = memo.get(value)
            if found is None:
                if len(memo) >= _MEMO_LIMIT:  # users can invent names without end, and memory must not grow
                    memo.clear()
                found = memo[value] = self.possible(key, value)
            bits &= found
        return bits


def _left_open(rule: Rule) -> str:
    """What must still be checked when the indexes say that a rule may fit. "": nothing. "verify": whether the path of
    the executable is verified. "all": every criterion, because one of them has no index."""
    keys = {criterion.key for criterion in rule.criteria}
    if rule.excluded or not all(CRITERIA[key].indexed for key in keys):
        return "all"
    return "verify" if "exe" in keys and rule.can_lower else ""
