"""The file that `oomwatchctl edit` edits, and the copy of it that the editor gets."""

import contextlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass

from oomwatchd.base.text import printable
from oomwatchd.config.links import path_to_open, real_path
from oomwatchd.config.load import Layout
from oomwatchd.ctl.errors import CommandError

_TEMPLATE = "# Rules of oomwatchd, see oomwatchd.toml(5). The first rule that fits a process decides.\n"
"""The first lines of a file that doesn't exist yet."""


@dataclass(frozen=True, slots=True)
class Target:
    """The file to edit."""

    path: str
    """The path as the configuration names it."""
    real: str
    """The path behind symbolic links: the file that is replaced."""
    old: bytes | None
    """The content of the file; None: it isn't there."""
    begin: bytes
    """The content that the editor is given."""
    status: os.stat_result | None


def find_target(where: Layout, name: str | None) -> Target:
    """The main file of `where`, or the drop-in `name` in its first directory. Raises CommandError."""
    path, begin = where.main_file, _TEMPLATE.encode()
    if name is not None:
        if not where.drop_in_dirs:
            raise CommandError(1, f"{where.main_file} is read alone, without drop-ins: the daemon was started with -c")
        file = name if name.endswith(".toml") else f"{name}.toml"
        path = os.path.join(where.drop_in_dirs[0], file)
        for directory in where.drop_in_dirs[1:]:  # a drop-in of that name there will be masked by the new one
            masked = os.path.join(directory, file)
            with contextlib.suppress(OSError), open(path_to_open(masked, where.root), "rb") as other:
                begin = other.read()
                print(f"Beginning with {printable(masked)}, which {printable(path)} will mask")
                break
    try:
        real = real_path(path, where.root)
        with open(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                masked = f"; it masks others of its name: remove it first (rm {path})" if real == os.devnull else ""
                raise CommandError(1, f"{path} is no regular file{masked}")
            old = opened.read()
    except FileNotFoundError:
        return Target(path, real, None, begin, None)
    except OSError as error:
        raise CommandError(1, f"Failed to read {path}: {error.strerror}") from None
    return Target(path, real, old, old or begin, status)


class Copy:
    """A copy of the file, in a new directory beside it, so that rename(2) can put it in place.

    A context manager. The copy is removed at the end, unless keep() was called."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._parent = os.path.dirname(target.real)
        self._made_parent = False
        self._directory = ""
        self.path = ""
        self.kept = False

    def __enter__(self) -> "Copy":
        if not os.path.isdir(self._parent):
            os.mkdir(self._parent, 0o755)
            self._made_parent = True
        # A hidden name, which doesn't end in .toml: the daemon ignores it.
        self._directory = tempfile.mkdtemp(prefix=".oomwatchd-edit-", dir=self._parent)
        self.path = os.path.join(self._directory, os.path.basename(self.target.path))
        with open(self.path, "xb") as file:
            file.write(self.target.begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self.kept:
            return
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._made_parent:
            with contextlib.suppress(OSError):  # not empty: it has the new drop-in
                os.rmdir(self._parent)

    def read(self) -> bytes:
        """The content of the copy now. Raises OSError."""
        with open(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            return file.read()

    def keep(self, why: str) -> CommandError:
        """Let the copy stay. Returns the error with which the verb ends: `why`, and where the copy is."""
        self.kept = True
        return CommandError(1, f"{why}. {self.target.path} is as it was; your changes are kept in {self.path}")

    def put_in_place(self, content: bytes) -> None:
        """Replace the file by `content`, in one step. Raises OSError, and CommandError if someone else has changed the
        file."""
        if self._now() != self.target.old:
            raise self.keep("Someone else has changed the file meanwhile")
        status = self.target.status
        new = os.path.join(self._directory, ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if status is not None:
                os.fchown(descriptor, status.st_uid, status.st_gid)
                _copy_attributes(self.target.real, descriptor)
            os.fchmod(descriptor, 0o644 if status is None else stat.S_IMODE(status.st_mode))
            os.fsync(descriptor)
        os.rename(new, self.target.real)
        directory = os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _now(self) -> bytes | None:
        try:
            with open(self.target.real, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None


def _copy_attributes(source: str, descriptor: int) -> None:
    """Copy the extended attributes: a security module's label, an access control list."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(source, name))
