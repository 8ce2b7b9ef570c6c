"""What follows a kill by the kernel: memory.oom.group takes others along, and systemd stops the unit (OOMPolicy=).

mem_cgroup_get_oom_group() in mm/memcontrol.c; systemd.service(5), systemd.scope(5); src/core/service.c, scope.c."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from oomwatchd.base.text import printable
from oomwatchd.oom.memcgs import ancestry, is_within

_NO = frozenset(("", "no", "false", "n", "f", "0", "off"))
POLICIES = ("stop", "continue", "kill")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit with processes, and what systemd does with it after a kill in it."""

    name: str
    manager: int | None  # uid of the user's manager that it belongs to; None: the system's
    cgroup: bytes
    policy: str  # one of POLICIES
    alone: bool = False  # it has a single process


def killed_with(victim: bytes | None, domain: bytes, together: Collection[bytes]) -> bytes | None:
    """The cgroup whose processes all die with a victim in the memory cgroup `victim`, except those at -1000. None: no
    other process dies.

    It is the topmost group with memory.oom.group set, from `victim` up to `domain`, the group that is out of memory
    ("/": the machine). `together` are all groups with memory.oom.group set."""
    if victim is None or not is_within(victim, domain):
        return None
    marked = [group for group in ancestry(victim) if group in together and is_within(group, domain)]
    return marked[-1] if marked else None


def policy_of(name: str, settings: Mapping[str, str], default: str) -> str:
    """OOMPolicy= of the service or scope `name` with these settings of its unit file. `default` is DefaultOOMPolicy= of
    its manager. A unit with Delegate= has "continue", and so has a login's scope."""
    stated = settings.get("OOMPolicy", "")
    if stated in POLICIES:
        return stated
    if settings.get("Delegate", "").lower() not in _NO:
        return "continue"
    if name.startswith("session-") and name.endswith(".scope"):
        return "continue"
    return default if default in POLICIES else "stop"


def has_policy(name: str) -> bool:
    """Whether units of this type have an OOMPolicy= at all."""
    return name.endswith((".service", ".scope")) and name != "init.scope"


def follows(victim: bytes | None, domain: bytes, together: Collection[bytes], units: Iterable[Unit]) -> tuple[str, ...]:
    """Sentences on what follows when a process in the memory cgroup `victim` is killed; see killed_with()."""
    said = []
    group = killed_with(victim, domain, together)
    if group is not None:
        said.append(f"memory.oom.group of {printable(group)}: all in it but those at -1000 die with the victim.")
    for unit in units:
        if unit.policy != "continue" and not unit.alone and is_within(victim, unit.cgroup):
            does = "stops" if unit.policy == "stop" else "kills"
            said.append(f"OOMPolicy={unit.policy}: systemd then {does} all of {printable(unit.name)}.")
    return tuple(said)
