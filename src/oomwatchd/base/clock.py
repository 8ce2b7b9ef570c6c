"""The clock for spans of time: it goes on during suspend, and nobody can set it."""

import time


def boottime() -> float:
    """Seconds since boot, suspend included: CLOCK_BOOTTIME, clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boottime_as_epoch(boottime_seconds: float) -> float:
    """The time at `boottime_seconds` (see boottime()), in seconds since 1970, as the machine's clock is set now."""
    return time.time() + boottime_seconds - boottime()
