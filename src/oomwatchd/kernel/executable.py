"""Verifies the path that the kernel shows for the executable of a process."""

import contextlib
import os
from dataclasses import dataclass

from oomwatchd.kernel.mountinfo import MOUNTINFO_BYTES, has_mount
from oomwatchd.kernel.nonblocking import Files, FileStatus, FileSystemSilent, stat_open
from oomwatchd.kernel.proc_status import line_of
from oomwatchd.kernel.procfs import ProcessDir

_DELETED = b" (deleted)"


class Namespaces:
    """The namespaces and the files as the daemon sees them. The namespaces of processes are compared with these.

    A namespace is known by the name that its link shows, namespaces(7): stat(2) would take twice as long."""

    def __init__(self, proc: str = "/proc") -> None:
        self.user = os.readlink(f"{proc}/self/ns/user")
        self.pid = os.readlink(f"{proc}/self/ns/pid")
        self.files = Files()

    def shared_with(self, directory: ProcessDir) -> bool | None:
        """Whether the process lives in the daemon's user and PID namespaces; None: the kernel refused to tell."""
        try:
            user = os.readlink(directory.path("ns/user"), dir_fd=directory.descriptor)
            pid = os.readlink(directory.path("ns/pid"), dir_fd=directory.descriptor)
        except OSError:
            return None
        return user == self.user and pid == self.pid


def split_deleted(link: bytes) -> tuple[bytes, bool]:
    """The path of an exe link, and whether the kernel says that the file was deleted or replaced since."""
    if link.endswith(_DELETED):
        return link[: -len(_DELETED)], True
    return link, False


@dataclass(slots=True)
class Verification:
    """Whether the path of an executable can be believed."""

    verified: bool | None
    """None: the kernel refused to tell, or the file system doesn't answer."""
    doubt: str = ""
    """Why the path can't be believed, for people; empty: it can."""
    file: tuple[int, int] | None = None
    """Device and inode of the file that runs; None: the path can't be believed."""


def verify_exe(directory: ProcessDir, path: bytes, deleted: bool, ours: Namespaces) -> Verification:
    """Whether `path`, in the daemon's own view, leads to the file that the process runs. In a mount namespace of their
    own, users can put any file at any path, so the path alone proves nothing.

    `path` and `deleted` are from split_deleted(). Raises NotYet where the answer takes a file system that may not
    answer."""
    runs = _stat_exe(directory)
    if runs is None:
        return Verification(None, "may not be looked at")
    file, owner = (runs.device, runs.inode), os.fstat(directory.descriptor).st_uid
    try:
        there = ours.files.stat(path, owner)
    except FileSystemSilent:
        return Verification(None, "its file system doesn't answer")
    if there is not None and (there.device, there.inode) == file:
        return Verification(True, file=file)
    if not deleted:
        return Verification(False, "not the file at that path here")
    if not ours.shared_with(directory):
        return Verification(False, "deleted, and in another user or PID namespace")
    # A process in another namespace can pass on a descriptor of a file below a bind mount there. Once the file is
    # deleted, a process that executes it here shows the path of that mount.
    if not _executed_through_own_mount(directory):
        return Verification(False, "deleted, and executed through a mount of another namespace")
    # A setuid sandbox lets users mount without a user namespace. So a file must belong to root or to the owner of its
    # directory.
    owners = {0}
    with contextlib.suppress(FileSystemSilent):
        above = ours.files.stat(os.path.dirname(path), owner)
        owners |= set() if above is None else {above.uid}
    if runs.uid not in owners:
        return Verification(False, "deleted, and owned by another user than its directory")
    return Verification(True, file=file)


def runs_file(directory: ProcessDir, file: tuple[int, int]) -> bool:
    """Whether the process runs the file with this device and inode. Its path may lead to another file by now."""
    runs = _stat_exe(directory)
    return runs is not None and (runs.device, runs.inode) == file


def _stat_exe(directory: ProcessDir) -> FileStatus | None:
    try:
        return stat_open(directory.descriptor, directory.path("exe").encode())
    except OSError:
        return None


def _executed_through_own_mount(directory: ProcessDir) -> bool:
    """Whether the executable was opened through a mount that the process sees itself. False also where that isn't
    known."""
    try:
        descriptor = os.open(directory.path("exe"), os.O_PATH | os.O_CLOEXEC, dir_fd=directory.descriptor)
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
                wanted = line_of(b"\n" + file.read(), b"\nmnt_id:")[0]
        finally:
            os.close(descriptor)
        mountinfo = os.open(directory.path("mountinfo"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.descriptor)
        with open(mountinfo, "rb") as file:
            return has_mount(file.read(MOUNTINFO_BYTES), wanted)
    except (OSError, ValueError):
        return False
