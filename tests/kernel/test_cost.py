"""What an exec that no rule asks for costs, in system calls: they don't grow with the number of rules."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.running import Daemon, straced, wait_until

EXECS = 300


def rules(count: int, keys: tuple[str, ...], directory: Path) -> str:
    """So many rules that fit nothing, over each of `keys` in turn, literals, globs and regexes."""
    text = '[daemon]\nscan_interval = "1h"\n'
    for i in range(count):
        path = directory / f"nowhere-{i}"
        values = {
            "exe": (f'"{path}"', f'"{path}/*"', f'{{ regex = "^{path}/(s?bin)/" }}'),
            "comm": (f'"nobody-{i}"', f'"nobody-{i}-*"', f'{{ regex = "^nobody-{i}(x|y)$" }}'),
        }
        key = keys[i % len(keys)]
        text += f'[[rule]]\nname = "{i}"\n{key} = {values[key][i % 3]}\noom_score_adj = 300\n'
    return text


def calls(daemon: Daemon, target: Path, output: Path) -> dict[str, float]:
    """System calls for each exec that the daemon has seen, by name. One readlink stands for one exec."""
    with straced(daemon.pid, "-c", "-f", "-o", str(output)):
        before = daemon.status()["counters"]["events"]
        for _ in range(EXECS):
            subprocess.run([target, "0"], check=True)
        # A fork and an exec each, but for some births that can wait.
        wait_until(lambda: daemon.status()["counters"]["events"] >= before + 2 * EXECS - 32, "all events read")
    found = {}
    for line in output.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            found[fields[-1]] = float(fields[3])
    assert found["readlink"] >= EXECS
    return {name: count / found["readlink"] for name, count in found.items()}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which counts the calls, isn't installed")
@pytest.mark.parametrize(("keys", "limit"), [(("exe",), 7), (("exe", "comm"), 10)])
def test_calls_per_exec_are_few_and_do_not_grow_with_rules(
    daemon: Daemon, target: Path, tmp_path: Path, keys: tuple[str, ...], limit: int
) -> None:
    """exe: the wait for the event, the event, readlink, and a share of what the births take; with comm, opening,
    reading and closing that too."""
    found = []
    for count in (len(keys), 1000):
        daemon.start(rules(count, keys, tmp_path))
        found.append(calls(daemon, target, tmp_path / "calls"))
        daemon.end()

    few, many = (sum(counts.values()) for counts in found)
    assert many <= few + 1, found
    assert many <= limit, found
