"""`oomwatchctl edit`: the configuration in an editor, put in place only if it holds, as visudo(8) and `systemctl edit`
do it."""

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from oomwatchd.base.text import printable
from oomwatchd.config import load as config
from oomwatchd.config.document import Source
from oomwatchd.config.files import Refused, decode, read_files
from oomwatchd.config.load import ConfigError, Layout
from oomwatchd.config.problems import Findings, Problem
from oomwatchd.ctl.check import overlooked, print_problems, summary
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.rulebook import add_options, find_layout

EDITOR_VARIABLES = ("SUDO_EDITOR", "VISUAL", "EDITOR")
USUAL_EDITORS = ("sensible-editor", "editor", "nano", "vi")
_TEMPLATE = "# Rules of oomwatchd, see oomwatchd.toml(5). The first rule that fits a process decides.\n"
"""What a file that doesn't exist yet begins with."""


def configure_edit(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The editor is that of SUDO_EDITOR, VISUAL or EDITOR. It gets a copy, which takes the file's place when it has "
        "no errors. Exit status: 0; 1 nothing was put in place, since there were errors or the editor failed."
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="the drop-in NAME.toml in /etc/oomwatchd.d, which is made if need be"
    )
    add_options(parser)
    parser.set_defaults(usage_error=parser.error)


