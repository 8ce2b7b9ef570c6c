"""earlyoom: when it acts, and whom it would take (https://github.com/rfjakob/earlyoom: main.c, kill.c, meminfo.c).
Pure.

Two generations differ. Up to 1.7, percents are of MemTotal. From 1.8 on they are of MemAvailable and AnonPages
together, and there are --ignore, --ignore-root-user and --sort-by-rss."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oomwatchd.base.text import printable
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN
from oomwatchd.oom.killers.model import Condition, Killer, Meminfo, Suspect, Victim, by_distance, growth_until

_SHORT_WITH_VALUE = frozenset("msMSNPr")
_SHORT = frozenset("kingdvph")
_LONG_WITH_VALUE = ("prefer", "avoid", "ignore")
_LONG = ("dryrun", "ignore-root-user", "sort-by-rss", "syslog", "kernel-oom", "help", "debug")
_SCORE_BONUS = 300
_RSS_BONUS_KIB = 3 << 20
_CLEAR_KIB = 4 << 10
"""KiB. Two processes whose RSS or points are closer than this may change places before earlyoom acts."""
_SCORES_CLEAR = 3
"""Two processes whose oom_score is closer than this may change places before earlyoom acts. One unit of oom_score is
1.5 permille of all memory and swap, and the kernel rounds down. Scores that are 3 apart mean points that are at least 3
permille apart; scores that are 2 apart may mean only 1.5."""


class NotUnderstood(Exception):
    """Earlyoom would refuse this command line. The message says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A command line of earlyoom."""

    mem_percent: tuple[float, float] = (10.0, 5.0)  # SIGTERM, SIGKILL
    swap_percent: tuple[float, float] = (10.0, 5.0)
    prefer: str | None = None  # POSIX extended regular expressions on comm
    avoid: str | None = None
    ignore: str | None = None
    ignore_root: bool = False
    sort_by_rss: bool = False
    dry_run: bool = False
    group: bool = False  # -g: with all of its process group
    kernel_oom: bool = False  # --kernel-oom: it has the kernel choose


def parse(arguments: Sequence[bytes], memory: Meminfo) -> Settings:
    """The settings of a command line of earlyoom (argv without the program) on a machine with `memory`. Sizes (-M, -S)
    become percents of MemTotal and SwapTotal, as earlyoom does it. Raises NotUnderstood."""
    found = _options([printable(argument) for argument in arguments])
    mem = _percents(found.get("m", "10"), 99)
    swap = _percents(found.get("s", "10"), 100)
    if "M" in found:
        mem = _merge(mem if "m" in found else None, _of_size(found["M"], memory.total))
    if "S" in found and memory.swap_total > 0:
        swap = _merge(swap if "s" in found else None, _of_size(found["S"], memory.swap_total))
    return Settings(
        mem_percent=mem,
        swap_percent=swap,
        prefer=found.get("prefer"),
        avoid=found.get("avoid"),
        ignore=found.get("ignore"),
        ignore_root="ignore-root-user" in found,
        sort_by_rss="sort-by-rss" in found,
        dry_run="dryrun" in found,
        group="g" in found,
        kernel_oom="kernel-oom" in found,
    )


def _options(arguments: list[str]) -> dict[str, str]:
    """Options and their values, the last of each, as getopt_long(3) takes them apart."""
    found: dict[str, str] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = _long_name(name)
            if name in _LONG_WITH_VALUE and not equals:
                value = _next(left, word)
            found[name] = value
        elif word.startswith("-") and len(word) > 1:
            _take_short(word[1:], left, found)
        else:
            raise NotUnderstood(f"extra argument '{word}'")
    return found


def _long_name(name: str) -> str:
    fits = [known for known in (*_LONG_WITH_VALUE, *_LONG) if known == name]
    fits = fits or [known for known in (*_LONG_WITH_VALUE, *_LONG) if known.startswith(name)]
    if len(fits) != 1:
        raise NotUnderstood(f"option '--{name}'")
    return fits[0]


def _take_short(letters: str, left: list[str], found: dict[str, str]) -> None:
    for at, letter in enumerate(letters):
        if letter in _SHORT_WITH_VALUE:
            found[letter] = letters[at + 1 :] or _next(left, f"-{letter}")
            return
        if letter not in _SHORT:
            raise NotUnderstood(f"option '-{letter}'")
        found[letter] = ""


def _next(left: list[str], option: str) -> str:
    if not left:
        raise NotUnderstood(f"option '{option}' without a value")
    return left.pop(0)


def _pair(text: str) -> tuple[float, float]:
    """The two limits of "TERM[,KILL]". KILL is half of TERM by default, and never more than TERM."""
    first, comma, second = text.partition(",")
    try:
        term = float(first or 0)
        kill = float(second or 0) if comma else term / 2
    except ValueError:
        raise NotUnderstood(f"value '{text}'") from None
    if not (0 <= term < 1e18 and 0 <= kill < 1e18) or term == kill == 0:
        raise NotUnderstood(f"value '{text}'")
    return max(term, kill), kill


def _percents(text: str, most: int) -> tuple[float, float]:
    pair = _pair(text)
    if pair[0] > most:
        raise NotUnderstood(f"value '{text}', which is more than {most}")
    return pair


def _of_size(text: str, total: int) -> tuple[float, float]:
    term, kill = _pair(text)
    return (100 * term / total, 100 * kill / total) if total else (0.0, 0.0)


def _merge(percent: tuple[float, float] | None, size: tuple[float, float]) -> tuple[float, float]:
    """The limits where both percents and sizes are given: the lower of the two counts."""
    return size if percent is None else (min(percent[0], size[0]), min(percent[1], size[1]))


def assess(
    pid: int, arguments: Sequence[bytes], newer: bool | None, memory: Meminfo, suspects: Iterable[Suspect]
) -> Killer:
    """The earlyoom that runs as `pid` with these arguments. `newer`: whether it is 1.8 or later; None: not known."""
    try:
        settings = parse(arguments, memory)
        chosen = choose(pid, settings, newer is not False, suspects)
    except (NotUnderstood, re.error) as error:
        note = f"Its command line isn't understood: {error}."
        return Killer("earlyoom", pid, present=True, armed=False, heeds="yes", notes=(note,))
    notes = list(chosen.notes)
    doubts = list(chosen.doubts)
    if newer is None:
        doubts.append("Its program can't be read, so whether it is 1.8 or later isn't known; run rank as root.")
    if settings.dry_run:
        notes.append("--dryrun: it kills nobody.")
    if settings.group:
        notes.append("-g: all of the victim's process group dies with it.")
    if settings.kernel_oom:
        doubts.append("--kernel-oom: it has the kernel choose.")
    condition = _condition(settings, newer is not False, memory, chosen.victim, tuple(doubts))
    armed = not (settings.dry_run or chosen.stuck)
    return Killer(
        "earlyoom",
        pid,
        present=True,
        armed=armed,
        heeds="partly" if settings.sort_by_rss else "yes",
        conditions=by_distance([condition]),
        notes=tuple(notes),
    )


def _condition(
    settings: Settings, newer: bool, memory: Meminfo, victim: Victim | None, doubts: tuple[str, ...]
) -> Condition:
    term, swap = settings.mem_percent[0], settings.swap_percent[0]
    base = f"{term:.4g} % of MemTotal"
    available = memory.available
    now, limit_kib = memory.available_percent, term * memory.total / 100
    if newer and available is not None and memory.anon is not None:
        base = f"{term:.4g} % of MemAvailable + AnonPages"
        user = available + memory.anon
        now, limit_kib = (100 * available / user if user else 0.0), term * user / 100
    text = f"MemAvailable at most {base} and SwapFree at most {swap:.4g} % (SIGTERM)"
    distance = growth_until(memory, limit_kib, swap * memory.swap_total / 100)
    return Condition("memory", text, now, term, "percent", distance, victim, doubts)


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a killer that chooses a process would take, and remarks on that."""

    victim: Victim | None
    stuck: bool = False  # whether it would choose itself, and so kill nobody
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fits(pattern: str | None, comm: bytes) -> bool:
    """Whether a regular expression of earlyoom matches the name `comm`. One that can't be compiled matches none."""
    try:
        return pattern is not None and _compiled(pattern).search(comm) is not None
    except re.error:
        return False


