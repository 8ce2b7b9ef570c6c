"""Searches for regular expressions in texts that others control, within a budget of CPU time.

A search that can't take long is done at once. A helper process does the others (NotYet), with a few milliseconds for
each expression. A search that exceeds this budget has no result: neither the criterion nor its `not` holds."""

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oomwatchd.base.alarm import Limit, Overdue
from oomwatchd.base.notyet import NotYet
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.effort import Shape, longest_within, shape
from oomwatchd.rules.model import NO, OVERDUE, YES, Criterion, Pattern, Rule, Searched

_AT_ONCE_SECONDS = 0.002
"""Searches are done at once if all expressions of a criterion together can't take longer than this."""
_TRIED_SECONDS, _TRIED_CHARACTERS = 0.003, 1024
"""Other searches are first tried here, for this time and in a text of up to this length: hardly any search is as slow
as it could be."""
_BUDGET_SECONDS = 0.010
"""CPU time for one expression and text, in the helper."""
_CALL_SECONDS = 0.2
"""CPU time for all expressions of one call. `re` may go on for seconds before it checks for a signal; so after this
time a signal ends the helper."""
_Key = tuple[str, int, int, int, frozenset[str]]
"""The key of a remembered result: criterion; rules, as bits; hash and length of the text; expressions that aren't
searched for."""

_MEMO_LIMIT = 4096
_ASKED_LIMIT = 1024
_EXCEEDED_LIMIT = 4096


def search(patterns: Sequence[str], raw: bytes) -> bytes:
    """Search `raw` for each expression. Returns a byte for each: NO, YES or OVERDUE. Call this in a helper: after
    _CALL_SECONDS of CPU time, SIGPROF ends the process."""
    text = raw.decode("utf-8", "surrogateescape")
    signal.setitimer(signal.ITIMER_PROF, _CALL_SECONDS)
    found = bytes(_search(re.compile(pattern), text) for pattern in patterns)
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    return found


def _search(regex: re.Pattern[str], text: str) -> int:
    try:
        with Limit(_BUDGET_SECONDS):
            return NO if regex.search(text) is None else YES
    except Overdue:
        return OVERDUE


@dataclass(slots=True)
class _Asked:
    """The expressions of some rules over one criterion."""

    patterns: dict[str, re.Pattern[str]]
    quick: frozenset[str]
    """The expressions for which a search takes long only in a very long text."""
    at_once: int
    """The longest text, in characters, in which all expressions are searched for without a helper."""


@dataclass(slots=True)
class _Exceeded:
    """A process in whose texts a search has exceeded the budget. These expressions aren't searched for again until the
    process executes another program."""

    starttime: int
    exe: str | None
    read_ns: int
    sources: frozenset[str] = field(default=frozenset())
    """The expressions."""


