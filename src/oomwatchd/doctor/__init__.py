"""Finds what in a system weakens or defeats the pins: pure functions from `System` to findings."""

from collections.abc import Callable, Iterator

from oomwatchd.doctor import killers, memcgs, privileges, processes, settings
from oomwatchd.doctor.finding import CRITICAL, NOTICE, WARNING, Finding
from oomwatchd.doctor.system import System

__all__ = ["CRITICAL", "NOTICE", "WARNING", "Finding", "find"]

CHECKS: tuple[Callable[[System], Iterator[Finding]], ...] = (
    killers.daemon,
    settings.panic_on_oom,
    settings.oom_kill_allocating_task,
    settings.overcommit,
    settings.swap,
    memcgs.memcg_oom_group,
    memcgs.memcg_oom_disabled,
    memcgs.memcg_protected,
    processes.other_killers,
    killers.systemd_oomd,
    killers.earlyoom,
    killers.nohang,
    killers.oom_policy,
    processes.protected_share,
    processes.unkillable_owners,
    processes.leaks,
    privileges.capabilities,
    privileges.hidepid,
    privileges.unreadable,
    privileges.proc_connector,
    privileges.configuration_watch,
    privileges.kernel_log,
    privileges.lsm_denials,
)


def findings_of(system: System) -> list[Finding]:
    """All findings, the most severe first."""
    found = [finding for check in CHECKS for finding in check(system)]
    return sorted(found, key=lambda finding: (CRITICAL, WARNING, NOTICE).index(finding.severity))
