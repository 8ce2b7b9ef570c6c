"""systemd-oomd: when it acts, and whom it would take (systemd's src/oom/oomd-manager.c, oomd-util.c; oomd.conf(5)).
Pure.

It watches cgroups whose units have ManagedOOMSwap=kill or ManagedOOMMemoryPressure=kill, and kills all processes of one
leaf below them. It doesn't look at oom_score_adj."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from oomwatchd.base.text import printable
from oomwatchd.base.timespan import parse_time_span
from oomwatchd.oom.killers.model import Condition, Killer, Meminfo, Victim, by_distance, growth_until
from oomwatchd.oom.memcgs import is_within

_LEAST_SWAP_PERCENT = 5
"""A cgroup that uses no more than this share of all swap isn't killed when swap is full."""
_CLEAR_BYTES = 4 << 20
"""Bytes. Two cgroups whose memory or swap is closer than this may change places before systemd-oomd acts."""
_SCALES = (("%", 1.0), ("‰", 0.1), ("‱", 0.01))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of oomd.conf and of the command line."""

    swap_used_percent: float = 90.0
    pressure_percent: float = 60.0
    pressure_seconds: float = 30.0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """A cgroup that systemd-oomd watches, and the settings of its unit."""

    path: bytes
    swap: bool = False  # ManagedOOMSwap=kill
    pressure: bool = False  # ManagedOOMMemoryPressure=kill
    limit_percent: float | None = None  # ManagedOOMMemoryPressureLimit=; None: the default of oomd.conf
    seconds: float | None = None  # ManagedOOMMemoryPressureDurationSec=
    full_avg10: float | None = None  # of its memory.pressure now; None: it can't be read
    uid: int = 0  # owner of its directory


@dataclass(frozen=True, slots=True)
class Leaf:
    """A cgroup that systemd-oomd may kill: one without children, or one with memory.oom.group set."""

    path: bytes
    current: int  # memory.current, bytes
    swap: int  # memory.swap.current, bytes
    pgscan: int  # of memory.stat, pages
    scanned: int | None = None  # by how much pgscan has grown in a second; None: not looked at
    avoid: bool = False  # xattr user.oomd_avoid
    omit: bool = False  # xattr user.oomd_omit
    uid: int = 0  # owner of its directory, who has set these


def parse_percent(text: str) -> float | None:
    """A share as systemd writes them ("60%", "625‰"), in percent; None if it isn't one."""
    for sign, scale in _SCALES:
        number = text.strip().removesuffix(sign)
        if number != text.strip():
            try:
                share = float(number) * scale
            except ValueError:
                return None
            return share if 0 <= share <= 100 else None
    return None


def settings_of(values: dict[str, str], arguments: Sequence[bytes] = ()) -> Settings:
    """The settings by the [OOM] section of oomd.conf with its drop-ins, and by the command line. Values that can't be
    parsed are ignored, as systemd-oomd does it."""
    default = Settings()
    swap = parse_percent(values.get("SwapUsedLimit", ""))
    pressure = parse_percent(values.get("DefaultMemoryPressureLimit", ""))
    seconds = parse_time_span(values.get("DefaultMemoryPressureDurationSec", ""))
    return Settings(
        swap_used_percent=default.swap_used_percent if swap is None else swap,
        pressure_percent=default.pressure_percent if pressure is None else pressure,
        pressure_seconds=default.pressure_seconds if seconds is None or 0 < seconds < 1 else seconds,
        dry_run=b"--dry-run" in arguments,
    )


def watched_by(path: bytes, values: dict[str, str], full_avg10: float | None, uid: int) -> Watched | None:
    """The cgroup `path` with what its unit's settings `values` say; None: systemd-oomd doesn't watch it."""
    swap = values.get("ManagedOOMSwap") == "kill"
    pressure = values.get("ManagedOOMMemoryPressure") == "kill"
    if not swap and not pressure:
        return None
    limit = parse_percent(values.get("ManagedOOMMemoryPressureLimit", ""))
    seconds = parse_time_span(values.get("ManagedOOMMemoryPressureDurationSec", ""))
    return Watched(path, swap, pressure, limit or None, seconds, full_avg10, uid)


def preference(leaf: Leaf, above: int) -> int:
    """The preference for a leaf: 0 like others; 1 last (avoid); 2 never (omit). Its marks count only if its owner is
    root, or `above`, the owner of the watched cgroup."""
    if leaf.uid not in (0, above):
        return 0
    return 2 if leaf.omit else 1 if leaf.avoid else 0


def by_swap(leaves: Iterable[Leaf], watched: Sequence[Watched], swap_total: int) -> list[Leaf]:
    """The candidates of a kill for swap, the first victim first. `swap_total` in KiB."""
    least = swap_total * 1024 * _LEAST_SWAP_PERCENT // 100
    below = [leaf for leaf in leaves if leaf.swap > least and any(is_within(leaf.path, w.path) for w in watched)]
    kept = [leaf for leaf in below if preference(leaf, 0) < 2]
    return sorted(kept, key=lambda leaf: (preference(leaf, 0), -leaf.swap))