class Searches:
    """The searches of one set of rules, and their results so far. Sets of rules are given as bits."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self.keys = tuple({c.key for rule in rules for c in _criteria(rule) if any(p.regex for p in c.patterns)})
        """The keys of criteria with regular expressions or globs."""
        self._asked: dict[tuple[str, int], _Asked] = {}
        self._memo: dict[_Key, bytes] = {}
        self._hopeless: set[_Key] = set()
        """Texts for which a helper has not answered: a search in them takes too long."""
        self._distrusted: set[str] = set()
        """Keys of criteria for which a try has exceeded its time. No more tries are made for these."""
        self._exceeded: dict[int, _Exceeded] = {}
        self._news: list[tuple[int, str]] = []

    def prepare(self, key: str, bits: int, text: str, skip: frozenset[str] = frozenset()) -> str:
        """The text to compare with criterion `key`. It is `text` if the searches of the rules `bits` can't take long in
        it; else a Searched, which has their results. `skip`: expressions that aren't searched for, because they have
        exceeded their budget. Raises NotYet."""
        asked = self._asked.get((key, bits)) or self._ask(key, bits)
        if len(text) <= asked.at_once or isinstance(text, Searched):
            return text
        # The hash stands for the text, which may be long. No user can foresee it.
        memo_key = (key, bits, hash(text), len(text), skip)
        found = self._memo.get(memo_key)
        sources = [source for source in asked.patterns if source not in skip]
        if found is None and len(text) <= _TRIED_CHARACTERS and key not in self._distrusted:
            found = self._try(key, [asked.patterns[source] for source in sources], text)
        if found is None and sources:
            raise self._not_yet(asked, memo_key, sources, text)
        searched = Searched(text)
        searched.found = dict.fromkeys(skip, OVERDUE) | dict(zip(sources, found or b"", strict=True))
        return searched

    def _ask(self, key: str, bits: int) -> _Asked:
        if len(self._asked) >= _ASKED_LIMIT:
            self._asked.clear()
        rules = [rule for number, rule in enumerate(self._rules) if bits >> number & 1]
        asked = _asked(p for rule in rules for c in _criteria(rule) if c.key == key for p in c.patterns)
        self._asked[key, bits] = asked
        return asked

    def _try(self, key: str, patterns: Sequence[re.Pattern[str]], text: str) -> bytes | None:
        try:
            with Limit(_TRIED_SECONDS):
                return bytes(pattern.search(text) is not None for pattern in patterns)
        except Overdue:
            self._distrusted.add(key)
            return None

    def _not_yet(self, asked: _Asked, memo_key: _Key, wanted: Sequence[str], text: str) -> NotYet:
        raw = text.encode("utf-8", "surrogateescape")
        sources = [source for source in wanted if memo_key not in self._hopeless or source in asked.quick]

        def learn(answer: object) -> None:
            if isinstance(answer, bytes) and len(answer) == len(sources):
                found = dict(zip(sources, answer, strict=True))
                self._remember(memo_key, bytes(found.get(source, OVERDUE) for source in wanted))
            elif memo_key in self._hopeless:
                self._remember(memo_key, bytes([OVERDUE]) * len(wanted))
            else:
                self._hopeless.add(memo_key)  # next time, only the quick expressions are searched for

        return NotYet(search, (sources, raw), learn)

    def _remember(self, memo_key: _Key, found: bytes) -> None:
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
            self._hopeless.clear()
        self._memo[memo_key] = found

    def exceeded_by(self, process: Process) -> frozenset[str]:
        """The expressions whose budget the process has exceeded."""
        known = self._exceeded.get(process.pid)
        if known is None:
            return frozenset()
        if (known.starttime, known.exe) != (process.starttime, process.exe):
            del self._exceeded[process.pid]
            return frozenset()
        return known.sources

    def note_exceeded(self, process: Process, text: str) -> None:
        """Remember the expressions whose searches in `text`, a text of `process`, have exceeded the budget."""
        if not isinstance(text, Searched):
            return
        sources = frozenset(source for source, found in text.found.items() if found == OVERDUE)
        known = self.exceeded_by(process)
        new = sources - known
        if not new:
            return
        if len(self._exceeded) >= _EXCEEDED_LIMIT:
            del self._exceeded[next(iter(self._exceeded))]
        self._exceeded[process.pid] = _Exceeded(process.starttime, process.exe, process.read_ns, sources | known)
        if len(self._news) < _EXCEEDED_LIMIT:
            self._news += [(process.pid, source) for source in sorted(new)]

    def executed(self, pid: int, event_ns: int) -> None:
        """Note that `pid` has executed another program at `event_ns` (CLOCK_MONOTONIC): forget the budgets that it
        exceeded before."""
        known = self._exceeded.get(pid)
        if known is not None and known.read_ns < event_ns:
            del self._exceeded[pid]

    def take_news(self) -> list[tuple[int, str]]:
        """The processes that have exceeded a budget since the last call: pairs of the PID and the name of the rule."""
        taken, self._news = self._news, []
        return [
            (pid, rule.name)
            for pid, source in taken
            for rule in self._rules
            if rule.enabled
            and any(p.regex is not None and p.regex.pattern == source for c in _criteria(rule) for p in c.patterns)
        ]


def _criteria(rule: Rule) -> tuple[Criterion, ...]:
    return (*rule.criteria, *rule.excluded) if rule.enabled else ()


def _asked(patterns: Iterable[Pattern]) -> _Asked:
    searched = [pattern for pattern in patterns if pattern.regex is not None]
    compiled = {p.regex.pattern: p.regex for p in searched if p.regex is not None}
    globs = {p.regex.pattern for p in searched if p.regex is not None and p.is_glob}
    # In the expression that fnmatch makes of a glob, no star is tried in a second way.
    shapes = {source: Shape() if source in globs else shape(source) for source in compiled}
    quick = frozenset(s for s, each in shapes.items() if not (each.repeats or each.options or each.nested))
    return _Asked(compiled, quick, longest_within(list(shapes.values()), _AT_ONCE_SECONDS))
