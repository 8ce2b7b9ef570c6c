"""Deaths that nobody has noticed yet: they don't come between an ancestor's release and the descendants, nor does
anyone who has the PID now take their place."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

OUTER, INNER, CHILD = 10, 20, 30


def value(tree: Tree, pid: int) -> int:
    return int((tree.root / f"proc/{pid}/oom_score_adj").read_text())


def test_a_release_reaches_the_descendants_of_one_who_has_died_unnoticed(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.me()
    rules = [
        Rule(
            "outer", (Criterion("comm", (Pattern("outer"),)), Criterion("user", ids=frozenset({0}))), Action(500, 500)
        ),
        Rule("inner", (Criterion("comm", (Pattern("inner"),)),), Action(300, 300), children="reset"),
    ]
    pinner = Pinner(RuleSet(rules), Ledger(None, ""), proc=tree.proc)
    tree.process(OUTER, b"outer", uid=0)
    pinner.look(OUTER, SCAN)
    for pid, parent, comm in ((INNER, OUTER, b"inner"), (CHILD, INNER, b"child")):
        tree.process(pid, comm, ppid=parent, adj=value(tree, parent))
        pinner.forked(pid, parent, 1)
        pinner.look(pid, SCAN)
    assert [value(tree, pid) for pid in (OUTER, INNER, CHILD)] == [500, 300, 500]

    pinner.refresh_dead()  # as each scan does in the end

    (tree.root / f"proc/{INNER}").rename(tmp_path / "gone")
    tree.process(OUTER, b"outer", uid=1000, adj=500)
    pinner.look(OUTER, Trigger("uid", 2))
    pinner.family.exited(INNER, 3)  # its event comes last
    pinner.refresh_dead()

    assert [value(tree, pid) for pid in (OUTER, CHILD)] == [0, 0]


def test_children_of_one_whose_pid_means_another_now_are_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.me()
    rule = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500))
    pinner = Pinner(RuleSet([rule]), Ledger(None, ""), proc=tree.proc)
    tree.process(CHILD, b"child")
    pinner.forked(CHILD, CHILD + 1, 1)
    tree.process(CHILD + 1, b"fits")  # forked after its "child", and its own fork event was lost

    pinner.look(CHILD + 1, SCAN)

    assert [value(tree, pid) for pid in (CHILD + 1, CHILD)] == [500, 0]


def test_a_release_through_one_that_the_same_rule_held(tmp_path: Path) -> None:
    """A server and what it forked of itself are pinned by one rule, and what the latter executed by another. The server
    has died. When its rule goes, and then the other one, nobody keeps what the server's pin had left."""
    tree = Tree(tmp_path)
    tree.me()
    server = Rule("server", (Criterion("comm", (Pattern("server"),)),), Action(100, 100))
    helper = Rule("helper", (Criterion("comm", (Pattern("helper"),)),), Action(300, 300))
    pinner = Pinner(RuleSet([server, helper]), Ledger(None, ""), proc=tree.proc)
    tree.process(OUTER, b"server")
    pinner.look(OUTER, SCAN)
    for pid, parent, comm in ((INNER, OUTER, b"server"), (CHILD, INNER, b"helper")):
        tree.process(pid, comm, ppid=parent, adj=value(tree, parent))
        pinner.forked(pid, parent, 1)
        pinner.look(pid, SCAN)
    (tree.root / f"proc/{OUTER}").rename(tmp_path / "gone")
    pinner.family.exited(OUTER, 2)
    assert [value(tree, pid) for pid in (INNER, CHILD)] == [100, 300]

    for rules in ([helper], []):
        pinner.set_rules(RuleSet(rules))
        for pid in (INNER, CHILD):
            pinner.look(pid, Trigger("reload"))
        pinner.refresh_dead()

    assert [value(tree, pid) for pid in (INNER, CHILD)] == [0, 0]


def test_the_descendants_of_one_that_comes_to_matter_are_found_at_all_depths(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.me()
    rule = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500), children=250)
    pinner = Pinner(RuleSet([rule]), Ledger(None, ""), proc=tree.proc)
    family = {10: 20, 20: 30, 30: 40}  # no event has told of any of them
    for pid, child in {1: 10, **family}.items():
        tree.process(child, b"fits" if child == 10 else b"other", ppid=pid)
    for pid, child in family.items():
        tree.write(f"proc/{pid}/task/{pid}/children", f"{child} ".encode())
    tree.write("proc/40/task/40/children", b"")

    pinner.look(10, Trigger("exec", 1))

    assert [value(tree, pid) for pid in (10, 20, 30, 40)] == [500, 250, 250, 250]


