"""nohang: when it acts, and whom it would take (https://github.com/hakavlad/nohang, version 0.2.0). Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from oomwatchd.base.text import decode, printable
from oomwatchd.oom.killers.earlyoom import Choice
from oomwatchd.oom.killers.model import Condition, Killer, Meminfo, Suspect, Victim, by_distance, growth_until

SUBJECTS = ("NAME", "CGROUP_V1", "CGROUP_V2", "REALPATH", "CWD", "CMDLINE", "ENVIRON", "UID")
"""The facts that a rule of nohang's configuration can be about, in the order in which nohang tries them."""
_RULE = re.compile(r"@BADNESS_ADJ_RE_(\w+?)\s+(-?\d+)\s*///\s*(.*?)\s*$")
_SCORES_CLEAR = 3
"""Two processes whose badness is closer than this may change places before nohang acts: see earlyoom._SCORES_CLEAR."""
_SUBJECT_MAX = 4096
"""Characters of a subject that a rule is tried on: enough for a name or path, and bounded for a command line."""


@dataclass(frozen=True, slots=True)
class BadnessRule:
    """A rule that changes the badness of the processes that it fits."""

    subject: str  # one of SUBJECTS
    adjustment: int
    pattern: str  # searched for, as Python's re does it


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of nohang that decide when it acts, and whom it takes."""

    min_mem: str = "5 %"  # soft_threshold_min_mem: "N %" of MemTotal or "N M" (MiB)
    min_swap: str = "10 %"  # soft_threshold_min_swap
    min_badness: int = 1
    ignore_positive: bool = False  # ignore_positive_oom_score_adj
    psi: bool = False  # psi_checking_enabled
    psi_path: str = "/proc/pressure/memory"
    psi_metrics: str = "full_avg10"
    max_psi: float = 40.0  # soft_threshold_max_psi
    psi_seconds: float = 30.0  # psi_excess_duration
    zram: bool = False
    rules: tuple[BadnessRule, ...] = ()
    notes: tuple[str, ...] = field(default=())


def parse(text: str) -> Settings:
    """The settings in a nohang.conf. A setting that isn't there, or can't be parsed, has the value of the file that
    nohang ships."""
    values: dict[str, str] = {}
    rules = []
    soft_action = False
    for line in text.split("\n"):
        if line.startswith("@"):
            soft_action = soft_action or line.startswith("@SOFT_ACTION_RE_")
            if (match := _RULE.match(line)) and match[1] in SUBJECTS:
                rules.append(BadnessRule(match[1], int(match[2]), match[3]))
        elif line and line[0] not in "# \t":
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip()
    default = Settings()
    note = "Its configuration has commands in the place of SIGTERM (@SOFT_ACTION_RE_…), which decide what happens."
    return Settings(
        min_mem=values.get("soft_threshold_min_mem", default.min_mem),
        min_swap=values.get("soft_threshold_min_swap", default.min_swap),
        min_badness=int(_number(values.get("min_badness"), default.min_badness)),
        ignore_positive=values.get("ignore_positive_oom_score_adj") == "True",
        psi=values.get("psi_checking_enabled") == "True",
        psi_path=values.get("psi_path", default.psi_path),
        psi_metrics=values.get("psi_metrics", default.psi_metrics),
        max_psi=_number(values.get("soft_threshold_max_psi"), default.max_psi),
        psi_seconds=_number(values.get("psi_excess_duration"), default.psi_seconds),
        zram=values.get("zram_checking_enabled") == "True",
        rules=tuple(sorted(rules, key=lambda rule: SUBJECTS.index(rule.subject))),
        notes=(note,) if soft_action else (),
    )


def config_path(arguments: Sequence[bytes]) -> bytes | None:
    """The path of the configuration that a command line of nohang names. `arguments` is argv with the interpreter and
    the script."""
    for option in (b"--config", b"-c"):
        if option in arguments[:-1]:
            return arguments[arguments.index(option) + 1]
    return None


def _number(text: str | None, default: float) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        return default


def _threshold(text: str, total: int) -> float | None:
    """ "5 %" of `total` or "100 M", in KiB; None if it is neither."""
    try:
        amount = float(text[:-1])
    except ValueError:
        return None
    return amount * total / 100 if text.endswith("%") else amount * 1024 if text.endswith("M") else None


@dataclass(frozen=True, slots=True)
class Running:
    """A nohang that runs: its PID, its settings (None: they can't be read) and the path of their file."""

    pid: int
    config: str
    settings: Settings | None


Look = Callable[[str, Suspect], str | None]
"""Takes a subject and a process. Returns the text that rules about this subject are tried on; None: it can't be
read."""


def assess(
    running: Running, memory: Meminfo, suspects: Iterable[Suspect], look: Look, pressure: Mapping[str, float]
) -> Killer:
    """The nohang that runs. `pressure`: the values of /proc/pressure/memory in percent, by nohang's names, such as
    full_avg10."""
    if running.settings is None:
        note = f"Its configuration '{printable(running.config)}' can't be read: when it acts isn't known."
        return Killer("nohang", running.pid, present=True, armed=True, heeds="yes", notes=(note,))
    settings = running.settings
    choice = choose(running.pid, settings, suspects, look)
    conditions = [_condition(settings, memory, choice)]
    if settings.psi and pressure:
        conditions.append(_pressure(settings, memory, choice, pressure))
    notes = [*settings.notes, *choice.notes]
    if settings.zram:
        notes.append("It also watches zram (zram_checking_enabled), which isn't reckoned here.")
    return Killer(
        "nohang",
        running.pid,
        present=True,
        armed=not choice.stuck,
        heeds="partly" if settings.ignore_positive else "yes",
        conditions=by_distance(conditions),
        notes=tuple(notes),
    )


def _condition(settings: Settings, memory: Meminfo, choice: Choice) -> Condition:
    mem, swap = _threshold(settings.min_mem, memory.total), _threshold(settings.min_swap, memory.swap_total)
    text = f"MemAvailable at most {settings.min_mem} and SwapFree at most {settings.min_swap} (SIGTERM)"
    distance = None if mem is None or swap is None else growth_until(memory, mem, swap)
    limit = None if mem is None or memory.total == 0 else 100 * mem / memory.total
    return Condition("memory", text, memory.available_percent, limit, "percent", distance, choice.victim, choice.doubts)


def _pressure(settings: Settings, memory: Meminfo, choice: Choice, pressure: Mapping[str, float]) -> Condition:
    now = pressure.get(settings.psi_metrics)
    least = _threshold(settings.min_mem, memory.total)
    text = (
        f"{settings.psi_metrics} of {settings.psi_path} at least {settings.max_psi:g} % for "
        f"{settings.psi_seconds:g} s, MemAvailable at most {settings.min_mem}, and swap"
    )
    distance = None if least is None or memory.swap_total == 0 else growth_until(memory, least, memory.swap_free)
    doubts = (*choice.doubts, "When pressure rises can't be told from memory alone.")
    return Condition("pressure", text, now, settings.max_psi, "percent", distance, choice.victim, doubts)


class _Rules:
    """The badness of nohang's configuration: oom_score, and what its rules add for names, paths, cgroups and more.

    `unread`: what rules look at and couldn't be read of every process, so that the badness is in doubt."""

    def __init__(self, settings: Settings, look: Look) -> None:
        self.unread: set[str] = set()
        self._settings = settings
        self._look = look
        self._patterns = []
        for rule in settings.rules:
            try:
                self._patterns.append((rule, re.compile(rule.pattern)))
            except re.error:
                self.unread.add(rule.subject)  # nohang would not have started with this rule, so it was written later

    def badness(self, suspect: Suspect) -> int:
        """The points of a process, at least 0."""
        points = suspect.oom_score
        if self._settings.ignore_positive and suspect.oom_score_adj > 0:
            points -= suspect.oom_score_adj
        for rule, pattern in self._patterns:
            if rule.adjustment > 0 and suspect.oom_score_adj < 0:
                continue
            subject = _own_fact(rule.subject, suspect) or self._look(rule.subject, suspect)
            if subject is None:
                self.unread.add(rule.subject)
            elif pattern.search(subject[:_SUBJECT_MAX]):
                points += rule.adjustment
        return max(points, 0)


def choose(own_pid: int, settings: Settings, suspects: Iterable[Suspect], look: Look) -> Choice:
    """Whom nohang, whose PID is `own_pid`, would take now. `look` reads what a rule looks at of a process."""
    rules = _Rules(settings, look)
    living = [s for s in suspects if s.oom_score >= 1 and s.pid not in (1, own_pid)]
    ranked = sorted(((rules.badness(s), s) for s in living), key=lambda pair: (-pair[0], pair[1].pid))
    doubts = tuple(f"Its rules on {subject} can't be followed for every process." for subject in sorted(rules.unread))
    if not ranked or ranked[0][0] < settings.min_badness:
        return Choice(None, stuck=True, notes=("Nobody is left whom it may kill (min_badness).",), doubts=doubts)
    first = ranked[0][1]
    if len(ranked) > 1 and ranked[0][0] - ranked[1][0] < _SCORES_CLEAR:
        other = ranked[1][1]
        doubts += (f"{printable(other.comm)} ({other.pid}) is nearly as high: either may be the one.",)
    return Choice(Victim("process", first.pid, first.comm, first.cgroup), doubts=doubts)


def _own_fact(subject: str, suspect: Suspect) -> str | None:
    if subject == "NAME":
        return decode(suspect.comm)
    return str(suspect.uid) if subject == "UID" else None
