"""Findings about programs that end a pinned process in spite of its pin: other killers, and systemd, which may stop a
unit after a kill in it."""

import re
from collections.abc import Iterator

from oomwatchd.base.text import decode, printable
from oomwatchd.doctor.finding import CRITICAL, NOTICE, WARNING, Finding, names
from oomwatchd.doctor.system import System
from oomwatchd.oom.badness import why_not_killable
from oomwatchd.oom.killers.aftermath import Unit
from oomwatchd.oom.killers.earlyoom import NotUnderstood, Settings, fits, parse
from oomwatchd.oom.killers.model import Killer
from oomwatchd.oom.killers.systemd_facts import unit_of_process
from oomwatchd.oom.killers.systemd_oomd import Leaf, preference
from oomwatchd.oom.memcgs import is_within
from oomwatchd.oom.processes import OomProcess


def daemon(system: System) -> Iterator[Finding]:
    """The daemon doesn't run, so no new process is pinned."""
    hidden = system.uid != 0 and system.hidepid is not None
    if system.daemon is None and not hidden:
        yield Finding(
            "daemon-not-running",
            CRITICAL,
            "oomwatchd isn't running: no new process is pinned, and a changed value is not put back.",
            "systemctl enable --now oomwatchd",
        )


def lowered(system: System) -> list[OomProcess]:
    """The processes that rules have pinned below their original value. Where the daemon can't be asked: all processes
    below 0."""
    kept = []
    for process in system.processes:
        if process.task.kernel_thread or process.task.global_init:
            continue
        if system.pinned is None:
            is_lowered = process.task.oom_score_adj < 0
        else:
            pinned = system.pinned.get(process.task.pid)
            is_lowered = pinned is not None and (pinned.value < 0 or pinned.value < pinned.original)
        if is_lowered and process.task.pid != system.daemon:
            kept.append(process)
    return kept


def _who(system: System, processes: list[OomProcess]) -> str:
    rules = {system.pinned[p.task.pid].rule for p in processes} if system.pinned is not None else set()
    by = f", which {'rule' if len(rules) == 1 else 'rules'} {', '.join(map(repr, sorted(rules)))} lowered"
    return names(processes) + (by if rules else f", at oom_score_adj {min(p.task.oom_score_adj for p in processes)}")


# --- systemd, after a kill --------------------------------------------------------------------------------


def oom_policy(system: System) -> Iterator[Finding]:
    """Units of lowered processes that systemd ends as a whole after the kernel has killed any process in them
    (OOMPolicy=)."""
    pinned = lowered(system)
    for unit in system.units:
        if unit.policy == "continue":
            continue
        members = [p for p in system.processes if p.task.has_mm and is_within(p.task.memcg, unit.cgroup)]
        spared = [p for p in pinned if is_within(p.task.memcg, unit.cgroup)]
        others = [p for p in members if p not in spared and why_not_killable(p.task) is None]
        killable = [p for p in spared if why_not_killable(p.task) is None]
        if spared and (others or (killable and len(spared) > 1)):
            does = "stops" if unit.policy == "stop" else "kills"
            yield Finding(
                "unit-oom-policy",
                WARNING,
                f"OOMPolicy={unit.policy} in {_unit(unit)}: if the kernel kills one of its processes "
                f"({names(others or killable)}), systemd {does} all of it, {_who(system, spared)}, too.",
                f"OOMPolicy=continue in {printable(unit.name)} ({_edit(unit)})",
            )


def _unit(unit: Unit) -> str:
    return printable(unit.name) + ("" if unit.manager is None else f" of user {unit.manager}")


def _edit(unit: Unit) -> str:
    return f"systemctl {'' if unit.manager is None else '--user '}edit {printable(unit.name)}"


# --- systemd-oomd -----------------------------------------------------------------------------------------


def systemd_oomd(system: System) -> Iterator[Finding]:
    """Lowered processes in cgroups that systemd-oomd may kill."""
    killer = _armed(system, "systemd-oomd")
    if killer is None:
        return
    pinned = lowered(system)
    victims = {t.victim.cgroup for t in killer.conditions if t.victim is not None}
    for leaf in system.leaves:
        members = [p for p in pinned if is_within(p.task.memcg, leaf.path)]
        reasons = list(_watched(system, leaf))
        if not members or not reasons:
            continue
        marks = {preference(leaf, above) for _, above in reasons}
        first = ", first of all as things are" if leaf.path in victims else ""
        last = "; it is marked to be avoided, so others go first" if marks == {1} else ""
        yield Finding(
            "systemd-oomd-takes-pinned",
            NOTICE if marks == {1} else WARNING,
            f"systemd-oomd may kill all of {printable(leaf.path)} for {' and '.join(sorted({r for r, _ in reasons}))}"
            f"{first}, with {_who(system, members)}: it doesn't look at oom_score_adj{last}.",
            _omit(leaf),
        )