def run_edit(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 nothing was put in place."""
    if arguments.name is not None and arguments.file is not None:
        arguments.usage_error("-c names a file, and NAME a drop-in; give one of them")
    if arguments.name is not None and (trouble := _wrong_name(arguments.name)):
        arguments.usage_error(f"argument NAME: {trouble}")
    where = find_layout(arguments)
    target = _target(where, arguments.name)
    try:
        with _Copy(target) as copy:
            return _edit(where, copy)
    except PermissionError as error:
        hint = "; run it as root" if os.geteuid() != 0 else ""
        raise CommandError(1, f"Failed to edit {target.path}: {error.strerror}{hint}") from None
    except OSError as error:
        raise CommandError(1, f"Failed to edit {target.path}: {error.strerror or error}") from None


def _wrong_name(name: str) -> str:
    if "/" in name:
        return f"a drop-in's name has no slash; '{name}' may be a file for -c"
    if not name.removesuffix(".toml") or name.startswith(".") or not name.isprintable():
        return "a drop-in's name is printable, and doesn't begin with a dot"
    return ""


# Which file


@dataclass(frozen=True, slots=True)
class _Target:
    """The file to edit."""

    path: str
    """As the configuration names it."""
    real: str
    """Behind symbolic links: what is replaced."""
    old: bytes | None
    """What it holds; None: it isn't there."""
    begin: bytes
    """What the editor is given."""
    status: os.stat_result | None


def _target(where: Layout, name: str | None) -> _Target:
    path, begin = where.main_file, _TEMPLATE.encode()
    if name is not None:
        if not where.drop_in_dirs:
            raise CommandError(1, f"{where.main_file} is read alone, without drop-ins: the daemon was started with -c")
        file = name if name.endswith(".toml") else f"{name}.toml"
        path = os.path.join(where.drop_in_dirs[0], file)
        for directory in where.drop_in_dirs[1:]:  # one there would be masked by what is written here
            with contextlib.suppress(OSError), open(os.path.join(directory, file), "rb") as other:
                begin = other.read()
                print(f"Beginning with {printable(other.name)}, which {printable(path)} will mask")
                break
    real = os.path.realpath(path)
    try:
        with open(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                masked = f"; it masks others of its name: remove it first (rm {path})" if real == os.devnull else ""
                raise CommandError(1, f"{path} is no regular file{masked}")
            old = opened.read()
    except FileNotFoundError:
        return _Target(path, real, None, begin, None)
    except OSError as error:
        raise CommandError(1, f"Failed to read {path}: {error.strerror}") from None
    return _Target(path, real, old, old or begin, status)


# The copy


class _Copy:
    """A copy of the file in a directory of our own beside it, so that a rename puts it in place. Goes away in the end,
    unless it is kept."""

    def __init__(self, target: _Target) -> None:
        self.target = target
        self._parent = os.path.dirname(target.real)
        self._made_parent = False
        self._directory = ""
        self.path = ""
        self.kept = False

    def __enter__(self) -> "_Copy":
        if not os.path.isdir(self._parent):
            os.mkdir(self._parent, 0o755)
            self._made_parent = True
        # Hidden, and no name of a drop-in: the daemon passes it over.
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
        """What the editor has left. Raises OSError."""
        with open(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            return file.read()

    def keep(self, why: str) -> CommandError:
        """Leave the copy where it is, and say so."""
        self.kept = True
        return CommandError(1, f"{why}. {self.target.path} is as it was; your changes are kept in {self.path}")

    def put_in_place(self, content: bytes) -> None:
        """Replace the file, at once and whole. Raises OSError, and CommandError if someone else has changed it."""
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
    """Extended attributes: a security module's label, an access control list."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(source, name))


# The editor


def editors(environment: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """Commands to try, in order, each with the variable that names it or ""."""
    for variable in EDITOR_VARIABLES:
        if words := _words(environment.get(variable, "")):
            return [(words, variable)]
    return [([name], "") for name in USUAL_EDITORS]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unclosed quote
        return command.split()


def _run_editor(path: str) -> str:
    """Returns why it failed, or ""."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the editor
    try:
        for command, variable in editors(os.environ):
            try:
                status = subprocess.run([*command, path], check=False).returncode
            except OSError as error:
                if variable:
                    return f"Failed to run the editor '{command[0]}' of {variable}: {error.strerror}"
                continue
            return "" if status == 0 else f"The editor '{command[0]}' failed with status {status}"
    finally:
        signal.signal(signal.SIGINT, before)
    return "There is no editor; name one in EDITOR"


def _edit(where: Layout, copy: _Copy) -> int:
    target = copy.target
    while True:
        failure = _run_editor(copy.path)
        content = copy.read()
        if failure and content != target.begin:
            raise copy.keep(failure)
        if failure:
            raise CommandError(1, f"{failure}; nothing is changed")
        if content == target.begin:
            print(f"{printable(target.path)} is unchanged")
            return 0
        verdict = _checked(where, target, content)
        if verdict is not None:
            copy.put_in_place(content)
            print(f"{printable(target.path)} is in place. {verdict}")
            return 0
        if not _again(copy):
            return 1


def _again(copy: _Copy) -> bool:
    """Ask what is to become of a file with errors. False: it is dropped. Raises CommandError: it is kept."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise copy.keep("The configuration has errors")
    while True:
        try:
            answer = input("[e]dit again, [d]rop the changes, or [k]eep a copy of them and leave? [e] ").strip().lower()
        except EOFError:
            print()
            raise copy.keep("The configuration has errors") from None
        except KeyboardInterrupt:
            print()
            raise copy.keep("The configuration has errors") from None
        if answer in ("", "e", "edit"):
            return True
        if answer in ("d", "drop"):
            print(f"{printable(copy.target.path)} is as it was")
            return False
        if answer in ("k", "keep"):
            raise copy.keep("The configuration has errors")


# The check


def _checked(where: Layout, target: _Target, content: bytes) -> str | None:
    """Check the configuration with `content` in the file's place, and show what is found. Returns what to say of it;
    None: it has errors. What was wrong in other files before doesn't count."""
    try:
        source = Source(target.path, decode(content))
        loaded = config.parse(_sources(where, source))
    except Refused as refusal:
        print_problems([Problem(target.path, refusal.line, 1, str(refusal))], ())
        return None
    except ConfigError as error:
        before = _problems_of_others(where, target)
        print_problems(error.problems, error.warnings)
        if any(problem not in before for problem in error.problems):
            return None
        return "It is valid, but other files are not: nothing is applied until they are"
    warnings = overlooked(loaded)
    print_problems((), warnings)
    return summary([loaded], len(warnings))


def _sources(where: Layout, source: Source) -> list[Source]:
    """All files, with `source` in the place of the one of its path."""
    others = [other for other in read_files(where, Findings([])) if other.path != source.path]
    if source.path == where.main_file:
        return [source, *others]
    main = [other for other in others if other.path == where.main_file]
    name = os.path.basename(source.path)
    drop_ins = [o for o in others if o.path != where.main_file and os.path.basename(o.path) != name]
    return [*main, *sorted([*drop_ins, source], key=lambda each: os.path.basename(each.path))]


def _problems_of_others(where: Layout, target: _Target) -> list[Problem]:
    try:
        config.parse([source for source in read_files(where, Findings([])) if source.path != target.path])
    except ConfigError as error:
        return list(error.problems)
    return []