@pytest.mark.parametrize("heard", [False, True])
def test_a_child_whose_leader_died_before_the_restart_is_found_by_its_session(tmp_path: Path, heard: bool) -> None:
    """The daemon was killed before it heard of the child; or it hears of the fork while it reads of all processes, and
    the parent is gone by then."""
    tree = Tree(tmp_path / "root")
    tree.me()
    path = tmp_path / "ledger.json"
    pin = '{"rule":"r","first":100,"value":500,"child_value":250,"since":1.5,"source":"exec"}'
    path.write_text(f'{{"oomwatchd_ledger":1,"boot_id":""}}\n{{"pid":10,"starttime":100,"hold":{pin}}}\n')
    ledger = Ledger(str(path), "")
    assert ledger.load(lambda _pid, _starttime: False) is None
    pinner = Pinner(RuleSet([]), ledger, proc=tree.proc)
    for child, session in ((20, 10), (30, 30)):
        tree.process(child, b"other", adj=250)
        stat = f"{child} (other) S 1 {child} {session} 0 -1 0 " + "0 " * 12 + f"{child * 10} 0"
        tree.write(f"proc/{child}/stat", stat.encode())

    for _ in pinner.relatives.gather([30, 20]):
        if heard:
            pinner.relatives.forked(20, 15)
    for _ in pinner.look_at_relatives(()):
        pass
    pinner.refresh_dead()
    ledger.close()

    assert [value(tree, child) for child in (20, 30)] == [100, 250]


def test_a_child_that_sets_itself_a_value_while_it_is_entered_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(tmp_path)
    tree.me()
    rule = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500), children="reset")
    pinner = Pinner(RuleSet([rule]), Ledger(None, ""), proc=tree.proc)
    tree.process(OUTER, b"fits", adj=100)
    pinner.look(OUTER, SCAN)
    tree.process(CHILD, b"child", ppid=OUTER, adj=500)
    really = Ledger.enter

    def enter(ledger: Ledger, node: Node) -> None:
        really(ledger, node)
        (tree.root / f"proc/{CHILD}/oom_score_adj").write_text("850\n")

    monkeypatch.setattr(Ledger, "enter", enter)

    pinner.look(CHILD, SCAN)

    assert value(tree, CHILD) == 850


RESETTING = Rule(
    "r",
    (Criterion("comm", (Pattern("fits"),)), Criterion("user", ids=frozenset({0, 1000}))),
    Action(300, 300),
    children="reset",
)


def forked(tree: Tree, pinner: Pinner, pid: int, parent: int, adj: int, *, nspid: str | None = None) -> None:
    """A fork of the parent that has executed nothing, and its event."""
    tree.process(pid, b"child", ppid=parent, uid=0, adj=adj, nspid=nspid)
    forked_only = f"{pid} (child) S {parent} {pid} {pid} 0 -1 {0x40} " + "0 " * 12 + f"{pid * 10} 0"
    tree.write(f"proc/{pid}/stat", forked_only)
    pinner.forked(pid, parent, time.monotonic_ns())


@pytest.mark.parametrize(
    ("shown_by_parent", "is_another", "kept"), [(300, False, 300), (800, False, 800), (300, True, 800)]
)
def test_a_child_of_one_that_has_set_itself_the_pinned_value_has_it_from_there(
    tmp_path: Path, shown_by_parent: int, is_another: bool, kept: int
) -> None:
    """And one that was under way when its parent was put right has it from the pin. Another process that has the
    parent's PID by now shows nothing."""
    tree = Tree(tmp_path)
    tree.me()
    pinner = Pinner(RuleSet([RESETTING]), Ledger(None, ""), proc=tree.proc)
    tree.process(OUTER, b"fits", uid=0, adj=800)
    pinner.look(OUTER, SCAN)
    forked(tree, pinner, INNER, OUTER, 300)
    assert value(tree, INNER) == 800

    tree.write(f"proc/{INNER}/oom_score_adj", shown_by_parent)
    if is_another:
        stat = tree.root / f"proc/{INNER}/stat"
        stat.write_text(stat.read_text().replace(f" {INNER * 10} ", f" {INNER * 10 + 1} "))
    forked(tree, pinner, CHILD, INNER, 300)

    assert value(tree, CHILD) == kept


@pytest.mark.parametrize(("uid", "at_once"), [(0, False), (1000, True)])
def test_a_fork_in_a_pid_namespace_may_become_a_container_for_a_while(tmp_path: Path, uid: int, at_once: bool) -> None:
    """Not where its manager couldn't have given it the value: then it comes from the pin."""
    tree = Tree(tmp_path)
    tree.me()
    pinner = Pinner(RuleSet([RESETTING]), Ledger(None, ""), proc=tree.proc)
    tree.process(OUTER, b"fits", uid=uid, adj=800)
    tree.write(f"proc/{OUTER}/status", Tree.status(OUTER, uid, 0).replace("Uid:\t0", f"Uid:\t{uid}"))
    pinner.look(OUTER, SCAN)

    forked(tree, pinner, CHILD, OUTER, 300, nspid=f"{CHILD} 1")
    assert value(tree, CHILD) == (800 if at_once else 300)
    pinner.ledger.nodes[CHILD].seen_ns -= 11_000_000_000
    pinner.look(CHILD, SCAN)

    assert value(tree, CHILD) == 800


