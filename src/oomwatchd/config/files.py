"""Finds and reads the files of the configuration."""

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass

from oomwatchd.config.document import ConfigFile
from oomwatchd.config.links import path_to_open
from oomwatchd.config.problems import Problem, Problems
from oomwatchd.config.trust import open_to_others, weak_directory

MAIN_FILE = "/etc/oomwatchd.toml"
DROP_IN_DIRS = ("/etc/oomwatchd.d", "/run/oomwatchd.d", "/usr/lib/oomwatchd.d")
"""Directories of drop-ins. A file in an earlier directory masks a file of the same name in a later one."""

_MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Where to look for configuration."""

    main_file: str
    drop_in_dirs: tuple[str, ...] = ()
    main_file_required: bool = False
    root: str = "/"
    """The directory that is given by --root."""


def layout(file: str | None = None, root: str = "/") -> Layout:
    """The layout for `-c file`, which is that file alone, or for `--root root`."""
    if file is not None:
        return Layout(os.path.abspath(file), main_file_required=True)
    prefix = os.path.abspath(root).rstrip("/")
    drop_ins = tuple(prefix + directory for directory in DROP_IN_DIRS)
    return Layout(prefix + MAIN_FILE, drop_ins, root=prefix or "/")


def read_files(where: Layout, found: Problems) -> list[ConfigFile]:
    """Read the main file and the drop-ins in force, in the order in which their rules are tried. Problems are added to
    `found`."""
    if not os.path.isdir(where.root):
        found.errors.append(Problem(where.root, 1, 1, "No such directory; it was given as --root"))
        return []
    sources = []
    for path in [where.main_file, *_drop_ins(where, found)]:
        try:
            sources.append(_read(path, where.root))
        except FileNotFoundError:
            _note_missing(path, where, found)
        except OSError as error:
            found.errors.append(Problem(path, 1, 1, f"Failed to read the file: {error.strerror}"))
        except FileRefused as refusal:
            found.errors.append(Problem(path, refusal.line, refusal.column, str(refusal)))
    if not sources and not found.errors:
        message = "There is no configuration, neither this file nor a drop-in: nothing is protected"
        found.warnings.append(Problem(where.main_file, 1, 1, message))
    return sources


class FileRefused(Exception):
    """A file may not be used. The message says why. `line` and `column`: the place in the file that it is about."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def _note_missing(path: str, where: Layout, found: Problems) -> None:
    """Note an error for a file that doesn't exist, unless it is the main file at its usual place."""
    if os.path.islink(path):
        message = f"A symbolic link to {os.readlink(path)}, which isn't there"
        problems = found.errors if path == where.main_file else found.warnings
        problems.append(Problem(path, 1, 1, message))
    elif path == where.main_file and where.main_file_required:
        found.errors.append(Problem(path, 1, 1, "No such file"))


_LEFT_ALONE = (".bak", ".orig", ".rej", ".save", ".disabled", ".off", ".swp", ".tmp", "~")
"""Endings of names of files that shall not be read, as people and programs name them."""


def _is_meant(name: str) -> bool:
    """Whether a file in a directory of drop-ins was meant to be read, though its name doesn't end in .toml."""
    if name.startswith((".", "#", "README")) or name.endswith(_LEFT_ALONE):
        return False
    return not any(mark in name for mark in (".toml.", ".dpkg-", ".ucf-", ".rpm"))


_OTHER_PLACES = (".conf", ".conf.d", ".toml.d", "/oomwatchd.toml")
"""How other programs name their configuration, behind "/etc/oomwatchd"."""


def _note_misplaced(where: Layout, found: Problems) -> None:
    """Warn of files and directories that people take for configuration, since it is so for other programs."""
    for directory in where.drop_in_dirs[:1]:
        for ending in _OTHER_PLACES:
            path = directory.removesuffix(".d") + ending
            with suppress(OSError):
                os.stat(path_to_open(path, where.root))
                message = f"Not read: rules are in {where.main_file}, or in files NAME.toml in {directory}"
                found.warnings.append(Problem(path, 1, 1, message))


