"""Tells by stat(2) whether a file of the configuration has changed.

This is for changes that inotify(7) doesn't report: behind the bind mount of a file, on a network file system, or when
the user has no watches left."""

import os
from collections.abc import Iterable

from oomwatchd.kernel.mountinfo import MOUNTINFO_BYTES, parse_mountinfo

Stamp = tuple[tuple[object, ...], ...]

_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "ramfs", "overlay", "f2fs", "squashfs", "erofs", "vfat"})
"""File systems on which stat(2) waits for nothing but the machine itself. On others it may wait for ever."""


def stamp(main_file: str, drop_in_dirs: Iterable[str]) -> Stamp:
    """A value that differs when a file of the configuration has changed. It may wait for a file system, so call it in a
    helper where waits_for_nobody() is False."""
    paths = [main_file]
    for directory in drop_in_dirs:
        paths.append(directory)
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        paths += [f"{directory}/{name}" for name in names if name.endswith(".toml")]
    return tuple(_of(path) for path in paths)


def _of(path: str) -> tuple[object, ...]:
    try:
        status = os.stat(path)
    except OSError as error:
        return (path, error.errno)
    # Not st_atime, which reading the file changes.
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mode, *times)


def waits_for_nobody(stamped: Stamp, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Whether all files of `stamped` lie on local file systems, by proc_pid_mountinfo(5)."""
    try:
        with open(mountinfo, "rb") as file:
            mounts = parse_mountinfo(file.read(MOUNTINFO_BYTES))
    except OSError:
        return False
    types = {mount.device: mount.type.decode("ascii", "replace") for mount in mounts}
    devices = [entry[1] for entry in stamped if len(entry) > 2]
    return all(isinstance(device, int) and types.get(device) in _LOCAL for device in devices)
