"""Finds and reads memory cgroups of version 1 and 2.

A group that vanishes while it is read is left out. The root of the cgroup file systems is an argument, so that tests
can have a tree of their own.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from oomwatchd.oom.badness import Machine, Memcg
from oomwatchd.oom.small_files import PAGE, parse_pairs, read_file, read_number

PAGE_COUNTER_MAX = (2**63 - 1) // PAGE
"""Pages that a group of version 1 without a limit shows (include/linux/page_counter.h)."""


@dataclass(frozen=True, slots=True)
class MemcgHierarchy:
    """The cgroup hierarchy that the memory controller is attached to."""

    version: int  # 1 or 2
    root: bytes  # directory of the topmost group


def find_hierarchy(cgroup: str = "/sys/fs/cgroup") -> MemcgHierarchy | None:
    """The hierarchy with the memory controller below `cgroup`: version 1, version 2, or version 2 mounted beside
    version 1. None: there is none."""
    top = os.fsencode(cgroup)
    if os.path.exists(os.path.join(top, b"memory/memory.usage_in_bytes")):
        return MemcgHierarchy(1, os.path.join(top, b"memory"))
    for root in (top, os.path.join(top, b"unified")):
        controllers = read_file(os.path.join(root, b"cgroup.controllers")) or b""
        if b"memory" in controllers.split():
            return MemcgHierarchy(2, root)
    return None


def directory_of(hierarchy: MemcgHierarchy, path: bytes) -> bytes:
    """The directory of the group `path` ("/a/b", as in /proc/PID/cgroup)."""
    return os.path.join(hierarchy.root, path.strip(b"/"))


def group_path(hierarchy: MemcgHierarchy, name: bytes) -> bytes | None:
    """The group that a user means by `name`, a path as in /proc/PID/cgroup or a directory of the cgroup file
    system, as "/a/b"; None if there is no such group."""
    inside = _relative(os.path.abspath(name), hierarchy.root)
    for path in ([] if inside is None else [inside]) + [b"/" + name.strip(b"/")]:
        directory = directory_of(hierarchy, path)
        if os.path.isfile(os.path.join(directory, b"cgroup.procs")):
            return path
    return None


def _relative(path: bytes, root: bytes) -> bytes | None:
    root = os.path.abspath(root)
    if path == root:
        return b"/"
    return path[len(root) :] if path.startswith(root + b"/") else None


def is_within(path: bytes | None, group: bytes) -> bool:
    """Whether the group `path` is `group` or below it. A path that is not known is in none."""
    if path is None:
        return False
    return group == b"/" or path == group or path.startswith(group + b"/")


def ancestry(path: bytes) -> list[bytes]:
    """A group and its ancestors, nearest first, without the root, which has no limit."""
    paths = []
    while path not in (b"/", b""):
        paths.append(path)
        path = os.path.dirname(path)
    return paths


def walk(hierarchy: MemcgHierarchy) -> Iterator[bytes]:
    """The paths of all groups but the root, those of a directory by name."""
    for directory, subdirectories, _ in os.walk(hierarchy.root):
        subdirectories.sort()
        for name in subdirectories:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                relative = _relative(path, hierarchy.root)
                assert relative is not None
                yield relative


def read_memcg(hierarchy: MemcgHierarchy, path: bytes, machine: Machine) -> Memcg | None:
    """The group `path`; None if it is gone or the memory controller isn't enabled in it."""
    directory = directory_of(hierarchy, path)

    def pages(name: bytes) -> int | None:
        amount = read_number(os.path.join(directory, name))
        return None if amount is None or amount // PAGE >= PAGE_COUNTER_MAX else amount // PAGE

    v1 = hierarchy.version == 1
    usage = pages(b"memory.usage_in_bytes" if v1 else b"memory.current")
    if usage is None:
        return None
    limit = pages(b"memory.limit_in_bytes" if v1 else b"memory.max")
    swappiness = read_number(os.path.join(directory, b"memory.swappiness")) if v1 else None
    statistics = read_file(os.path.join(directory, b"memory.stat")) if limit is not None else None
    return Memcg(
        path=path,
        version=hierarchy.version,
        limit=limit,
        usage=usage,
        reclaimable=parse_reclaimable(statistics or b"", hierarchy.version),
        swap_limit=pages(b"memory.memsw.limit_in_bytes" if v1 else b"memory.swap.max"),
        swap_usage=pages(b"memory.memsw.usage_in_bytes" if v1 else b"memory.swap.current") or 0,
        swappiness=machine.swappiness if swappiness is None else swappiness,
    )


def parse_reclaimable(raw: bytes, version: int) -> int:
    """Of memory.stat the pages that can be taken back without killing: page cache, and in v2 slab."""
    names = (
        (b"total_inactive_file", b"total_active_file")
        if version == 1
        else (b"inactive_file", b"active_file", b"slab_reclaimable")
    )
    pairs = parse_pairs(raw)
    return sum(int(pairs.get(name, b"0")) for name in names) // PAGE
