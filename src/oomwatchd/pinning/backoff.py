"""Whether to fight for a value that somebody keeps changing. Pure; seconds of a clock that only goes forward."""

from enum import Enum

_CONTENDED_AFTER = 3
"""Drifts in a row until whoever keeps changing a value is left to it for a while."""
_FIRST_SECONDS = 60.0
_LONGEST_SECONDS = 3600.0
_CALM_SECONDS = 600.0
"""After so long without drift the next one counts as the first."""


class Verdict(Enum):
    """What to do about a value that has been changed."""

    WRITE = "write"
    WAIT = "wait"
    WARN = "warn"
    """Leave it for a while, and say so."""


class Backoff:
    """How often the value of one process has been changed."""

    __slots__ = ("_drifts", "_next_write", "contended")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as after a change of rules."""
        self._drifts = 0
        self.contended = False
        """Whether it has come to waiting."""
        self._next_write = 0.0

    def drifted(self, now: float) -> Verdict:
        """The value has been changed again, or is still changed."""
        if now < self._next_write:
            return Verdict.WAIT
        if now > self._next_write + _CALM_SECONDS:
            self._drifts, self.contended = 0, False
        self._drifts += 1
        self._next_write = now
        if self._drifts <= _CONTENDED_AFTER:
            return Verdict.WRITE
        doublings = min(self._drifts - _CONTENDED_AFTER - 1, 10)
        self._next_write = now + min(_FIRST_SECONDS * 2**doublings, _LONGEST_SECONDS)
        if self.contended:
            return Verdict.WRITE  # a time of waiting has ended: one more try
        self.contended = True
        return Verdict.WARN
