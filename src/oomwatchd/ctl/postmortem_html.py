"""The page that `oomwatchctl postmortem --html FILE` writes: a timeline of the kills, and each with its table.

One file that loads nothing. The kills are written as they come, below a timeline that is only known at the end: until
then the sections wait in an unnamed file.
"""

import html
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType

from oomwatchd.base.text import printable
from oomwatchd.ctl.postmortem import figures, request, when
from oomwatchd.oomlog import advice, replay
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.what_if import Rules

# More marks than this are a blur; the rest are counted.
MARKS = 2000
ROWS = 1000
WIDTH, HEIGHT, MARGIN = 1000, 120, 30

# Colours that differ in lightness too, and a shape for each scope.
SCOPES = {
    "global": ("#c1121f", "the machine"),
    "memcg": ("#1d6fa5", "a memory cgroup"),
    "cpuset": ("#7a5195", "a cpuset"),
    "mempolicy": ("#a05d00", "a memory policy"),
    "sysrq": ("#2f7d32", "sysrq-f"),
    "unknown": ("#707070", "unknown"),
}

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>OOM kills</title>
<style>
:root { color-scheme: light dark; --line: #8886; --dim: #707070; --bar: #1d6fa5; --dead: #c1121f }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 0 0 .4rem }
section { border-top: 1px solid var(--line); padding: 1.2rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 }
dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin-top: .8rem; font-variant-numeric: tabular-nums }
th { text-align: right; font-weight: 600; border-bottom: 1px solid var(--line) }
td, th { padding: .1rem .6rem; white-space: nowrap } td { text-align: right }
td.name, th.name { text-align: left; white-space: pre }
tr.dead { color: var(--dead); font-weight: 600 } td.bar { width: 12rem; text-align: left }
td.bar span { display: block; height: .7em; background: var(--bar) } tr.dead td.bar span { background: var(--dead) }
summary { cursor: pointer; margin-top: .6rem; color: var(--dim) }
svg { width: 100%; height: auto } svg text { fill: currentColor; font-size: 12px }
.key span { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin: 0 .3em 0 1em }
.note { color: var(--dim) }
</style></head><body>
"""


class Page:
    """The page in the making. It appears under its name when it is whole, or not at all."""

    def __init__(self, path: str, rules: Rules | None) -> None:
        self.path = path
        self.rules = rules
        self.count = 0
        self._marks: list[tuple[str | float | None, str, str]] = []
        self._sections = tempfile.TemporaryFile(  # noqa: SIM115 (closed by __exit__)
            "w+", encoding="utf-8", errors="backslashreplace"
        )

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._sections:
            if kind is None:
                self._write()

    def through(self, kills: Iterable[OomKill]) -> Iterator[OomKill]:
        """Note each kill and hand it on."""
        for kill in kills:
            self.count += 1
            if len(self._marks) < MARKS:
                label = f"{when(kill)}: {advice.outcome(kill)}; {advice.headline(kill)}"
                self._marks.append((kill.time, kill.scope or "unknown", label))
            self._sections.write(_section(self.count, kill, self.rules))
            yield kill

    def _write(self) -> None:
        directory = os.path.dirname(os.path.abspath(self.path))
        with tempfile.NamedTemporaryFile(
            "w", dir=directory, delete=False, encoding="utf-8", errors="backslashreplace"
        ) as out:
            out.write(_HEAD)
            out.write(f"<h1>{self.count} OOM {'kill' if self.count == 1 else 'kills'}</h1>\n")
            if self._marks:
                out.write(timeline(self._marks))
            if self.count > len(self._marks):
                out.write(f'<p class="note">The timeline shows the first {len(self._marks)}.</p>\n')
            self._sections.seek(0)
            shutil.copyfileobj(self._sections, out)
            out.write("</body></html>\n")
        os.chmod(out.name, 0o644 & ~_umask())
        os.replace(out.name, self.path)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def timeline(marks: list[tuple[str | float | None, str, str]]) -> str:
    """The kills along time, or one after the other where not all have a time of one kind."""
    seconds = [_seconds(time) for time, _, _ in marks]
    kinds = {type(time) for time, _, _ in marks}
    timed = len(kinds) == 1 and None not in seconds
    places = [second or 0.0 for second in seconds] if timed else [float(n) for n in range(len(marks))]
    first, last = min(places), max(places)
    span = (last - first) or 1.0
    dots = []
    stacked: dict[int, int] = {}
    for number, ((_, scope, label), place) in enumerate(zip(marks, places, strict=True), 1):
        x = MARGIN + (WIDTH - 2 * MARGIN) * (place - first) / span if last > first else WIDTH / 2
        level = stacked.get(round(x / 8), 0)
        stacked[round(x / 8)] = level + 1
        y = HEIGHT - 38 - min(level, 6) * 11
        dots.append(
            f'<a href="#k{number}"><circle cx="{x:.1f}" cy="{y}" r="5" fill="{SCOPES[scope][0]}">'
            f"<title>{html.escape(label)}</title></circle></a>"
        )
    ends = [_label(marks[places.index(place)][0]) if timed else "" for place in (first, last)]
    y = HEIGHT - 28
    axis = f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y}" y2="{y}" stroke="currentColor" stroke-opacity=".4"/>'
    if last > first:
        axis += f'<text x="{MARGIN}" y="{HEIGHT - 8}">{ends[0]}</text>'
        axis += f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">{ends[1]}</text>'
    else:
        axis += f'<text x="{WIDTH // 2}" y="{HEIGHT - 8}" text-anchor="middle">{ends[0]}</text>'
    present = {scope for _, scope, _ in marks}
    key = "".join(
        f'<span style="background:{colour}"></span>{name}'
        for scope, (colour, name) in SCOPES.items()
        if scope in present
    )
    how = "" if timed else '<p class="note">In the order of the log: not all have a time that compares.</p>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Timeline of OOM kills">{axis}{"".join(dots)}</svg>'
        f'<p class="key">Out of memory:{key}</p>{how}\n'
    )


def _seconds(time: str | float | None) -> float | None:
    if not isinstance(time, str):
        return time
    moment = datetime.fromisoformat(time)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _label(time: str | float | None) -> str:
    return f"{time:.0f} s after boot" if isinstance(time, float) else (time or "")[:19].replace("T", " ")


def _section(number: int, kill: OomKill, rules: Rules | None) -> str:
    ranked = replay.rank(kill)
    again = replay.replay(kill, ranked)
    asked = kill.invoker
    facts: list[tuple[str, str]] = [("killed", advice.outcome(kill))]
    if kill.victim is not None:
        facts.append(("", figures(kill)))
    facts.append(("also", ", ".join(advice.named(one) for one in advice.also_killed(kill)[:ROWS])))
    if asked.comm is not None or asked.pid is not None:
        facts.append(("asked", ", ".join([advice.asker(kill), *request(kill)])))
    facts.append(("memory", advice.memory_picture(kill) or ""))
    facts.append(("why", " ".join(advice.reasons(kill, ranked, again))))
    facts.append(("replay", advice.verdict(again)))
    if rules is not None:
        facts.append(("rules", "; ".join(advice.under_rules(kill, rules.outlook(kill)))))
    facts.append(("kernel", printable(kill.kernel or "")))
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts if text)
    colour = SCOPES[kill.scope or "unknown"][0]
    title = html.escape(f"{when(kill)}: {advice.headline(kill)}")
    head = f'<h2 style="color:{colour}">{title}</h2>'
    return f'<section id="k{number}">{head}<dl>{rows}</dl>{_table(kill, ranked)}</section>\n'


def _table(kill: OomKill, ranked: list[replay.Ranked]) -> str:
    if not ranked:
        return ""
    dead = {one.pid for one in (kill.victim, *kill.also_killed) if one is not None}
    highest = max((one.points for one in ranked if one.points is not None), default=0)
    head = "".join(
        f"<th{' class=name' if name == 'name' else ''}>{name}</th>"
        for name in ("rank", "pid", "uid", "badness", "rss", "swap", "page tables", "oom_score_adj", "", "name")
    )
    rows = []
    for number, one in enumerate(ranked[:ROWS], 1):
        task = one.task
        share = 0 if one.points is None or highest <= 0 else max(0, 100 * one.points / highest)
        cells = (
            number,
            task.pid,
            task.uid,
            "never" if one.points is None else one.points,
            *("" if kb is None else advice.size(kb) for kb in _sizes(one)),
            "" if task.oom_score_adj is None else task.oom_score_adj,
        )
        rows.append(
            f"<tr{' class=dead' if task.pid in dead else ''}>{''.join(f'<td>{cell}</td>' for cell in cells)}"
            f'<td class=bar><span style="width:{share:.1f}%"></span></td>'
            f"<td class=name>{html.escape(printable(task.comm))}</td></tr>"
        )
    more = f'<p class="note">… and {len(ranked) - ROWS} more</p>' if len(ranked) > ROWS else ""
    opened = " open" if len(ranked) <= 12 else ""
    tasks = f"{len(ranked)} {'task' if len(ranked) == 1 else 'tasks'}"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        f"<details{opened}><summary>{tasks} in the order of the kernel's choice</summary>"
        f"<div class=scroll>{table}</div>{more}</details>"
    )


def _sizes(one: replay.Ranked) -> tuple[int, int | None, int | None]:
    task = one.task
    page = replay.PAGE_KB
    swap = None if task.swapents is None else task.swapents * page
    return task.rss * page, swap, None if task.pgtables_bytes is None else task.pgtables_bytes // 1024
