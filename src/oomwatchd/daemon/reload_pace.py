"""How soon after a reload the next one may come: those asked for meanwhile are one. Pure."""

_LEAST_SECONDS = 0.2
_MOST_SECONDS = 5.0
_TIMES = 4
"""Reloading and what follows takes at most one part in five of the time, for as long as that isn't the limit above."""


class ReloadPace:
    """When the next reload may begin. `now` is CLOCK_MONOTONIC in seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def wait(self, now: float) -> float:
        """For how many seconds it has to wait; 0: not at all."""
        return max(self._next - now, 0.0)

    def done(self, cost: float, now: float) -> None:
        """A reload has taken `cost` seconds."""
        self._next = now + min(max(_TIMES * cost, _LEAST_SECONDS), _MOST_SECONDS)
