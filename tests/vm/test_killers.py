"""Debian's own systemd-oomd, earlyoom and nohang act for real, and take whom `rank` named a moment before; what they
took of the held is in the journal. OOMWATCHD_TRIALS sets how many trials of each (1), OOMWATCHD_SEED their sizes."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import killer_trials, prediction
from tests.vm import packages
from tests.vm.machine import Machine
from tests.vm.steps import configure, provide, running, start, wait_for_value

IMAGE = "with_package"
TRIALS = int(os.environ.get("OOMWATCHD_TRIALS", "1"))
SEED = int(os.environ.get("OOMWATCHD_SEED", "1"))
PACKAGES = ("systemd-oomd", "earlyoom", "nohang")
REPOSITORY = Path(__file__).parents[2]
TRIAL_S = 300
SWAP = "dd if=/dev/zero of=/swap bs=1M count=200 status=none; chmod 600 /swap; mkswap -q /swap; swapon /swap"
# Far from where the kernel would act, so that the machine doesn't thrash.
EARLYOOM = 'EARLYOOM_ARGS="-m 60,50 -s 100 -r 3600"\n'
NOHANG = (
    "sed -i 's/^soft_threshold_min_mem .*/soft_threshold_min_mem = 50 %/;"
    " s/^soft_threshold_min_swap .*/soft_threshold_min_swap = 100 %/' /etc/nohang/nohang.conf"
)
OOMD = "[OOM]\nSwapUsedLimit=30%\nDefaultMemoryPressureDurationSec=2s\n"
PEN = "systemd-run -q --unit=pen -p Delegate=yes {} sleep infinity"
WATCHED = {"swap": "", "pressure": "-p ManagedOOMMemoryPressure=kill -p ManagedOOMMemoryPressureLimit=5%"}
HELD = "/usr/local/bin/held"
RULE = f"""
[[rule]]
name = "held"
exe = "{HELD}"
user = "root"
oom_score_adj = {{}}
"""


@pytest.fixture(scope="module", autouse=True)
def prepared(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The machine with swap, the killers, and the trials in it. It has no compiler."""
    directory = tmp_path_factory.mktemp("killers")
    prediction.compile_eater(directory)
    (directory / "churner.c").write_text(killer_trials.CHURNER)
    subprocess.run(["cc", "-O1", "-o", directory / "churner", directory / "churner.c"], check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("eater", "churner"):
            archive.add(directory / name, name)
        archive.add(REPOSITORY / "tests/killer_trials.py", "killer_trials.py")
    machine.write("/root/trials.tar.gz", packed.getvalue())
    machine.succeed("tar -C /root -xzf /root/trials.tar.gz")
    packages.unpack(machine, "bookworm", PACKAGES)
    machine.succeed(SWAP)
    machine.write("/etc/default/earlyoom", EARLYOOM)
    machine.succeed(NOHANG)
    machine.succeed("mkdir -p /etc/systemd/oomd.conf.d")
    machine.write("/etc/systemd/oomd.conf.d/trials.conf", OOMD)
    provide(machine, HELD, "/usr/bin/perl")
    machine.grace_s = TRIAL_S


@pytest.fixture(autouse=True)
def alone(machine: Machine) -> Iterator[None]:
    """Each killer by itself."""
    yield
    machine.run("systemctl stop earlyoom nohang systemd-oomd pen held hogs; systemctl reset-failed")


def trials(machine: Machine, killer: str, count: int = TRIALS) -> dict[str, Any]:
    """Run some, and return the sum."""
    done = machine.run(
        "cd /root && PYTHONPATH=/usr/lib/oomwatchd python3 killer_trials.py --eater /root/eater --churner /root/churner"
        f" --seed {SEED} --trials {count} {killer}",
        TRIAL_S * count,
    )
    print(done.stdout, done.stderr)
    assert done.status == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert summary["right"] == summary["clear"] > 0
    return summary


@pytest.mark.parametrize("killer", ["earlyoom", "nohang"])
def test_it_takes_the_process_that_rank_named(machine: Machine, killer: str) -> None:
    machine.succeed(f"systemctl start {killer}")
    trials(machine, killer)


@pytest.mark.parametrize("cause", ["swap", "pressure"])
def test_systemd_oomd_takes_the_cgroup_that_rank_named(machine: Machine, cause: str) -> None:
    machine.succeed(f"systemctl start systemd-oomd && {PEN.format(WATCHED[cause])}")
    summary = trials(machine, cause)
    assert summary["disagreement"] == "", "oomctl says what it watches"


def _last_kill(machine: Machine, pid: int) -> dict[str, Any] | None:
    """The file of the last kill, which is written after its record; None: it isn't about `pid` alone."""
    last: dict[str, Any] = json.loads(machine.run("cat /run/oomwatchd/last-kill.json").stdout or "{}")
    return last if [held["pid"] for held in last.get("held", [])] == [pid] else None


def _told(machine: Machine, pid: int) -> dict[str, Any]:
    """The record of a kill of `pid`, and the file of the last kill beside it."""
    (record,) = machine.wait(
        "the kill is told of", lambda: machine.journal(f"-b OOMWATCHD_EVENT=oom-kill OBJECT_PID={pid}")
    )
    last = machine.wait("the file is written", lambda: _last_kill(machine, pid))
    assert last["killer"] == record["OOMWATCHD_KILLER"]
    return record


def _eat(machine: Machine) -> int:
    """Have earlyoom take a held process. Returns its PID, which is known and pinned before it takes memory: else it may
    be gone by then."""
    machine.succeed("rm -f /run/eat")
    wait = 'select(undef, undef, undef, 0.1) until -e "/run/eat"'
    pid = start(machine, "held", f"""{HELD} -e '{wait}; length("\\1" x (shift() << 20)) and sleep 10000' 200""")
    wait_for_value(machine, pid, 500)
    machine.succeed("touch /run/eat")
    return pid


def _findings(machine: Machine) -> dict[str, str]:
    return {finding["id"]: finding["message"] for finding in machine.json("oomwatchctl doctor --json")["findings"]}


def test_a_held_process_that_earlyoom_takes(machine: Machine) -> None:
    machine.succeed("systemctl start oomwatchd earlyoom")
    configure(machine, RULE.format(500))
    pid = _eat(machine)
    record = _told(machine, pid)
    assert (record["OOMWATCHD_KILLER"], record["OOMWATCHD_RULE"]) == ("earlyoom", "held")
    figures = machine.succeed("oomwatchctl metrics")
    assert 'oomwatchd_oom_kills_total{killer="earlyoom",rule="held",held="true"} 1' in figures


def test_a_pinned_process_that_systemd_oomd_takes(machine: Machine) -> None:
    """It looks at no oom_score_adj: doctor says so before, and the record is critical."""
    machine.succeed("systemctl start oomwatchd systemd-oomd")
    configure(machine, RULE.format(-1000))
    machine.succeed("rm -f /run/go")
    machine.write(
        "/root/swapped.pl",
        'sleep 1 while !-e "/run/go"; $n = 80; $m = "\\1" x ($n << 20); $m =~ tr/\\1/\\2/; sleep 10000;\n',
    )
    # It also wants little memory to be available.
    start(machine, "hogs", """/usr/bin/perl -e 'length("\\1" x (shift() << 20)) and sleep 10000' 120""")
    pid = start(machine, "held", f"{HELD} /root/swapped.pl", "-p MemoryHigh=8M")
    wait_for_value(machine, pid, -1000)
    assert "/system.slice/held.service" in _findings(machine)["systemd-oomd-takes-pinned"]
    machine.succeed("touch /run/go")
    record = _told(machine, pid)
    assert (record["OOMWATCHD_KILLER"], record["PRIORITY"]) == ("systemd-oomd", "2")


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_unit_that_systemd_stops_after_a_kill_in_it(machine: Machine, policy: str) -> None:
    """The kernel kills a child; the main process is pinned, and lives on only with OOMPolicy=continue."""
    machine.succeed("systemctl start oomwatchd")
    configure(machine, RULE.format(-1000))
    machine.write(
        "/root/unit.pl",
        "if (!fork) { exec '/usr/bin/perl', '/root/child.pl' }\nsleep 10000;\n",
    )
    machine.write("/root/child.pl", 'sleep 1 while !-e "/run/go"; $n = 90; $m = "\\1" x ($n << 20); sleep 1000;\n')
    machine.succeed("rm -f /run/go")
    properties = f"-p MemoryMax=40M -p MemorySwapMax=0 -p OOMPolicy={policy}"
    pid = start(machine, "held", f"{HELD} /root/unit.pl", properties)
    wait_for_value(machine, pid, -1000)
    machine.wait("its child isn't pinned", lambda: "unit-oom-policy" in _findings(machine) or policy == "continue")
    assert ("unit-oom-policy" in _findings(machine)) == (policy == "stop")
    before = machine.read("/proc/vmstat").split("oom_kill ")[1].split()[0]
    machine.succeed("touch /run/go")
    machine.wait(
        "the kernel has killed", lambda: machine.read("/proc/vmstat").split("oom_kill ")[1].split()[0] != before
    )
    if policy == "continue":
        assert running(machine, pid)
        return
    machine.wait("the main process is stopped too", lambda: not running(machine, pid))
    record = _told(machine, pid)
    assert (record["OOMWATCHD_KILLER"], record["PRIORITY"]) == ("systemd", "2")
    assert "OOMPolicy=" in record["MESSAGE"]


def test_processes_that_die_with_the_victim_are_reported(machine: Machine) -> None:
    """OOMPolicy=kill sets memory.oom.group: the kernel kills the hog, and with it a held process at -700."""
    machine.succeed("systemctl start oomwatchd")
    configure(machine, RULE.format(-700))
    machine.write("/root/unit.pl", "if (!fork) { exec '/usr/bin/perl', '/root/child.pl' }\nsleep 10000;\n")
    machine.write("/root/child.pl", 'sleep 1 while !-e "/run/go"; $n = 90; $m = "\\1" x ($n << 20); sleep 1000;\n')
    machine.succeed("rm -f /run/go")
    properties = "-p MemoryMax=40M -p MemorySwapMax=0 -p OOMPolicy=kill"
    pid = start(machine, "held", f"{HELD} /root/unit.pl", properties)
    wait_for_value(machine, pid, -700)
    assert "memcg-oom-group" in _findings(machine)
    machine.succeed("touch /run/go")
    record = _told(machine, pid)
    assert (record["OOMWATCHD_KILLER"], record["PRIORITY"], record["OOMWATCHD_RULE"]) == ("kernel", "2", "held")
    assert "together with process" in record["MESSAGE"]


def test_the_path_starts_its_service_for_each_kill(machine: Machine) -> None:
    machine.succeed("systemctl start oomwatchd earlyoom")
    configure(machine, RULE.format(500))
    machine.succeed("mkdir -p /etc/systemd/system/oomwatchd-kill.service.d")
    machine.write(
        "/etc/systemd/system/oomwatchd-kill.service.d/test.conf",
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'cat /run/oomwatchd/last-kill.json >> /run/told'\n"
        "ReadWritePaths=/run\n",
    )
    machine.succeed("rm -f /run/told; systemctl daemon-reload; systemctl start oomwatchd-kill.path")
    for round_ in (1, 2):
        _eat(machine)
        enough = f"test $(wc -l < /run/told) -ge {round_}"
        machine.wait(f"kill {round_} is told", lambda script=enough: machine.run(script).status == 0)  # type: ignore[misc]
    machine.succeed("systemctl stop oomwatchd-kill.path")
    assert json.loads(machine.read("/run/told").splitlines()[-1])["killer"] == "earlyoom"
