"""Reads the first lines of a report: who asked for memory, on which kernel, from where. Pure.

A reader takes one kind of line into the assembly, and returns whether the line was of that kind."""

from dataclasses import replace

from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.oomlog import line_parts, line_request
from oomwatchd.oomlog.assembly import Assembly


def invoked(assembly: Assembly, text: str) -> bool:
    """ "java invoked oom-killer: …" begins a report."""
    found = line_request.invoked(text)
    if found is None:
        return False
    report = assembly.new()
    report.invoker, report.nodes = found
    # Before 3.19 nothing but the key's own line tells that sysrq-f asked.
    by_key = assembly.sysrq_key.take_press() and (report.invoker.comm or "").startswith(("kworker", "events"))
    report.sysrq = report.invoker.order == -1 or by_key
    return True


def sysrq(assembly: Assembly, text: str) -> bool:
    """ "SysRq : Manual OOM execution"."""
    if "Manual OOM execution" not in text:
        return False
    assembly.sysrq_key.press()
    return True


def cpu(assembly: Assembly, text: str) -> bool:
    """ "CPU: 0 PID: 113 Comm: java …" tells the invoker's PID and the kernel's release."""
    report = assembly.report
    expected = report.invoker.comm if report is not None and report.invoker is not None else None
    found = line_request.cpu(text, expected)
    if found is None:
        return False
    if report is None or report.invoker_pid is not None:
        return True
    if report.invoker is None:
        # Its first line is cut off. Only a panic is sure to be in the invoker's context.
        if report.panic is not None:
            report.invoker_pid, report.kernel = found.pid, found.kernel
        return True
    name = _same_name(expected, found.comm)
    if name is None and expected and not report.origin.prefix and (found.comm or "").endswith(expected):
        name = found.comm  # a text without prefixes, copied from the middle of its first line on
    if name is None or (report.decided() and report.panic is None):
        return True
    asked = report.invoker
    report.invoker = replace(asked, comm=name)
    report.invoker_pid, report.kernel = found.pid, found.kernel
    return True


def mems_allowed(assembly: Assembly, text: str) -> bool:
    """ "java cpuset=/ mems_allowed=0"."""
    found = line_request.mems_allowed(text)
    if found is None:
        return False
    if assembly.report is not None and not assembly.report.past_table():
        assembly.report.mems_allowed = found
    return True


def trace(assembly: Assembly, text: str) -> bool:
    """A call in the stack trace that only a memory cgroup's OOM has."""
    if "mem_cgroup_out_of_memory+" not in text:
        return False
    report = assembly.report
    # A question mark: the address was found on the stack, but need not have been called.
    if report is not None and not report.past_table() and "? mem_cgroup_out_of_memory" not in text:
        report.in_memcg = True
    return True


def _same_name(expected: str | None, seen: str | None) -> str | None:
    """The invoker's name, if the line of dump_stack() is its own: the two lines agree, but for a prefix that nobody
    knows, or for what follows a line feed."""
    if seen is None:
        return expected
    if expected is None:
        return seen
    longer = line_parts.comm_length(expected) > COMM_MAX and bool(seen)
    if expected.endswith((f" {seen}", f"\t{seen}", f"|{seen}")) or (longer and expected.endswith(seen)):
        return seen
    return expected if seen == expected or expected.startswith(f"{seen}\n") else None
