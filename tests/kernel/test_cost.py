"""What an exec that no rule asks for costs: with the filter in the kernel nothing, without it system calls that don't
grow with the number of rules."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.running import Daemon, Processes, rule, straced, wait_until

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
    """System calls for each exec that the daemon has seen, by name. One readlink stands for one exec. The waits are
    left out: how often it waits depends on how busy the machine is, events may come one by one or many at once."""
    with straced(daemon.pid, "-c", "-f", "-o", str(output)):
        before = daemon.status()["counters"]["events"]
        for _ in range(EXECS):
            subprocess.run([target, "0"], check=True)
        # A fork, an exec and an end each.
        wait_until(lambda: daemon.status()["counters"]["events"] >= before + 3 * EXECS, "all events read")
    found = {}
    for line in output.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            found[fields[-1]] = float(fields[3])
    assert found["readlink"] >= EXECS
    return {name: count / found["readlink"] for name, count in found.items() if name != "epoll_wait"}


@pytest.mark.serial  # it counts what each event costs, and others cause events
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which counts the calls, isn't installed")
@pytest.mark.parametrize(("keys", "limit"), [(("exe",), 6), (("exe", "comm"), 9)])
@pytest.mark.parametrize("count", [2, 1000])
def test_calls_per_exec_are_few_and_do_not_grow_with_rules(
    daemon: Daemon, target: Path, tmp_path: Path, keys: tuple[str, ...], limit: int, count: int
) -> None:
    """exe: three events, readlink, and one more where the process is gone by then; with comm, opening, reading and
    closing that, too. So once in 20 times: in the others there may be a scan, after events were lost on a busy machine,
    or the report of somebody's OOM kill."""
    daemon.filtered = False
    daemon.start(rules(count, keys, tmp_path))

    for _ in range(20):
        found = calls(daemon, target, tmp_path / "calls")
        if sum(found.values()) <= limit:
            return
    pytest.fail(f"each time more than {limit} calls, at last {found}")


@pytest.mark.serial  # it waits for a moment without events
@pytest.mark.parametrize("children", ["inherit", "reset", 250])
def test_with_the_filter_the_daemon_hears_of_nothing_that_is_settled(
    daemon: Daemon, processes: Processes, target: Path, children: str | int
) -> None:
    """Neither of programs that no rule names, nor of those below a descendant of a pinned one that is right."""
    shell = target.with_name("shell")
    shutil.copy("/bin/dash", shell)
    policy = f'"{children}"' if isinstance(children, str) else children
    daemon.start(rule(shell, scan="200ms", more=f"session_leader = true\nchildren = {policy}"))
    assert daemon.status()["filter"] == "names", daemon.status()["filter_reason"]
    below = "sh -c 'while read line; do /bin/true; echo; done'"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    processes.start(shell, "-c", f"exec 3<&0; {below} <&3 & wait", **pipes)
    child = processes.children[-1]
    line_in, line_out = child.stdin, child.stdout
    assert line_in is not None and line_out is not None
    wait_until(lambda: daemon.status()["counters"]["pins"] == 1, "the shell is pinned")

    def hears_nothing() -> bool:
        before = daemon.status()["counters"]["events"]
        for _ in range(20):
            line_in.write(b"\n")
            line_in.flush()
            line_out.readline()
        return bool(daemon.status()["counters"]["events"] == before)

    wait_until(hears_nothing, "20 programs were started, and no event came")
    line_in.close()
