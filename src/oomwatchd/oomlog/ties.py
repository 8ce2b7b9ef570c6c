"""Reads what service managers say when one of their processes was killed: systemd, kubelet, Docker, containerd. Pure.

Their lines name a unit, a pod or a container, which the kernel's lines don't. They come within seconds of the
kernel's."""

import re
from collections import deque
from dataclasses import dataclass, replace

from oomwatchd.oomlog.killers import Said
from oomwatchd.oomlog.owners import owner_of
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.times import seconds_of

MANAGERS = (
    "systemd",
    "kubelet",
    "k3s",
    "k3s-agent",
    "rke2",
    "kubelite",
    "dockerd",
    "docker",
    "containerd",
    "crio",
    "podman",
)
_NEAR_SECONDS = 10.0
_KEPT = 10_000

_UNIT = re.compile(
    r"(?P<unit>[^\s/]{1,255}\.(?:service|scope|slice|socket|mount|swap)): "
    r"(?:A process of this unit has been killed by the OOM killer|The kernel OOM killer killed some processes"
    r"|systemd-oomd killed (?P<count>\d+|some) process|Failed with result 'oom-kill'"
    r"|.{0,60}result 'oom-kill')"
)
_OF_CONTAINERS = re.compile(r"OOMKill|SystemOOM|System OOM|TaskOOM|/tasks/oom|container oom|oom-killed", re.IGNORECASE)
_POD = re.compile(
    r'\bpods?="?(?P<pod>[a-z0-9][a-z0-9.-]{0,252}/[a-z0-9][a-z0-9.-]{0,252})"?'
    r"|\bpod (?P<old>[a-z0-9.-]{1,253}_[a-z0-9.-]{1,253})\("
)
_PID = re.compile(r"\bpid: ?(?P<pid>\d{1,10})\b")
_ID = re.compile(r"\b([0-9a-f]{64})\b")


@dataclass(frozen=True, slots=True)
class Tie:
    """What a line of a service manager names. by_killer: "kernel" or "systemd-oomd"."""

    time: str | float | None
    host: str | None
    by_killer: str = "kernel"
    unit: str | None = None
    pod: str | None = None
    container: str | None = None
    pid: int | None = None


class Ties:
    """Collects the lines of service managers, and ties them to kills near them in time."""

    def __init__(self) -> None:
        self._ties: deque[Tie] = deque(maxlen=_KEPT)

    def feed(self, said: Said) -> None:
        """Take in a line. It counts only if its program is one of MANAGERS."""
        if said.program not in MANAGERS:
            return
        if match := _UNIT.search(said.text):
            killer = "kernel" if match["count"] is None else "systemd-oomd"
            self._ties.append(Tie(said.time, said.host, killer, unit=match["unit"]))
        elif said.program != "systemd" and _OF_CONTAINERS.search(said.text):
            pod, pid, container = _POD.search(said.text), _PID.search(said.text), _ID.search(said.text)
            if pod is None and pid is None and container is None:
                return
            self._ties.append(
                Tie(
                    said.time,
                    said.host,
                    pod=None if pod is None else pod["pod"] or "/".join(reversed(pod["old"].split("_", 1))),
                    container=None if container is None else container[1],
                    pid=None if pid is None else int(pid["pid"]),
                )
            )

    def tied(self, kill: OomKill) -> OomKill:
        """The kill with its unit and container: by its cgroup's path, and where that doesn't tell, or only has a
        number for it, by what a manager said beside it."""
        path = kill.task_memcg or kill.memcg
        owner = None if path is None else owner_of(path)
        unit = kill.unit or (None if owner is None else owner.unit)
        container = kill.container or (None if owner is None else owner.container)
        for tie in self._ties:
            if tie.by_killer != kill.killer or not _is_near(tie, kill):
                continue
            if tie.unit is not None and unit is None and path is None:
                unit = tie.unit
            if _means(tie, kill, container):
                container = tie.pod or container or tie.container
        if (unit, container) == (kill.unit, kill.container):
            return kill
        return replace(kill, unit=unit, container=container)


def _means(tie: Tie, kill: OomKill, container: str | None) -> bool:
    """Whether a line about a container is about this kill."""
    if tie.pid is not None:
        return kill.victim is not None and kill.victim.pid == tie.pid
    if tie.container is not None:
        return container is None or container == tie.container
    return tie.pod is not None and (container is not None or (kill.task_memcg or "").find("kubepods") >= 0)


def _is_near(tie: Tie, kill: OomKill) -> bool:
    if tie.host is not None and kill.host is not None and tie.host != kill.host:
        return False
    ours, theirs = seconds_of(kill.time), seconds_of(tie.time)
    if ours is None or theirs is None or isinstance(kill.time, float) != isinstance(tie.time, float):
        return False
    return -1.0 <= theirs - ours <= _NEAR_SECONDS
