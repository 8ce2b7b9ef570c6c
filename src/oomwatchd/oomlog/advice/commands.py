"""The command or setting that changes the memory limit of a unit, container, pod or cgroup. Pure."""

from oomwatchd.base.text import printable
from oomwatchd.oomlog.owners import Owner, owner_of
from oomwatchd.oomlog.record import OomKill

_ID_SHOWN = 12
"""So many characters of a container's ID are shown, as docker(1) and podman(1) do it."""


def owner_name(owner: Owner) -> str:
    """The owner of a cgroup as people call it: "docker.service", "pod UID", "container ID"."""
    name = printable(owner.name)
    if owner.kind == "container":
        return f"container {name[:_ID_SHOWN]}"
    return {
        "pod": f"pod {name}",
        "lxc": f"LXC container {name}",
        "machine": f"machine {name}",
        "cgroup": f"memory cgroup {name}",
    }.get(owner.kind, name)


def limit_command(owner: Owner, path: str, more: str) -> str:
    """The command or setting that raises the memory limit of `owner`, whose cgroup is `path`, to `more` ("768M")."""
    name = printable(owner.name)
    if "kubepods" in path:
        return "raise resources.limits.memory of that container in the pod's manifest"
    if owner.kind == "container":
        program = "podman" if "libpod" in path else "docker"
        return f"{program} update --memory {more} {name[:_ID_SHOWN]}"
    if owner.kind == "lxc":
        return f"raise its limit (Proxmox: pct set {name} --memory MIB; LXD, Incus: limits.memory)"
    if owner.kind in ("unit", "slice", "machine") and owner.unit is not None:
        return f"systemctl set-property {printable(owner.unit)} MemoryMax={more}"
    if owner.kind == "user unit":
        return f"systemctl --user set-property {name} MemoryMax={more}"
    return f"write more to memory.max in /sys/fs/cgroup{printable(path)} (version 1: memory.limit_in_bytes)"


def bound_command(owner: Owner | None) -> str:
    """The command or setting that gives `owner` a memory limit. None as `owner`: it isn't known whose the processes
    are."""
    if owner is None or owner.kind == "cgroup":
        return "give it a limit (MemoryMax= of its unit; systemd-run -p MemoryMax=SIZE for a command)"
    if owner.kind == "container":
        return f"give {owner_name(owner)} a limit (docker update --memory, or the pod's resources.limits.memory)"
    if owner.kind in ("unit", "user unit", "machine") and owner.unit is not None:
        user = " --user" if owner.kind == "user unit" else ""
        return f"systemctl{user} set-property {printable(owner.unit)} MemoryHigh=SIZE MemoryMax=SIZE"
    return f"give {owner_name(owner)} a limit"


def owner_of_victim(kill: OomKill) -> Owner | None:
    """The owner of the victim's cgroup or unit. None: the log doesn't say."""
    if kill.task_memcg is not None:
        return owner_of(kill.task_memcg)
    return None if kill.unit is None else Owner("unit", kill.unit, kill.unit, None)
