"""What earlyoom logs of its kills: earlyoom 1.0 to 1.9, kill.c and main.c. Pure."""

import re
from dataclasses import replace

from oomwatchd.oomlog.killers.kills import Kills, Said, kill_of
from oomwatchd.oomlog.record import Killed, Memory

_LOW = re.compile(r"(?i:low memory! at or below (sigterm|sigkill) limits):? \(?([^)]*)")
_FIGURES = re.compile(r"mem avail: *(\d+) of *(\d+) MiB.*?swap free: *(\d+) of *(\d+) MiB")
_SEND = re.compile(
    r'sending (SIG\w+|signal \d+) to process (?P<pid>\d{1,10})(?: uid (?P<uid>\d{1,10}))? "(?P<comm>.{0,64}?)": '
    r"(?:badness|oom_score) -?\d+(?:, oom_score_adj (?P<adj>-?\d+))?, VmRSS (?P<rss>\d{1,12}) MiB"
)
# What 1.0 wrote, then 1.1, 1.2, and for a day in April 2019 the development version.
_OLD = (
    re.compile(r"Killing process (?P<pid>\d{1,10}) (?P<comm>.{1,64})$"),
    re.compile(r"Killing process: (?P<comm>.{0,64}?), pid: (?P<pid>\d{1,10}), badness: -?\d"),
    re.compile(r"Killing process '(?P<comm>.{0,64}?)' with signal \d+, pid: (?P<pid>\d{1,10}), badness: -?\d"),
    re.compile(r'killing process (?P<pid>\d{1,10}) "(?P<comm>.{0,64}?)" with signal \d+: badness -?\d'),
)


def read(kills: Kills, said: Said) -> None:
    """Add to `kills` what a line of earlyoom says."""
    if low := _LOW.search(said.text):
        kills.opened(said).trigger = f"at or below the {low[1].upper()} limits: {' '.join(low[2].split())}"
        return
    if figures := _FIGURES.search(said.text):
        state = kills.opened(said)
        names = ("avail", "ram", "swap_free", "swap_total")
        state.kb = {name: int(mib) * 1024 for name, mib in zip(names, figures.groups(), strict=True)}
        return
    if "dryrun, not actually" in said.text or "kill failed: " in said.text:
        kills.change_last("earlyoom", said.host, lambda kill: None)
        return
    if re.search(r"process(?: \d+)? exited after", said.text):
        kills.change_last(
            "earlyoom", said.host, lambda kill: replace(kill, reaped=(kill.victim.pid,) if kill.victim else ())
        )
        return
    match = next((found for form in (_SEND, *_OLD) if (found := form.search(said.text)) is not None), None)
    if match is None:
        return
    groups = match.groupdict()
    state = kills.opened(said)
    victim = Killed(
        int(groups["pid"]),
        groups["comm"],
        uid=None if groups.get("uid") is None else int(groups["uid"]),
        oom_score_adj=None if groups.get("adj") is None else int(groups["adj"]),
    )
    kb = state.kb or {}
    memory = Memory(
        ram_kb=kb.get("ram"),
        free_kb=kb.get("avail"),
        swap_total_kb=kb.get("swap_total"),
        swap_free_kb=kb.get("swap_free"),
    )
    kills.add(
        kill_of(said, "earlyoom", "global", victim=victim, trigger=state.trigger, memory=memory, original=state.lines)
    )
    kills.close(said)
