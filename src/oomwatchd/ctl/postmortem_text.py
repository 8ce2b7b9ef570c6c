"""The output of `oomwatchctl postmortem` for people: one OOM event, and a summary of several."""

from collections import Counter
from collections.abc import Iterable

from oomwatchd.base.text import printable
from oomwatchd.ctl.table import BOLD, DIM, RED, YELLOW, colour, table_lines
from oomwatchd.oomlog import gfp, replay, sentences
from oomwatchd.oomlog.advice import Advice
from oomwatchd.oomlog.amounts import labelled, size
from oomwatchd.oomlog.history import History
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.under_rules import Rules

# The number of rows that are shown to people. JSON has all.
SHOWN = 10
BAR = 24
_NAMED = 5


def summary(history: History) -> list[str]:
    """Lines about all kills: how many there are, when, of whom, where, and by whom. Empty for fewer than two kills."""
    if history.kills < 2:
        return []
    said = [colour(f"{history.kills} OOM kills, {_period(history)}", BOLD)]
    for label, counts in (("of", history.victims), ("in", history.places), ("by", history.killers)):
        if counts and (label != "by" or set(counts) != {"kernel"}):
            said.append(_line(label, _most(counts)))
    return said


def _period(history: History) -> str:
    if history.first is None or history.last is None:
        return "at unknown times"
    return f"from {_time(history.first)} to {_time(history.last)}"


def _most(counts: Counter[str]) -> str:
    named = [f"{printable(name)} ({count})" for name, count in counts.most_common(_NAMED)]
    more = len(counts) - len(named)
    return ", ".join(named) + (f", and {more} more" if more > 0 else "")


def describe(
    kill: OomKill, advice: Iterable[Advice], rules: Rules | None, *, legend: bool, show_file: bool = False
) -> list[str]:
    """Lines about one event: its time and kind, who died, why, what to do; then who asked for memory, the state of
    memory, and the table. With `rules`, also whom the kernel would have taken under these rules."""
    ranked = replay.rank(kill)
    again = replay.replay(kill, ranked)
    kernel = f" (Linux {printable(kill.kernel)})" if kill.kernel else ""
    host = f", {printable(kill.host)}" if kill.host else ""
    said = [colour(f"{when(kill)}{host}: {sentences.headline(kill)}{kernel}", BOLD)]
    said.append(_line("killed", colour(sentences.outcome(kill), RED)))
    if kill.victim is not None:
        said.append(_line("", figures(kill)))
    said += [_line("also", sentences.named(killed)) for killed in sentences.also_killed(kill)[:SHOWN]]
    if kill.unit is not None or kill.container is not None:
        said.append(_line("of", whose(kill)))
    said += _lines("why", why(kill, ranked, again))
    said += _lines("do", (colour(one.message, YELLOW) for one in advice))
    asked = kill.invoker
    if asked.comm is not None or asked.pid is not None:
        said.append(_line("asked", ", ".join([sentences.asker(kill), *request(kill)])))
    memory = sentences.memory_picture(kill)
    if memory is not None:
        said.append(_line("memory", memory))
    if rules is not None:
        said.append(_line("replay", sentences.verdict(again)))
        said += _lines("rules", sentences.under_rules(kill, rules.outlook(kill)))
    if show_file and kill.file is not None:
        said.append(_line("log", printable(kill.file)))
    return said + (_table(kill, ranked, legend=legend) if ranked else [])


def why(kill: OomKill, ranked: list[replay.Ranked], again: replay.ReplayedChoice | None) -> list[str]:
    """Why this process was chosen, in sentences."""
    if kill.killer == "kernel":
        return sentences.reasons(kill, ranked, again)
    return [] if kill.trigger is None else [printable(kill.trigger)]


def whose(kill: OomKill) -> str:
    """The unit and the container of the victim, in words."""
    parts = [] if kill.unit is None else [f"unit {printable(kill.unit)}"]
    return ", ".join(parts + ([] if kill.container is None else [f"container {printable(kill.container)}"]))


