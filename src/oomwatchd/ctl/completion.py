"""Shell completion, generated from the definitions of the verbs: `python -m oomwatchd.ctl.completion DIRECTORY` writes
completion.bash, completion.zsh and completion.fish there.

Some words are known only at run time, such as PIDs and rules. For these the shell runs `oomwatchctl __complete
KIND`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from oomwatchd.base.text import printable
from oomwatchd.ctl import VERBS, configure

PROCESSES, PINNED, RULES = "processes", "pinned", "rules"
UNITS, USER_UNITS, SLICES, CGROUPS = "units", "user_units", "slices", "cgroups"
_ASKED = (PROCESSES, PINNED, RULES, UNITS, USER_UNITS, SLICES, CGROUPS)
"""Kinds of words that are known only at run time."""
FILES, DIRECTORIES, USERS, GROUPS, NOTHING = "files", "directories", "users", "groups", ""

_BY_METAVAR = {"FILE": FILES, "LOG": FILES, "DIR": DIRECTORIES, "RULE": RULES, "PID": PROCESSES}
_BY_DEST = {
    "user": USERS,
    "group": GROUPS,
    "unit": UNITS,
    "user_unit": USER_UNITS,
    "slice": SLICES,
    "cgroup": CGROUPS,
}


@dataclass(frozen=True, slots=True)
class Argument:
    """An option or a positional argument of a verb."""

    flags: tuple[str, ...]
    """Empty: positional."""
    kind: str
    """The kind of words that its value is completed with. NOTHING: it takes no value, or any."""
    takes_value: bool
    repeats: bool
    help: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One command of oomwatchctl, as its parser has it."""

    name: str
    summary: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> tuple[Argument, ...]:
        """The options, which begin with a dash."""
        return tuple(argument for argument in self.arguments if argument.flags)

    @property
    def positional(self) -> Argument | None:
        """The first positional argument, if any. Further ones aren't completed."""
        return next((argument for argument in self.arguments if not argument.flags), None)


def verbs() -> list[Verb]:
    """All verbs, as argparse knows them."""
    found = []
    for name, (module_name, summary) in VERBS.items():
        parser = argparse.ArgumentParser()
        configure(name, import_module(f"oomwatchd.ctl.{module_name}"), parser)
        arguments = tuple(_argument(name, action) for action in parser._actions)
        found.append(Verb(name, summary, arguments))
    return found


def _argument(verb: str, action: argparse.Action) -> Argument:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    kind = _BY_DEST.get(action.dest) or _BY_METAVAR.get(metavar, NOTHING)
    if verb == "unpin" and kind == PROCESSES:
        kind = PINNED
    takes_value = action.nargs != 0
    repeats = action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction)
    text = " ".join((action.help or "").split()).replace("%%", "%")
    return Argument(tuple(action.option_strings), kind if takes_value else NOTHING, takes_value, repeats, text)


# At run time


def candidates(kind: str) -> Iterator[tuple[str, str]]:
    """The words of a kind that a shell offers, each with its description. Words that only the daemon knows are left out
    where no daemon runs."""
    from oomwatchd.ctl.ask import ask
    from oomwatchd.ctl.errors import CommandError

    if kind == PROCESSES:
        yield from _processes()
        return
    if kind in (UNITS, USER_UNITS, SLICES, CGROUPS):
        yield from ((word, "") for word in sorted(_of_cgroups(kind)))
        return
    try:
        if kind == PINNED:
            for pin in ask("/", {"verb": "list"})["pins"]:
                if pin["rule"] == f"pin {pin['pid']}":
                    yield str(pin["pid"]), pin["comm"]
        if kind == RULES:
            for rule in ask("/", {"verb": "rules"})["rules"]:
                if rule["file"] is not None:
                    yield rule["rule"], rule["description"] or rule["action"]
    except CommandError:
        return


def _processes() -> Iterator[tuple[str, str]]:
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{name}/comm", "rb") as file:
                yield name, printable(file.read().removesuffix(b"\n"))
        except OSError:
            continue


def _of_cgroups(kind: str) -> set[str]:
    """The units, slices or cgroups that processes are in now."""
    from oomwatchd.kernel.systemd_cgroups import parse_units

    found: set[str] = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cgroup", errors="replace") as file:
                lines = [line.rstrip("\n").split(":", 2) for line in file]
        except OSError:
            continue
        path = next((line[2] for line in lines if line[:2] == ["0", ""] or line[1] == "name=systemd"), "")
        units = parse_units(path)
        found.add({UNITS: units.unit, USER_UNITS: units.user_unit, SLICES: units.slice, CGROUPS: path}[kind])
    return found - {""}


def print_candidates(kind: str) -> int:
    """Print the candidates for a shell, one a line with its description. Returns the exit status."""
    for word, description in candidates(kind):
        print(f"{printable(word)}\t{printable(description)}")
    return 0


# bash


