"""`oomwatchctl rank`, on made-up trees and on this machine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd.base.badness_formula import ERAS
from oomwatchd.ctl import main
from oomwatchd.ctl.rank import as_json
from oomwatchd.ctl.rank_table import bar, size
from oomwatchd.oom.badness import Candidate, Task
from oomwatchd.oom.small_files import PAGE
from oomwatchd.oom.survey import Survey, take_survey
from tests import unprivileged
from tests.faketree import Tree

MIB = 2**20
KEYS = [
    "rank", "pid", "comm", "uid", "badness", "oom_score_adj", "rss_pages", "swap_pages", "pgtable_pages", "killable",
    "why_not", "grow_pages",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path)
    made.machine(ram_kib=8 << 20, available_kib=4 << 20)
    made.process(1, b"init", ppid=0, rss_kib=9 << 10)
    made.process(2, b"kthreadd", ppid=0, rss_kib=None, kernel_thread=True)
    return made


def survey(tree: Tree, asked: bytes | None = None) -> Survey:
    return take_survey(asked, tree.proc, tree.cgroup, ERAS[0])


def in_order(tree: Tree, asked: bytes | None = None) -> list[tuple[int, int | None]]:
    return [(c.task.pid, c.grow) for c in survey(tree, asked).ranked() if c.why_not is None]


def test_the_whole_machine(tree: Tree) -> None:
    tree.process(10, rss_kib=400, pte_kib=0)
    tree.process(11, rss_kib=800, pte_kib=0)
    tree.process(12, rss_kib=900, pte_kib=0, adj=-1000)
    made = survey(tree)
    assert made.total == 8 << 30 >> 10 >> 2 if PAGE == 4096 else made.total
    assert in_order(tree) == [(11, 0), (10, 400 * 1024 // PAGE + 1)]
    assert [c.task.pid for c in made.ranked()] == [11, 10, 1, 2, 12]


def test_json_has_the_keys_of_the_contract(tree: Tree) -> None:
    tree.process(10, b"\xff\n")
    made = as_json(survey(tree))
    assert {"total_pages", "scope", "processes"} <= made.keys()
    assert made["scope"] == "global"
    processes = made["processes"]
    assert isinstance(processes, list)
    assert [list(p) for p in processes] == [KEYS] * 3
    assert processes[0]["comm"] == "\\xff\n"
    assert [p["rank"] for p in processes] == [1, 2, 3]
    assert len(as_json(survey(tree), 1)["processes"]) == 1  # type: ignore[arg-type]
    json.dumps(made)


def test_a_limited_group_reckons_with_its_limit_and_its_room(tree: Tree) -> None:
    tree.memcg2("/g", 60 * MIB, 64 * MIB)
    tree.memcg2("/g/sub", 5 * MIB)
    tree.process(10, rss_kib=10 << 10, pte_kib=0, cgroup="/g")
    tree.process(11, rss_kib=7 << 10, pte_kib=0, cgroup="/g/sub")
    tree.process(12, rss_kib=5 << 10, pte_kib=0, cgroup="/g")
    tree.process(13, rss_kib=99 << 10, pte_kib=0, cgroup="/elsewhere")
    made = survey(tree, b"/g")
    assert (made.total, made.room) == (64 * MIB // PAGE, 4 * MIB // PAGE)
    # 11 lacks 3 MiB of the 4 that are left, 12 lacks 5.
    assert in_order(tree, b"/g") == [(10, 0), (11, 3 * MIB // PAGE), (12, None)]
    assert as_json(made)["scope"] == "memcg"
    assert as_json(made)["memcg"] == "/g"


def test_a_group_without_a_limit_has_that_of_its_ancestor(tree: Tree) -> None:
    tree.memcg2("/g", 60 * MIB, 64 * MIB)
    tree.memcg2("/g/sub", 5 * MIB)
    tree.process(10, rss_kib=10 << 10, cgroup="/g")
    tree.process(11, rss_kib=7 << 10, cgroup="/g/sub")
    made = survey(tree, b"/g/sub")
    assert made.memcg is not None and made.memcg.path == b"/g"
    assert in_order(tree, b"/g/sub") == [(11, 0)]
    assert (outsider := made.outsider()) is not None and outsider.pid == 10


def test_a_limit_beyond_what_the_machine_has_left_is_none(tree: Tree) -> None:
    tree.memcg2("/g", 60 * MIB, 6 << 30)
    assert survey(tree, b"/g").memcg is None


def test_in_the_whole_machine_a_group_s_limit_ends_growth(tree: Tree) -> None:
    tree.memcg2("/g", 60 * MIB, 64 * MIB)
    tree.process(10, rss_kib=100 << 10, cgroup="/")
    tree.process(11, rss_kib=7 << 10, cgroup="/g")
    tree.process(12, rss_kib=7 << 10, cgroup="/free")
    assert dict(in_order(tree))[11] is None
    assert dict(in_order(tree))[12] is not None


def test_v1(tree: Tree) -> None:
    tree.memcg1("/", 0)
    tree.memcg1("/g", 60 * MIB, 64 * MIB)
    tree.process(10, cgroup="/g", version=1)
    assert survey(tree, b"/g").total == 64 * MIB // PAGE


def test_no_such_group(tree: Tree) -> None:
    with pytest.raises(FileNotFoundError, match="no memory cgroups"):
        survey(tree, b"/g")
    tree.memcg2("/g", 0)
    with pytest.raises(FileNotFoundError, match="'/h'"):
        survey(tree, b"/h")


def test_sizes() -> None:
    kib = PAGE // 1024
    assert [size(n // kib) for n in (0, 4, 1024, 1536, 1 << 20, -(3 << 19))] == [
        "0",
        "4K",
        "1.0M",
        "1.5M",
        "1.0G",
        "-1.5G",
    ]


def test_bars() -> None:
    def candidate(rss: int, points: int, why_not: str | None = None) -> Candidate:
        return Candidate(Task(1, b"", 0, 0, rss, 0, 0), points, why_not, None)

    assert bar(candidate(100, 100), 100, 8) == "████████"
    assert bar(candidate(50, 100), 100, 8) == "████░░░░"
    assert bar(candidate(100, 50), 100, 8) == "████"
    assert bar(candidate(100, 1), 1000, 8) == "█"
    assert bar(candidate(100, -5), 100, 8) == ""
    assert bar(candidate(100, 100, "no"), 100, 8) == ""
    assert bar(candidate(100, 100), 0, 8) == ""


# --- this machine -----------------------------------------------------------------------------------------


def test_json_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    total = made["total_pages"]
    killable = [p for p in made["processes"] if p["killable"]]
    assert killable[0]["grow_pages"] == 0
    assert [p["badness"] for p in killable] == sorted((p["badness"] for p in killable), reverse=True)
    for p in made["processes"]:
        memory = p["rss_pages"] + p["swap_pages"] + p["pgtable_pages"]
        assert p["badness"] == memory + p["oom_score_adj"] * (total // 1000)
    assert os.getpid() not in [p["pid"] for p in made["processes"]]


def test_a_raised_process_stands_before_the_rest_of_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    """Two that do the same; others of this machine may stand between them, and before."""
    raised = ["sh", "-c", "echo 1000 >/proc/self/oom_score_adj && echo && exec sleep 60"]
    usual = ["sh", "-c", "echo && exec sleep 60"]
    with (
        subprocess.Popen(usual, stdout=subprocess.PIPE) as later,
        subprocess.Popen(raised, stdout=subprocess.PIPE) as first,
    ):
        try:
            for process in (later, first):
                assert process.stdout is not None and process.stdout.readline() == b"\n"
            assert main(["rank", "--json"]) == 0
        finally:
            later.kill()
            first.kill()
    order = [p["pid"] for p in json.loads(capsys.readouterr().out)["processes"]]
    assert order.index(first.pid) < order.index(later.pid)


def test_only_the_first_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--json", "-n", "3"]) == 0
    assert len(json.loads(capsys.readouterr().out)["processes"]) == 3


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["ORDER", "KILLER"]
    headline = next(at for at, line in enumerate(lines) if line.startswith("If the machine runs out of memory"))
    assert lines[headline - 1] == ""
    assert lines[headline + 1].split()[:5] == ["RANK", "PID", "USER", "COMM", "BADNESS"]
    assert "mm/oom_kill.c" in lines[-1]
    assert main(["rank", "-n", "2", "--no-legend"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_watch_redraws_until_it_is_interrupted() -> None:
    program = (
        "import sys; from oomwatchd.ctl import main, rank; rank._WATCH_SECONDS = 0.01; sys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", program, "rank", "--json", "-n", "1", "--watch"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert ["killers" in json.loads(watching.stdout.readline()) for _ in range(2)] == [True, True]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0


@pytest.mark.parametrize("argv", [["-n", "0"], ["-n", "x"], ["--cgroup"], ["--wrong"]])
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["rank", *argv])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_help_names_the_sources(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rank", "--help"])
    shown = capsys.readouterr().out
    assert "oom_badness" in shown and "9066e5cfb73c" in shown


def test_a_group_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--cgroup", "/no\tsuch"]) == 1
    assert "oomwatchctl: there" in capsys.readouterr().err


def test_without_privilege() -> None:
    done = unprivileged.oomwatchctl("rank", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["processes"]
