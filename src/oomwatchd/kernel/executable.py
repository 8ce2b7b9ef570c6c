"""Whether the path of an executable, as the kernel shows it, can be believed."""

import contextlib
import os
from dataclasses import dataclass

from oomwatchd.kernel.nonblocking import Files, FileStatus, Silent, stat_open
from oomwatchd.kernel.proc_status import line_of
from oomwatchd.kernel.procfs import ProcessDir

_MOUNTINFO_LIMIT = 4 << 20

_DELETED = b" (deleted)"


class Namespaces:
    """The daemon's own view, which those of processes are compared with. By the names of the namespaces, namespaces(7):
    to stat them takes the kernel twice as long."""

    def __init__(self, proc: str = "/proc") -> None:
        self.user = os.readlink(f"{proc}/self/ns/user")
        self.pid = os.readlink(f"{proc}/self/ns/pid")
        self.files = Files()

    def hold(self, directory: ProcessDir) -> bool | None:
        """Whether the process lives in our user and PID namespaces; None if we may not know."""
        try:
            user = os.readlink(directory.path("ns/user"), dir_fd=directory.descriptor)
            pid = os.readlink(directory.path("ns/pid"), dir_fd=directory.descriptor)
        except OSError:
            return None
        return user == self.user and pid == self.pid


def split_deleted(link: bytes) -> tuple[bytes, bool]:
    """The path of an exe link, and whether the kernel says that the file's name is gone."""
    if link.endswith(_DELETED):
        return link[: -len(_DELETED)], True
    return link, False


@dataclass(slots=True)
class Verification:
    """Whether the path of an executable can be believed."""

    verified: bool | None
    """None: we may not know."""
    doubt: str = ""
    """Why not, for people."""
    file: tuple[int, int] | None = None
    """Device and inode of the file that runs, if it can."""


def verify_exe(directory: ProcessDir, path: bytes, deleted: bool, ours: Namespaces) -> Verification:
    """Whether the path of the executable can be believed. A path alone can't: in a mount namespace of their own, anyone
    can put any file at any path. `path` and `deleted` are from split_deleted(). Raises NotYet where that takes a file
    system that may not answer."""
    runs = _stat_exe(directory)
    if runs is None:
        return Verification(None, "may not be looked at")
    file = (runs.device, runs.inode)
    try:
        there = ours.files.stat(path)
    except Silent:
        return Verification(None, "its file system doesn't answer")
    if there is not None and (there.device, there.inode) == file:
        return Verification(True, file=file)
    if not deleted:
        return Verification(False, "not the file at that path here")
    if not ours.hold(directory):
        return Verification(False, "deleted, and in another user or PID namespace")
    # A descriptor of a file below a bind mount of theirs can be handed out of the namespace and executed here, and
    # the file's deletion, by them or by an upgrade, leaves the path of the mount.
    if not _executed_through_own_mount(directory):
        return Verification(False, "deleted, and executed through a mount of another namespace")
    # Setuid sandboxes let users mount without a user namespace. What others own is theirs at any path.
    owners = {0}
    with contextlib.suppress(Silent):
        above = ours.files.stat(os.path.dirname(path))
        owners |= set() if above is None else {above.uid}
    if runs.uid not in owners:
        return Verification(False, "deleted, and owned by another user than its directory")
    return Verification(True, file=file)


def runs_file(directory: ProcessDir, file: tuple[int, int]) -> bool:
    """Whether the process runs the file of this device and inode, wherever its path leads by now."""
    runs = _stat_exe(directory)
    return runs is not None and (runs.device, runs.inode) == file


def _stat_exe(directory: ProcessDir) -> FileStatus | None:
    try:
        return stat_open(directory.descriptor, directory.path("exe").encode())
    except OSError:
        return None


def _executed_through_own_mount(directory: ProcessDir) -> bool:
    """Whether the executable was opened through a mount that the process sees, proc_pid_mountinfo(5). False also where
    that can't be known."""
    try:
        descriptor = os.open(directory.path("exe"), os.O_PATH | os.O_CLOEXEC, dir_fd=directory.descriptor)
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
                wanted = line_of(b"\n" + file.read(), b"\nmnt_id:")[0]
        finally:
            os.close(descriptor)
        mountinfo = os.open(directory.path("mountinfo"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.descriptor)
        with open(mountinfo, "rb") as file:
            mounts = file.read(_MOUNTINFO_LIMIT)
    except (OSError, ValueError):
        return False
    return any(line.startswith(wanted + b" ") for line in mounts.split(b"\n"))
