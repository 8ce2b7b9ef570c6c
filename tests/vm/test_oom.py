"""Real OOM kills, global and of a memory cgroup (v2): whom the kernel takes with the daemon, and without it.

What is promised is whom the kernel takes first. It may take one more: exit_mmap() (mm/mmap.c) shows a victim to be done
with (MMF_OOM_SKIP) before the last 40 MiB of its memory are given back, and who needs memory in between takes the next.
"""

import re
from typing import NamedTuple

import pytest

from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, running, start, wait_for_value

IMAGE = "with_package"

HOG = "/usr/local/bin/hog"
# One that dies mustn't take its unit, or the shell around it, with it.
PROPERTIES = "--slice=hogs.slice -p OOMPolicy=continue"
OOM_TIMEOUT_S = 450
FILLER = """\
sub kills { open(my $stat, '<', '/proc/vmstat') or die $!; return (grep { /^oom_kill / } <$stat>)[0]; }
my ($before, $chunk) = (kills(), "\\1" x 262144);
open(my $fill, '>', '/mnt/ram/fill') or die $!;
while (kills() eq $before) { syswrite($fill, $chunk) or die $! }
unlink('/mnt/ram/fill');
"""


def _hog(megabytes: int) -> str:
    """Arguments for perl, which is on every Debian and starts at once, to hold so much memory, each page written.

    Without a dollar sign, which systemd-run would expand, and without a copy.
    """
    return f"""-e 'length("\\1" x (shift() << 20)) and sleep 10000' {megabytes}"""


class Kill(NamedTuple):
    """One process that the kernel has killed, by its own log."""

    scope: str
    pid: int
    comm: str


def _kills(machine: Machine) -> list[Kill]:
    """Whom the kernel has killed since the boot, oldest first."""
    log = machine.succeed("journalctl --sync; journalctl --no-pager -b -k -o cat")
    lines = re.findall(r"^(Memory cgroup out|Out) of memory: Killed process (\d+) \((.*?)\) ", log, re.MULTILINE)
    return [Kill("global" if start == "Out" else "memcg", int(pid), comm) for start, pid, comm in lines]


def _wait_for_kill(machine: Machine, before: list[Kill]) -> Kill:
    """The first process that the kernel has killed since `before`."""
    machine.wait("the kernel has killed", lambda: _kills(machine)[len(before) :], OOM_TIMEOUT_S)
    kill = _kills(machine)[len(before)]
    machine.wait(f"{kill} has ended", lambda: not running(machine, kill.pid), OOM_TIMEOUT_S)
    return kill


def _resident_mib(machine: Machine, pid: int) -> int:
    return int(machine.succeed(f"awk '/^VmRSS/ {{ print int($2 / 1024) }}' /proc/{pid}/status"))


def _start_hog(machine: Machine, unit: str, program: str, megabytes: int) -> int:
    pid = start(machine, unit, f"{program} {_hog(megabytes)}", PROPERTIES)
    machine.wait(f"{unit} has grown", lambda: _resident_mib(machine, pid) >= megabytes)
    return pid


def _exhaust_memory(machine: Machine) -> Kill:
    """Fill a tmpfs, which is nobody's memory, until the kernel has killed one. Returns the first that it has killed."""
    before = _kills(machine)
    machine.succeed(
        f"systemd-run -q --unit=filler {PROPERTIES} -p OOMScoreAdjust=-999 --no-block -- /usr/bin/perl /root/fill.pl"
    )
    kill = _wait_for_kill(machine, before)
    machine.wait("the filler is done", lambda: not machine.is_active("filler"), OOM_TIMEOUT_S)
    return kill


@pytest.fixture(scope="module", autouse=True)
def programs(machine: Machine) -> None:
    provide(machine, GUARDED, "/usr/bin/perl")
    provide(machine, HOG, "/usr/bin/perl")
    machine.write("/root/fill.pl", FILLER)
    machine.succeed("mkdir /mnt/ram; mount -t tmpfs -o size=95% none /mnt/ram")
    machine.write("/etc/oomwatchd.toml", GUARD)
    # Else the kernel throws away everybody's programs and reads them again, before it says that memory is out. Even
    # so, it takes 15 s of both CPUs.
    machine.succeed("systemctl set-property --runtime system.slice MemoryMin=150M")
    machine.succeed("systemctl set-property --runtime init.scope MemoryMin=50M")
    machine.grace_s = OOM_TIMEOUT_S


@pytest.fixture(autouse=True)
def clean(machine: Machine) -> None:
    machine.run("systemctl stop large small both; systemctl reset-failed; rm -f /mnt/ram/fill")


@pytest.fixture
def daemon(machine: Machine) -> None:
    machine.succeed("systemctl start oomwatchd")
    configure(machine, GUARD)


