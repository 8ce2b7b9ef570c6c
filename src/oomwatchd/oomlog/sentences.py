"""Tells an OOM event in plain sentences. Pure. Names are made safe to show, and no other text of the log is shown."""

from oomwatchd.base.text import printable
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN
from oomwatchd.oomlog.amounts import held_kb, labelled, size
from oomwatchd.oomlog.record import Killed, OomKill, Task
from oomwatchd.oomlog.replay import Ranked, ReplayedChoice, total_pages
from oomwatchd.oomlog.under_rules import ChoiceUnderRules

# The most members of a list that a sentence names.
MENTIONED = 5


def named(one: Task | Killed) -> str:
    """A process as "java (4242)"; without a name where the log is cut within it."""
    return f"{'unknown name' if one.comm is None else printable(one.comm)} ({one.pid})"


_OF_OTHERS = {
    "earlyoom": "earlyoom found memory low",
    "nohang": "nohang found memory low",
    "oomd": "oomd acted",
}


def headline(kill: OomKill) -> str:
    """What was out of memory, as a clause."""
    if kill.killer == "systemd-oomd":
        where = "memory and swap were" if kill.memcg is None else f"the pressure in {printable(kill.memcg)} was"
        return f"systemd-oomd found that {where} above the limit"
    if kill.killer != "kernel":
        return _OF_OTHERS.get(kill.killer, f"{printable(kill.killer)} acted")
    where = f"memory cgroup {printable(kill.memcg)}" if kill.memcg else "a memory cgroup"
    nodes = f"NUMA node{'' if kill.nodes.isdecimal() else 's'} {kill.nodes}" if kill.nodes else "its NUMA nodes"
    return {
        "global": "the machine was out of memory",
        "memcg": f"{where} was at its limit",
        "cpuset": f"a cpuset was out of memory on {nodes}",
        "mempolicy": f"a memory policy allowed only {nodes}, which had no memory left",
        "sysrq": "sysrq-f asked for an OOM kill",
    }.get(kill.scope or "", "out of memory; the log doesn't say what ran out")


def outcome(kill: OomKill) -> str:
    """Who died, as the object of a sentence."""
    if kill.victim is None and kill.killer != "kernel":
        return f"all processes of {printable(kill.unit or kill.task_memcg or 'a cgroup')}"
    if kill.victim is None:
        if kill.panic is not None:
            return f"nobody; the kernel panicked ({printable(kill.panic)})"
        return "nobody, for nobody could be" if kill.no_killable else "unknown: the log ends before it"
    others = also_killed(kill)
    return named(kill.victim) + (f" and {len(others)} more" if others else "")


def also_killed(kill: OomKill) -> list[Killed]:
    """The processes that died with the victim. The victim itself is left out: with memory.oom.group its line comes a
    second time."""
    pid = None if kill.victim is None else kill.victim.pid
    return [killed for killed in kill.also_killed if killed.pid != pid]


def asker(kill: OomKill) -> str:
    """The process whose allocation failed."""
    name, pid = kill.invoker.comm, kill.invoker.pid
    return f"{printable(name or 'unknown')} ({'pid unknown' if pid is None else pid})"


def verdict(again: ReplayedChoice | None) -> str:
    """Whether the table explains the kernel's choice, as a clause."""
    if again is None:
        return "not possible: the log doesn't hold all that the choice was made from"
    if again.predicted is None:
        return "nobody can be chosen" if again.agrees else "differs: by the table nobody can be chosen"
    who = named(again.predicted)
    return f"agrees: reckoned from the table, the choice is {who}" if again.agrees else f"differs: the table says {who}"


def under_rules(kill: OomKill, outlook: ChoiceUnderRules | None) -> list[str]:
    """Whom the kernel would have taken under the rules, in sentences."""
    if outlook is None:
        return ["not possible: the log doesn't hold all that the choice was made from"]
    who = "nobody, for nobody could be chosen" if outlook.first is None else named(outlook.first)
    if not outlook.changes:
        said = ["the same: no rule changes a value in this table"]
    else:
        same = kill.victim is not None and outlook.first is not None and outlook.first.pid == kill.victim.pid
        said = [f"under the rules the kernel would have taken {who}{', as it did' if same else ''}"]
        said += [
            f"{named(change.task)}: {_adj(change.task)} → {change.oom_score_adj} by rule '{printable(change.rule)}'"
            for change in outlook.changes[:MENTIONED]
        ]
        if len(outlook.changes) > MENTIONED:
            said.append(f"… and {len(outlook.changes) - MENTIONED} more values changed")
    said.append("The log knows names and users alone; exe was taken for the name of its file.")
    if outlook.left_out:
        names = ", ".join(f"'{printable(name)}'" for name in outlook.left_out[:MENTIONED])
        more = f" and {len(outlook.left_out) - MENTIONED} more" if len(outlook.left_out) > MENTIONED else ""
        said.append(f"Left out, for they ask for what isn't in the log: {names}{more}.")
    return said


def reasons(kill: OomKill, ranked: list[Ranked], again: ReplayedChoice | None) -> list[str]:
    """Why the kernel chose this victim, in sentences."""
    said = _choice(kill, ranked, again)
    if kill.group is not None:
        said.append(
            f"memory.oom.group is set on {printable(kill.group)}: "
            "all its processes die with the victim, but those at -1000."
        )
    if kill.truncated:
        said.append("Part of the report is missing from the log.")
    return said