def by_pressure(leaves: Iterable[Leaf], watched: Watched) -> list[Leaf]:
    """The candidates of a kill for the pressure of `watched`, the first victim first."""
    below = [leaf for leaf in leaves if is_within(leaf.path, watched.path) and (leaf.pgscan or leaf.current)]
    kept = [leaf for leaf in below if preference(leaf, watched.uid) < 2]
    return sorted(kept, key=lambda leaf: (preference(leaf, watched.uid), -_rate(leaf), -leaf.current))


def _rate(leaf: Leaf) -> int:
    return leaf.pgscan if leaf.scanned is None else leaf.scanned


def assess(pid: int, settings: Settings, memory: Meminfo, watched: Sequence[Watched], leaves: Sequence[Leaf]) -> Killer:
    """The systemd-oomd that runs as `pid`."""
    conditions = []
    notes = []
    swapping = [w for w in watched if w.swap]
    if swapping and memory.swap_total > 0:
        conditions.append(_swap_condition(settings, memory, swapping, leaves))
    elif swapping:
        notes.append("There is no swap, so it kills nobody for swap.")
    conditions += [_pressure_condition(settings, memory, w, leaves) for w in watched if w.pressure]
    if not watched:
        notes.append("No unit says ManagedOOMSwap=kill or ManagedOOMMemoryPressure=kill: it watches nothing.")
    if settings.dry_run:
        notes.append("--dry-run: it kills nobody.")
    armed = bool(conditions) and not settings.dry_run
    return Killer("systemd-oomd", pid, True, armed, "no", by_distance(conditions), tuple(notes))


def _swap_condition(
    settings: Settings, memory: Meminfo, watched: Sequence[Watched], leaves: Sequence[Leaf]
) -> Condition:
    limit = settings.swap_used_percent
    free = 100 - limit
    ranked = by_swap(leaves, watched, memory.swap_total)
    doubts = _doubts(ranked, lambda leaf: leaf.swap, "swap", lambda leaf: preference(leaf, 0))
    if not ranked:
        doubts = (f"No cgroup that it may kill uses more than {_LEAST_SWAP_PERCENT} % of the swap yet.",)
    return Condition(
        kind="swap",
        text=f"less than {free:.4g} % of the swap free and less than {free:.4g} % of MemTotal available",
        now=100 - memory.swap_free_percent,
        limit=limit,
        unit="percent",
        distance=growth_until(memory, free * memory.total / 100, free * memory.swap_total / 100),
        victim=_victim(ranked),
        doubts=doubts,
    )


def _pressure_condition(settings: Settings, memory: Meminfo, watched: Watched, leaves: Sequence[Leaf]) -> Condition:
    limit = settings.pressure_percent if watched.limit_percent is None else watched.limit_percent
    seconds = settings.pressure_seconds if watched.seconds is None else watched.seconds
    ranked = by_pressure(leaves, watched)
    now = watched.full_avg10
    over = now is not None and now > limit
    doubts: tuple[str, ...] = ()
    if not ranked:
        doubts = ("It has no cgroup below that it may kill.",)
    elif not any(leaf.scanned for leaf in ranked):
        doubts = ("Nothing is reclaimed at present: whom reclaim will fall upon can't be told before.",)
    else:
        # These pages were scanned in one second. In the next second the numbers may differ.
        doubts = _doubts(ranked, _rate, "reclaim", lambda leaf: preference(leaf, watched.uid))
    if not over:
        doubts += ("When pressure rises can't be told from memory alone.",)
    return Condition(
        kind="pressure",
        text=f"full avg10 of its memory.pressure over {limit:.4g} % for {seconds:g} s, with reclaim",
        now=now,
        limit=limit,
        unit="percent",
        distance=0 if over else memory.available,
        victim=_victim(ranked),
        doubts=doubts,
        cgroup=watched.path,
    )


def _doubts(
    ranked: Sequence[Leaf], amount: Callable[[Leaf], int], what: str, rank: Callable[[Leaf], int]
) -> tuple[str, ...]:
    if len(ranked) < 2 or rank(ranked[0]) != rank(ranked[1]):
        return ()
    first, second = amount(ranked[0]), amount(ranked[1])
    clear = first > 2 * second if what == "reclaim" else first - second >= _CLEAR_BYTES
    if clear:
        return ()
    return (f"{printable(ranked[1].path)} is close by its {what}: either may be the one.",)


def _victim(ranked: Sequence[Leaf]) -> Victim | None:
    return Victim("cgroup", None, None, ranked[0].path) if ranked else None