def _compiled(pattern: str) -> re.Pattern[bytes]:
    return re.compile(_as_python(pattern).encode("utf-8", "surrogateescape"))


def choose(own_pid: int, settings: Settings, newer: bool, suspects: Iterable[Suspect]) -> Choice:
    """Whom the earlyoom with PID `own_pid` would take now. Raises re.error for a regular expression that Python doesn't
    take."""
    prefer, avoid, ignore = (
        None if pattern is None else _compiled(pattern)
        for pattern in (settings.prefer, settings.avoid, settings.ignore)
    )

    def weight(suspect: Suspect) -> tuple[int, int]:
        comm = suspect.comm
        liked = int(prefer is not None and prefer.search(comm) is not None)
        spared = int(avoid is not None and avoid.search(comm) is not None)
        score, rss = suspect.oom_score, suspect.rss
        if settings.sort_by_rss:
            return rss + (liked - spared) * _RSS_BONUS_KIB, score
        return score + (liked - spared) * _SCORE_BONUS, rss

    def killable(suspect: Suspect) -> bool:
        unkillable = suspect.oom_score_adj == OOM_SCORE_ADJ_MIN
        if suspect.pid == 1 or suspect.kernel_thread or unkillable or suspect.rss == 0:
            return False
        if not newer:
            return weight(suspect)[0] >= 0
        if suspect.pid == 2 or suspect.ppid == 2 or (settings.ignore_root and suspect.uid == 0):
            return False
        return ignore is None or ignore.search(suspect.comm) is None

    ranked = sorted(filter(killable, suspects), key=lambda s: (*(-w for w in weight(s)), s.pid))
    if not ranked:
        return Choice(None, stuck=True, notes=("Nobody is left whom it may kill.",))
    first = ranked[0]
    if first.pid == own_pid:
        return Choice(None, stuck=True, notes=(_stuck(own_pid, ranked[1:]),))
    victim = Victim("process", first.pid, first.comm, first.cgroup)
    return Choice(victim, doubts=_close([(suspect, weight(suspect)[0]) for suspect in ranked[:2]], settings))


