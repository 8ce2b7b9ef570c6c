"""Reads the lines of a report about memory: of the memory cgroup, of the machine. Pure.

A reader takes one kind of line into the assembly, and returns whether the line was of that kind."""

from oomwatchd.oomlog import line_memory
from oomwatchd.oomlog.assembly import Assembly
from oomwatchd.oomlog.report import MAX_ZONES


def limit(assembly: Assembly, text: str) -> bool:
    """ "Task in /a killed as a result of limit of /b" (until 4.20)."""
    found = line_memory.limit_of(text)
    if found is None:
        return False
    report = assembly.before_table()
    if report.memcg is not None:
        report = assembly.new()
    report.in_memcg = True
    report.constraint = "CONSTRAINT_MEMCG(implied)"
    report.task_memcg, report.memcg = found
    return True


def usage(assembly: Assembly, text: str) -> bool:
    """ "memory: usage 4kB, limit 4kB, failcnt 9"."""
    found = line_memory.usage(text)
    if found is None:
        return False
    report = assembly.before_table()
    if "usage_kb" in found and "usage_kb" in report.memory:
        report = assembly.new()
    report.in_memcg = True
    report.memory |= found
    return True


def stats(assembly: Assembly, text: str) -> bool:
    """ "Memory cgroup stats for /a:"."""
    found = line_memory.stats_of(text)
    if found is None:
        return False
    report = assembly.before_table()
    report.in_memcg = True
    path, figures = found
    if figures is None and not assembly.origin.cut:  # figures would be those of a cgroup below
        report.memcg = path
    elif figures is not None and len(report.cgroups) < MAX_ZONES:
        report.cgroups[path] = figures
    return True


def stat(assembly: Assembly, text: str) -> bool:
    """A line of a memory cgroup's memory.stat."""
    found = line_memory.stat(text)
    if found is None:
        return False
    report = assembly.report
    if report is not None and report.in_memcg and report.tasks is None:
        report.memory[found[0]] = found[1]
    return True


def counters(assembly: Assembly, text: str) -> bool:
    """ "active_anon:1 inactive_anon:2 …" of the machine. Another CPU may show them too, within the report: each counter
    is taken once, the last time."""
    found = line_memory.counters(text)
    if not found:
        return False
    assembly.before_table().pages.update(found)
    return True


def zone(assembly: Assembly, text: str) -> bool:
    """ "Node 0 DMA free:4kB … present:9kB …"."""
    found = line_memory.zone(text)
    if found is None:
        return False
    report = assembly.report
    if report is not None and len(report.zones) < MAX_ZONES:
        report.zones[found.node, found.name] = found
    return True


def buddy(assembly: Assembly, text: str) -> bool:
    """ "Node 0 DMA: 1*4kB …" shows the page size."""
    found = line_memory.free_blocks(text)
    if found is None:
        return False
    report = assembly.report
    if report is not None:
        report.page_kb = found.page_kb or None
        zone = report.zones.get((found.node, found.zone))
        if zone is not None:
            report.zones[found.node, found.zone] = zone._replace(blocks=found.blocks)
    return True


def huge(assembly: Assembly, text: str) -> bool:
    """ "Node 0 hugepages_total=4 …", for each node and size."""
    found = line_memory.huge_pages(text)
    if found is None:
        return False
    report = assembly.report
    if report is not None and not report.past_table():
        report.memory["hugetlb_kb"] = report.memory.get("hugetlb_kb", 0) + found
    return True


def swap(assembly: Assembly, text: str) -> bool:
    """ "Total swap = 4kB"."""
    found = line_memory.swap(text)
    if found is None:
        return False
    assembly.before_table().memory[found[0]] = found[1]
    return True


def machine_pages(assembly: Assembly, text: str) -> bool:
    """ "9 pages RAM"."""
    found = line_memory.machine_pages(text)
    if found is None:
        return False
    assembly.before_table().pages[found[0]] = found[1]
    return True
