"""Ten minutes of everything at once: programs that no rule asks for, programs that one does with children and orphans,
scans one after the other. Memory and descriptors must not grow, and a pin must take as long at the end as at the start.

    .venv/bin/python -m bench.mixed [MINUTES]

Run it as root. The exit status is 1 if the daemon's memory has grown by more than 2 MiB after the first minute, or if
it has more descriptors by two: one may be open to whoever asks it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import REAL_TIME, latencies, percentile
from bench.running import Oomwatchd, build, memory_mib, one_rule, storm
from bench.soak import RULES, build_family, descriptors_at_rest

_ROOM_MIB = 2


def main() -> int:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory(prefix="oomwatchd-bench-") as name:
        directory = Path(name)
        build(directory)
        program, other = build_family(directory)
        rules = "[[rule]]" + RULES.format(program=program).partition("[[rule]]")[2] + one_rule(directory)
        with (
            Oomwatchd(directory, rules, REAL_TIME, interval="1s") as running,
            storm(directory),
            _families(program, other),
        ):
            return _watch(directory, running, minutes)


@contextmanager
def _families(program: Path, other: Path) -> Iterator[None]:
    with subprocess.Popen([str(other), str(program), str(1 << 30)], env={"OTHER": str(other)}) as process:
        try:
            yield
        finally:
            process.kill()


def _watch(directory: Path, running: Oomwatchd, minutes: int) -> int:
    print(f"{'minute':>6} {'RSS MiB':>8} {'fds':>4} {'pins':>8} {'events':>9} {'lost':>5} {'p50 µs':>7} {'p99 µs':>7}")
    resident: list[float] = []
    descriptors: list[int] = []
    for minute in range(1, minutes + 1):
        end = time.monotonic() + 60
        took = [latency.execve for latency in latencies(directory, 500, 2000)]
        while time.monotonic() < end:
            took += [latency.execve for latency in latencies(directory, 500, 2000)]
        counters = running.status()["counters"]
        resident.append(memory_mib(running.pid)[0])
        descriptors.append(descriptors_at_rest(running.pid))
        print(
            f"{minute:>6} {resident[-1]:>8.1f} {descriptors[-1]:>4} {counters['pins']:>8} {counters['events']:>9} "
            f"{counters['lost']:>5} {percentile(took, 0.5):>7.0f} {percentile(took, 0.99):>7.0f}",
            flush=True,
        )
    return int(resident[-1] > resident[0] + _ROOM_MIB or descriptors[-1] > descriptors[0] + 1)


if __name__ == "__main__":
    sys.exit(main())
