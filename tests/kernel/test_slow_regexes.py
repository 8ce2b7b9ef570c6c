"""Command lines that make regular expressions take for ever keep nobody else from being pinned."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.asking import oomwatchctl
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until

LENGTH = 128 << 10
HOSTILE = {
    r"java .*-jar .*/x\.war": "java -jar ",
    r"(a+)+$": "a",
    r"foo.*bar": "foo",
    r"\d+x": "1",
    r"(?<=a)b.*c": "ab",
    r"(b*)\1%": "b",
    r"a.*b.*c.*d": "abc",
    r"(x+x+)+y": "x",
    r"[^,]*,[^;]*;y": ",a",
    r"(d|dd|d)*$": "d",
}


def config(target: Path, expressions: list[str], more: str = "") -> str:
    rules = "".join(
        f"""
[[rule]]
name = "slow {number}"
exe = "{target}"
cmdline = {{ regex = '{expression}' }}
oom_score_adj = 700
"""
        for number, expression in enumerate(expressions)
    )
    return f'[daemon]\nscan_interval = "200ms"\n{rules}{more}'


def arguments(unit: str) -> list[str]:
    """What sleep(1) takes, and LENGTH of the hostile text, in arguments of the length that one may have."""
    text = (unit * (LENGTH // len(unit) + 1))[: LENGTH - 1000]
    return ["--", "1000", *(text[at : at + 65_536] for at in range(0, len(text), 65_536)), "!"]


@pytest.fixture
def sleeper(compiled: "object", tmp_path: Path) -> Path:
    """A program that sleeps whatever its arguments are."""
    path = tmp_path / "sleeper"
    path.write_bytes(compiled("sleeper").read_bytes())  # type: ignore[operator]
    path.chmod(0o755)
    return path


def pin_innocents_until(condition: Callable[[], bool], daemon: Daemon, processes: Processes, program: Path) -> None:
    """Start innocent programs one after the other, each of which gets its value, until `condition` holds."""

    def holds() -> bool:
        wait_for_value(processes.start(program, "1000"), 500)
        assert daemon.status()["pinned"] > 0
        return condition()

    wait_until(holds, "the hostile ones are told of")
    latency = daemon.ask("metrics")["latency"]
    print(dict(zip(latency["bounds_us"], latency["counts"], strict=False)))


def times_told(daemon: Daemon, pid: int) -> int:
    return len(re.findall(f"takes too long on the text of process {pid} ", daemon.log()))


@pytest.mark.parametrize("expression", HOSTILE)
def test_innocent_beside_hostile_text(
    daemon: Daemon, processes: Processes, target: Path, sleeper: Path, expression: str
) -> None:
    innocent = rule(target, 500).partition("[[rule]]")[2]
    daemon.start(config(sleeper, [expression], f"[[rule]]{innocent}"))
    hostile = [processes.start(sleeper, *arguments(HOSTILE[expression])) for _ in range(3)]

    pin_innocents_until(lambda: all(times_told(daemon, pid) for pid in hostile), daemon, processes, target)

    daemon.wait_for_scan()
    assert [oom_score_adj(pid) for pid in hostile] == [0, 0, 0]
    assert [times_told(daemon, pid) for pid in hostile] == [1, 1, 1]


def test_what_is_overdue_is_no_match_and_no_mismatch(
    daemon: Daemon, processes: Processes, target: Path, sleeper: Path
) -> None:
    """A rule whose `not` can't be decided doesn't fit; another expression over the same text is decided."""
    daemon.start(
        f"""
[daemon]
scan_interval = "200ms"
[[rule]]
name = "not"
exe = "{sleeper}"
not = {{ cmdline = {{ regex = '(a+)+$' }} }}
oom_score_adj = 600
[[rule]]
name = "one of two"
exe = "{sleeper}"
cmdline = [{{ regex = '(a+)+$' }}, "*aaaa*"]
oom_score_adj = 700
"""
    )
    wait_for_value(processes.start(sleeper, *arguments("a")), 700)
    wait_for_value(processes.start(sleeper, "b"), 600)


def test_storm_of_hostile_starts(daemon: Daemon, processes: Processes, target: Path, sleeper: Path) -> None:
    """Short command lines that are as slow: what each costs can't be paid at once for each."""
    innocent = rule(target, 500).partition("[[rule]]")[2]
    daemon.start(config(sleeper, [r"(a+)+$"], f"[[rule]]{innocent}"))
    for number in range(300):
        processes.start(sleeper, "a" * 50 + f"{number}!")

    pin_innocents_until(lambda: daemon.log().count("takes too long") >= 20, daemon, processes, target)


def test_next_program_is_searched_anew(daemon: Daemon, processes: Processes, target: Path, sleeper: Path) -> None:
    daemon.start(config(sleeper, [r"(a+)+$"]))
    pid = processes.start("sh", "-c", f"exec {sleeper} \"$(printf 'a%.0s' $(seq 1000))!\" then {sleeper} aaaa")
    wait_until(lambda: "takes too long" in daemon.log(), "told of")
    assert oom_score_adj(pid) == 0
    os.kill(pid, signal.SIGUSR1)
    wait_for_value(pid, 700)


def test_explain_says_so(daemon: Daemon, processes: Processes, sleeper: Path) -> None:
    daemon.start(config(sleeper, [r"(a+)+$"]))
    pid = processes.start(sleeper, *arguments("a"))
    wait_until(lambda: "takes too long" in daemon.log(), "told of")

    done = oomwatchctl(daemon, "explain", "--json", str(pid))

    (verdict,) = json.loads(done.stdout)["processes"][0]["rules"]
    assert not verdict["fits"]
    assert verdict["failed"]["key"] == "cmdline"
    assert verdict["failed"]["found"].endswith("(takes too long to search)")
