"""Advice about a kill by a program in user space: systemd-oomd, earlyoom, nohang, oomd. Pure."""

from collections.abc import Iterator

from oomwatchd.oomlog.advice.commands import owner_name
from oomwatchd.oomlog.advice.model import Advice
from oomwatchd.oomlog.owners import owner_of
from oomwatchd.oomlog.record import OomKill


def systemd_oomd(kill: OomKill) -> Iterator[Advice]:
    """systemd-oomd killed a cgroup, for memory pressure or for full swap: where its limits are set."""
    if kill.killer != "systemd-oomd":
        return
    path = kill.task_memcg or ""
    who = owner_name(owner_of(path)) if path else "the cgroup"
    spare = f"ManagedOOMPreference=avoid of {who} has it take others first"
    if kill.memcg is not None:
        watched = owner_name(owner_of(kill.memcg))
        yield Advice(
            "oomd-pressure",
            f"systemd-oomd ended {who} because {watched} waited for memory too long: raise "
            f"ManagedOOMMemoryPressureLimit= of {watched} (or DefaultMemoryPressureDurationSec= in oomd.conf), or "
            f"bound what grows with MemoryHigh=. {spare}. oomctl shows the limits.",
        )
    else:
        yield Advice(
            "oomd-swap",
            f"systemd-oomd ended {who} because memory and swap were both nearly full: more swap, a higher "
            f"SwapUsedLimit= in oomd.conf, or MemorySwapMax= for what fills it. {spare}.",
        )


def others(kill: OomKill) -> Iterator[Advice]:
    """earlyoom, nohang or oomd killed: where its thresholds are set."""
    if kill.killer == "earlyoom":
        yield Advice(
            "earlyoom",
            "earlyoom acted before the kernel did. Its limits are -m and -s in EARLYOOM_ARGS (/etc/default/earlyoom), "
            "and --avoid REGEX spares a name. It goes by oom_score, so oom_score_adj counts.",
        )
    elif kill.killer == "nohang":
        yield Advice(
            "nohang",
            "nohang acted before the kernel did. Its thresholds (soft_threshold_min_mem, hard_threshold_min_mem, "
            "max_psi) and badness adjustments are in /etc/nohang/nohang.conf.",
        )
    elif kill.killer == "oomd":
        yield Advice(
            "oomd-ruleset",
            "oomd acted before the kernel did, by the ruleset that it names, in /etc/oomd.json. The extended attribute "
            "trusted.oomd_avoid on the cgroup spares it.",
        )