def _drop_ins(where: Layout, found: Problems) -> list[str]:
    """The paths of the drop-ins in force, sorted by file name."""
    chosen: dict[str, str] = {}
    _note_misplaced(where, found)
    for directory in where.drop_in_dirs:
        try:
            real = path_to_open(directory, where.root)
            names = sorted(os.listdir(real))
            weakness = open_to_others(real)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            found.warnings.append(Problem(directory, 1, 1, "Not a directory, so that no drop-in is read here"))
            continue
        except OSError as error:
            found.errors.append(Problem(directory, 1, 1, f"Failed to list the directory: {error.strerror}"))
            continue
        if weakness:
            message = f"Others could put rules of theirs beside those of the drop-ins: {weakness}"
            found.errors.append(Problem(directory, 1, 1, message))
            continue
        for name in names:
            if name.endswith(".toml") and not name.startswith("."):
                chosen.setdefault(name, os.path.join(directory, name))
            elif _is_meant(name):
                message = "Not read: the name of a drop-in ends in .toml"
                found.warnings.append(Problem(os.path.join(directory, name), 1, 1, message))
    return [chosen[name] for name in sorted(chosen) if not _masks(chosen[name], where.root)]


def _masks(path: str, root: str) -> bool:
    """Whether a drop-in only masks drop-ins of its name in later directories: it is empty, or a link to /dev/null."""
    try:
        status = os.stat(path_to_open(path, root))
    except OSError:
        return False
    is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    return is_null or (stat.S_ISREG(status.st_mode) and status.st_size == 0)


def _read(path: str, root: str) -> ConfigFile:
    real = path_to_open(path, root)
    # O_NONBLOCK: a FIFO in the place of the file must not make us wait.
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise FileRefused("Not a regular file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise FileRefused("A directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused("Not a regular file")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise FileRefused(
                f"Others than the owner may write this file (mode {stat.S_IMODE(status.st_mode):04o}), so whom it "
                f"protects can't be trusted; run: chmod go-w {real}"
            )
        weakness = weak_directory(real, status.st_uid)
        if weakness:
            raise FileRefused(f"Others could put another file in the place of this one: {weakness}")
        if status.st_size > _MAX_FILE_BYTES:
            raise FileRefused(f"Larger than {_MAX_FILE_BYTES >> 20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    return ConfigFile(path, decode(raw), bool(status.st_mode & stat.S_IROTH))


def decode(raw: bytes) -> str:
    """The content of a file as text. Raises FileRefused if it isn't UTF-8."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileRefused(*_not_utf8(raw, error.start)) from None
    if text.count("\0") > len(text) // 4:
        raise FileRefused(_full_of_nul(raw))
    return text.replace("\r\n", "\n")


def _not_utf8(raw: bytes, at: int) -> tuple[str, int, int]:
    """The message about a file that isn't UTF-8, the line and the column."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        kind = "UTF-32" if raw.startswith(b"\xff\xfe\0\0") else "UTF-16"
        return f"Not UTF-8, as TOML wants it, but {kind}; save it as UTF-8", 1, 1
    line_start = raw.rfind(b"\n", 0, at) + 1
    message = f"Not UTF-8 (byte {at}: 0x{raw[at]:02x}), as TOML wants it; save it as UTF-8"
    return message, raw.count(b"\n", 0, at) + 1, len(raw[line_start:at].decode()) + 1


def _full_of_nul(raw: bytes) -> str:
    """The message about a file that holds more NUL bytes than a text does."""
    if not raw.strip(b"\0"):
        return "The file holds NUL bytes alone, as after a crash or on a full disk; restore it from a copy"
    return "The file is full of NUL bytes, as UTF-16 is; save it as UTF-8"
