"""`oomwatchctl explain`: for each rule why it fits or doesn't, the decision, and where the value comes from."""

import argparse
import grp
import json
import os
import pwd
import sys
from collections.abc import Mapping

from oomwatchd.base.text import decode, printable
from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.control.client import NotRunning
from oomwatchd.ctl import origin
from oomwatchd.ctl.arguments import pid
from oomwatchd.ctl.ask import NOT_RUNNING
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.examine import Examiner, Explanation, Verdict
from oomwatchd.ctl.origin import Origin, find_origin
from oomwatchd.ctl.rulebook import Rulebook, add_options, open_rulebook
from oomwatchd.ctl.state import clock
from oomwatchd.ctl.table import BOLD, GREEN, YELLOW, colour, print_table, wrap
from oomwatchd.kernel.systemd_cgroups import parse_units
from oomwatchd.rules.criteria import COMMAND_LINE_PART, CRITERIA, Form, Process
from oomwatchd.rules.match import Mismatch

_SHOWN = 400
"""Characters of a value that people are shown."""
_FACTS = tuple(row.key for row in CRITERIA.values() if row.form in (Form.TEXT, Form.ID))


def configure_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pids", nargs="*", type=pid, metavar="PID")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--no-legend", action="store_true", help="no table header")
    add_options(parser)
    facts = parser.add_argument_group(
        "a process that doesn't run yet", "What isn't given fits no rule that asks for it."
    )
    for key in _FACTS:
        facts.add_argument(
            f"--{key.replace('_', '-')}", metavar="TEXT" if CRITERIA[key].form is Form.TEXT else "NAME|ID"
        )
    facts.add_argument("--session-leader", action="store_true")
    facts.add_argument("--descendant-of", metavar="RULE", action="append", default=[])
    parser.set_defaults(usage_error=parser.error)


def run_explain(arguments: argparse.Namespace) -> int:
    """Exit status: 0 a rule fits one of them; 1 none."""
    given = [key for key in _FACTS if getattr(arguments, key) is not None]
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
            _show(explanation, book, legend=not arguments.no_legend)
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
    """Effective uid and gid; the gid of a user given by name is that of the user's group. Raises CommandError."""
    uid = gid = None
    try:
        if user is not None and user.isdigit():
            uid = int(user)
        elif user is not None:
            entry = pwd.getpwnam(user)
            uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        raise CommandError(2, f"there is no user '{user}'") from None
    try:
        if group is not None:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise CommandError(2, f"there is no group '{group}'") from None
    return uid, gid


# For programs


def as_json(explanation: Explanation) -> dict[str, object]:
    """One member of `processes`, oomwatchctl(1)."""
    process, decided = explanation.process, explanation.decided
    comes_from = find_origin(explanation)
    return {
        "pid": explanation.pid,
        "comm": None if process is None else decode(process.comm),
        "exe": decode(process.exe) if process is not None and process.exe else None,
        "exe_verified": None if process is None else process.exe_verified,
        "uid": None if process is None else process.uid,
        "unit": decode(process.unit) if process is not None and process.unit else None,
        "oom_score_adj": explanation.value,
        "decision": {
            "rule": None if decided is None else decided.name,
            "action": explanation.action,
            "target": explanation.target,
        },
        "rules": [_verdict_json(verdict) for verdict in explanation.verdicts],
        "note": explanation.note or None,
        "value_from": None if comes_from is None else _origin_json(comes_from),
        "next": next_step(explanation),
        "cmdline_cut": process is not None and process.cmdline_cut,
    }


def _origin_json(comes_from: Origin) -> Mapping[str, object]:
    comm, unit = comes_from.comm, comes_from.unit
    return {
        "kind": comes_from.kind,
        "rule": comes_from.rule,
        "pid": comes_from.pid,
        "comm": None if comm is None else decode(comm),
        "unit": None if unit is None else decode(unit),
    }


def _verdict_json(verdict: Verdict) -> Mapping[str, object]:
    rule, failed = verdict.rule, verdict.failed
    return {
        "rule": rule.name,
        "file": rule.file or None,
        "line": rule.line or None,
        "fits": failed is None,
        "failed": None
        if failed is None
        else {"key": failed.key, "wanted": _plain(failed.wanted), "found": _plain(failed.found)},
    }


def _plain(value: object) -> object:
    if isinstance(value, str):
        return decode(value)
    return [_plain(member) for member in value] if isinstance(value, list) else value


# For people