@pytest.fixture
def no_daemon(machine: Machine) -> None:
    machine.succeed("systemctl stop oomwatchd")


def test_without_the_daemon_a_global_oom_takes_the_larger(machine: Machine, no_daemon: None) -> None:
    large = _start_hog(machine, "large", GUARDED, 150)
    _start_hog(machine, "small", HOG, 80)
    assert _exhaust_memory(machine) == Kill("global", large, "guarded")


def test_with_the_daemon_a_global_oom_takes_the_smaller(machine: Machine, daemon: None) -> None:
    large, small = _start_hog(machine, "large", GUARDED, 150), _start_hog(machine, "small", HOG, 80)
    assert (machine.oom_score_adj(large), machine.oom_score_adj(small)) == (-1000, 0)
    pid = machine.main_pid("oomwatchd")
    assert _exhaust_memory(machine) == Kill("global", small, "hog")
    assert running(machine, large)
    assert machine.main_pid("oomwatchd") == pid
    told = machine.wait(
        "the kill is in the journal", lambda: machine.journal(f"-b OOMWATCHD_EVENT=oom-kill OBJECT_PID={small}")
    )
    assert "hog" in told[0]["MESSAGE"]


@pytest.mark.parametrize("protected", [False, True], ids=["without the daemon", "with the daemon"])
def test_an_oom_of_a_memory_cgroup(request: pytest.FixtureRequest, machine: Machine, protected: bool) -> None:
    request.getfixturevalue("daemon" if protected else "no_daemon")
    machine.write(
        "/root/both.sh",
        f"{GUARDED} {_hog(60)} & echo $! > /run/large\n{HOG} {_hog(30)} & echo $! > /run/small\n"
        # Once both have grown, a file in memory that this cgroup pays for.
        "while [ ! -e /run/go ]; do sleep 0.1; done\n"
        "dd if=/dev/zero of=/mnt/ram/fill bs=1M count=45\nsleep 10000\n",
    )
    machine.succeed("rm -f /run/go /run/large /run/small")  # of the test before
    start(machine, "both", "/bin/bash /root/both.sh", f"{PROPERTIES} -p MemoryMax=128M")
    machine.wait("both are started", lambda: machine.run("test -s /run/large -a -s /run/small").status == 0)
    large, small = int(machine.read("/run/large")), int(machine.read("/run/small"))
    machine.wait("the larger has grown", lambda: _resident_mib(machine, large) >= 60)
    machine.wait("the smaller has grown", lambda: _resident_mib(machine, small) >= 30)
    wait_for_value(machine, large, -1000 if protected else 0)
    before = _kills(machine)
    machine.succeed("touch /run/go")
    victim = Kill("memcg", small, "hog") if protected else Kill("memcg", large, "guarded")
    assert _wait_for_kill(machine, before) == victim
    assert running(machine, large) == protected


def test_everything_pinned_but_one_the_one_dies_and_the_daemon_goes_on(machine: Machine, daemon: None) -> None:
    one = _start_hog(machine, "small", HOG, 100)
    configure(
        machine,
        f"""
[[rule]]
name = "but for one"
exe = "{HOG}"
ignore = true

[[rule]]
name = "everything"
exe = "/*"
spoofable = true
oom_score_adj = -1000
containers = true
""",
    )
    daemon_pid = machine.main_pid("oomwatchd")
    killable = (
        "for p in /proc/[0-9]*; do [ ${p#/proc/} -ne 1 ] && readlink -e $p/exe >/dev/null 2>&1"
        " && [ $(cat $p/oom_score_adj) -ne -1000 ] && echo ${p#/proc/}; done; true"
    )
    machine.wait("only one is killable", lambda: str(one) in machine.succeed(killable).split())
    assert _exhaust_memory(machine) == Kill("global", one, "hog")
    assert machine.main_pid("oomwatchd") == daemon_pid
    assert 0 < int(machine.read("/sys/fs/cgroup/system.slice/oomwatchd.service/memory.max")) < 512 << 20
    # It goes on: new programs are pinned, and released when the rule goes.
    pid = start(machine, "large", f"{GUARDED} -e 'sleep 10000'")
    wait_for_value(machine, pid, -1000)
    configure(machine, "")
    wait_for_value(machine, pid, 0)
    wait_for_value(machine, daemon_pid, -900)


def test_postmortem_shows_each_kill_in_the_kernels_log(machine: Machine) -> None:
    before = _kills(machine)
    machine.run(f"systemd-run -q --unit=small {PROPERTIES} -p MemoryMax=40M -- {HOG} {_hog(100)}")
    _wait_for_kill(machine, before)
    kills = machine.json("oomwatchctl postmortem --json")["kills"]
    told = [Kill(kill["scope"], kill["victim"]["pid"], kill["victim"]["comm"]) for kill in kills]
    assert told == _kills(machine)
