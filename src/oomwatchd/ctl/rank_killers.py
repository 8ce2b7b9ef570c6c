"""The killers in the order in which they would act, for `oomwatchctl rank`: as JSON and as a table."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from oomwatchd.base.text import decode, printable
from oomwatchd.ctl.table import print_table, wrap
from oomwatchd.kernel.hidepid import hides_processes
from oomwatchd.oom.killers.killer_facts import Reader, Roots
from oomwatchd.oom.killers.model import HEEDS, Condition, Killer, Victim, in_order
from oomwatchd.oom.survey import Survey

_SECOND = 1.0
_MOST_ROWS = 10


def assess_killers(
    survey: Survey, roots: Roots, others: Mapping[int, int] | None = None
) -> tuple[list[Killer], list[Killer] | None]:
    """The killers in the order in which they would act now. Also the killers under other values of oom_score_adj, if
    `others` has such values by PID. It takes a second where there is memory pressure, since the cgroups must be read
    twice to show where the kernel reclaims."""
    reader = Reader(roots, survey.processes, survey.era, lambda: time.sleep(_SECOND))
    hidden = survey.refused > 0 or (os.geteuid() != 0 and hides_processes(roots.proc))
    today = reader.killers(survey.machine, survey.values)
    then = None if others is None else reader.killers(survey.machine, others)
    if hidden:
        today, then = _doubted(today), None if then is None else _doubted(then)
    return in_order(today), None if then is None else in_order(then)


def _doubted(killers: list[Killer]) -> list[Killer]:
    """The killers, with a doubt added to each victim since some processes can't be read."""
    doubt = "Some processes can't be seen from here, and one of them may be the one; run rank as root."
    return [
        replace(killer, conditions=tuple(replace(t, doubts=(*t.doubts, doubt)) for t in killer.conditions))
        for killer in killers
    ]


def killers_as_json(today: Sequence[Killer], then: Sequence[Killer] | None = None) -> list[dict[str, object]]:
    """The value of `killers` in `rank --json`, see oomwatchctl(1)."""
    first = _acts_first(today)
    later = {killer.name: killer for killer in then or ()}
    entries = []
    for killer in today:
        entry = _killer(killer, acts_first=killer is first)
        if then is not None:
            other = later[killer.name]
            condition = other.first
            entry["with"] = {
                "armed": other.armed,
                "victim": None if condition is None else _victim(condition.victim),
                "acts_first": other is _acts_first(then),
                "notes": list(other.notes),
            }
        entries.append(entry)
    return entries


def _acts_first(killers: Sequence[Killer]) -> Killer | None:
    """The killer that acts first: the first one whose distance is known, else the kernel."""
    known = next((killer for killer in killers if killer.distance is not None), None)
    return known or next((killer for killer in killers if killer.name == "kernel" and killer.armed), None)


def _killer(killer: Killer, *, acts_first: bool) -> dict[str, object]:
    first = killer.first
    shown = dict.fromkeys(("trigger", "now", "limit", "unit", "victim")) if first is None else _condition(first)
    return {
        "name": killer.name,
        "present": killer.present,
        "armed": killer.armed,
        **{key: shown[key] for key in ("trigger", "now", "limit", "unit", "victim")},
        "acts_first": acts_first,
        "pid": killer.pid,
        "heeds_oom_score_adj": killer.heeds,
        "clear": first is not None and first.victim is not None and not first.doubts,
        "triggers": [_condition(condition) for condition in killer.conditions],
        "notes": list(killer.notes),
    }


def _condition(condition: Condition) -> dict[str, object]:
    return {
        "trigger": condition.kind,
        "condition": condition.text,
        "cgroup": None if condition.cgroup is None else decode(condition.cgroup),
        "now": None if condition.now is None else round(condition.now, 2),
        "limit": None if condition.limit is None else round(condition.limit, 2),
        "unit": condition.unit,
        "left_kb": condition.distance,
        "victim": _victim(condition.victim),
        "doubts": list(condition.doubts),
        "follows": list(condition.follows),
    }


