"""What everyone would have under other rules, on real processes; nothing is written."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oomwatchd.config import load as config
from oomwatchd.config.document import ConfigFile
from oomwatchd.ctl import main
from oomwatchd.oom.processes import read_processes
from oomwatchd.pinning.what_if import CurrentPin, Preview, preview_rules
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from tests.faketree import Tree

Start = Callable[[int], tuple[int, int]]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program of our own: rules in tests fit nothing else."""
    return Path(shutil.copy("/bin/sh", tmp_path / "program"))


@pytest.fixture
def start(program: Path) -> Iterator[Start]:
    """Starts the program with a raised value, and a child of it with the same: their PIDs."""
    running = []

    def run(value: int) -> tuple[int, int]:
        script = f"echo {value} > /proc/self/oom_score_adj; sleep 60 & echo $!; wait"
        process = subprocess.Popen([program, "-c", script], stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        children.append(child)
        # The shell has told the PID, but the child may still be a copy of the shell, which the rule fits.
        comm, deadline = Path(f"/proc/{child}/comm"), time.monotonic() + 60
        while comm.read_text() != "sleep\n":
            assert time.monotonic() < deadline, "sleep was not executed"
            time.sleep(0.01)
        return process.pid, child

    children: list[int] = []
    yield run
    for child in children:
        subprocess.run(["kill", str(child)], check=False)
    for process in running:
        process.kill()
        process.communicate()


def previews(text: str, pins: list[CurrentPin] | None = None) -> dict[int, Preview]:
    rules = config.parse([ConfigFile("rules.toml", text)]).rules
    return dict(preview_rules(rules, read_processes()[0], pins or []))


def rule(program: Path, rest: str) -> str:
    return f'[[rule]]\nname = "r"\nexe = "{program}"\nuser = 0\n{rest}\n'


def pin_of(pid: int, value: int, original: int) -> CurrentPin:
    starttime = next(p.task.starttime for p in read_processes()[0] if p.task.pid == pid)
    return CurrentPin(pid, starttime, "old", value, original)


def test_a_rule_and_what_its_children_get(program: Path, start: Start) -> None:
    pid, child = start(0)
    made = previews(rule(program, "oom_score_adj = -900"))
    assert made[pid] == Preview(-900, "r")
    assert made[child] == Preview(0, "")
    made = previews(rule(program, "oom_score_adj = { at_least = 300 }"))
    assert (made[pid].value, made[child].value) == (300, 300)
    made = previews(rule(program, 'oom_score_adj = 300\nchildren = "reset"'))
    assert (made[pid].value, made[child].value) == (300, 0)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"


def test_a_pin_of_today_that_no_rule_of_the_file_wants(start: Start) -> None:
    pid, child = start(500)
    made = previews("", [pin_of(pid, 500, 100)])
    assert made[pid] == Preview(100, "")
    assert made[child] == Preview(100, "")


def test_without_a_pin_the_value_is_its_own(start: Start) -> None:
    pid, child = start(500)
    made = previews("")
    assert (made[pid].value, made[child].value) == (500, 500)


def test_a_pin_of_today_that_the_file_would_change(program: Path, start: Start) -> None:
    pid, child = start(500)
    made = previews(rule(program, "oom_score_adj = { at_least = 50 }"), [pin_of(pid, 500, 100)])
    assert made[pid] == Preview(100, "r")
    assert made[child].value == 100


SERVER, WORKER, TOOL = 10, 20, 30
FITS = Criterion("comm", (Pattern("server"),))


def previews_in(tree: Tree, rules: list[Rule], adjs: tuple[int, int, int], *pins: CurrentPin) -> list[Preview]:
    """Of a server, its child, and the child of that, on a made-up machine."""
    tree.process(SERVER, b"server", adj=adjs[0])
    tree.process(WORKER, b"worker", ppid=SERVER, adj=adjs[1])
    tree.process(TOOL, b"tool", ppid=WORKER, adj=adjs[2])
    made = preview_rules(rules, read_processes(tree.proc)[0], pins, tree.proc)
    assert [int((tree.root / f"proc/{pid}/oom_score_adj").read_text()) for pid in (SERVER, WORKER, TOOL)] == [*adjs]
    return [made[pid] for pid in (SERVER, WORKER, TOOL)]


def test_all_descendants_get_what_children_says(tree: Tree) -> None:
    rule = Rule("r", (FITS,), Action(500, 500), children=250)

    assert previews_in(tree, [rule], (0, 0, 7)) == [Preview(500, "r"), Preview(250, ""), Preview(7, "")]


@pytest.mark.parametrize(("target", "original"), [(500, 100), (-300, 0)])
def test_all_descendants_get_the_original_value_back(tree: Tree, target: int, original: int) -> None:
    pin = CurrentPin(SERVER, SERVER * 10, "old", target, original)

    found = previews_in(tree, [], (target, target, 7), pin)

    assert found == [Preview(original, ""), Preview(original, ""), Preview(7, "")]


def test_pins_of_today_of_a_process_and_of_its_grandchild(tree: Tree) -> None:
    """The grandchild's original value came from the server's pin."""
    pins = CurrentPin(SERVER, SERVER * 10, "old", 500, 100), CurrentPin(TOOL, TOOL * 10, "tool", 800, 500)

    found = previews_in(tree, [], (500, 500, 800), *pins)

    assert found == [Preview(100, ""), Preview(100, ""), Preview(100, "")]


def test_a_pin_of_another_process_with_that_pid_is_none(tree: Tree) -> None:
    pin = CurrentPin(SERVER, SERVER * 10 + 1, "old", 500, 100)

    assert previews_in(tree, [], (500, 500, 500), pin) == [Preview(500, "")] * 3


@pytest.mark.parametrize(("rule", "gets"), [("old", 100), (f"pin {SERVER}", 500)])
def test_a_child_that_was_forked_in_the_same_tick(tree: Tree, rule: str, gets: int) -> None:
    """Its PID is lower than its parent's, because PIDs begin anew some time."""
    child = 5
    tree.process(SERVER, b"server", adj=500)
    tree.process(child, b"worker", ppid=SERVER, adj=500)
    stat = tree.root / f"proc/{child}/stat"
    stat.write_text(stat.read_text().replace(f" {child * 10} ", f" {SERVER * 10} "))
    pin = CurrentPin(SERVER, SERVER * 10, rule, 500, 100)

    made = preview_rules([], read_processes(tree.proc)[0], [pin], tree.proc)

    assert (made[SERVER].value, made[child].value) == (gets, gets)


def test_a_runtime_pin_stays(tree: Tree) -> None:
    pin = CurrentPin(WORKER, WORKER * 10, f"pin {WORKER}", 300, 100)
    rule = Rule("r", (Criterion("comm", (Pattern("worker"),)),), Action(500, 500))

    found = previews_in(tree, [rule], (0, 300, 300), pin)

    assert found == [Preview(0, ""), Preview(300, f"pin {WORKER}"), Preview(300, "")]


def test_rank_shows_both(program: Path, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pid, _ = start(0)
    file = tmp_path / "rules.toml"
    file.write_text(rule(program, "oom_score_adj = -1000"))
    assert main(["rank", "--with", str(file), "--json"]) == 0
    made = next(p for p in json.loads(capsys.readouterr().out)["processes"] if p["pid"] == pid)
    assert (made["killable"], made["oom_score_adj"]) == (True, 0)
    then = made["with"]
    assert (then["killable"], then["oom_score_adj"], then["rule"], then["grow_pages"]) == (False, -1000, "r", None)
    assert main(["rank", "--with", str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"program ({pid}): " in shown
    assert "→ never" in shown


def test_rank_as_if_a_file_were_in_force(
    program: Path, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pid, _ = start(0)
    file = tmp_path / "rules.toml"
    file.write_text(rule(program, "oom_score_adj = 900"))
    assert main(["rank", "-c", str(file), "--json"]) == 0
    made = next(p for p in json.loads(capsys.readouterr().out)["processes"] if p["pid"] == pid)
    assert made["oom_score_adj"] == 900


def test_rank_refuses_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("x = 1")
    assert main(["rank", "--with", str(file)]) == 1
    assert f"{file}:1:1: " in capsys.readouterr().err
