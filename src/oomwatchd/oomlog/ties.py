"""Reads what service managers say when one of their processes was killed: systemd, kubelet, Docker, containerd. Pure.

Their lines name a unit, a pod or a container, which the kernel's lines don't. They come within seconds of the
kernel's."""

import re
from collections import deque
from collections.abc import Iterator
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
_NEAR_SECONDS = 10
_KEPT = 10_000
_KEPT_OF_SPAN = 500
"""So many lines are kept of a span of _NEAR_SECONDS. Each kill is compared with those of three spans."""

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

    host: str | None
    by_killer: str = "kernel"
    unit: str | None = None
    pod: str | None = None
    container: str | None = None
    pid: int | None = None


_Span = tuple[bool, float]
"""Whether its times are seconds since boot, and its number: a date and an uptime aren't compared."""


class Ties:
    """Collects the lines of service managers, and ties them to kills near them in time."""

    def __init__(self) -> None:
        self._spans: dict[_Span, deque[tuple[float, Tie]]] = {}
        """The lines of each span with their times in seconds, in the order of the log."""
        self._order: deque[_Span] = deque()
        """The span of each line, in the order of the log."""

    def feed(self, said: Said) -> None:
        """Take in a line. It counts only if its program is one of MANAGERS."""
        if said.program not in MANAGERS:
            return
        if match := _UNIT.search(said.text):
            killer = "kernel" if match["count"] is None else "systemd-oomd"
            self._add(said.time, Tie(said.host, killer, unit=match["unit"]))
        elif said.program != "systemd" and _OF_CONTAINERS.search(said.text):
            pod, pid, container = _POD.search(said.text), _PID.search(said.text), _ID.search(said.text)
            if pod is None and pid is None and container is None:
                return
            self._add(
                said.time,
                Tie(
                    said.host,
                    pod=None if pod is None else pod["pod"] or "/".join(reversed(pod["old"].split("_", 1))),
                    container=None if container is None else container[1],
                    pid=None if pid is None else int(pid["pid"]),
                ),
            )

    def _add(self, time: str | float | None, tie: Tie) -> None:
        seconds = seconds_of(time)
        if seconds is None:
            return
        span = (isinstance(time, float), seconds // _NEAR_SECONDS)
        ties = self._spans.setdefault(span, deque())
        if len(ties) < _KEPT_OF_SPAN:
            ties.append((seconds, tie))
            self._order.append(span)
        if len(self._order) > _KEPT:
            oldest = self._order.popleft()
            self._spans[oldest].popleft()
            if not self._spans[oldest]:
                del self._spans[oldest]

    def tied(self, kill: OomKill) -> OomKill:
        """The kill with its unit and container: by its cgroup's path, and where that doesn't tell, or only has a
        number for it, by what a manager said beside it."""
        path = kill.task_memcg or kill.memcg
        owner = None if path is None else owner_of(path)
        unit = kill.unit or (None if owner is None else owner.unit)
        container = kill.container or (None if owner is None else owner.container)
        for tie in self._near(kill):
            if tie.unit is not None and unit is None and path is None:
                unit = tie.unit
            if _means(tie, kill, container):
                container = tie.pod or container or tie.container
        if (unit, container) == (kill.unit, kill.container):
            return kill
        return replace(kill, unit=unit, container=container)

    def _near(self, kill: OomKill) -> Iterator[Tie]:
        """The lines about kills by this killer, on this host, and near this kill in time."""
        ours = seconds_of(kill.time)
        if ours is None:
            return
        number = ours // _NEAR_SECONDS
        for span in (number - 1, number, number + 1):
            for theirs, tie in self._spans.get((isinstance(kill.time, float), span), ()):
                is_near = -1.0 <= theirs - ours <= _NEAR_SECONDS and tie.by_killer == kill.killer
                if is_near and (tie.host is None or kill.host is None or tie.host == kill.host):
                    yield tie


def _means(tie: Tie, kill: OomKill, container: str | None) -> bool:
    """Whether a line about a container is about this kill."""
    if tie.pid is not None:
        return kill.victim is not None and kill.victim.pid == tie.pid
    if tie.container is not None:
        return container is None or container == tie.container
    return tie.pod is not None and (container is not None or (kill.task_memcg or "").find("kubepods") >= 0)