def _close(leaders: list[tuple[Suspect, int]], settings: Settings) -> tuple[str, ...]:
    if len(leaders) < 2:
        return ()
    (first, weight), (other, other_weight) = leaders
    lead = weight - other_weight
    clear = _CLEAR_KIB if settings.sort_by_rss else _SCORES_CLEAR
    if lead >= clear or (not settings.sort_by_rss and _leads(first, other, lead)):
        return ()
    return (f"{printable(other.comm)} ({other.pid}) is nearly as high: either may be the one.",)


def _leads(first: Suspect, other: Suspect, lead: int) -> bool:
    """Whether `first` is certainly before `other` though their scores are close. A process with more points never has a
    lower score, however the kernel rounds; and of equal scores the larger RSS decides."""
    preferred_alike = lead == first.oom_score - other.oom_score
    return preferred_alike and first.points - other.points >= _CLEAR_KIB and first.rss - other.rss >= _CLEAR_KIB


def _stuck(own_pid: int, others: list[Suspect]) -> str:
    lowered = sum(suspect.oom_score_adj < 0 for suspect in others)
    why = f", since oom_score_adj of {lowered} others is below 0" if lowered else ""
    return (
        f"It is stuck: it would choose itself ({own_pid}){why}, and then kill nothing. "
        "A rule that gives earlyoom itself oom_score_adj -1000 mends it."
    )


_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
}


def _as_python(pattern: str) -> str:
    """A POSIX extended regular expression as Python writes it. In practice only the named character classes differ."""
    return re.sub(r"\[:(\w+):\]", lambda match: _CLASSES.get(match[1], match[0]), pattern)
