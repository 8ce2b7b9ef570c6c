"""The clock for what shall last so long: it goes on while the machine sleeps, and nobody sets it."""

import time


def boottime() -> float:
    """Seconds since boot, suspend included: CLOCK_BOOTTIME, clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boottime_as_epoch(boottime_seconds: float) -> float:
    """When that is, in seconds since the epoch, as the machine's clock is set now."""
    return time.time() + boottime_seconds - boottime()
