"""One daemon for a runtime directory: flock(2) on a file in it, which the kernel lets go when its holder ends, however
it ends."""

import contextlib
import fcntl
import os

_NAME = "lock"


class Taken(Exception):
    """Another daemon holds the lock. `pid`: its PID, or empty."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.pid = pid


class RuntimeLock:
    """The lock of `directory`, held until this process ends. Raises Taken; OSError where it can't be had for another
    reason, such as a disk that is full."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # For root alone: whoever can open it can lock it.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(f"{directory}/{_NAME}", flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._descriptor, 16, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Taken(pid if pid.isdigit() else "") from None
        with contextlib.suppress(OSError):  # the PID is for people
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        os.close(self._descriptor)
