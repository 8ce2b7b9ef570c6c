"""The table of tracked processes, kept by the daemon where the kernel doesn't."""

from collections.abc import Iterator

from oomwatchd.kernel.exec_filter import Member, PidTable


class OwnTable:
    """The tracked processes and their descendants, for kernels without the filter. It does when an event is read what
    exec_filter.bpf.c does when the event happens. It can't know the maker of a child by CLONE_PARENT, since the fork
    event names another process."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self.get = self._members.get

    def set(self, pid: int, member: Member) -> None:
        """Add a process, or change its entry."""
        self._members[pid] = member

    def remove(self, pid: int) -> None:
        """Remove the entry of a process, if there is one."""
        self._members.pop(pid, None)

    def items(self) -> dict[int, Member]:
        """All entries by PID."""
        return self._members.copy()

    def pids(self) -> Iterator[int]:
        """The PIDs that are in the table now."""
        return iter(list(self._members))

    def forked(self, parent: int, child: int) -> Member | None:
        """Add the child of a tracked process. Returns its entry; None: the parent isn't tracked."""
        members = self._members
        if parent not in members:
            members.pop(child, None)  # of a process that had this PID before
            return None
        above = members[parent]
        fresh = members[child] = Member(parent, above.origin, above.hear)
        return fresh

    def exited(self, pid: int) -> None:
        """Remove the entry of a process that has ended."""
        self._members.pop(pid, None)


Table = OwnTable | PidTable
