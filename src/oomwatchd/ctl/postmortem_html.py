"""The page that `oomwatchctl postmortem --html FILE` writes: a summary, a timeline with a filter, and each event with
advice, its table and its original text.

The page is one file, which loads nothing and runs nothing: the filter is done with style sheets. Logs may be hostile,
so every text goes through `html.escape`. Events are written as they are read; the head is known only at the end, and is
put before them."""

import html
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from oomwatchd.base.text import printable
from oomwatchd.ctl.pieces import Pieces
from oomwatchd.ctl.postmortem_text import figures, request, when, whose, why
from oomwatchd.ctl.timeline import KINDS, Mark, kind_of, timeline
from oomwatchd.oomlog import replay, sentences
from oomwatchd.oomlog.advice import Advice
from oomwatchd.oomlog.amounts import size
from oomwatchd.oomlog.history import History
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.under_rules import Rules

# More marks than this can't be told apart. The other kills are only counted.
MARKS = 2000
ROWS = 1000
_HOSTS = 20
_NAMED = 8

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --dim: #5f6368; --bar: #1d6fa5; --dead: #b3101c; --do: #8886 }
@media (prefers-color-scheme: dark) { :root { --dim: #a8adb3; --bar: #6cb2e0; --dead: #ff8a8f } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .6rem } h2 { font-size: 1.1rem; margin: 0 0 .5rem; overflow-wrap: anywhere }
section { border-top: 1px solid var(--line); padding: 1.2rem 0 }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem; margin: 0 }
dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere }
dd.killed { color: var(--dead); font-weight: 600 }
ul.do { margin: 0; padding: .3rem .8rem .3rem 1.6rem; border-left: 3px solid var(--bar) }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin-top: .8rem; font-variant-numeric: tabular-nums }
th { text-align: right; font-weight: 600; border-bottom: 1px solid var(--line) }
td, th { padding: .1rem .6rem; white-space: nowrap } td { text-align: right }
td.name, th.name { text-align: left; white-space: pre }
tr.dead { color: var(--dead); font-weight: 600 } td.bar { width: 12rem; text-align: left }
td.bar span { display: block; height: .7em; background: var(--bar) } tr.dead td.bar span { background: var(--dead) }
summary { cursor: pointer; margin-top: .6rem; color: var(--dim) }
pre { overflow-x: auto; font-size: 12px; line-height: 1.35; border: 1px solid var(--line); padding: .6rem }
svg { width: 100%; height: auto } svg text { fill: currentColor; font-size: 12px }
.filter { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .6rem 0 }
.filter label { display: inline-flex; align-items: center; gap: .35rem; padding: .2rem 0 }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 50% }
.note { color: var(--dim) }
input.box { position: absolute; left: -99rem }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr; gap: 0 } dt { margin-top: .4rem } svg text { font-size: 24px }
}
"""


@dataclass(slots=True)
class _Found:
    """Facts for the head of the page. They are known only when all kills have been read."""

    history: History = field(default_factory=History)
    marks: list[Mark] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    hosts: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, None] = field(default_factory=dict)


def write_page(path: str, kills: Iterable[tuple[OomKill, tuple[Advice, ...]]], rules: Rules | None, log: str) -> None:
    """Write the page to `path`. `log`: the names of the logs, for the head of the page. The file appears under its name
    only when it is complete. Raises OSError."""
    found = _Found()
    with Pieces() as sections:
        for kill, advice in kills:
            _take(found, kill)
            sections.add(_section(found.history.kills, kill, advice, rules))
        directory = os.path.dirname(os.path.abspath(path))
        with tempfile.NamedTemporaryFile(
            "w", dir=directory, delete=False, encoding="utf-8", errors="backslashreplace"
        ) as out:
            try:
                out.write(_head(found, log))
                for section in sections.read():
                    out.write(section)
                out.write("</main></body></html>\n")
                out.flush()
                os.chmod(out.name, 0o644 & ~_umask())
                os.replace(out.name, path)
            except BaseException:
                os.unlink(out.name)
                raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _take(found: _Found, kill: OomKill) -> None:
    found.history.take(kill)
    kind = kind_of(kill)
    found.kinds[kind] += 1
    if len(found.marks) < MARKS:
        label = f"{when(kill)}: {sentences.outcome(kill)}; {sentences.headline(kill)}"
        found.marks.append(Mark(kill.time, kind, label))
    for names, name in ((found.hosts, kill.host), (found.kernels, kill.kernel)):
        if name is not None and len(names) < _HOSTS:
            names[name] = None


def _head(found: _Found, log: str) -> str:
    history = found.history
    count = f"{history.kills} OOM {'kill' if history.kills == 1 else 'kills'}"
    hosts = ", ".join(printable(host) for host in found.hosts)
    facts = [("host", hosts), ("log", printable(log)), ("period", _period(history))]
    facts.append(("kernel", ", ".join(printable(kernel) for kernel in found.kernels)))
    facts += [
        (label, _most(counts))
        for label, counts in (("killed", history.victims), ("in", history.places), ("by", history.killers))
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts if text)
    hidden = "".join(f"#f-{kind}:not(:checked) ~ main .k-{kind} {{ display: none }}\n" for kind in found.kinds)
    boxes = "".join(f'<input class="box" type="checkbox" id="f-{kind}" checked>' for kind in found.kinds)
    style = f"{_STYLE}{hidden}.filter label {{ cursor: pointer }}\n" + "".join(
        f"#f-{kind}:not(:checked) ~ main label[for=f-{kind}] {{ opacity: .4; text-decoration: line-through }}\n"
        f"#f-{kind}:focus-visible ~ main label[for=f-{kind}] {{ outline: 2px solid }}\n"
        for kind in found.kinds
    )
    title = f"OOM kills{f' on {hosts}' if hosts else ''}"
    more = ""
    if history.kills > len(found.marks):
        more = f'<p class="note">The timeline shows the first {len(found.marks)}.</p>\n'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style></head><body>\n{boxes}<main>\n"
        f"<h1>{count}</h1>\n<dl>{rows}</dl>\n"
        + (timeline(found.marks) + _filter(found.kinds) + more if found.marks else "")
    )


def _filter(kinds: Counter[str]) -> str:
    labels = "".join(
        f'<label for="f-{kind}"><span class="swatch" style="background:{KINDS[kind][0]}"></span>'
        f"{html.escape(KINDS[kind][1])} ({count})</label>"
        for kind, count in kinds.items()
    )
    hint = '<p class="note">Choose a kind to hide or show it.</p>' if len(kinds) > 1 else ""
    return f'<div class="filter">{labels}</div>{hint}\n'


def _period(history: History) -> str:
    ends = [
        f"{end:.0f} s after boot" if isinstance(end, float) else (end or "") for end in (history.first, history.last)
    ]
    first, last = (end[:19].replace("T", " ") for end in ends)
    return first if first == last else f"{first} to {last}"


def _end(time: str | float | None) -> str:
    return f"{time:.0f} s after boot" if isinstance(time, float) else (time or "")[:19].replace("T", " ")


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{printable(name)} ({count})" for name, count in counts.most_common(_NAMED))


def _section(number: int, kill: OomKill, advice: Iterable[Advice], rules: Rules | None) -> str:
    ranked = replay.rank(kill)
    again = replay.replay(kill, ranked)
    asked = kill.invoker
    kind = kind_of(kill)
    rows = [f'<dt>killed</dt><dd class="killed">{html.escape(sentences.outcome(kill))}</dd>']
    facts: list[tuple[str, str]] = []
    if kill.victim is not None:
        facts.append(("", figures(kill)))
    facts.append(("also", ", ".join(sentences.named(one) for one in sentences.also_killed(kill)[:ROWS])))
    facts.append(("of", whose(kill)))
    facts.append(("why", " ".join(why(kill, ranked, again))))
    rows += [_fact(name, text) for name, text in facts if text]
    items = "".join(f"<li>{html.escape(one.message)}</li>" for one in advice)
    if items:
        rows.append(f'<dt>what to do</dt><dd><ul class="do">{items}</ul></dd>')
    facts = []
    if asked.comm is not None or asked.pid is not None:
        facts.append(("asked", ", ".join([sentences.asker(kill), *request(kill)])))
    facts.append(("memory", sentences.memory_picture(kill) or ""))
    if kill.killer == "kernel":
        facts.append(("replay", sentences.verdict(again)))
    if rules is not None:
        facts.append(("rules", "; ".join(sentences.under_rules(kill, rules.outlook(kill)))))
    facts.append(("kernel", printable(kill.kernel or "")))
    facts.append(("log", printable(kill.file or "")))
    rows += [_fact(name, text) for name, text in facts if text]
    host = f", {kill.host}" if kill.host else ""
    title = html.escape(printable(f"{when(kill)}{host}: {sentences.headline(kill)}"))
    swatch = f'<span class="swatch" style="background:{KINDS[kind][0]}"></span>'
    return (
        f'<section id="k{number}" class="k-{kind}"><h2>{swatch} {title}</h2><dl>{"".join(rows)}</dl>'
        f"{_table(kill, ranked)}{_original(kill)}</section>\n"
    )


def _fact(name: str, text: str) -> str:
    return f"<dt>{name}</dt><dd>{html.escape(text)}</dd>"


def _original(kill: OomKill) -> str:
    if not kill.original:
        return ""
    text = html.escape("\n".join(printable(line) for line in kill.original))
    return f"<details><summary>Original text</summary><pre>{text}</pre></details>"


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
            *("" if kb is None else size(kb) for kb in _sizes(one, kill.page_kb)),
            "" if task.oom_score_adj is None else task.oom_score_adj,
        )
        rows.append(
            f"<tr{' class=dead' if task.pid in dead else ''}>{''.join(f'<td>{cell}</td>' for cell in cells)}"
            f'<td class=bar><span style="width:{share:.1f}%"></span></td>'
            f"<td class=name>{html.escape(printable(task.comm or '?'))}</td></tr>"
        )
    more = f'<p class="note">… and {len(ranked) - ROWS} more</p>' if len(ranked) > ROWS else ""
    opened = " open" if len(ranked) <= 12 else ""
    tasks = f"{len(ranked)} {'task' if len(ranked) == 1 else 'tasks'}"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        f"<details{opened}><summary>{tasks} in the order of the kernel's choice</summary>"
        f'<div class=scroll tabindex="0">{table}</div>{more}</details>'
    )


def _sizes(one: replay.Ranked, page_kb: int) -> tuple[int, int | None, int | None]:
    task = one.task
    swap = None if task.swapents is None else task.swapents * page_kb
    return task.rss * page_kb, swap, None if task.pgtables_bytes is None else task.pgtables_bytes // 1024
