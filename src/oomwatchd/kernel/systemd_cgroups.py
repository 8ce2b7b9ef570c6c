"""What a process's cgroup path says in systemd's terms. Pure: cgroups(7), systemd.unit(5)."""

from dataclasses import dataclass


def parse_cgroup(raw: bytes) -> bytes:
    """The path of /proc/PID/cgroup in the unified hierarchy, else in the one that systemd keeps for itself on
    cgroup v1 (cgroups(7)); empty if there is neither."""
    named = b""
    for line in raw.splitlines():
        if line.startswith(b"0::"):
            return line[3:]
        _, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if controllers == b"name=systemd":
            named = path
    return named


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