def bash() -> Iterator[str]:
    """The completion for bash: a file with the command's name, which bash-completion loads when the command is
    completed for the first time (its README)."""
    yield "# oomwatchctl(1) completion: generated, don't edit"
    yield "_oomwatchctl() {"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= word kind= words="
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield "        [[ $word != -* ]] && { verb=$word; break; }"
    yield "    done"
    yield "    case $verb in"
    yield f"    '') words='{' '.join(VERBS)} --help --version' ;;"
    for verb in verbs():
        yield f"    {verb.name})"
        yield "        case $prev in"
        for option in verb.options:
            if option.takes_value:
                yield f"        {'|'.join(option.flags)}) kind={option.kind or 'value'} ;;"
        words = " ".join(flag for option in verb.options for flag in option.flags)
        if verb.positional is None:
            yield f"        *) words='{words}' ;;"
        else:
            yield f"        *) words='{words}'; [[ $cur == -* ]] || kind={verb.positional.kind or 'value'} ;;"
        yield "        esac ;;"
    yield "    esac"
    yield "    local IFS=$'\\n'"
    yield "    case $kind in"
    yield f"    {'|'.join(_ASKED)})"
    yield '        words=$(oomwatchctl __complete "$kind" 2>/dev/null | cut -f1) ;;'
    yield f'    {FILES}) COMPREPLY=($(compgen -f -- "$cur")); compopt -o filenames; return ;;'
    yield f'    {DIRECTORIES}) COMPREPLY=($(compgen -d -- "$cur")); compopt -o filenames; return ;;'
    yield f'    {USERS}) COMPREPLY=($(compgen -u -- "$cur")); return ;;'
    yield f'    {GROUPS}) COMPREPLY=($(compgen -g -- "$cur")); return ;;'
    yield "    value) return ;;"
    yield "    *) words=${words// /$'\\n'} ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$cur"))'
    yield '    [[ $kind == rules ]] && COMPREPLY=("${COMPREPLY[@]// /\\\\ }")'
    yield "}"
    yield "complete -F _oomwatchctl oomwatchctl"


# zsh

_ZSH = {
    FILES: "_files",
    DIRECTORIES: "_files -/",
    USERS: "_users",
    GROUPS: "_groups",
    NOTHING: " ",
    **{kind: f"{{_oomwatchctl_ask {kind}}}" for kind in _ASKED},
}


def zsh() -> Iterator[str]:
    """The completion for zsh, by _arguments: zshcompsys(1)."""
    yield "#compdef oomwatchctl"
    yield "# generated, don't edit"
    yield "_oomwatchctl_ask() {"
    yield "    local -a words; local line"
    yield '    for line in "${(@f)$(oomwatchctl __complete $1 2>/dev/null)}"; do'
    yield "        [[ -n $line ]] && words+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")"
    yield "    done"
    yield '    _describe -V "$1" words'
    yield "}"
    yield "_oomwatchctl() {"
    yield "    local state line; local -a verbs"
    yield "    verbs=("
    for name, (_, summary) in VERBS.items():
        yield f"        {_quoted(f'{name}:{summary}')}"
    yield "    )"
    yield "    _arguments -C '(- *)'{-h,--help}'[show help]' '(- *)--version[show the version]' \\"
    yield "        '1:verb:->verb' '*::argument:->arguments'"
    yield "    case $state in"
    yield "    verb) _describe verb verbs ;;"
    yield "    arguments)"
    yield "        case $line[1] in"
    for verb in verbs():
        yield f"        {verb.name}) _arguments \\"
        for option in verb.options:
            yield from _zsh_option(option)
        positional = verb.positional
        spec = "*: : " if positional is None else f"{'*' if positional.repeats else '1'}:: :{_ZSH[positional.kind]}"
        yield f"            {_quoted(spec)} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield '_oomwatchctl "$@"'


def _zsh_option(option: Argument) -> Iterator[str]:
    text = option.help.replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    value = f": :{_ZSH[option.kind]}" if option.takes_value else ""
    once = "*" if option.repeats else ""
    for flag in option.flags:
        yield f"            {_quoted(f'{once}{flag}[{text}]{value}')} \\"


# fish

_FISH = {
    FILES: "-r -F",
    DIRECTORIES: "-x -a '(__fish_complete_directories)'",
    USERS: "-x -a '(__fish_complete_users)'",
    GROUPS: "-x -a '(__fish_complete_groups)'",
    NOTHING: "-x",
    **{kind: f"-x -a '(oomwatchctl __complete {kind} 2>/dev/null)'" for kind in _ASKED},
}


def fish() -> Iterator[str]:
    """The completion for fish: complete(1)."""
    yield "# oomwatchctl(1) completion: generated, don't edit"
    yield "complete -c oomwatchctl -f"
    names = " ".join(VERBS)
    for verb in verbs():
        none_yet = f"-n 'not __fish_seen_subcommand_from {names}'"
        yield f"complete -c oomwatchctl {none_yet} -a {verb.name} -d {_quoted(verb.summary)}"
        seen = f"complete -c oomwatchctl -n '__fish_seen_subcommand_from {verb.name}'"
        for option in verb.options:
            flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            value = f" {_FISH[option.kind]}" if option.takes_value else ""
            text = f" -d {_quoted(option.help)}" if option.help else ""
            yield f"{seen} {flags}{value}{text}"
        if verb.positional is not None and verb.positional.kind != NOTHING:
            yield f"{seen} {_FISH[verb.positional.kind].replace('-r ', '').replace('-x ', '')}"


def _quoted(text: str) -> str:
    """`text` as one word of any of the three shells."""
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: dict[str, Callable[[], Iterator[str]]] = {"bash": bash, "zsh": zsh, "fish": fish}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the completions for all shells, by one start of Python. Returns the exit status. Raises OSError."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1:
        print("Usage: python -m oomwatchd.ctl.completion DIRECTORY", file=sys.stderr)
        return 2
    for shell, lines in SHELLS.items():
        with open(os.path.join(words[0], f"completion.{shell}"), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines())
    return 0


if __name__ == "__main__":
    sys.exit(main())
