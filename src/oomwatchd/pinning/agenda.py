"""The looks that have to follow a look: at children, and at descendants after what they inherit has changed.

One process can have thousands of descendants, and can change its program again and again. So only a limited number of
looks is done at once. The rest waits for slices of time between events."""

from collections import deque
from collections.abc import Iterable, Iterator

from oomwatchd.pinning.decisions import Trigger

Steps = Iterator[tuple[int | None, Trigger]]
"""Each PID to look at, and why; None in place of a PID: the caller may pause. A caller that stops in between leaves the
rest on the agenda."""

EFFORT_AT_ONCE = 4096
"""How much is done for one event before the next event is read: some 256 looks. Most families are smaller."""

_EFFORT_OF_LOOK = 16
"""A look takes some 16 times as long as a pause."""

_ROUNDS = 8
"""A look at a descendant that is pinned itself puts further looks on the agenda, and so on. Processes can go on with
that for ever, so rounds() ends after this number of times."""


class Agenda:
    """The looks that wait. `effort_at_once`: after which effort at_once() ends."""

    def __init__(self, effort_at_once: float) -> None:
        self.behind = False
        """Whether looks wait for rounds(). Until they are done, at_once() leaves all further ones to it, too."""
        self._effort_at_once = effort_at_once
        self._waiting: deque[tuple[Iterator[int | None], Trigger]] = deque()

    @property
    def empty(self) -> bool:
        """Whether no look waits."""
        return not self._waiting

    def add(self, pids: Iterable[int | None], trigger: Trigger) -> None:
        """Have these processes looked at. `pids` may be a generator, which finds them when it is their turn."""
        self._waiting.append((iter(pids), trigger))

    def clear(self) -> None:
        """Forget all looks that wait."""
        self._waiting.clear()
        self.behind = False

    def at_once(self) -> Steps:
        """The looks that wait, or the first of them if they are many."""
        if not self._waiting or self.behind:
            return
        effort = 0
        self.behind = True  # unless all are done
        while self._waiting:
            for pid, trigger in self._first():
                yield pid, trigger
                effort += 1 if pid is None else _EFFORT_OF_LOOK
                if effort > self._effort_at_once:
                    return
        self.behind = False

    def rounds(self) -> Steps:
        """The looks that wait now, those that follow from them, and so on, a limited number of times."""
        for _ in range(_ROUNDS):
            for _ in range(len(self._waiting)):
                yield from self._first()
        self.behind = bool(self._waiting)

    def _first(self) -> Steps:
        if not self._waiting:
            return
        first = self._waiting[0]
        pids, trigger = first
        for pid in pids:
            yield pid, trigger
        if self._waiting and self._waiting[0] is first:  # else another caller has come to its end meanwhile
            self._waiting.popleft()
