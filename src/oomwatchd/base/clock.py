"""The clock for spans of time: it goes on during suspend, and no one can set it."""

import os
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
"""Clock ticks a second. The kernel shows in ticks when a process has started, proc_pid_stat(5)."""


def boottime() -> float:
    """Seconds since boot, suspend included: CLOCK_BOOTTIME, clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boottime_as_epoch(boottime_seconds: float) -> float:
    """A time of boottime() as seconds since 1970, by the machine's clock as it is set now."""
    return time.time() + boottime_seconds - boottime()


def ticks_since_boot(monotonic_ns: int) -> int:
    """A time of CLOCK_MONOTONIC, in nanoseconds, as the kernel would show it for a process that started then: clock
    ticks since boot, suspend included. If the machine was suspended after that time, the result is too late."""
    asleep_ns = -time.monotonic_ns() + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return (monotonic_ns + asleep_ns) * TICKS_PER_SECOND // 1_000_000_000
