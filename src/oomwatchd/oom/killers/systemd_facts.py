"""Reads what systemd and systemd-oomd decide by: the units of cgroups, their marks, and the pages that were reclaimed
from them.

Only cgroups of version 2 are read: neither systemd-oomd nor OOMPolicy= works on version 1."""

import os
import pwd
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from oomwatchd.kernel.systemd_cgroups import parse_units
from oomwatchd.oom.killers import aftermath, systemd_oomd
from oomwatchd.oom.killers.aftermath import Unit
from oomwatchd.oom.killers.unit_files import UnitFiles, read_conf
from oomwatchd.oom.memcgs import MemcgHierarchy, directory_of, find_hierarchy, walk
from oomwatchd.oom.processes import OomProcess
from oomwatchd.oom.small_files import read_file, read_number

_TRUE = frozenset((b"1", b"yes", b"y", b"true", b"t", b"on"))
_USER_MANAGER = re.compile(rb"/user@(\d+)\.service(?=/)")


class SystemdReader:
    """Reads the cgroups below `cgroup`, and the unit files and configuration below `root`."""

    def __init__(self, root: str = "/", cgroup: str = "/sys/fs/cgroup") -> None:
        self._root = root
        found = find_hierarchy(cgroup)
        self._hierarchy = found if found is not None and found.version == 2 else None
        self._units = UnitFiles(root, _home)

    def oomd_conf(self) -> dict[str, str]:
        """The [OOM] section of oomd.conf and its drop-ins."""
        return read_conf("oomd.conf", "OOM", self._root)

    def watched(self) -> list[systemd_oomd.Watched]:
        """The cgroups that systemd-oomd watches."""
        hierarchy = self._hierarchy
        found = []
        for path in [] if hierarchy is None else [b"/", *walk(hierarchy)]:
            name, manager = unit_of_directory(path)
            if name is None:
                continue
            directory = directory_of(hierarchy, path)  # type: ignore[arg-type]
            pressure = parse_pressure(read_file(os.path.join(directory, b"memory.pressure")) or b"")
            one = systemd_oomd.watched_by(
                path, self._units.settings(name, manager), pressure.get("full_avg10"), _owner(directory)
            )
            if one is not None:
                found.append(one)
        return found

    def leaves(self, watched: Sequence[systemd_oomd.Watched]) -> list[systemd_oomd.Leaf]:
        """The cgroups that systemd-oomd may kill: the leaves below those that it watches."""
        hierarchy = self._hierarchy
        if hierarchy is None:
            return []
        found: dict[bytes, systemd_oomd.Leaf] = {}
        for each in watched:
            for path in _leaves_below(hierarchy, each.path):
                if path not in found and (leaf := _read_leaf(hierarchy, path)) is not None:
                    found[path] = leaf
        return list(found.values())

    def oom_groups(self) -> set[bytes]:
        """All memory cgroups with memory.oom.group set."""
        hierarchy = self._hierarchy
        paths = [] if hierarchy is None else walk(hierarchy)
        return {path for path in paths if _has_oom_group(hierarchy, path)}  # type: ignore[arg-type]

    def units(self, processes: Sequence[OomProcess]) -> list[Unit]:
        """The services and scopes that have processes, with what systemd does after a kill in them."""
        if self._hierarchy is None:
            return []
        found: dict[tuple[str, int | None], Unit] = {}
        for process in processes:
            unit = None if process.task.memcg is None else unit_of_process(process.task.memcg)
            if unit is None or not aftermath.has_policy(unit[0]):
                continue
            name, manager, cgroup = unit
            if (name, manager) in found:
                found[name, manager] = replace(found[name, manager], alone=False)
                continue
            policy = aftermath.policy_of(name, self._units.settings(name, manager), self._default_policy(manager))
            found[name, manager] = Unit(name, manager, cgroup, policy, alone=True)
        return list(found.values())

    def _default_policy(self, manager: int | None) -> str:
        name = "system.conf" if manager is None else "user.conf"
        return read_conf(name, "Manager", self._root).get("DefaultOOMPolicy", "stop")


