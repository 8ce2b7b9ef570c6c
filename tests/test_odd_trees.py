"""Whatever the files of a system hold, rank and doctor answer: missing, garbled, directories in their place."""

import json
import random
from pathlib import Path

import pytest

from oomwatchd.ctl import main
from tests.faketree import Tree

JUNK = (
    b"",
    b"\n",
    b"max\n",
    b"-1\n",
    b"\xff\xfe\0\x01",
    b"99999999999999999999999\n",
    b"[x",
    b"=\n=",
    b"full avg10=1e9",
)
COMMAND_LINES = (
    b"",
    b"\0\0",
    b"earlyoom\0-m\0",
    b"earlyoom\0--prefer\0(\0",
    b"earlyoom\0-M\x009999999999,1\0-S\x001\0",
)
NOHANG = (b"\xff", b"soft_threshold_min_mem = x\n@BADNESS_ADJ_RE_NAME 5 /// (\n", b"psi_checking_enabled = True\n")
OOMD = (
    b"[OOM]\nSwapUsedLimit=x\nDefaultMemoryPressureDurationSec=9999999999999s",
    b"\xff",
    b"[OOM]\nSwapUsedLimit=0%\n",
)
PROCESSES = (
    (50, b"earlyoom", "/system.slice/earlyoom.service"),
    (51, b"systemd-oomd", "/system.slice/systemd-oomd.service"),
    (52, b"nohang", "/x"),
    (53, b"oomd", "/"),
    (60, b"db", "/system.slice/db.service"),
    (61, b"w\n)", "/system.slice/db.service"),
    (70, b"app", "/user.slice/user-7.slice/user@7.service/app.slice/a.service"),
)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def odd(tree: Tree, chance: random.Random) -> None:
    """Fill a tree with all killers, and spoil some of its files."""
    version = chance.choice((1, 2))
    tree.machine(swap_kib=chance.choice((0, 1000)))
    for pid, comm, cgroup in PROCESSES:
        adj = chance.choice((0, -500, -1000, 300))
        tree.process(pid, comm, uid=chance.choice((0, 1000)), adj=adj, cgroup=cgroup, version=version)
    tree.write("proc/50/cmdline", chance.choice(COMMAND_LINES))
    tree.write("proc/52/cmdline", chance.choice((b"", b"x\0--config\0/etc/n.conf\0", b"x\0--config\0relative\0")))
    tree.write("etc/n.conf", chance.choice(NOHANG))
    tree.write("etc/systemd/oomd.conf", chance.choice(OOMD))
    tree.write("usr/lib/systemd/system/-.slice", "[Slice]\nManagedOOMSwap=kill")
    limit = chance.choice(("50%", "x", "0%", "5000%"))
    pressure = f"[Service]\nManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureLimit={limit}"
    tree.write("usr/lib/systemd/system/user@.service.d/x.conf", pressure)
    if version == 1:
        tree.memcg1("/", 5 << 20)
        tree.memcg1("/system.slice", 5 << 20, 6 << 20)
    else:
        for path in ("/system.slice", "/system.slice/db.service", "/user.slice/user-7.slice/user@7.service"):
            tree.memcg2(path, 5 << 20, chance.choice(("max", 6 << 20, 0)), stat="pgscan 3", pressure="full avg10=0.00")
    files = sorted(file for file in tree.root.rglob("*") if file.is_file() and not file.is_symlink())
    for file in chance.sample(files, chance.randrange(8)):
        if chance.random() < 0.6:
            file.write_bytes(chance.choice(JUNK))
            continue
        file.unlink()
        if chance.random() < 0.2:
            file.mkdir()


@pytest.mark.parametrize("seed", range(25))
def test_an_odd_tree_is_no_crash(tree: Tree, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    odd(tree, random.Random(seed))
    root = str(tree.root)
    assert main(["doctor", "--json", "--root", root]) in (0, 1)
    json.loads(capsys.readouterr().out)
    main(["rank", "--root", root])
    capsys.readouterr()
    if main(["rank", "--json", "--root", root]) == 0:
        killers = json.loads(capsys.readouterr().out)["killers"]
        assert len(killers) == 5 and sum(killer["acts_first"] for killer in killers) <= 1