def _victim(victim: Victim | None) -> dict[str, object] | None:
    if victim is None:
        return None
    return {
        "kind": victim.kind,
        "pid": victim.pid,
        "comm": None if victim.comm is None else decode(victim.comm),
        "cgroup": None if victim.cgroup is None else decode(victim.cgroup),
    }


# --- for people -------------------------------------------------------------------------------------------

_COLUMNS = ("order", "killer", "acts on", "now", "at", "left", "takes")


def print_killers(today: Sequence[Killer], then: Sequence[Killer] | None = None) -> None:
    """Print a table with a row for each condition, in the order in which they would be met, and remarks below."""
    later = {killer.name: killer for killer in then or ()}
    met = [(k, t) for k in today if k.armed for t in k.conditions]
    met.sort(key=lambda pair: (pair[1].distance is None, pair[1].distance or 0, pair[0].name == "kernel"))
    rows = [_row(place, *pair, later) for place, pair in enumerate(met, 1)]
    columns = _COLUMNS if then is None else (*_COLUMNS, "then")
    print_table(columns, rows[:_MOST_ROWS], right=frozenset({0, 3, 4, 5}))
    if len(rows) > _MOST_ROWS:
        print(f"And {len(rows) - _MOST_ROWS} memory cgroups more that are near their limits.")
    for line in (*_states(today), *_remarks(met[:_MOST_ROWS]), *([] if then is None else _changes(today, then))):
        print(wrap(line))
    print()


def _row(place: int, killer: Killer, condition: Condition, later: Mapping[str, Killer]) -> list[object]:
    where = "" if condition.cgroup is None else f" in {printable(condition.cgroup)}"
    row: list[object] = [
        place,
        killer.name,
        f"{condition.kind}{where}",
        _amount(condition.now, condition.unit),
        _amount(condition.limit, condition.unit),
        None if condition.distance is None else _size(condition.distance),
        _name(condition.victim) + ("?" if condition.doubts and condition.victim is not None else ""),
    ]
    if later:
        row.append(_name_then(killer, condition, later[killer.name]))
    return row


def _name_then(killer: Killer, condition: Condition, then: Killer) -> str:
    same = [t for t in then.conditions if (t.kind, t.cgroup) == (condition.kind, condition.cgroup)]
    return _name(same[0].victim) if then.armed and same else "nobody"


def _name(victim: Victim | None) -> str:
    if victim is None:
        return "nobody"
    if victim.kind == "process":
        return f"{printable(victim.comm or b'')} ({victim.pid})"
    return f"all of {printable(victim.cgroup or b'')}"


def _amount(value: float | None, unit: str) -> str | None:
    if value is None:
        return None
    return f"{value:.1f} %" if unit == "percent" else _size(int(value) // 1024)


def _size(kib: int) -> str:
    if kib < 1024:
        return f"{kib}K"
    return f"{kib / 1024:.1f}M" if kib < 1 << 20 else f"{kib / (1 << 20):.1f}G"


def _states(killers: Sequence[Killer]) -> Iterator[str]:
    """Remarks about killers, not about a single condition."""
    for killer in killers:
        for note in killer.notes:
            yield f"{killer.name}: {note}"
    missing = [killer.name for killer in killers if not killer.present]
    if missing:
        yield f"Not running: {', '.join(missing)}."


def _remarks(met: Sequence[tuple[Killer, Condition]]) -> Iterator[str]:
    """Remarks about conditions: why a victim isn't certain (it has a question mark in the table), and what follows the
    kill."""
    said = set()
    for killer, condition in met:
        for text in (*condition.doubts, *condition.follows):
            line = f"{killer.name}, {condition.kind}: {text}"
            if line not in said:
                said.add(line)
                yield line


def _changes(today: Sequence[Killer], then: Sequence[Killer]) -> Iterator[str]:
    """Remarks on killers for which other rules change nothing."""
    for killer in today:
        if killer.present and HEEDS[killer.name] == "no":
            yield f"{killer.name} doesn't look at oom_score_adj: no rule changes whom it takes."
    first, other = _acts_first(today), _acts_first(then)
    if first is not None and other is not None and first.name != other.name:
        yield f"Under these rules {other.name} acts first, and not {first.name}."
