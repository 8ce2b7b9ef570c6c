"""Limits the CPU time that clients take: some seconds at once, and then a share of the time. Pure: time enters as an
argument."""

_RESUME_SECONDS = 0.005
"""When a budget is used up, nothing may be spent until this much CPU time has come back."""


class Budget:
    """CPU time that can be spent: up to `burst` seconds at once. It comes back at `share` seconds each second. `now` is
    CLOCK_MONOTONIC in seconds."""

    def __init__(self, share: float, burst: float) -> None:
        self._share = share
        self._burst = burst
        self._left = burst
        self._at = 0.0

    def spend(self, seconds: float, now: float) -> None:
        """Take off `seconds` of CPU time. What exceeds the budget has to come back before more can be spent."""
        self._left = max(min(self._left_at(now), self._burst) - seconds, -self._burst)
        self._at = now

    def wait(self, now: float) -> float:
        """For how many seconds nothing may be spent; 0: something may be spent now."""
        left = self._left_at(now)
        return 0.0 if left > 0 else (_RESUME_SECONDS - left) / self._share

    def full(self, now: float) -> bool:
        """Whether the whole burst can be spent."""
        return self._left_at(now) >= self._burst

    def _left_at(self, now: float) -> float:
        return self._left + (now - self._at) * self._share