WITH_CONTAINERS = replace(RESETTING, containers=True)


def pinned_manager(tree: Tree, rule: Rule, uid: int = 0) -> Pinner:
    """OUTER, a process of a user, pinned by `rule`."""
    tree.me()
    tree.process(1, b"init", ppid=0, uid=0, cgroup="/init.scope")
    pinner = Pinner(RuleSet([rule]), Ledger(None, ""), proc=tree.proc)
    tree.process(OUTER, b"fits", uid=uid, adj=800)
    tree.write(f"proc/{OUTER}/status", Tree.status(OUTER, uid, 0).replace("Uid:\t0", f"Uid:\t{uid}"))
    pinner.look(OUTER, SCAN)
    assert value(tree, OUTER) == 300
    return pinner


@pytest.mark.parametrize(
    ("rule", "adj", "nspid", "gets", "is_settled"),
    [
        (RESETTING, 300, f"{CHILD} 1", 300, False),
        (RESETTING, 300, None, 800, True),  # it is in its manager's PID namespace
        (RESETTING, 700, f"{CHILD} 1", 700, True),  # its value isn't the pin's
        (WITH_CONTAINERS, 300, f"{CHILD} 1", 800, True),
    ],
)
def test_which_forks_may_become_a_container(
    tmp_path: Path, rule: Rule, adj: int, nspid: str | None, gets: int, is_settled: bool
) -> None:
    tree = Tree(tmp_path)
    pinner = pinned_manager(tree, rule)

    forked(tree, pinner, CHILD, OUTER, adj, nspid=nspid)

    assert (value(tree, CHILD), pinner.ledger.nodes[CHILD].settled_ns > 0) == (gets, is_settled)


@pytest.mark.parametrize(
    ("rule", "uid", "nspid", "cgroup", "gets"),
    [
        (RESETTING, 0, f"{CHILD} 1", "/container", 300),
        (RESETTING, 0, f"{CHILD} 1", "/init.scope", 800),  # a sandbox
        (RESETTING, 0, None, "/container", 800),
        (RESETTING, 1000, f"{CHILD} 1", "/container", 800),  # only root can give so low a value
        (WITH_CONTAINERS, 0, f"{CHILD} 1", "/container", 800),
    ],
)
def test_the_value_of_a_container_is_its_managers(
    tmp_path: Path, rule: Rule, uid: int, nspid: str | None, cgroup: str, gets: int
) -> None:
    tree = Tree(tmp_path)
    pinner = pinned_manager(tree, rule, uid)
    tree.process(CHILD, b"child", ppid=OUTER, uid=0, adj=300, nspid=nspid, cgroup=cgroup)
    (tree.root / f"proc/{CHILD}/ns").mkdir()
    link = tree.root / f"proc/{CHILD}/ns/pid"
    link.symlink_to((tree.root / "proc/self/ns/pid").readlink() if nspid is None else "pid:[5]")

    pinner.forked(CHILD, OUTER, time.monotonic_ns())
    pinner.look(CHILD, SCAN)

    assert value(tree, CHILD) == gets


def test_a_scan_saves_descendants_that_only_a_fork_event_has_shown(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The child of a settled process has the right value, so nobody looks at it. Nobody but the ledger knows of what it
    descends when its parent has ended: a crash must not lose that."""
    monkeypatch.setattr("oomwatchd.pinning.tracking.FORK_NS", -1)
    tree.me()
    held = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500), children=250)
    ledger = Ledger(str(tmp_path / "ledger.json"), "boot")
    ledger.load(lambda pid, starttime: True)
    pinner = Pinner(RuleSet([held]), ledger, proc=tree.proc)
    for pid, parent, comm, adj in (
        (OUTER, 1, b"fits", 0),
        (INNER, OUTER, b"other", 500),
        (CHILD, INNER, b"other", 250),
    ):
        tree.process(pid, comm, ppid=parent, adj=adj)
        tree.write(f"proc/{pid}/comm", comm)
    pinner.look(OUTER, SCAN)
    pinner.forked(INNER, OUTER, time.monotonic_ns())
    assert pinner.ledger.nodes[INNER].settled
    pinner.forked(CHILD, INNER, time.monotonic_ns())
    assert pinner.ledger.nodes[CHILD].starttime is None  # nobody has looked

    for _ in pinner.look_at_relatives(pinner.tracking.table.items()):
        pass
    ledger.flush()

    after_the_crash = Ledger(ledger.path, "boot")
    after_the_crash.load(lambda pid, starttime: pid != INNER, lambda pid: pid * 10)
    found = after_the_crash.nodes[CHILD]
    assert [above.pid for above in found.ancestors()] == [OUTER]