def _watched(system: System, leaf: Leaf) -> Iterator[tuple[str, int]]:
    """Each reason for which systemd-oomd may kill a leaf, and the owner of the watched cgroup above the leaf."""
    for watched in system.watched:
        if not is_within(leaf.path, watched.path):
            continue
        if watched.swap and preference(leaf, 0) < 2:
            yield "swap", 0
        if watched.pressure and preference(leaf, watched.uid) < 2:
            yield f"the pressure in {printable(watched.path)}", watched.uid


def _omit(leaf: Leaf) -> str:
    found = unit_of_process(leaf.path)
    unit = "its unit" if found is None else printable(found[0])
    if leaf.uid == 0:
        return f"ManagedOOMPreference=omit in {unit} (systemctl edit)"
    return (
        f"ManagedOOMPreference=omit in {unit}, which in a user's own unit counts only against the pressure of a cgroup "
        "of that user; or a system unit with User= in its place"
    )


# --- earlyoom, nohang -------------------------------------------------------------------------------------


def earlyoom(system: System) -> Iterator[Finding]:
    """Lowered processes that earlyoom would take, because of its options or because it sorts by RSS."""
    killer = _armed(system, "earlyoom", stuck=True)
    if killer is None or system.memory is None:
        return
    own = next((p.task.rss for p in system.processes if p.task.pid == killer.pid), 0)
    if any("stuck" in n for n in killer.notes) and any(p.task.rss > own for p in lowered(system)):
        yield Finding(
            "earlyoom-stuck",
            WARNING,
            f"earlyoom ({killer.pid}) would choose itself, and then kill nothing: all others are pinned lower.",
            'a rule for it: exe = "/usr/bin/earlyoom", unit = "earlyoom.service", oom_score_adj = -1000',
        )
    try:
        settings = parse(system.earlyoom_arguments, system.memory)
    except NotUnderstood:
        return
    for process in lowered(system):
        why = _why_earlyoom(killer, settings, process) if process.task.oom_score_adj > -1000 else None
        if why is not None:
            comm = re.escape(printable(process.task.comm))
            yield Finding(
                "earlyoom-takes-pinned",
                WARNING,
                f"earlyoom ({killer.pid}) would take {_who(system, [process])}: {why}.",
                f"--avoid '^({comm})$' in EARLYOOM_ARGS (/etc/default/earlyoom), or oom_score_adj = -1000",
            )


def _why_earlyoom(killer: Killer, settings: Settings, process: OomProcess) -> str | None:
    if _is_victim(killer, process):
        return "it is the first as things are"
    if settings.sort_by_rss and not fits(settings.avoid, process.task.comm):
        return "with --sort-by-rss it goes by memory alone"
    if fits(settings.prefer, process.task.comm):
        return "--prefer fits it"
    return None


def nohang(system: System) -> Iterator[Finding]:
    """Lowered processes that nohang would take."""
    killer = _armed(system, "nohang")
    if killer is None:
        return
    doubtful = any("can't be followed" in doubt for condition in killer.conditions for doubt in condition.doubts)
    if doubtful and system.uid != 0:
        yield Finding(
            "nohang-not-judged",
            NOTICE,
            "nohang has rules on executables or command lines that only root can follow, so its choice isn't "
            "calculated.",
            "run oomwatchctl doctor as root",
        )
        return
    for process in lowered(system):
        if _is_victim(killer, process):
            pattern = re.escape(decode(process.task.comm))
            yield Finding(
                "nohang-takes-pinned",
                WARNING,
                f"nohang ({killer.pid}) would take {_who(system, [process])}: it is its present choice.",
                f"@BADNESS_ADJ_RE_NAME -1000 /// ^{printable(pattern)}$ in nohang.conf, or oom_score_adj = -1000",
            )


def _is_victim(killer: Killer, process: OomProcess) -> bool:
    return any(t.victim is not None and t.victim.pid == process.task.pid for t in killer.conditions)


def _armed(system: System, wanted: str, *, stuck: bool = False) -> Killer | None:
    """The killer of that name, if it runs and can act (or is stuck)."""
    for killer in system.killers:
        if killer.name == wanted and killer.present and (killer.armed or stuck):
            return killer
    return None
