"""`oomwatchctl explain`: why each rule fits or doesn't, the decision, and where the value comes from."""

import argparse
import grp
import json
import os
import pwd
import sys

from oomwatchd.base.text import printable
from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.config.accounts import LARGEST_ID, id_of, is_number
from oomwatchd.control.client import NotRunning
from oomwatchd.ctl.arguments import pid
from oomwatchd.ctl.ask import NOT_RUNNING
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.examine import Examiner
from oomwatchd.ctl.explain_json import as_json
from oomwatchd.ctl.explain_text import show
from oomwatchd.ctl.rulebook import add_options, open_rulebook
from oomwatchd.kernel.systemd_cgroups import parse_units
from oomwatchd.rules.criteria import CRITERIA, Form, Process

_FACTS = tuple(row.key for row in CRITERIA.values() if row.form in (Form.TEXT, Form.ID))


def configure_explain(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl explain` to its parser."""
    parser.add_argument("pids", nargs="*", type=pid, metavar="PID")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--no-legend", action="store_true", help="no table header")
    add_options(parser)
    facts = parser.add_argument_group(
        "a process that doesn't run yet", "A rule that asks for a fact which isn't given doesn't fit."
    )
    for key in _FACTS:
        facts.add_argument(
            f"--{key.replace('_', '-')}", metavar="TEXT" if CRITERIA[key].form is Form.TEXT else "NAME|ID"
        )
    facts.add_argument("--session-leader", action="store_true")
    facts.add_argument("--descendant-of", metavar="RULE", action="append", default=[])
    parser.set_defaults(usage_error=parser.error)


def run_explain(arguments: argparse.Namespace) -> int:
    """Exit status: 0 a rule fits one of the processes; 1 no rule does."""
    given = [key for key in _FACTS if getattr(arguments, key) is not None]
    if "" in (getattr(arguments, key) for key in given if key != "cmdline"):
        arguments.usage_error("what a process would be can't be empty")
    asks_facts = bool(given) or arguments.session_leader or bool(arguments.descendant_of)
    if asks_facts == bool(arguments.pids):
        arguments.usage_error("give PIDs, or what a process that doesn't run yet would be, such as --exe /usr/bin/x")
    book = open_rulebook(arguments)
    examiner = Examiner(book)
    try:
        explanations = [examiner.explain_facts(_facts(arguments))] if asks_facts else examiner.explain(arguments.pids)
    except NotRunning as reason:
        raise CommandError(NOT_RUNNING, str(reason)) from None
    if arguments.json:
        print(json.dumps({"processes": [as_json(explanation) for explanation in explanations]}))
    else:
        for number, explanation in enumerate(explanations):
            print("\n" if number > 0 else "", end="")
            show(explanation, book, legend=not arguments.no_legend)
    return 0 if any(explanation.decided is not None for explanation in explanations) else 1


# A process that doesn't run yet


def _facts(arguments: argparse.Namespace) -> Process:
    exe = arguments.exe
    if exe is not None and os.path.realpath(exe) != exe:
        print(f"oomwatchctl: {printable(exe)} is a link here; a process shows {os.path.realpath(exe)}", file=sys.stderr)
        exe = os.path.realpath(exe)
    comm = arguments.comm
    if comm is None and exe is not None:
        comm = os.path.basename(arguments.exe)
    comm = "" if comm is None else os.fsencode(comm)[:COMM_MAX].decode("utf-8", "surrogateescape")
    uid, gid = _ids(arguments.user, arguments.group)
    units = None if arguments.cgroup is None else parse_units(arguments.cgroup)
    return Process(
        pid=0,
        starttime=0,
        ppid=0,
        comm=comm,
        session_leader=arguments.session_leader,
        exe=exe,
        exe_verified=None if exe is None else True,
        cmdline=arguments.cmdline,
        uid=uid,
        gid=gid,
        cgroup=arguments.cgroup,
        unit=arguments.unit or (units.unit if units else None),
        user_unit=arguments.user_unit or (units.user_unit if units else None),
        slice=arguments.slice or (units.slice if units else None),
        foreign_pid_ns=False,
        ancestors=frozenset(arguments.descendant_of),
    )


def _ids(user: str | None, group: str | None) -> tuple[int | None, int | None]:
    """The numbers of a user and a group. If only a user is given, by name, the group is that user's. Raises
    CommandError."""
    uid = gid = None
    try:
        if user is not None and is_number(user):
            uid = _id("user", user)
        elif user is not None:
            entry = pwd.getpwnam(user)
            uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        raise CommandError(2, f"there is no user '{user}'") from None
    try:
        if group is not None:
            gid = _id("group", group) if is_number(group) else grp.getgrnam(group).gr_gid
    except KeyError:
        raise CommandError(2, f"there is no group '{group}'") from None
    return uid, gid


def _id(kind: str, digits: str) -> int:
    number = id_of(digits)
    if number is None:
        raise CommandError(2, f"{kind} {digits} is out of range; it may be 0 to {LARGEST_ID}")
    return number
