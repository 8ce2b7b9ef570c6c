"""Has helper processes make calls that may never return, while the loop goes on."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from oomwatchd.base.helper import ForkServer, Helper, HelperError
from oomwatchd.daemon.loop import Loop

Done = Callable[[object], None]
"""Called with the result of a call; None: the call didn't return in its time."""

_IDLE_SECONDS = 30.0
"""How long a helper may be idle before it is ended, seconds."""
_QUEUE = 512
"""The most calls of one owner that may wait."""
_OWNERS = 64
"""The most owners that may have waiting calls."""
_RETRY_SECONDS = 0.5
"""While calls wait, how often to look whether a helper that hung has ended, or whether a process can be started now.
Nothing else shows that."""


@dataclass(slots=True)
class Call:
    """One call, waiting or under way."""

    name: str
    """The name of the function, as the fork server knows it."""
    arguments: tuple[object, ...]
    done: Done
    owner: int
    """The user ID for whose sake the call is made."""
    seconds: float | None
    """How long the call may take from its start; None: any time."""


class HelperPool:
    """At most `size` helpers, of which at most `per_owner` serve one owner at a time, and `for_root` serve root alone,
    since one user can have many uids. They serve owners in turn, so that one with many calls doesn't make the others
    wait. A helper that was killed and hasn't ended yet still counts: an owner who makes `per_owner` helpers hang gets
    None for all calls."""

    def __init__(
        self, loop: Loop, server: ForkServer, size: int, per_owner: float = math.inf, for_root: int = 0
    ) -> None:
        self._loop = loop
        self._server = server
        self._size = size
        self._per_owner = per_owner
        self._for_users = size - for_root
        self._workers: list[_Worker] = []
        self._lingering: list[tuple[Helper, int]] = []
        """Helpers that were killed but haven't ended yet, since they wait in the kernel; and the owner of the call."""
        self._queues: dict[int, deque[Call]] = {}
        """The calls that wait, by owner. The first owner is the next to be served."""

    def submit(self, call: Call) -> bool:
        """Have a call made. Returns False if too many wait already; then `done` isn't called."""
        self._reap()
        if self._hanging(call.owner) >= self._per_owner:
            self._loop.later(0.0, partial(call.done, None))
            return True
        queue = self._queues.get(call.owner)
        if queue is None:
            if len(self._queues) >= _OWNERS:
                return False
            queue = self._queues[call.owner] = deque()
        if len(queue) >= _QUEUE:
            return False
        queue.append(call)
        self._start_waiting()
        return True

    def _start_waiting(self) -> None:
        self._reap()
        while (owner := next(filter(self._may_have_another, self._queues), None)) is not None:
            worker = self._free_worker()
            if worker is None:
                break
            queue = self._queues.pop(owner)
            call = queue.popleft()
            if queue:
                self._queues[owner] = queue  # last, so that the other owners are served before it
            worker.start(call)
        if self._queues:
            self._loop.later(_RETRY_SECONDS, self._start_waiting)

    def _may_have_another(self, owner: int) -> bool:
        served = [worker.call.owner for worker in self._workers if worker.call is not None]
        served += [each for _, each in self._lingering]
        if owner != 0 and len(served) - served.count(0) >= self._for_users:
            return False
        return served.count(owner) < self._per_owner

    def _hanging(self, owner: int) -> int:
        return sum(each == owner for _, each in self._lingering)

    def _free_worker(self) -> "_Worker | None":
        for worker in self._workers:
            if worker.call is None:
                return worker
        if len(self._workers) + len(self._lingering) >= self._size:
            return None
        try:
            worker = _Worker(self, self._server.start(), self._loop)
        except (HelperError, OSError):  # no process could be started
            return None
        self._workers.append(worker)
        return worker

    def _reap(self) -> None:
        self._lingering = [(helper, owner) for helper, owner in self._lingering if not helper.has_ended()]

    def answered(self) -> None:
        """Called when a worker is free again."""
        self._start_waiting()

    def gone(self, worker: "_Worker", helper: Helper) -> None:
        """Called when a worker gives up its helper, which is killed here."""
        self._workers.remove(worker)
        helper.kill()
        if helper.has_ended() or worker.call is None:
            return
        owner = worker.call.owner
        self._lingering.append((helper, owner))
        if self._hanging(owner) >= self._per_owner:
            for call in self._queues.pop(owner, ()):
                self._loop.later(0.0, partial(call.done, None))

    def close(self) -> None:
        """Kill all helpers, without waiting for them."""
        self._queues.clear()
        for worker in list(self._workers):
            worker.retire()


class _Worker:
    """A helper, and the call that it makes now."""

    def __init__(self, pool: HelperPool, helper: Helper, loop: Loop) -> None:
        self._pool, self._helper, self._loop = pool, helper, loop
        self.call: Call | None = None
        loop.add(helper.fileno(), self._on_answer)

    def start(self, call: Call) -> None:
        self._loop.cancel(self.retire)
        self.call = call
        try:
            self._helper.send(call.name, call.arguments)
        except HelperError:
            self._loop.later(0.0, self._overdue)  # not at once: the caller isn't ready for the result yet
            return
        if call.seconds is not None:
            self._loop.later(call.seconds, self._overdue)

    def _on_answer(self) -> None:
        try:
            answer = self._helper.receive(0.0)
        except HelperError:
            self._overdue()
            return
        self._loop.cancel(self._overdue)
        self._loop.later(_IDLE_SECONDS, self.retire)
        self._finish(answer)

    def _overdue(self) -> None:
        """The call has taken too long, or the helper has ended."""
        self.retire()
        self._finish(None)

    def _finish(self, answer: object) -> None:
        call, self.call = self.call, None
        try:
            if call is not None:
                call.done(answer)
        finally:
            self._pool.answered()

    def retire(self) -> None:
        self._loop.cancel(self._overdue)
        self._loop.cancel(self.retire)
        self._loop.remove(self._helper.fileno())
        self._pool.gone(self, self._helper)
