"""What other OOM killers log: systemd-oomd, earlyoom, nohang, oomd; and what service managers say of a kill. Pure.

Facts from their sources: systemd 247 to 259 (src/oom/oomd-manager.c), earlyoom 1.0 to 1.9 (kill.c, main.c), nohang 0.1
to 0.3 (src/nohang), oomd 0.3 to 0.5 (BaseKillPlugin.cpp). A name of a process may hold anything, and so is looked for
between what stands before and behind it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from oomwatchd.oomlog.record import Invoker, Killed, Memory, OomKill
from oomwatchd.oomlog.times import seconds_of

PROGRAMS = ("systemd-oomd", "earlyoom", "nohang", "nohang-desktop", "oomd")
MAX_EVENTS = 100_000
_MIB = 1024


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a program. time: as in `OomKill`."""

    program: str
    text: str
    time: str | float | None
    host: str | None = None
    raw: str = ""
    file: str | None = None


@dataclass(slots=True)
class _Open:
    """What a killer has said so far of a kill yet to come."""

    trigger: str | None = None
    pid: int | None = None
    comm: str | None = None
    uid: int | None = None
    adj: int | None = None
    kb: dict[str, int] | None = None
    cgroup: str | None = None
    lines: tuple[str, ...] = ()


class Killers:
    """Feed it what the other killers say, in order; `finish` returns their kills."""

    def __init__(self) -> None:
        self._kills: list[OomKill] = []
        self._open: dict[tuple[str | None, str], _Open] = {}

    def feed(self, said: Said) -> None:
        """Take in a line of one of PROGRAMS, or of the kernel, through which oomd speaks too."""
        reader = _READERS.get(said.program)
        if reader is not None and len(self._kills) < MAX_EVENTS:
            reader(self, said)

    def finish(self) -> list[OomKill]:
        """All kills, in the order of the log."""
        kills, self._kills = self._kills, []
        self._open.clear()
        return kills

    def until(self, time: str | float | None) -> list[OomKill]:
        """The kills up to a time, of which no more will be said."""
        limit, count = seconds_of(time), 0
        if limit is None:
            return []
        for kill in self._kills:
            seconds = seconds_of(kill.time)
            if seconds is None or isinstance(kill.time, float) != isinstance(time, float) or seconds > limit:
                break
            count += 1
        taken, self._kills = self._kills[:count], self._kills[count:]
        return taken

    def opened(self, said: Said) -> _Open:
        state = self._open.setdefault((said.host, said.program), _Open())
        if len(state.lines) < 50:
            state.lines += (said.raw or said.text,)
        return state

    def close(self, said: Said) -> None:
        self._open.pop((said.host, said.program), None)

    def add(self, kill: OomKill) -> None:
        """A kill; one more signal to the same process is no other kill."""
        last = self.last(kill.killer, kill.host)
        if last is not None and last.victim is not None and kill.victim is not None:
            same = last.victim.pid == kill.victim.pid and last.victim.comm == kill.victim.comm
            if same and not last.reaped:
                return
        self._kills.append(kill)

    def last(self, killer: str, host: str | None) -> OomKill | None:
        """That killer's last kill."""
        recent = self._kills[-16:]
        return next((one for one in reversed(recent) if (one.killer, one.host) == (killer, host)), None)

    def change_last(self, killer: str, host: str | None, change: Callable[[OomKill], OomKill | None]) -> None:
        """Replace that killer's last kill; None: it was none."""
        for at in range(len(self._kills) - 1, max(-1, len(self._kills) - 17), -1):
            if (self._kills[at].killer, self._kills[at].host) == (killer, host):
                changed = change(self._kills[at])
                if changed is None:
                    del self._kills[at]
                else:
                    self._kills[at] = changed
                return


def _kill(said: Said, killer: str, scope: str, **facts: object) -> OomKill:
    kill = OomKill(
        time=said.time, kernel=None, scope=scope, constraint=None, memcg=None, task_memcg=None, invoker=Invoker(),
        victim=None, also_killed=(), tasks=None, columns=None, chosen=None, reaped=(), group=None,
        allocating_task=False, no_killable=False, panic=None, nodes=None, memory=Memory(), truncated=False,
        killer=killer, host=said.host, file=said.file, original=(said.raw or said.text,),
    )  # fmt: skip
    return replace(kill, **facts)  # type: ignore[arg-type]


# systemd-oomd

