"""What systemd-oomd logs of its kills: systemd 247 to 259, src/oom/oomd-manager.c. Pure."""

import re

from oomwatchd.oomlog.killers.kills import Kills, Said, kill_of
from oomwatchd.oomlog.record import Memory

_KILL = re.compile(
    r"(?P<verb>Killed|Marked) (?P<path>/?\S.{0,4095}?) (?:for killing )?due to (?P<why>(?:memory|swap) .*)"
)
_PRESSURE = re.compile(r"memory pressure for (?P<path>.{1,4096}) being \d")
_RULE = re.compile(r"Rule '(?P<rule>.*)' conditions met for cgroup (?P<path>.{1,4096}) for .*, taking action kill-all")
_SWAP = re.compile(
    r"memory used \((\d{1,18})\) / total \((\d{1,18})\) and swap used \((\d{1,18})\) / total \((\d{1,18})\)"
)


def read(kills: Kills, said: Said) -> None:
    """Add to `kills` what a line of systemd-oomd says."""
    match = _KILL.search(said.text)
    if match is None:
        rule = _RULE.search(said.text)
        if rule is not None:
            facts = {"task_memcg": rule["path"], "memcg": rule["path"], "trigger": f"rule '{rule['rule']}'"}
            kills.add(kill_of(said, "systemd-oomd", "memcg", **facts))
        return
    path = match["path"] if match["path"].startswith("/") else f"/{match['path']}"
    last = kills.last("systemd-oomd", said.host)
    if match["verb"] == "Killed" and last is not None and last.task_memcg == path and "Marked" in last.original[0]:
        return  # newer versions mark a cgroup first, and kill it in a moment
    pressure = _PRESSURE.match(match["why"])
    kills.add(
        kill_of(
            said,
            "systemd-oomd",
            "global" if pressure is None else "memcg",
            task_memcg=path,
            memcg=None if pressure is None else pressure["path"],
            trigger=match["why"].strip(),
            memory=_oomd_memory(match["why"]),
        )
    )


def _oomd_memory(why: str) -> Memory:
    match = _SWAP.search(why)
    if match is None:
        return Memory()
    used, total, swap_used, swap_total = (int(number) // 1024 for number in match.groups())
    return Memory(
        ram_kb=total,
        free_kb=max(0, total - used),
        swap_total_kb=swap_total,
        swap_free_kb=max(0, swap_total - swap_used),
    )
