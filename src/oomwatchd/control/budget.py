"""How much of the CPU clients may take: so much at once, and then a share of the time. Pure: time enters as an
argument."""

_RESUME_SECONDS = 0.005
"""Whoever has used up a budget waits for this much of it, not for each microsecond."""


class Budget:
    """CPU time that is spent at once, up to `burst` seconds, and comes back at `share` seconds a second. `now` is
    CLOCK_MONOTONIC in seconds."""

    def __init__(self, share: float, burst: float) -> None:
        self._share = share
        self._burst = burst
        self._left = burst
        self._at = 0.0

    def spend(self, seconds: float, now: float) -> None:
        """Take `seconds` of CPU time off. What was spent beyond the budget has to come back before the next."""
        self._left = max(min(self._left_at(now), self._burst) - seconds, -self._burst)
        self._at = now

    def wait(self, now: float) -> float:
        """For how many seconds nothing may be spent; 0: something may be."""
        left = self._left_at(now)
        return 0.0 if left > 0 else (_RESUME_SECONDS - left) / self._share

    def full(self, now: float) -> bool:
        """Whether nothing is missing from the budget."""
        return self._left_at(now) >= self._burst

    def _left_at(self, now: float) -> float:
        return self._left + (now - self._at) * self._share