def _choice(kill: OomKill, ranked: list[Ranked], again: ReplayedChoice | None) -> list[str]:
    if kill.victim is None:
        return _nobody(kill)
    if kill.allocating_task:
        return [
            f"vm.oom_kill_allocating_task is set, so {named(kill.victim)} died because it asked for memory, "
            "whatever it held."
        ]
    said = []
    sacrificed = kill.chosen is not None and kill.chosen.pid != kill.victim.pid
    if kill.chosen is not None and sacrificed:
        chosen = f"{printable(kill.chosen.comm)} ({kill.chosen.pid})"
        said.append(
            f"The kernel chose {chosen}, score {kill.chosen.score}; {named(kill.victim)} is its process "
            "or a child sacrificed for it."
        )
    row = next((one for one in ranked if kill.victim.pid in (one.task.pid, one.task.tgid)), None)
    if row is None:
        return said or [_without_table(kill)]
    if again is not None and again.agrees and not sacrificed:
        return [*said, _highest(kill, row, ranked), *_spared(kill, row, ranked)]
    if again is not None and not again.agrees and again.predicted is not None:
        said.append(
            f"By the table {named(again.predicted)} had the highest badness, not {named(kill.victim)}. It may have "
            "been dying already, or have changed while the table was written; the log doesn't tell."
        )
        return said
    return said or [f"{named(kill.victim)} held {_holding(kill, row.task)}, oom_score_adj {_adj(row.task)}."]


def _nobody(kill: OomKill) -> list[str]:
    if kill.panic is not None and "panic_on_oom" in kill.panic:
        return ["vm.panic_on_oom is set, so the kernel panicked instead of choosing anybody."]
    if kill.no_killable:
        if kill.tasks == ():
            return ["There was no process in reach: what is charged here was left behind by ones that are gone."]
        free = [task for task in kill.tasks or () if (task.oom_score_adj or 0) > OOM_SCORE_ADJ_MIN]
        if kill.tasks and not free:
            return ["Every process in reach is at oom_score_adj -1000, so the kernel found nobody to kill."]
        return ["The kernel found nobody to kill: who was in reach is at -1000, or was dying."]
    return []


def _without_table(kill: OomKill) -> str:
    assert kill.victim is not None
    if kill.chosen is not None:
        return (
            f"{named(kill.victim)} had the highest score, {kill.chosen.score} of 1000; the log has no row to show why."
        )
    return f"The log has no row for {named(kill.victim)}, so it doesn't show why the kernel took this one."


def _highest(kill: OomKill, row: Ranked, ranked: list[Ranked]) -> str:
    candidates = [one for one in ranked if one.points is not None]
    if len(candidates) == 1:
        holding = f"{_holding(kill, row.task)}, oom_score_adj {_adj(row.task)}"
        return f"{named(row.task)} was the only one that could be killed: {holding}."
    total = total_pages(kill)
    of_total = f" of {size(kill.page_kb * total)}" if total is not None else ""
    holding = f"{_holding(kill, row.task)}{of_total}, oom_score_adj {_adj(row.task)}"
    text = f"{named(row.task)} had the highest badness: {holding}"
    adj = row.task.oom_score_adj or 0
    if adj != 0 and total is not None:
        weight = size(kill.page_kb * abs(adj) * (total // 1000))
        text += f", which counts as {weight} {'more' if adj > 0 else 'less'}"
    return text + "."


def _spared(kill: OomKill, victim: Ranked, ranked: list[Ranked]) -> list[str]:
    """Sentences about the processes that held more memory than the victim, and weren't chosen."""
    held = held_kb(kill, victim.task)
    more = [one.task for one in ranked if held_kb(kill, one.task) > held and one.task.pid != victim.task.pid]
    more.sort(key=lambda task: held_kb(kill, task), reverse=True)
    said = []
    for task in more[:3]:
        if task.pid == 1:
            why = "is never chosen"
        elif task.oom_score_adj == OOM_SCORE_ADJ_MIN:
            why = "is at -1000, which is never chosen"
        else:
            why = f"is at {_adj(task)}"
        said.append(f"{named(task)} held more ({size(held_kb(kill, task))}), but {why}.")
    return said


def _holding(kill: OomKill, task: Task) -> str:
    swap = f" and {size(kill.page_kb * task.swapents)} in swap" if task.swapents else ""
    return f"{size(kill.page_kb * task.rss)} resident{swap}"


def _adj(task: Task) -> str:
    return "unknown" if task.oom_score_adj is None else str(task.oom_score_adj)


def memory_picture(kill: OomKill) -> str | None:
    """The state of memory at the time, in one line; None: the report has no figures."""
    memory = kill.memory
    parts = []
    if memory.usage_kb is not None and memory.limit_kb is not None:
        parts.append(f"{size(memory.usage_kb)} of {size(memory.limit_kb)} used")
    elif memory.ram_kb is not None:
        parts.append(f"{size(memory.ram_kb - (memory.reserved_kb or 0))} RAM")
    parts += labelled(
        ("free", memory.free_kb),
        ("anon", memory.anon_kb),
        ("file", memory.file_kb),
        ("shmem", memory.shmem_kb),
        ("slab", memory.slab_kb),
    )
    if memory.swap_total_kb is not None:
        free = "" if memory.swap_free_kb is None else f" ({size(memory.swap_free_kb)} free)"
        parts.append(f"swap {size(memory.swap_total_kb)}{free}" if memory.swap_total_kb > 0 else "no swap")
    elif memory.swap_usage_kb is not None:
        parts.append(f"swap used {size(memory.swap_usage_kb)}")
    return ", ".join(parts) or None
