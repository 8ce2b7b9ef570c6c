"""Findings about what the daemon may do and see."""

from collections.abc import Iterator

from oomwatchd.base.text import counted, printable
from oomwatchd.base.uapi import CAP_DAC_OVERRIDE, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE, CAP_SYSLOG
from oomwatchd.doctor.finding import CRITICAL, NOTICE, WARNING, Finding, names
from oomwatchd.doctor.system import System
from oomwatchd.kernel.proc_status import has_capability

# What the daemon can't do without each capability. oomwatchd(8) describes them.
CAPABILITIES = (
    ("sys-resource", CAP_SYS_RESOURCE, "values can be raised but not lowered, and no floor moves", CRITICAL),
    ("dac-override", CAP_DAC_OVERRIDE, "values of other users' processes can't be written", CRITICAL),
    ("sys-ptrace", CAP_SYS_PTRACE, "nobody else's executable can be read, so rules with `exe` don't fit", CRITICAL),
    (
        "net-admin",
        CAP_NET_ADMIN,
        "kernels before 6.12 refuse process events, so that only scans find processes",
        WARNING,
    ),
)


_ALL = -1  # all bits


def _subject(system: System) -> tuple[str, int]:
    """The beginning of a sentence that names the process whose capabilities count, and the set of these. It is the
    daemon; if none runs, it is this process, since a daemon that is started from here would have the same
    capabilities."""
    if system.daemon is None:
        who, held = "The daemon doesn't run, and started from here it", system.cap_eff
    else:
        who, held = f"The daemon ({system.daemon})", _ALL  # unless /proc shows that it lacks some
        for process in system.processes:
            if process.task.pid == system.daemon:
                held = process.cap_eff
        for name, number, _, _ in CAPABILITIES:
            if _cap_name(name) in system.missing_capabilities:
                held &= ~(1 << number)
    if system.initial_user_ns is False:
        held &= ~(1 << CAP_SYS_RESOURCE)  # __set_oom_adj in fs/proc/base.c wants it in the initial user namespace
    return who, held


def capabilities(system: System) -> Iterator[Finding]:
    """Capabilities that the daemon lacks."""
    who, held = _subject(system)
    missing = [entry for entry in CAPABILITIES if not has_capability(held, entry[1])]
    if system.daemon is None and system.uid != 0 and missing:
        names = ", ".join(_cap_name(entry[0]) for entry in missing)
        yield Finding(
            "unprivileged",
            NOTICE,
            f"The daemon doesn't run, and this process of uid {system.uid} lacks {names}: it isn't known "
            "what a daemon could do, and not everything can be seen.",
            "run oomwatchctl doctor as root",
        )
        return
    for name, _, consequence, severity in missing:
        verb = "lacks" if system.daemon is not None else "would lack"
        yield Finding(
            f"no-cap-{name}",
            severity,
            f"{who} {verb} {_cap_name(name)}: {consequence}.",
            f"add {_cap_name(name)} to CapabilityBoundingSet= of oomwatchd.service, or to what the container may have",
        )


def _cap_name(name: str) -> str:
    return "CAP_" + name.replace("-", "_").upper()


def hidepid(system: System) -> Iterator[Finding]:
    """A /proc that hides other users' processes (hidepid=, proc(5))."""
    if system.hidepid is None:
        return
    who, held = _subject(system)
    if system.daemon is None:
        where = "/proc is mounted here with hidepid=" + system.hidepid
        note = " (the daemon doesn't run, so it isn't known how it would see /proc)"
    else:
        where, note = f"The daemon ({system.daemon}) sees a /proc with hidepid={system.hidepid}", ""
    if has_capability(held, CAP_SYS_PTRACE):
        yield Finding(
            "hidepid",
            NOTICE,
            f"{where}{note}: users without CAP_SYS_PTRACE see only their own processes with oomwatchctl; the daemon "
            "sees all.",
            "run oomwatchctl as root",
        )
        return
    yield Finding(
        "hidepid",
        CRITICAL,
        f"{where}{note}. {who} has no CAP_SYS_PTRACE: other users' processes are not seen.",
        "give the daemon CAP_SYS_PTRACE, or a /proc without hidepid= (ProtectProc=default)",
    )


def configuration_watch(system: System) -> Iterator[Finding]:
    """The kernel doesn't report to the daemon when the configuration is saved."""
    if system.not_watched:
        yield Finding(
            "config-not-watched",
            WARNING,
            f"The kernel doesn't report when the configuration is saved: {system.not_watched}. Scans find it later.",
            "raise the limit: sysctl fs.inotify.max_user_watches or fs.inotify.max_user_instances",
        )


def unreadable(system: System) -> Iterator[Finding]:
    """Processes that this process may not read, so that other findings may be incomplete."""
    if system.unreadable == 0 or system.hidepid is not None:
        return
    yield Finding(
        "processes-unreadable",
        NOTICE,
        f"{counted(system.unreadable, 'process')} may not be read, so findings about them are missing.",
        "run oomwatchctl doctor as root",
    )


def proc_connector(system: System) -> Iterator[Finding]:
    """There are no process events."""
    reasons = list(_no_events(system)) if system.events is None else [] if system.events[0] else [system.events[1]]
    if reasons:
        yield Finding(
            "no-proc-connector",
            WARNING,
            f"The kernel doesn't report processes as they start ({'; '.join(reasons)}): only scans find them.",
            "run the daemon on the host with CAP_NET_ADMIN, or lower scan_interval",
        )


def _no_events(system: System) -> Iterator[str]:
    """The reasons why there can be no process events, as far as they can be seen without trying."""
    if system.initial_pid_ns is False:
        yield "not in the initial PID namespace"
    if system.initial_user_ns is False:
        yield "not in the initial user namespace"
    if not system.connector:
        yield "no cn_proc in /proc/net/connector: CONFIG_PROC_EVENTS is off, or this is another network namespace"


def kernel_log(system: System) -> Iterator[Finding]:
    """The kernel's log can't be read, so that OOM kills aren't explained."""
    _, held = _subject(system)
    restricted = system.sysctls.dmesg_restrict == 1 and not has_capability(held, CAP_SYSLOG)
    if system.journal or (system.kmsg_readable and not restricted):
        return
    why = "kernel.dmesg_restrict is 1, without CAP_SYSLOG" if restricted else "/dev/kmsg can't be opened"
    yield Finding(
        "kernel-log-unreadable",
        WARNING,
        f"The kernel log can't be read ({why}) and there is no journal to read instead: OOM kills are counted "
        "but not explained.",
        "AmbientCapabilities=CAP_SYSLOG for the daemon, or sysctl kernel.dmesg_restrict=0",
    )


def lsm_denials(system: System) -> Iterator[Finding]:
    """A security module has refused oomwatchd something."""
    if system.denials:
        times = counted(len(system.denials), "time")
        yield Finding(
            "lsm-denials",
            CRITICAL,
            f"A security module has refused oomwatchd something {times}, the last time: "
            f"{printable(system.denials[-1].strip()[:200])}.",
            "allow it in the policy: ausearch -m AVC,APPARMOR -c oomwatchd, then audit2allow or the AppArmor profile",
        )
    if system.refused_links and system.initial_user_ns:
        seen = [p for p in system.processes if p.task.pid in system.refused_links]
        yield Finding(
            "lsm-refuses-exe",
            WARNING,
            f"The executable of {counted(len(seen), 'process')} can't be read in spite of CAP_SYS_PTRACE "
            f"({names(seen)}): a security module refuses it, and rules with `exe` don't fit them.",
            "allow ptrace (read) for oomwatchd in the policy",
        )
