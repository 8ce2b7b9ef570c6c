"""Makes sure that one daemon alone uses a runtime directory, by flock(2) on a file in it. The kernel releases the lock
when the process ends."""

import contextlib
import fcntl
import os

_NAME = "lock"


class LockTaken(Exception):
    """Another daemon has the lock. `pid`: its PID; empty: not known."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.pid = pid


class RuntimeLock:
    """The lock of a runtime directory, until close() or the end of this process. Raises LockTaken, and OSError for
    another reason, such as a full disk."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # Mode 0600, since a user who can open the file can lock it.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(f"{directory}/{_NAME}", flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._descriptor, 16, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise LockTaken(pid if pid.isdigit() else "") from None
        with contextlib.suppress(OSError):  # the PID is only for messages
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)
