"""Says whose a cgroup is, by its path: a systemd unit's, a pod's, a container's, an LXC guest's. Pure.

The paths are those of systemd (systemd.resource-control(5)), kubelet, containerd, CRI-O, Docker, Podman, LXC and ECS. A
path is a name that users may choose. It is only shown; no decision depends on it."""

import re
from dataclasses import dataclass

_ID = r"[0-9a-f]{64}"
_UNIT = re.compile(r"[^/]{1,250}\.(?:service|scope|slice|socket|mount|swap)$")
_SCOPE_OF_CONTAINER = re.compile(
    rf"(?:docker|libpod|crio|cri-containerd|containerd|cri-o|podman|nerdctl|buildkit)[-:](?:conmon-)?({_ID})(?:\.scope)?$"
)
_BARE_ID = re.compile(rf"(?:libpod[-_]|crio-|docker-)?({_ID})$")
_POD = re.compile(
    r"(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$"
)
_LXC = re.compile(r"lxc\.payload\.(.+)$")
_ECS_TASK = re.compile(r"(?:ecstasks-)?([0-9a-f]{32})(?:-\d+)?(?:\.slice)?$")
_MACHINE = re.compile(r"machine-(.+)\.scope$|systemd-nspawn@(.+)\.service$")


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a cgroup.

    kind: "container", "pod", "lxc", "machine", "user unit", "unit", "slice" or "cgroup". name: what its manager calls
    it (a container's or pod's ID, a unit's name). unit: the innermost systemd unit of the path, or None. container: the
    ID of the container, "pod…", the guest's name, or None."""

    kind: str
    name: str
    unit: str | None
    container: str | None


def owner_of(path: str) -> Owner:
    """The owner of the cgroup at `path`."""
    parts = [part for part in path.split("/") if part]
    unit = _unit(parts)
    container = _container(parts)
    if container is not None:
        kind, name = container
        return Owner(kind, name, unit, f"pod{name}" if kind == "pod" else name)
    if unit is None:
        return Owner("cgroup", path, None, None)
    if unit.endswith(".slice"):
        return Owner("slice", unit, unit, None)
    is_user = any(re.match(r"user@\d+\.service$", part) for part in parts) and not unit.startswith("user@")
    return Owner("user unit" if is_user else "unit", unit, unit, None)


def _unit(parts: list[str]) -> str | None:
    """The innermost unit: the part after the slices. Cgroups that a service with Delegate= makes below itself aren't
    units."""
    found = None
    for part in parts:
        if _UNIT.match(part) is None:
            if found is not None and not found.endswith(".slice"):
                break
            continue
        name = part.removeprefix("_")  # systemd sets it before a name that a file in a cgroup directory has, too
        if found is not None and not found.endswith(".slice") and not re.match(r"user@\d+\.service$", found):
            break
        found = name
    return found


def _container(parts: list[str]) -> tuple[str, str] | None:
    """The innermost container, pod or guest in the path."""
    found: tuple[str, str] | None = None
    for index, part in enumerate(parts):
        before = parts[index - 1] if index else ""
        if match := _SCOPE_OF_CONTAINER.search(part) or _BARE_ID.match(part):
            found = "container", match[1]
        elif match := _POD.search(part):
            found = "pod", match[1].replace("_", "-")
        elif match := _LXC.match(part):
            found = "lxc", match[1]
        elif before == "lxc" and not part.startswith("lxc"):
            found = "lxc", part
        elif match := _MACHINE.match(part):
            found = "machine", re.sub(r"\\x([0-9a-f]{2})", lambda byte: chr(int(byte[1], 16)), match[1] or match[2])
        elif before == "ecs" and (match := _ECS_TASK.match(part)):
            found = "container", match[1]
    return found
