"""Reads the last lines of a report: whom the kernel chose and killed, or why it killed nobody. Pure.

A reader takes one kind of line into the assembly, and returns whether the line was of that kind."""

from dataclasses import replace

from oomwatchd.oomlog import line_outcome, lines
from oomwatchd.oomlog.assembly import Assembly
from oomwatchd.oomlog.report import MAX_TASKS

_PANIC_END = "[ end Kernel panic"


def summary(assembly: Assembly, text: str) -> bool:
    """ "oom-kill:constraint=…"."""
    found = line_outcome.summary(text)
    if found is None:
        return False
    old = assembly.report
    report = assembly.open(another=old is not None and (old.summary is not None or old.decided()))
    report.summary = found
    report.in_memcg = report.in_memcg or found.constraint == "CONSTRAINT_MEMCG"
    report.nodes = found.nodes or report.nodes
    report.mems_allowed = found.mems_allowed or report.mems_allowed
    report.memcg = found.memcg or report.memcg
    # Cut, or broken by a name that may feign what follows: then only what stands in front is believed.
    if found.end == "whole":
        report.task_memcg = found.task_memcg
    if found.end != "cut":
        report.constraint = found.constraint
    report.cut = report.cut or found.end != "whole"
    return True


def choice(assembly: Assembly, text: str) -> bool:
    """ "Kill process 1 (x) score 900 or sacrifice child" (until 5.0)."""
    found = line_outcome.chosen(text)
    if found is None:
        return False
    old = assembly.report
    report = assembly.open(another=old is not None and (old.chosen is not None or old.decided()))
    report.chosen, report.words = found
    return True


def kill_line(assembly: Assembly, text: str) -> bool:
    """ "Killed process 1 (x) total-vm:…", which a name or a mailer may have broken."""
    if line_outcome.kill_line_is_broken(text):
        return assembly.await_rest(kill_line, text)
    return kill(assembly, text)


def kill(assembly: Assembly, text: str) -> bool:
    """A kill line whose other half doesn't come."""
    found = line_outcome.kill_line(text)
    if found is None:
        return False
    report = assembly.report
    if report is not None and report.decided() and not assembly.same_group(found.words, MAX_TASKS):
        report = None
    report = report or assembly.new()
    killed = found.killed
    if (
        assembly.origin.cut
        and killed.total_vm_kb is None
        and not (text.endswith(")") and line_outcome.is_balanced(killed.comm or ""))
    ):
        killed = replace(killed, comm=None)  # a name may hold the bracket that seems to close it
    report.killed.append(killed)
    report.words = found.words or report.words
    report.cut = report.cut or not found.whole or killed.comm is None
    return True


def group(assembly: Assembly, text: str) -> bool:
    """ "Tasks in /a are going to be killed due to memory.oom.group set"."""
    found = line_outcome.group(text)
    if found is None:
        return False
    report = assembly.open()
    report.group = found
    report.in_memcg = True
    return True


def reaped(assembly: Assembly, text: str) -> bool:
    """ "oom_reaper: reaped process 1 (x), …" comes later, perhaps when the next report has begun."""
    found = line_outcome.reaped(text)
    if found is None:
        return False
    if not assembly.died_before(found.pid):
        report = assembly.open()
        if len(report.reaped) < MAX_TASKS:
            report.reaped.append(found)
    return True


def nobody(assembly: Assembly, text: str) -> bool:
    """ "Out of memory and no killable processes..."."""
    if "no killable processes" not in text and "No task eligible" not in text:
        return False
    old = assembly.report
    report = assembly.open(another=old is not None and old.decided())
    report.no_killable = True
    report.panic = line_outcome.panic(text)
    return True


def panic(assembly: Assembly, text: str) -> bool:
    """ "Kernel panic - not syncing: …" for want of memory. "---[ end Kernel panic - not syncing: … ]---" ends it."""
    why = line_outcome.panic(text)
    if why is None:
        return False
    old = assembly.report
    if old is not None and old.panic == why and _PANIC_END in text:
        return True
    report = assembly.open(another=old is not None and (bool(old.killed) or old.panic is not None))
    report.panic = why
    # With panic_on_oom=2 the kernel panics before it writes a report.
    report.sysrq = report.sysrq or (report.invoker is None and assembly.sysrq_key.take_press())
    return True


def gap(assembly: Assembly, text: str) -> bool:
    """ "[...]": someone left lines out. On MIPS "..." ends a stack."""
    if not lines.is_gap(text):
        return False
    if assembly.report is not None and not assembly.report.decided() and not lines.is_stack(assembly.previous):
        assembly.report.cut = True
    return True