def _home(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return None


def parse_pressure(raw: bytes) -> dict[str, float]:
    """A pressure file (Documentation/accounting/psi.rst) as {"some_avg10": 0.0, …, "full_avg300": …}, percent."""
    found = {}
    for line in raw.decode("ascii", "replace").split("\n"):
        kind, _, rest = line.partition(" ")
        for word in rest.split():
            name, _, value = word.partition("=")
            if name.startswith("avg") and re.fullmatch(r"\d+(\.\d+)?", value):
                found[f"{kind}_{name}"] = float(value)
    return found


def unit_of_directory(path: bytes) -> tuple[str | None, int | None]:
    """The unit whose cgroup is `path`, and the UID of the user's manager that the unit belongs to (None: the system's
    manager)."""
    if path == b"/":
        return "-.slice", None
    name = os.fsdecode(path.rpartition(b"/")[2]).removeprefix("_")
    if not name.endswith((".slice", ".service", ".scope", ".mount", ".swap", ".socket")):
        return None, None
    above = _USER_MANAGER.search(path)
    return name, None if above is None else int(above[1])


def unit_of_process(cgroup: bytes) -> tuple[str, int | None, bytes] | None:
    """The innermost service or scope of a process in `cgroup`: its name, the UID of the user's manager that it belongs
    to (None: the system's manager), and the unit's cgroup. None: there is no such unit."""
    units = parse_units(os.fsdecode(cgroup))
    name = units.user_unit or units.unit
    if not name:
        return None
    above = _USER_MANAGER.search(cgroup) if units.user_unit else None
    start = cgroup.find(b"/" + os.fsencode(name), above.end() if above else 0)
    if start < 0:
        start = cgroup.find(b"/_" + os.fsencode(name), above.end() if above else 0)
    end = cgroup.find(b"/", start + 1)
    return name, None if above is None else int(above[1]), cgroup if start < 0 or end < 0 else cgroup[:end]


def _owner(directory: bytes) -> int:
    try:
        return os.stat(directory).st_uid
    except OSError:
        return 0


def _marked(directory: bytes, name: str) -> bool:
    try:
        return os.getxattr(directory, name).strip().lower() in _TRUE
    except OSError:
        return False


def _has_oom_group(hierarchy: MemcgHierarchy, path: bytes) -> bool:
    return read_number(os.path.join(directory_of(hierarchy, path), b"memory.oom.group")) == 1


def _children(hierarchy: MemcgHierarchy, path: bytes) -> list[bytes]:
    try:
        with os.scandir(directory_of(hierarchy, path)) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [path.rstrip(b"/") + b"/" + name for name in names]


def _leaves_below(hierarchy: MemcgHierarchy, path: bytes) -> Iterator[bytes]:
    children = _children(hierarchy, path)
    if not children:
        yield path
    for child in children:
        if _has_oom_group(hierarchy, child):
            yield child
        else:
            yield from _leaves_below(hierarchy, child)


def _read_leaf(hierarchy: MemcgHierarchy, path: bytes) -> systemd_oomd.Leaf | None:
    """The facts of one leaf; None: the memory controller isn't enabled in it, and systemd-oomd passes it over."""
    directory = directory_of(hierarchy, path)
    current = read_number(os.path.join(directory, b"memory.current"))
    if current is None:
        return None
    statistics = read_file(os.path.join(directory, b"memory.stat")) or b""
    scanned = re.search(rb"^pgscan (\d+)$", statistics, re.MULTILINE)
    return systemd_oomd.Leaf(
        path=path,
        current=current,
        swap=read_number(os.path.join(directory, b"memory.swap.current")) or 0,
        pgscan=0 if scanned is None else int(scanned[1]),
        avoid=_marked(directory, "user.oomd_avoid"),
        omit=_marked(directory, "user.oomd_omit"),
        uid=_owner(directory),
    )
