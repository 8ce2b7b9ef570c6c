"""What a process's cgroup says in systemd's terms: cgroups(7), systemd.unit(5)."""

from dataclasses import dataclass
from enum import Enum

_MOUNTINFO_LIMIT = 4 << 20


class Hierarchy(Enum):
    """The cgroup hierarchy in which systemd keeps its units: the line of /proc/PID/cgroup that has it."""

    UNIFIED = b"0::"
    NAMED = b"name=systemd"
    """On cgroup v1."""

    @classmethod
    def find(cls, proc: str = "/proc") -> "Hierarchy":
        """The one that this machine's systemd uses."""
        try:
            with open(f"{proc}/self/mountinfo", "rb") as file:
                return parse_hierarchy(file.read(_MOUNTINFO_LIMIT))
        except OSError:
            return cls.UNIFIED


def parse_hierarchy(mountinfo: bytes) -> Hierarchy:
    """The hierarchy that systemd uses, by the types of the file systems at its mount points, in systemd's own order
    (cg_unified_cached() of src/basic/cgroup-util.c). A mount of cgroup2 anywhere else says nothing, though it gives
    every process a line of that hierarchy. `mountinfo` as in proc_pid_mountinfo(5); the last mount at a place counts.
    Where systemd would find no file system it is the unified one."""
    types: dict[bytes, bytes] = {}
    for line in mountinfo.split(b"\n"):
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) > 4:
            types[fields[4]] = after.split(b" ")[0]
    if types.get(b"/sys/fs/cgroup") == b"cgroup2" or types.get(b"/sys/fs/cgroup/unified") == b"cgroup2":
        return Hierarchy.UNIFIED
    if types.get(b"/sys/fs/cgroup/systemd") == b"cgroup":
        return Hierarchy.NAMED
    return Hierarchy.UNIFIED


def parse_cgroup(raw: bytes, hierarchy: Hierarchy) -> bytes:
    """The path of /proc/PID/cgroup in the hierarchy that systemd uses; empty if the process isn't in it."""
    return parse_hierarchies(raw).get(hierarchy.value, b"")


def parse_hierarchies(raw: bytes) -> dict[bytes, bytes]:
    """The paths of /proc/PID/cgroup by hierarchy: `0::` for the unified one, `name=systemd`, and `memory` of cgroup v1,
    as far as there are such. As systemd does, without what the kernel appends where the cgroup has been removed."""
    found = {}
    # By line feeds alone, which a cgroup's name can't have: a user may have a carriage return in one.
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
    """What a cgroup path says in systemd's terms; empty: nothing."""

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
    """Whether below `part` a user's own manager or session has the say."""
    if part.startswith("user@") and part.endswith(".service"):
        return part[5:-8].isascii() and part[5:-8].isdigit()
    return part.startswith("session-") and part.endswith(".scope") and part[8:-6].isalnum()


def _is_unit_name(name: str) -> bool:
    stem, dot, _ = name.rpartition(".")
    if not dot or not stem or len(name) > _UNIT_NAME_MAX or not name.endswith(_UNIT_SUFFIXES):
        return False
    if stem.startswith("@") or stem.endswith("@"):  # no prefix; a template, of which nothing runs
        return False
    return _UNIT_CHARACTERS.issuperset(name)
