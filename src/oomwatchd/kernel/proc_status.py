"""/proc/PID/status, parsed: proc_pid_status(5)."""

from dataclasses import dataclass

CAPABILITIES = {"CAP_DAC_OVERRIDE": 1, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_RESOURCE": 24}
"""include/uapi/linux/capability.h: those that the daemon's work wants."""


@dataclass(frozen=True, slots=True)
class Status:
    """/proc/PID/status, what we use of it."""

    uid: int
    """Real: who started the process."""
    effective_uid: int
    saved_uid: int
    gid: int
    """Real."""
    saved_gid: int
    pid_ns_depth: int
    """How many PID namespaces below that of the /proc mount the process lives; 0: in that same one."""

    def belongs_to(self, uid: int) -> bool:
        """Whether the process is that user's alone, and no setuid program of another's."""
        return self.uid == self.effective_uid == self.saved_uid == uid


def parse_status(raw: bytes) -> Status:
    """Parse /proc/PID/status. Line feeds in the name are escaped by the kernel. Raises ValueError."""
    # NSpid has one number for each PID namespace from the mount's down, since Linux 4.1.
    nspid = line_of(raw, b"\nNSpid:")
    uid, effective_uid, saved_uid, _ = map(int, line_of(raw, b"\nUid:"))
    gid, _, saved_gid, _ = map(int, line_of(raw, b"\nGid:"))
    return Status(uid, effective_uid, saved_uid, gid, saved_gid, pid_ns_depth=len(nspid) - 1)


def parse_family(raw: bytes) -> tuple[int, int]:
    """Of /proc/PID/status how many PID namespaces below that of the /proc mount the process lives, and its parent's
    PID (0: none that is seen there). Raises ValueError."""
    return len(line_of(raw, b"\nNSpid:")) - 1, int(line_of(raw, b"\nPPid:")[0])


def parse_thread_group(raw: bytes) -> int:
    """Of /proc/PID/status the PID of the process, where PID may be that of a thread. Raises ValueError."""
    return int(line_of(raw, b"\nTgid:")[0])


def missing_capabilities(pid: int | str = "self", proc: str = "/proc") -> tuple[str, ...]:
    """Which of CAPABILITIES a process hasn't in effect."""
    with open(f"{proc}/{pid}/status", "rb") as file:
        effective = int(line_of(file.read(), b"\nCapEff:")[0], 16)
    return tuple(name for name, bit in CAPABILITIES.items() if not effective >> bit & 1)


def line_of(raw: bytes, label: bytes) -> list[bytes]:
    """The words behind `label`, which begins with a line feed. Raises ValueError if there is no such line."""
    start = raw.index(label) + len(label)
    return raw[start : raw.index(b"\n", start)].split()
