"""Deaths that nobody has noticed yet: they don't come between an ancestor's release and the descendants, nor does
anyone who has the PID now take their place."""

from pathlib import Path

from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
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
    tree.process(CHILD + 1, b"fits")  # born after its "child", and its own birth isn't known

    pinner.look(CHILD + 1, SCAN)

    assert [value(tree, pid) for pid in (CHILD + 1, CHILD)] == [500, 0]


def test_a_release_through_one_that_the_same_rule_held(tmp_path: Path) -> None:
    """A server and what it forked of itself are held by one rule, and what the latter executed by another. The server
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
