"""The eBPF filter under the unit's sandbox, on Debian 12's kernel."""

import pytest

from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, start, wait_for_value

IMAGE = "with_package"
CAP_PERFMON, CAP_BPF = 38, 39
SHELL = "/usr/local/bin/guarded-shell"


@pytest.fixture(scope="module", autouse=True)
def prepared(machine: Machine) -> None:
    provide(machine, GUARDED)
    provide(machine, SHELL, "/bin/dash")
    configure(machine, GUARD)


def _filter(machine: Machine) -> tuple[str, str]:
    status = machine.json("oomwatchctl status --json")
    return status["filter"], status["filter_reason"]


def _events(machine: Machine) -> int:
    return int(machine.json("oomwatchctl status --json")["counters"]["events"])


def _hears_nothing(machine: Machine) -> bool:
    before = _events(machine)
    machine.succeed("for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done")
    return _events(machine) == before


def test_programs_that_no_rule_can_fit_are_dropped_in_the_kernel(machine: Machine) -> None:
    assert _filter(machine) == ("names", "")
    pid = start(machine, "guarded", f"{GUARDED} infinity")
    wait_for_value(machine, pid, -1000)

    # Not at once: the next scan lets all events through, to find out who descends from the pinned process.
    machine.wait("ten programs were started, and no event came", lambda: _hears_nothing(machine))


def test_the_capabilities_for_it_are_given_up(machine: Machine) -> None:
    pid = machine.main_pid("oomwatchd")
    shown = machine.succeed(f"grep -E '^Cap(Inh|Prm|Eff):' /proc/{pid}/status").split()[1::2]
    assert len(shown) == 3
    for capabilities in shown:
        assert not int(capabilities, 16) & (1 << CAP_PERFMON | 1 << CAP_BPF)


def test_a_reload_works_without_them(machine: Machine) -> None:
    another = f"{GUARDED}-another"
    provide(machine, another)
    configure(machine, GUARD.replace(GUARDED, another))
    assert _filter(machine) == ("names", "")
    wait_for_value(machine, start(machine, "another", f"{another} infinity"), -1000)
    configure(machine, GUARD + '[[rule]]\nname = "open"\ncmdline = "nothing*"\noom_score_adj = 1\n')
    assert _filter(machine)[0] == "kinds"
    assert "'open'" in _filter(machine)[1]
    configure(machine, GUARD)
    assert _filter(machine) == ("names", "")


def test_a_daemonized_grandchild_does_not_keep_what_it_inherited(machine: Machine) -> None:
    configure(machine, GUARD.replace(GUARDED, SHELL) + 'session_leader = true\nchildren = "reset"\n')
    machine.write("/root/daemonize.sh", "(setsid sh -c 'sleep 1000 & echo $! > /run/grandchild' &)\nsleep 1000\n")
    start(machine, "shell", f"setsid -w {SHELL} /root/daemonize.sh")
    machine.wait("the grandchild is there", lambda: machine.run("test -s /run/grandchild").status == 0)
    grandchild = int(machine.succeed("cat /run/grandchild"))
    wait_for_value(machine, grandchild, 0)
    # The floor has gone too: what may only come back to what a privileged process has set can't go below.
    refused = machine.run(f"setpriv --bounding-set=-sys_resource sh -c 'echo -1 > /proc/{grandchild}/oom_score_adj'")
    assert refused.status != 0


def test_without_the_system_call_it_says_so_and_works(machine: Machine) -> None:
    machine.succeed("mkdir -p /run/systemd/system/oomwatchd.service.d")
    machine.write("/run/systemd/system/oomwatchd.service.d/no-bpf.conf", "[Service]\nSystemCallFilter=~bpf\n")
    machine.succeed("systemctl daemon-reload; systemctl restart oomwatchd")
    configure(machine, GUARD)
    kind, reason = _filter(machine)
    assert kind == "kinds"
    assert "bpf(2)" in reason
    wait_for_value(machine, start(machine, "guarded-again", f"{GUARDED} infinity"), -1000)