_OOMD = re.compile(
    r"(?P<verb>Killed|Marked) (?P<path>/?\S.{0,4095}?) (?:for killing )?due to (?P<why>(?:memory|swap) .*)"
)
_OOMD_PRESSURE = re.compile(r"memory pressure for (?P<path>.{1,4096}) being \d")
_OOMD_RULE = re.compile(
    r"Rule '(?P<rule>.*)' conditions met for cgroup (?P<path>.{1,4096}) for .*, taking action kill-all"
)


def _systemd_oomd(killers: Killers, said: Said) -> None:
    match = _OOMD.search(said.text)
    if match is None:
        rule = _OOMD_RULE.search(said.text)
        if rule is not None:
            facts = {"task_memcg": rule["path"], "memcg": rule["path"], "trigger": f"rule '{rule['rule']}'"}
            killers.add(_kill(said, "systemd-oomd", "memcg", **facts))
        return
    path = match["path"] if match["path"].startswith("/") else f"/{match['path']}"
    last = killers.last("systemd-oomd", said.host)
    if match["verb"] == "Killed" and last is not None and last.task_memcg == path and "Marked" in last.original[0]:
        return  # newer versions mark a cgroup first, and kill it in a moment
    pressure = _OOMD_PRESSURE.match(match["why"])
    killers.add(
        _kill(
            said,
            "systemd-oomd",
            "global" if pressure is None else "memcg",
            task_memcg=path,
            memcg=None if pressure is None else pressure["path"],
            trigger=match["why"].strip(),
            memory=_oomd_memory(match["why"]),
        )
    )


_OOMD_SWAP = re.compile(
    r"memory used \((\d{1,18})\) / total \((\d{1,18})\) and swap used \((\d{1,18})\) / total \((\d{1,18})\)"
)


