"""Counts what several OOM events have in common: who died how often, and whether it had grown each time. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from oomwatchd.oomlog.record import OomKill

# A limit is needed, since names can be anything, so that there may be as many names as kills.
_NAMES_MAX = 10_000
_GROWN = 1.05


@dataclass(frozen=True, slots=True)
class Growth:
    """A name whose last `count` victims were each larger than the one before. `first_kb`, `last_kb`: anonymous memory
    of the first and the last of these. `since`: the time of the first, as in `OomKill`."""

    comm: str
    count: int
    first_kb: int
    last_kb: int
    since: str | float | None


@dataclass(slots=True)
class _Run:
    count: int
    first_kb: int
    last_kb: int
    since: str | float | None


@dataclass(slots=True)
class History:
    """Counts of OOM events. take() wants them in the order of time."""

    kills: int = 0
    victims: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    killers: Counter[str] = field(default_factory=Counter)
    first: str | float | None = None
    last: str | float | None = None
    _runs: dict[tuple[str | None, str], _Run] = field(default_factory=dict)

    def take(self, kill: OomKill) -> Growth | None:
        """Count the event in. Returns how the victim's name has grown, from the third such kill on."""
        self.kills += 1
        self.killers[kill.killer] += 1
        self._time(kill.time)
        place = kill.unit or kill.memcg or kill.task_memcg or ("the machine" if kill.scope == "global" else None)
        if place is not None and (place in self.places or len(self.places) < _NAMES_MAX):
            self.places[place] += 1
        if kill.victim is None:
            return None
        comm = kill.victim.comm
        if comm is None:
            return None
        if comm in self.victims or len(self.victims) < _NAMES_MAX:
            self.victims[comm] += 1
        return self._growth(kill, comm)

    def _time(self, time: str | float | None) -> None:
        """Note the time of an event. Once an event has a date, times in seconds since boot are ignored."""
        if time is None or (isinstance(time, float) and isinstance(self.last, str)):
            return
        if self.first is None or (isinstance(self.first, float) and isinstance(time, str)):
            self.first = time
        self.last = time

    def _growth(self, kill: OomKill, comm: str) -> Growth | None:
        victim = kill.victim
        if victim is None or victim.anon_rss_kb is None or victim.anon_rss_kb <= 0:
            return None
        key, kb = (kill.host, comm), victim.anon_rss_kb
        run = self._runs.get(key)
        if run is None or kb < run.last_kb * _GROWN:
            if run is not None or len(self._runs) < _NAMES_MAX:
                self._runs[key] = _Run(1, kb, kb, kill.time)
            return None
        run.count, run.last_kb = run.count + 1, kb
        return Growth(comm, run.count, run.first_kb, kb, run.since) if run.count >= 3 else None
