"""Limits how soon one reload may follow another. Reloads that are asked for meanwhile become one. Pure."""

_LEAST_SECONDS = 0.2
_MOST_SECONDS = 5.0
"""The least and the longest time from one reload to the next."""
_TIMES = 4
"""The pause before the next reload is this multiple of the CPU time that the last reload took, within the limits above.
So reloads take at most a fifth of the time."""


class ReloadPace:
    """Knows when the next reload may begin. `now` is CLOCK_MONOTONIC in seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def wait(self, now: float) -> float:
        """For how many seconds the next reload has to wait; 0: it may begin now."""
        return max(self._next - now, 0.0)

    def done(self, cost: float, now: float) -> None:
        """Note that a reload has ended, and has taken `cost` seconds of CPU time."""
        self._next = now + min(max(_TIMES * cost, _LEAST_SECONDS), _MOST_SECONDS)
