"""Parses /proc/PID/cgroup and cgroup paths into units and slices, as systemd does: cgroups(7), systemd.unit(5)."""

from dataclasses import dataclass
from enum import Enum

from oomwatchd.kernel.mountinfo import MOUNTINFO_BYTES, parse_mountinfo


class Hierarchy(Enum):
    """The cgroup hierarchy in which systemd keeps its units. The value is how its line in /proc/PID/cgroup begins or is
    named."""

    UNIFIED = b"0::"
    """cgroup v2, also where it is mounted beside v1 and systemd uses it."""
    NAMED = b"name=systemd"
    """The hierarchy without controllers of cgroup v1."""

    @classmethod
    def find(cls, proc: str = "/proc") -> "Hierarchy":
        """The hierarchy that systemd uses on this machine. UNIFIED where the mounts can't be read."""
        try:
            with open(f"{proc}/self/mountinfo", "rb") as file:
                return parse_hierarchy(file.read(MOUNTINFO_BYTES))
        except OSError:
            return cls.UNIFIED


def parse_hierarchy(mountinfo: bytes) -> Hierarchy:
    """The hierarchy that systemd uses, by the content of /proc/PID/mountinfo. UNIFIED where none of its places has a
    cgroup file system.

    The types of the file systems at systemd's own mount points decide, in the order of cg_unified_cached() in systemd's
    src/basic/cgroup-util.c. A mount of cgroup2 at another place says nothing, though it gives every process a line of
    that hierarchy."""
    types = {mount.place: mount.type for mount in parse_mountinfo(mountinfo)}
    if types.get(b"/sys/fs/cgroup") == b"cgroup2" or types.get(b"/sys/fs/cgroup/unified") == b"cgroup2":
        return Hierarchy.UNIFIED
    if types.get(b"/sys/fs/cgroup/systemd") == b"cgroup":
        return Hierarchy.NAMED
    return Hierarchy.UNIFIED


def parse_cgroup(raw: bytes, hierarchy: Hierarchy) -> bytes:
    """The cgroup path of a process in `hierarchy`, by /proc/PID/cgroup; empty: the process isn't in that hierarchy."""
    return parse_hierarchies(raw).get(hierarchy.value, b"")


def parse_hierarchies(raw: bytes) -> dict[bytes, bytes]:
    """The cgroup paths of a process by hierarchy, by /proc/PID/cgroup. The keys are `0::` for the unified hierarchy,
    `name=systemd`, and `memory` of cgroup v1, as far as the process is in them.

    The kernel appends " (deleted)" to the path of a cgroup that was removed. It is taken off, as systemd does."""
    found = {}
    # Only a line feed ends a line: the name of a cgroup can't have one, but a user may put a carriage return into it.
    for line in raw.split(b"\n"):
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        path = path.removesuffix(b" (deleted)")
        if number == b"0" and not controllers:
            found[Hierarchy.UNIFIED.value] = path
        elif controllers == Hierarchy.NAMED.value:
            found[controllers] = path
        elif b"memory" in controllers.split(b","):
            found[b"memory"] = path
    return found


@dataclass(frozen=True, slots=True)
class Units:
    """The names of systemd's units in a cgroup path; empty: the path names none."""

    unit: str
    user_unit: str
    slice: str


_UNIT_SUFFIXES = (
    *(".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer"),
    *(".slice", ".scope"),
)
_UNIT_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@")
_UNIT_NAME_MAX = 255


def parse_units(cgroup: str) -> Units:
    """The unit, the user unit and the slice of a cgroup path, as src/basic/cgroup-util.c of systemd parses them:
    cg_path_get_unit(), cg_path_get_user_unit(), cg_path_get_slice()."""
    parts = [part.removeprefix("_") for part in cgroup.split("/") if part]
    after = _skip_slices(parts)
    innermost = parts[len(parts) - len(after) - 1] if len(after) < len(parts) else "-.slice"
    unit = _unit_at(after)
    user_unit = _unit_at(_skip_slices(after[1:])) if after and _is_session(after[0]) else ""
    return Units(unit, user_unit, innermost)


def _skip_slices(parts: list[str]) -> list[str]:
    count = 0
    while count < len(parts) and parts[count].endswith(".slice") and _is_unit_name(parts[count]):
        count += 1
    return parts[count:]


def _unit_at(parts: list[str]) -> str:
    return parts[0] if parts and _is_unit_name(parts[0]) and not parts[0].endswith(".slice") else ""


def _is_session(part: str) -> bool:
    """Whether `part` is the cgroup of a user's own manager or of a login session: below it, users name the cgroups."""
    if part.startswith("user@") and part.endswith(".service"):
        return part[5:-8].isascii() and part[5:-8].isdigit()
    return part.startswith("session-") and part.endswith(".scope") and part[8:-6].isalnum()


def _is_unit_name(name: str) -> bool:
    stem, dot, _ = name.rpartition(".")
    if not dot or not stem or len(name) > _UNIT_NAME_MAX or not name.endswith(_UNIT_SUFFIXES):
        return False
    if stem.startswith("@") or stem.endswith("@"):  # a name without a prefix; a template, which never runs itself
        return False
    return _UNIT_CHARACTERS.issuperset(name)
