"""The output of `oomwatchctl explain` for people."""

import pwd

from oomwatchd.base.text import printable
from oomwatchd.ctl import origin
from oomwatchd.ctl.examine import Explanation, RuleVerdict
from oomwatchd.ctl.origin import Origin, find_origin
from oomwatchd.ctl.rulebook import Rulebook
from oomwatchd.ctl.state import clock
from oomwatchd.ctl.table import BOLD, GREEN, YELLOW, colour, print_table, wrap
from oomwatchd.rules.criteria import COMMAND_LINE_PART, Process
from oomwatchd.rules.match import Mismatch

_SHOWN = 400
"""The most characters of a value that are shown."""


def show(explanation: Explanation, book: Rulebook, *, legend: bool) -> None:
    """Print the explanation of one process by the rules of `book`. `legend`: whether the table has its header."""
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
        parts.append("executable unknown (only root sees it, or its path is too long to be shown)")
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
        pin = explanation.node.pin if explanation.node is not None else None
        since = "" if pin is None else f" since {clock(pin.since)}; it had {pin.original} before"
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
    if explanation.action == "children" and origin_node is not None and origin_node.pin is not None:
        who = f"{origin_node.pid} ({printable(origin_node.comm)})"
        text = f"as a descendant of {who}, which rule '{origin_node.pin.rule}' holds, it has {explanation.target}"
        return colour(f"Decision: no rule fits; {text}", YELLOW)
    return colour("Decision: no rule fits", YELLOW)


def next_step(explanation: Explanation) -> str:
    """What happens when the daemon looks at the process the next time, as the end of a sentence."""
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


def _why(verdict: RuleVerdict, explanation: Explanation) -> str:
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
