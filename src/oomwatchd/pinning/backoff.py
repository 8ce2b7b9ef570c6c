"""Decides whether a pinned value that was changed again is written back at once, or left alone for a while. Pure. Times
are seconds of a clock that can't be set."""

from enum import Enum

_CONTENDED_AFTER = 3
"""The number of drifts in a row that are written back at once. After one more, the value is left alone for a while."""
_FIRST_SECONDS = 60.0
"""How long the value is left alone at first. Each further time is twice as long."""
_LONGEST_SECONDS = 3600.0
_CALM_SECONDS = 600.0
"""If there was no drift for this time, the next one counts as the first."""


class DriftResponse(Enum):
    """What to do about a value that has been changed."""

    WRITE = "write"
    WAIT = "wait"
    WARN = "warn"
    """Leave the value alone for a while, and log that."""


class Backoff:
    """Counts how often the value of one process was changed."""

    __slots__ = ("_drifts", "_next_write", "contended")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all drifts, as after a change of rules."""
        self._drifts = 0
        self.contended = False
        """Whether the value has been left alone since the last time without drifts."""
        self._next_write = 0.0

    def drifted(self, now: float) -> DriftResponse:
        """Note that the value was found changed, at the time `now`. Returns what to do."""
        if now < self._next_write:
            return DriftResponse.WAIT
        if now > self._next_write + _CALM_SECONDS:
            self._drifts, self.contended = 0, False
        self._drifts += 1
        self._next_write = now
        if self._drifts <= _CONTENDED_AFTER:
            return DriftResponse.WRITE
        doublings = min(self._drifts - _CONTENDED_AFTER - 1, 10)
        self._next_write = now + min(_FIRST_SECONDS * 2**doublings, _LONGEST_SECONDS)
        if self.contended:
            return DriftResponse.WRITE  # the wait is over: one more try
        self.contended = True
        return DriftResponse.WARN
