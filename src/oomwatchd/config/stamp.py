"""Finds out by stat(2) whether a file of the configuration has changed.

This is for changes that inotify(7) doesn't report: behind the bind mount of a file, on a network file system, or when
the user has no watches left."""

import os
from collections.abc import Iterable, Sequence

from oomwatchd.config.links import path_to_open
from oomwatchd.kernel.mountinfo import MOUNTINFO_BYTES, Mount, parse_mountinfo

Stamp = tuple[tuple[object, ...], ...]

_LOCAL = frozenset(
    b"ext2 ext3 ext4 xfs btrfs bcachefs f2fs zfs jfs reiserfs nilfs2 vfat exfat ntfs3 hfsplus minix iso9660 udf "
    b"squashfs erofs cramfs romfs jffs2 ubifs tmpfs ramfs".split()
)
"""File systems on which stat(2) waits for nothing but the machine itself: those of the kernel on a block device or on
flash memory, and those in memory. linux/magic.h lists nearly all file systems.

On others stat(2) may wait for ever: for a server (nfs, cifs, 9p, ceph, afs), for a process (fuse, autofs, virtiofs),
for a lock of another machine (gfs2, ocfs2), or for whatever lies below (overlay, ecryptfs)."""


def stamp(main_file: str, drop_in_dirs: Iterable[str], root: str) -> Stamp:
    """A value that differs when a file of the configuration has changed. The arguments are those of a Layout. It may
    wait for a file system, so call it in a helper where waits_for_nobody() is False."""
    paths = [main_file]
    for directory in drop_in_dirs:
        paths.append(directory)
        try:
            names = sorted(os.listdir(path_to_open(directory, root)))
        except OSError:
            continue
        paths += [f"{directory}/{name}" for name in names if name.endswith(".toml")]
    return tuple(_of(path, root) for path in paths)


def _of(path: str, root: str) -> tuple[object, ...]:
    try:
        status = os.stat(path_to_open(path, root))
    except OSError as error:
        return (path, error.errno)
    # Not st_atime, which reading the file changes.
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mode, *times)


def waits_for_nobody(stamped: Stamp, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Whether all files of `stamped` lie on local file systems, by proc_pid_mountinfo(5). It may wait for a file system
    that isn't local."""
    try:
        with open(mountinfo, "rb") as file:
            mounts = tuple(parse_mountinfo(file.read(MOUNTINFO_BYTES)))
    except OSError:
        return False
    types: dict[object, bytes] = {mount.device: mount.type for mount in mounts}
    found = [entry for entry in stamped if len(entry) > 2]
    # Each subvolume of btrfs has a device number of its own, which no mount shows.
    return all((types.get(device) or _type_by_mount(path, mounts)) in _LOCAL for path, device, *_ in found)


def _type_by_mount(path: object, mounts: Sequence[Mount]) -> bytes:
    """The type of the file system that `path` lies on, by the ID of its mount; empty: it isn't known."""
    try:
        descriptor = os.open(str(path), os.O_PATH | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
                wanted = file.read().partition(b"mnt_id:")[2].split()[0]
        finally:
            os.close(descriptor)
    except (OSError, IndexError):
        return b""
    return next((mount.type for mount in mounts if mount.number == wanted), b"")