def _show(explanation: Explanation, book: Rulebook, *, legend: bool) -> None:
    process = explanation.process
    if process is None:
        print(wrap(f"{explanation.pid}: {explanation.note}"))
        return
    print(colour(_who(explanation, process), BOLD))
    comes_from = find_origin(explanation)
    if process.cmdline_cut:
        print(f"  Command line: only its first and last {COMMAND_LINE_PART >> 10} KiB are compared.")
    if comes_from is not None:
        where_from = _where_from(comes_from, explanation)
        print(wrap(f"oom_score_adj {explanation.value}: {where_from}", "    ", first="  "))
    print(wrap(_decision(explanation), "    ", first="  "))
    if explanation.pid is not None:
        print(wrap(f"Next: {next_step(explanation)}", "    ", first="  "))
    rules = "that oomwatchd has loaded" if book.loaded else f"of {', '.join(s.path for s in book.config.sources)}"
    if legend:
        print(f"  By the rules {printable(rules)}:" if explanation.verdicts else "  There are no rules.")
    rows = [
        (f"  {verdict.rule.name}", "fits" if verdict.failed is None else "-", _why(verdict, explanation))
        for verdict in explanation.verdicts
    ]
    if rows:
        print_table(("  rule", "fits", "why not"), rows, legend=legend)
    for path in book.hidden:
        print(f"  The rules of {printable(path)} aren't shown to you; run as root.")


def _who(explanation: Explanation, process: Process) -> str:
    name = printable(process.comm) or "?"
    parts = [name if explanation.pid is None else f"{name} ({explanation.pid})"]
    if process.exe:
        doubt = f" ({process.exe_doubt})" if process.exe_doubt else ""
        parts.append(f"{printable(process.exe)}{doubt}")
    elif process.exe is None and explanation.pid is not None:
        parts.append("executable unknown, which takes root")
    if process.uid is not None:
        parts.append(f"user {_user(process.uid)}")
    if process.unit:
        parts.append(printable(process.unit))
    return ", ".join(parts)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _where_from(comes_from: Origin, explanation: Explanation) -> str:
    who = f"{comes_from.pid} ({printable(comes_from.comm or '?')})"
    if comes_from.kind == origin.PIN:
        hold = explanation.node.hold if explanation.node is not None else None
        since = "" if hold is None else f" since {clock(hold.since)}; it had {hold.first} before"
        return f"pinned by rule '{comes_from.rule}'{since}"
    if comes_from.kind == origin.CHILDREN:
        return f"what rule '{comes_from.rule}', which holds {who}, gives to descendants"
    if comes_from.kind == origin.INHERITED:
        held = "" if comes_from.rule is None else f", which rule '{comes_from.rule}' holds"
        return f"inherited from {who}{held}"
    if comes_from.kind == origin.UNIT:
        return f"OOMScoreAdjust= of {printable(comes_from.unit or '')}"
    if comes_from.kind == origin.DEFAULT:
        return "the kernel's default"
    return "set by the process itself, or by who started it"


def _decision(explanation: Explanation) -> str:
    if explanation.note:
        return f"Decision: none; it is {explanation.note}"
    rule = explanation.decided
    if rule is not None:
        text = "it is left alone" if rule.action.ignore else f"oom_score_adj {explanation.target}"
        if not rule.action.ignore and str(rule.action) != str(explanation.target):
            text += f" ({rule.action})"
        where = f" ({rule.file}:{rule.line})" if rule.file else ""
        return colour(printable(f"Decision: rule '{rule.name}'{where}: {text}"), GREEN)
    node = explanation.node
    origin_node = None if node is None else node.origin()
    if explanation.action == "children" and origin_node is not None and origin_node.hold is not None:
        who = f"{origin_node.pid} ({printable(origin_node.comm)})"
        text = f"as a descendant of {who}, which rule '{origin_node.hold.rule}' holds, it has {explanation.target}"
        return colour(f"Decision: no rule fits; {text}", YELLOW)
    return colour("Decision: no rule fits", YELLOW)


def next_step(explanation: Explanation) -> str:
    """What would happen at the next look, as a sentence."""
    if explanation.target is None:
        return "nothing"
    if explanation.action == "release":
        return f"it gets back what it had: {explanation.target}"
    if explanation.value == explanation.target:
        return "nothing; it has what it should have"
    if explanation.refused:
        return f"nothing; the kernel refused {explanation.target}: {explanation.refused}"
    if explanation.contended:
        return f"{explanation.target} is written when the back-off ends; someone keeps changing it"
    return f"{explanation.target} is written"


def _why(verdict: Verdict, explanation: Explanation) -> str:
    failed = verdict.failed
    if failed is None:
        return "" if verdict.rule is explanation.decided else "but comes later"
    return f"{failed.key}: wanted {_words(failed.wanted)}, found {_found(failed, explanation)}"


def _found(failed: Mismatch, explanation: Explanation) -> str:
    if failed.found is None:
        return "nothing given" if explanation.pid is None else "what only root may know"
    if failed.key == "user" and isinstance(failed.found, int):
        return _user(failed.found)
    return _words(failed.found) or "none"


def _words(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = " or ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
