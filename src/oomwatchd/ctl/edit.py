"""`oomwatchctl edit`: lets a person edit the configuration, and puts it in place only if it is valid, as visudo(8) does
it."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping

from oomwatchd.base.text import printable
from oomwatchd.config import load as config
from oomwatchd.config.document import ConfigFile
from oomwatchd.config.files import FileRefused, decode, read_files
from oomwatchd.config.load import ConfigError, Layout
from oomwatchd.config.problems import Problem, Problems
from oomwatchd.ctl.check import lint, print_problems, summary
from oomwatchd.ctl.edited_copy import Copy, Target, find_target
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.rulebook import add_options, find_layout

EDITOR_VARIABLES = ("SUDO_EDITOR", "VISUAL", "EDITOR")
USUAL_EDITORS = ("sensible-editor", "editor", "nano", "vi")


def configure_edit(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl edit` to its parser."""
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
    target = find_target(where, arguments.name)
    try:
        with Copy(target) as copy:
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


# The editor


def editors(environment: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """The editors to try, in order: the words of each command, and the variable that names it ("": none does)."""
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
    """Run an editor on the file `path`. Returns why that failed; empty: it succeeded."""
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


def _edit(where: Layout, copy: Copy) -> int:
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


def _again(copy: Copy) -> bool:
    """Ask the user what is to be done with a file that has errors. True: edit it again. False: drop it. Raises
    CommandError to keep it and leave."""
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


def _checked(where: Layout, target: Target, content: bytes) -> str | None:
    """Check the configuration with `content` in place of the file, and print errors and warnings. Returns a sentence
    about the result; None: the file has errors. Errors in other files don't count."""
    try:
        source = ConfigFile(target.path, decode(content))
        loaded = config.parse(_sources(where, source))
    except FileRefused as refusal:
        print_problems([Problem(target.path, refusal.line, refusal.column, str(refusal))], ())
        return None
    except ConfigError as error:
        before = _problems_of_others(where, target)
        print_problems(error.problems, error.warnings)
        if any(problem not in before for problem in error.problems):
            return None
        return "It is valid, but other files are not: nothing is applied until they are"
    warnings = lint(loaded)
    print_problems((), warnings)
    return summary([loaded], len(warnings))


def _sources(where: Layout, source: ConfigFile) -> list[ConfigFile]:
    """All files of the configuration, with `source` in the place of the file with its path."""
    others = [other for other in read_files(where, Problems([])) if other.path != source.path]
    if source.path == where.main_file:
        return [source, *others]
    main = [other for other in others if other.path == where.main_file]
    name = os.path.basename(source.path)
    drop_ins = [o for o in others if o.path != where.main_file and os.path.basename(o.path) != name]
    return [*main, *sorted([*drop_ins, source], key=lambda each: os.path.basename(each.path))]


def _problems_of_others(where: Layout, target: Target) -> list[Problem]:
    try:
        config.parse([source for source in read_files(where, Problems([])) if source.path != target.path])
    except ConfigError as error:
        return list(error.problems)
    return []
