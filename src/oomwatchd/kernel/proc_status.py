"""Parses /proc/PID/status: proc_pid_status(5)."""

from dataclasses import dataclass

from oomwatchd.base.uapi import CAP_DAC_OVERRIDE, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE

NEEDED_CAPABILITIES = {
    "CAP_DAC_OVERRIDE": CAP_DAC_OVERRIDE,
    "CAP_NET_ADMIN": CAP_NET_ADMIN,
    "CAP_SYS_PTRACE": CAP_SYS_PTRACE,
    "CAP_SYS_RESOURCE": CAP_SYS_RESOURCE,
}
"""The capabilities that the daemon needs for its work, by name."""


@dataclass(frozen=True, slots=True)
class Status:
    """The fields of /proc/PID/status that rules are compared with."""

    uid: int
    """Real user ID: who started the process."""
    effective_uid: int
    saved_uid: int
    gid: int
    """Real group ID."""
    saved_gid: int
    pid_ns_depth: int
    """How many PID namespaces the process lives below that of the /proc mount; 0: it lives in the same one."""

    def belongs_to(self, uid: int) -> bool:
        """Whether the real, the effective and the saved user ID are `uid`: it isn't a setuid program of another
        user."""
        return self.uid == self.effective_uid == self.saved_uid == uid


def parse_status(raw: bytes) -> Status:
    """Parse /proc/PID/status. The kernel escapes line feeds in the name. Raises ValueError."""
    # Since Linux 4.1, NSpid has one number for each PID namespace, from that of the mount down.
    nspid = line_of(raw, b"\nNSpid:")
    uid, effective_uid, saved_uid, _ = map(int, line_of(raw, b"\nUid:"))
    gid, _, saved_gid, _ = map(int, line_of(raw, b"\nGid:"))
    return Status(uid, effective_uid, saved_uid, gid, saved_gid, pid_ns_depth=len(nspid) - 1)


def parse_family(raw: bytes) -> tuple[int, int]:
    """Two facts of /proc/PID/status: how many PID namespaces the process lives below that of the /proc mount, and the
    PID of its parent (0: the mount doesn't show the parent). Raises ValueError."""
    return len(line_of(raw, b"\nNSpid:")) - 1, int(line_of(raw, b"\nPPid:")[0])


def parse_thread_group(raw: bytes) -> int:
    """The PID of the process, by the status of any of its threads. Raises ValueError."""
    return int(line_of(raw, b"\nTgid:")[0])


def parse_capabilities(raw: bytes) -> int:
    """The effective capabilities, as bits: see has_capability(). 0 if the file doesn't have them. Raises ValueError."""
    return int(line_of(raw, b"\nCapEff:")[0], 16) if b"\nCapEff:" in raw else 0


def has_capability(capabilities: int, number: int) -> bool:
    """Whether the bits of `capabilities` have capability `number`, one of CAP_* in base/uapi.py."""
    return capabilities >> number & 1 == 1


def read_capabilities(proc: str = "/proc") -> int:
    """The effective capabilities of this process, as bits. Raises OSError and ValueError."""
    with open(f"{proc}/self/status", "rb") as file:
        return parse_capabilities(file.read())


def missing_capabilities(proc: str = "/proc") -> tuple[str, ...]:
    """The names of the NEEDED_CAPABILITIES that this process hasn't in effect. Raises OSError and ValueError."""
    effective = read_capabilities(proc)
    return tuple(name for name, number in NEEDED_CAPABILITIES.items() if not has_capability(effective, number))


def line_of(raw: bytes, label: bytes) -> list[bytes]:
    """The words that follow `label` on its line. `label` must begin with a line feed. Raises ValueError if there is no
    such line."""
    start = raw.index(label) + len(label)
    return raw[start : raw.index(b"\n", start)].split()
