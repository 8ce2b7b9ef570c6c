"""What oomd logs of its kills: oomd 0.3 to 0.5, BaseKillPlugin.cpp. Pure.

Its line is "oomd kill: 12.00 5.00 1.00 a/b.service 123456 ruleset:[x] detectorgroup:[y] killer:z v2". oomd writes it to
the log of the kernel, too.
"""

import re

from oomwatchd.oomlog.killers.kills import Kills, Said, kill_of
from oomwatchd.oomlog.record import Memory

_KILL = re.compile(
    r"(?P<pressure>\d+\.\d\d \d+\.\d\d \d+\.\d\d) (?P<path>\S.{0,4095}?) (?P<bytes>\d{1,19}) "
    r"ruleset:\[(?P<ruleset>.*?)\] detectorgroup:\[(?P<group>.*?)\] killer:(?P<dry>\(dry\))?(?P<plugin>\S{1,100})"
)


def read(kills: Kills, said: Said) -> None:
    """Add to `kills` what a line of oomd, or of oomd in the log of the kernel, says."""
    match = _KILL.search(said.text)
    if match is None or match["dry"] is not None or (said.program == "kernel" and "oomd kill: " not in said.text):
        return
    trigger = f"ruleset {match['ruleset']}, detectors {match['group']}, memory pressure {match['pressure']}"
    last = kills.last("oomd", said.host)
    if last is not None and last.trigger == trigger:
        return  # told twice: to the kernel's log, and to its own
    path = f"/{match['path'].lstrip('/')}"
    memory = Memory(usage_kb=int(match["bytes"]) // 1024)
    kills.add(kill_of(said, "oomd", "memcg", task_memcg=path, trigger=trigger, memory=memory))
