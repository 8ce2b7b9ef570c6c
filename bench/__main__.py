"""make bench: what oomwatchd costs, beside a small C program. See README.md here."""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench import measure
from bench.measure import Row
from bench.running import build, compile_package

RESULTS = Path("build/bench.json")


def steps(directory: Path, scale: float) -> list[Callable[[], list[Row]]]:
    def some(count: int) -> int:
        return max(int(count * scale), 1)

    return [
        lambda: measure.uninteresting_exec(directory, some(16), 800, 0),
        lambda: measure.uninteresting_exec(directory, some(4), 600, 3_333),
        lambda: measure.uninteresting_exec(directory, some(2), 80, 25_000),
        lambda: measure.below_pinned(directory, some(4), 400),
        lambda: measure.quiet_latency(directory, some(4), 300),
        lambda: measure.storm_latency(directory, some(8), 50),
        lambda: measure.saturated_latency(directory, some(2), 300),
        lambda: measure.scans(directory, 10_000, some(3)),
        lambda: measure.memory_and_start(directory, 300),
        lambda: measure.idle(directory, 200, some(20)),
        lambda: measure.burst(directory, 20_000, 10),
        lambda: measure.isolated_latency(directory, some(4), 100),
    ]


def shown(row: Row) -> str:
    cells = []
    for name, value in row.values.items():
        ratio = f" ({row.ratio[name]:.2f} x)" if name in row.ratio else ""
        cells.append(f"{name} {value:.4g}{ratio}")
    unit = f", {row.unit}" if row.unit else ""
    verdict = f"   [{row.reach}: {'reached' if row.reached else 'MISSED'}]" if row.reach else ""
    return f"{row.what}{unit}\n    {'; '.join(cells)}{verdict}"


def main() -> int:
    if os.geteuid() != 0:
        print("make bench wants root: for the proc connector, and to write oom_score_adj", file=sys.stderr)
        return 1
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    only = sys.argv[1:]
    started = time.monotonic()
    rows = []
    noises = [measure.noise()]
    with tempfile.TemporaryDirectory(prefix="oomwatchd-bench-") as name:
        directory = Path(name)
        build(directory)
        compile_package()
        for number, step in enumerate(steps(directory, scale), 1):
            if only and str(number) not in only:
                continue
            for row in step():
                rows.append(row)
                print(shown(row), flush=True)
            noises.append(measure.noise())
    print("Noise of the machine, before and between:")
    for noise in noises:
        print("    " + "; ".join(f"{name} {value:.2f}" for name, value in noise.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"kernel": platform.release(), "python": platform.python_version(), "cpus": os.cpu_count()}
    content = {
        "machine": machine,
        "seconds": time.monotonic() - started,
        "noise": noises,
        "rows": list(map(asdict, rows)),
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    print(f"{time.monotonic() - started:.0f} s; written to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