def _oomd_memory(why: str) -> Memory:
    match = _OOMD_SWAP.search(why)
    if match is None:
        return Memory()
    used, total, swap_used, swap_total = (int(number) // 1024 for number in match.groups())
    return Memory(
        ram_kb=total,
        free_kb=max(0, total - used),
        swap_total_kb=swap_total,
        swap_free_kb=max(0, swap_total - swap_used),
    )


# earlyoom

_EARLY_LOW = re.compile(r"low memory! at or below (SIG\w+) limits: (.*)")
_EARLY_FIGURES = re.compile(r"mem avail: *(\d+) of *(\d+) MiB.*?swap free: *(\d+) of *(\d+) MiB")
_EARLY_SEND = re.compile(
    r'sending (SIG\w+|signal \d+) to process (?P<pid>\d{1,10})(?: uid (?P<uid>\d{1,10}))? "(?P<comm>.{0,64}?)": '
    r"(?:badness|oom_score) -?\d+(?:, oom_score_adj (?P<adj>-?\d+))?, VmRSS (?P<rss>\d{1,12}) MiB"
)
_EARLY_OLD = re.compile(r"Killing process (?P<pid>\d{1,10}) (?P<comm>.{1,64})$")


def _earlyoom(killers: Killers, said: Said) -> None:
    if low := _EARLY_LOW.search(said.text):
        killers.opened(said).trigger = f"at or below the {low[1]} limits: {' '.join(low[2].split())}"
        return
    if figures := _EARLY_FIGURES.search(said.text):
        state = killers.opened(said)
        names = ("avail", "ram", "swap_free", "swap_total")
        state.kb = {name: int(mib) * _MIB for name, mib in zip(names, figures.groups(), strict=True)}
        return
    if "dryrun, not actually" in said.text or "kill failed: " in said.text:
        killers.change_last("earlyoom", said.host, lambda kill: None)
        return
    if re.search(r"process(?: \d+)? exited after", said.text):
        killers.change_last(
            "earlyoom", said.host, lambda kill: replace(kill, reaped=(kill.victim.pid,) if kill.victim else ())
        )
        return
    match = _EARLY_SEND.search(said.text) or _EARLY_OLD.search(said.text)
    if match is None:
        return
    groups = match.groupdict()
    state = killers.opened(said)
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
    killers.add(
        _kill(said, "earlyoom", "global", victim=victim, trigger=state.trigger, memory=memory, original=state.lines)
    )
    killers.close(said)


# nohang: a line each in the journal, or the lines of one message with a time before the first alone.

_NOHANG_TRIGGER = re.compile(r"\S (?:<=|>=) \S")
_NOHANG_VICTIM = re.compile(
    r"PID: +(?P<pid>\d{1,10}), [Nn]ame: (?P<comm>.{0,64}?), (?:badness: -?\d|state: )(?:.*EUID: (?P<uid>\d{1,10}))?"
)
_NOHANG_OLD = re.compile(
    r"Victim is (?P<comm>.{0,64}?), pid: (?P<pid>\d{1,10}), badness: -?\d+, VmRSS: (?P<rss>\d+) MiB"
)
_NOHANG_ADJ = re.compile(r"oom_score_adj: +(-?\d{1,4})")
_NOHANG_VM = re.compile(
    r"Vm, MiB: +Size: (?P<total_vm>\d+), RSS: \d+"
    r"(?: \(Anon: (?P<anon_rss>\d+), File: (?P<file_rss>\d+), Shmem: (?P<shmem_rss>\d+)\))?"
)
_NOHANG_CGROUP = re.compile(r"cgroup_v[12]: (/.*)")
_NOHANG_SEND = re.compile(r"Sending (SIG\w+) to the victim")


def _nohang(killers: Killers, said: Said) -> None:
    text = said.text
    state = killers.opened(said)
    if "requires corrective actions" in text or "corrective action required" in text:
        killers.close(said)
        killers.opened(said)
    elif (match := _NOHANG_VICTIM.search(text)) or (match := _NOHANG_OLD.search(text)):
        state.pid, state.comm = int(match["pid"]), match["comm"]
        state.uid = int(match["uid"]) if match.groupdict().get("uid") else state.uid
    elif match := _NOHANG_VM.search(text):
        state.kb = {f"{name}_kb": int(mib) * _MIB for name, mib in match.groupdict().items() if mib is not None}
    elif match := _NOHANG_CGROUP.search(text):
        state.cgroup = match[1].strip() if match[1].strip() != "/" else state.cgroup
    elif match := _NOHANG_ADJ.search(text):
        state.adj = int(match[1])
    elif "Cannot send a signal" in text or "died before corrective action" in text:
        killers.change_last("nohang", said.host, lambda kill: None)
    elif _NOHANG_TRIGGER.search(text) and any(words in text for words in ("threshold", "min_sig", "max_sig")):
        words = " ".join(text.split())
        state.trigger = words if state.trigger is None else f"{state.trigger}, {words}"
    if _NOHANG_SEND.search(text) and state.pid is not None:
        victim = Killed(state.pid, state.comm or "", uid=state.uid, oom_score_adj=state.adj, **(state.kb or {}))
        killers.add(
            _kill(
                said,
                "nohang",
                "global",
                victim=victim,
                trigger=state.trigger,
                task_memcg=state.cgroup,
                original=state.lines,
            )
        )
        killers.close(said)


# oomd: "oomd kill: 12.00 5.00 1.00 a/b.service 123456 ruleset:[x] detectorgroup:[y] killer:z v2", in the kernel's log
# too, which it writes to.

_FB_OOMD = re.compile(
    r"(?P<pressure>\d+\.\d\d \d+\.\d\d \d+\.\d\d) (?P<path>\S.{0,4095}?) (?P<bytes>\d{1,19}) "
    r"ruleset:\[(?P<ruleset>.*?)\] detectorgroup:\[(?P<group>.*?)\] killer:(?P<dry>\(dry\))?(?P<plugin>\S{1,100})"
)


def _fb_oomd(killers: Killers, said: Said) -> None:
    match = _FB_OOMD.search(said.text)
    if match is None or match["dry"] is not None or (said.program == "kernel" and "oomd kill: " not in said.text):
        return
    trigger = f"ruleset {match['ruleset']}, detectors {match['group']}, memory pressure {match['pressure']}"
    last = killers.last("oomd", said.host)
    if last is not None and last.trigger == trigger:
        return  # told twice: to the kernel's log, and to its own
    path = f"/{match['path'].lstrip('/')}"
    memory = Memory(usage_kb=int(match["bytes"]) // 1024)
    killers.add(_kill(said, "oomd", "memcg", task_memcg=path, trigger=trigger, memory=memory))


_READERS: dict[str, Callable[[Killers, Said], None]] = {
    "systemd-oomd": _systemd_oomd,
    "earlyoom": _earlyoom,
    "nohang": _nohang,
    "nohang-desktop": _nohang,
    "oomd": _fb_oomd,
    "kernel": _fb_oomd,
}
