"""Processes come and go, a million of them; what oomwatchd holds of memory and descriptors must not grow, and nothing
may be left in its ledger.

    nice .venv/bin/python -m bench.soak [PROCESSES]

Half of those that are started fit a rule, and have two children each, one of which fits none. Figures are told as
they come; the exit status is 1 if the daemon's memory has grown by more than 4 MiB after the first tenth, or
something is left."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kernel.running import Daemon, wait_until

_TENTHS = 10
_ROOM_KIB = 4 << 10

SOURCE = r"""
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "child"))
		return 0;
	if (argc == 1) { /* one that fits, with a child that execs, and one that is orphaned */
		if (fork() == 0) {
			execl(getenv("OTHER"), "other", "child", (char *)NULL);
			_exit(127);
		}
		if (fork() == 0)
			_exit(0);
		return 0;
	}
	for (long left = atol(argv[2]) / 2; left > 0; left--) {
		pid_t pid = vfork();
		if (pid == 0) {
			execl(left % 2 ? argv[1] : getenv("OTHER"), "x", left % 2 ? (char *)NULL : "child", (char *)NULL);
			_exit(127);
		}
		waitpid(pid, NULL, 0);
	}
	return 0;
}
"""

RULES = """
[daemon]
scan_interval = "1s"

[[rule]]
name = "soak"
exe = "{program}"
session_leader = false
oom_score_adj = 500
children = "reset"
"""


def main() -> int:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        program, other = build_family(directory)
        daemon = Daemon(directory)
        daemon.start(RULES.format(program=program))
        try:
            return _soak(daemon, program, other, processes)
        finally:
            daemon.kill()


def build_family(directory: Path) -> tuple[Path, Path]:
    """The program that fits, and the one that doesn't, which starts as many of both as it is told."""
    program, other = directory / "program", directory / "other"
    source = directory / "soak.c"
    source.write_text(SOURCE)
    for path in (program, other):
        subprocess.run(["cc", "-O1", "-o", path, source], check=True)
    return program, other


def _soak(daemon: Daemon, program: Path, other: Path, processes: int) -> int:
    print(f"{'processes':>10} {'RSS KiB':>8} {'fds':>4} {'ledger B':>9} {'pins':>8} {'resets':>8} {'lost':>5}")
    rss: list[int] = []
    descriptors: list[int] = []
    for tenth in range(1, _TENTHS + 1):
        command = [str(other), str(program), str(processes // _TENTHS)]
        subprocess.run(command, env={"OTHER": str(other)}, check=True)
        daemon.wait_for_scan()
        counters = daemon.status()["counters"]
        rss.append(_rss_kib(daemon.pid))
        descriptors.append(descriptors_at_rest(daemon.pid))
        size = (daemon.runtime / "ledger.json").stat().st_size
        print(
            f"{processes * tenth // _TENTHS:>10} {rss[-1]:>8} {descriptors[-1]:>4} {size:>9} "
            f"{counters['pins']:>8} {counters['resets']:>8} {counters['lost']:>5}",
            flush=True,
        )
    wait_until(lambda: daemon.status()["pinned"] == 0, "nobody is held any more")
    daemon.stop()
    left = len((daemon.runtime / "ledger.json").read_text().splitlines()) - 1
    print(f"{left} left in the ledger")
    return int(left > 0 or rss[-1] > rss[0] + _ROOM_KIB or descriptors[-1] > descriptors[0] + 1)


def descriptors_at_rest(pid: int) -> int:
    """How many it has, without those that it opens for a moment."""
    return min(len(os.listdir(f"/proc/{pid}/fd")) for _ in range(100))


def _rss_kib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