def when(kill: OomKill) -> str:
    """The time of the event, for people."""
    return "At an unknown time" if kill.time is None else _time(kill.time)


def _time(time: str | float) -> str:
    return f"{time:.6f} s after boot" if isinstance(time, float) else time.replace("T", " ")


def _line(label: str, text: str) -> str:
    return f"  {label:7} {text}"


def _lines(label: str, texts: Iterable[str]) -> list[str]:
    return [_line("" if index else label, text) for index, text in enumerate(texts)]


def figures(kill: OomKill) -> str:
    """The figures of the victim, in words."""
    victim = kill.victim
    assert victim is not None
    parts = [] if victim.uid is None else [f"uid {victim.uid}"]
    if victim.uid is None and kill.victim_uid is not None:
        parts.append(f"uid {kill.victim_uid[0]} (by the {kill.victim_uid[1]})")
    parts += labelled(
        ("anon", victim.anon_rss_kb),
        ("file", victim.file_rss_kb),
        ("shmem", victim.shmem_rss_kb),
        ("page tables", victim.pgtables_kb),
        ("virtual", victim.total_vm_kb),
    )
    if victim.oom_score_adj is not None:
        parts.append(f"oom_score_adj {victim.oom_score_adj}")
    if kill.task_memcg is not None:
        parts.append(f"in {printable(kill.task_memcg)}")
    return ", ".join(parts) or "the log has no figures"


def request(kill: OomKill) -> list[str]:
    """The allocation that failed, in words: its size, gfp_mask, and the asker's oom_score_adj."""
    asked = kill.invoker
    parts = []
    if asked.order is not None and asked.order >= 0:
        amount = size(kill.page_kb << min(asked.order, 20))
        parts.append(f"for {amount} in one piece (order {asked.order})")
    if asked.gfp_mask is not None:
        words = gfp.in_words(asked.gfp_mask, asked.gfp_words, kill.kernel)
        purpose = gfp.purpose(words, asked.gfp_mask)
        said = ": ".join(part for part in (words, purpose) if part is not None)
        parts.append(f"gfp_mask {asked.gfp_mask}" + (f" ({said})" if said else ""))
    if asked.oom_score_adj is not None:
        parts.append(f"oom_score_adj {asked.oom_score_adj}")
    return parts


def _table(kill: OomKill, ranked: list[replay.Ranked], *, legend: bool) -> list[str]:
    dead = {one.pid for one in (kill.victim, *kill.also_killed) if one is not None}
    highest = max((one.points for one in ranked if one.points is not None), default=0)
    rows: list[list[object]] = []
    for number, one in enumerate(ranked, 1):
        if number > SHOWN and one.task.pid not in dead:
            continue
        if len(rows) > 2 * SHOWN:
            break
        task = one.task
        rows.append(
            [
                "†" if task.pid in dead else "",
                number,
                task.pid,
                task.uid,
                "never" if one.points is None else one.points,
                _mib(task.rss, kill.page_kb),
                _mib(task.swapents, kill.page_kb),
                task.oom_score_adj,
                _bar(one.points, highest),
                "?" if task.comm is None else task.comm,
            ]
        )
    columns = ("", "rank", "pid", "uid", "badness", "rss", "swap", "adj", "", "comm")
    said = table_lines(columns, rows, legend=legend, right=frozenset(range(1, 8)))
    if len(rows) < len(ranked):
        said.append(colour(f"… and {len(ranked) - len(rows)} more", DIM))
    return said


def _mib(pages: int | None, page_kb: int) -> str | None:
    return None if pages is None else f"{pages * page_kb / 1024:.1f}M"


def _bar(points: int | None, highest: int) -> str:
    if points is None or points <= 0 or highest <= 0:
        return ""
    return "█" * max(1, round(BAR * points / highest))
