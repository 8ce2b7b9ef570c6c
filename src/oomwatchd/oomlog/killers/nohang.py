"""What nohang logs of its kills: nohang 0.1 to 0.3, src/nohang. Pure.

In the journal each line stands by itself; in a file the lines of one message have a time before the first alone.
"""

import re

from oomwatchd.oomlog.killers.kills import Kills, Said, kill_of
from oomwatchd.oomlog.record import Killed

_TRIGGER = re.compile(r"\S (?:<=|>=) \S")
_VICTIM = re.compile(
    r"PID: +(?P<pid>\d{1,10}), [Nn]ame: (?P<comm>.{0,64}?), (?:badness: -?\d|state: )(?:.*EUID: (?P<uid>\d{1,10}))?"
)
_OLD = re.compile(r"Victim is (?P<comm>.{0,64}?), pid: (?P<pid>\d{1,10}), badness: -?\d+, VmRSS: (?P<rss>\d+) MiB")
_ADJ = re.compile(r"oom_score_adj: +(-?\d{1,4})")
_VM = re.compile(
    r"Vm, MiB: +Size: (?P<total_vm>\d+), RSS: \d+"
    r"(?: \(Anon: (?P<anon_rss>\d+), File: (?P<file_rss>\d+), Shmem: (?P<shmem_rss>\d+)\))?"
)
_CGROUP = re.compile(r"cgroup_v[12]: (/.*)")
_SEND = re.compile(r"Sending (SIG\w+) to the victim")


def read(kills: Kills, said: Said) -> None:
    """Add to `kills` what a line of nohang says."""
    text = said.text
    state = kills.opened(said)
    if "requires corrective actions" in text or "corrective action required" in text:
        kills.close(said)
        kills.opened(said)
    elif (match := _VICTIM.search(text)) or (match := _OLD.search(text)):
        state.pid, state.comm = int(match["pid"]), match["comm"]
        state.uid = int(match["uid"]) if match.groupdict().get("uid") else state.uid
    elif match := _VM.search(text):
        state.kb = {f"{name}_kb": int(mib) * 1024 for name, mib in match.groupdict().items() if mib is not None}
    elif match := _CGROUP.search(text):
        state.cgroup = match[1].strip() if match[1].strip() != "/" else state.cgroup
    elif match := _ADJ.search(text):
        state.adj = int(match[1])
    elif "Cannot send a signal" in text or "died before corrective action" in text:
        kills.change_last("nohang", said.host, lambda kill: None)
    elif _TRIGGER.search(text) and any(words in text for words in ("threshold", "min_sig", "max_sig")):
        words = " ".join(text.split())
        state.trigger = words if state.trigger is None else f"{state.trigger}, {words}"
    if _SEND.search(text) and state.pid is not None:
        victim = Killed(state.pid, state.comm or "", uid=state.uid, oom_score_adj=state.adj, **(state.kb or {}))
        kills.add(
            kill_of(
                said,
                "nohang",
                "global",
                victim=victim,
                trigger=state.trigger,
                task_memcg=state.cgroup,
                original=state.lines,
            )
        )
        kills.close(said)
