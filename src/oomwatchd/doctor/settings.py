"""Findings about settings of the kernel."""

from collections.abc import Iterator

from oomwatchd.doctor.finding import CRITICAL, NOTICE, WARNING, Finding, mib
from oomwatchd.doctor.system import System

# Percent: of the commit limit, above which there is a finding; of RAM, below which there is little swap.
COMMITTED = 90
LITTLE_SWAP = 5


def panic_on_oom(system: System) -> Iterator[Finding]:
    """vm.panic_on_oom: the kernel panics, so that no pin counts."""
    value = system.sysctls.panic_on_oom
    if value in (None, 0):
        return
    scope = "when the machine runs out of memory" if value == 1 else "also when a cgroup or cpuset runs out of memory"
    yield Finding(
        "panic-on-oom",
        CRITICAL,
        f"vm.panic_on_oom is {value}: {scope} the kernel panics, whatever oom_score_adj says.",
        "sysctl vm.panic_on_oom=0",
    )


def oom_kill_allocating_task(system: System) -> Iterator[Finding]:
    """vm.oom_kill_allocating_task: the process that asks for memory dies, whatever its value."""
    if system.sysctls.oom_kill_allocating_task in (None, 0):
        return
    yield Finding(
        "oom-kill-allocating-task",
        CRITICAL,
        "vm.oom_kill_allocating_task is set: when the machine runs out of memory, the process that asks for "
        "memory is killed, whatever its oom_score_adj, unless that is -1000.",
        "sysctl vm.oom_kill_allocating_task=0",
    )


def overcommit(system: System) -> Iterator[Finding]:
    """vm.overcommit_memory=2: allocations fail before the OOM killer acts. Also: how near the commit limit is."""
    mode = system.sysctls.overcommit_memory
    if mode == 1:
        yield Finding(
            "overcommit-always",
            NOTICE,
            "vm.overcommit_memory is 1: no allocation is ever refused, so that every excess ends in an OOM kill.",
            "sysctl vm.overcommit_memory=0",
        )
    if mode != 2:
        return
    limit, committed = system.commit_limit, system.committed
    measure = "vm.overcommit_kbytes"
    if system.sysctls.overcommit_kbytes in (None, 0):
        measure = f"vm.overcommit_ratio {system.sysctls.overcommit_ratio}"
    figures, severity = "", WARNING
    if limit is not None and committed is not None and limit > 0:
        share = 100 * committed // limit
        severity = CRITICAL if share >= COMMITTED else WARNING
        figures = f" ({mib(committed)} of {mib(limit)} are committed, {share} %, by {measure})"
    yield Finding(
        "overcommit-never",
        severity,
        f"vm.overcommit_memory is 2{figures}: at the limit allocations fail in any process, the protected ones too, "
        "before the kernel chooses a victim.",
        "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
    )


def swap(system: System) -> Iterator[Finding]:
    """Too little swap, or swap that is nearly full."""
    machine = system.machine
    if machine is None:
        return
    advice = "add swap, or zram (systemd-zram-generator), and keep vm.swappiness above 0"
    if machine.swap_total == 0:
        yield Finding(
            "no-swap",
            NOTICE,
            "There is no swap: before the kernel kills a process, it drops program code, also of protected processes, "
            "and reads it again and again; and a burst of allocations leads to a kill at once.",
            advice,
        )
    elif 100 * machine.swap_total < LITTLE_SWAP * machine.ram:
        yield Finding(
            "little-swap",
            NOTICE,
            f"There is little swap, {mib(machine.swap_total)} for {mib(machine.ram)} of RAM: it is full before "
            "it helps.",
            advice,
        )
