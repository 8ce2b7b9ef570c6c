"""What takes a whole machine: a clock that is set, /proc with hidepid=, values below zero that are given back."""

import json

import pytest

from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, start, wait_for_value

IMAGE = "with_package"


@pytest.fixture(scope="module", autouse=True)
def program(machine: Machine) -> None:
    provide(machine, GUARDED)


def _findings(machine: Machine) -> dict[str, str]:
    reply = json.loads(machine.run("oomwatchctl doctor --json").stdout)
    return {finding["id"]: finding["severity"] for finding in reply["findings"]}


def _scans(machine: Machine) -> int:
    return int(json.loads(machine.succeed("oomwatchctl status --json"))["counters"]["scans"])


def _wait_for_scan(machine: Machine) -> None:
    before = _scans(machine)
    machine.wait("two more scans", lambda: _scans(machine) >= before + 2)


def test_restore_raises_what_was_lowered(machine: Machine) -> None:
    configure(machine, GUARD)
    pid = start(machine, "guarded", f"{GUARDED} 10000")
    wait_for_value(machine, pid, -1000)

    machine.succeed("oomwatchctl restore")

    assert machine.oom_score_adj(pid) == 0
    assert "Holds nobody" in machine.succeed("systemctl status --no-pager oomwatchd")
    machine.succeed("systemctl reload oomwatchd")
    assert machine.oom_score_adj(pid) == -1000


@pytest.mark.parametrize("jump", ["+3 days", "-3 days"])
def test_a_pin_lasts_as_long_as_it_should_whatever_the_clock_says(machine: Machine, jump: str) -> None:
    configure(machine, '[daemon]\nscan_interval = "500ms"\n')
    pid = start(machine, "pinned", "/usr/bin/sleep 10000")
    machine.succeed(f"oomwatchctl pin {pid} 300 --for 1h")

    machine.succeed(f"date -s '{jump}'")

    _wait_for_scan(machine)
    assert machine.oom_score_adj(pid) == 300
    machine.succeed(f"oomwatchctl pin {pid} 300 --for 2s")
    machine.succeed(f"date -s '{jump}'")
    wait_for_value(machine, pid, 0)
    machine.succeed("systemctl stop pinned")


def test_without_cap_sys_ptrace_hidepid_hides_nothing_from_the_service(machine: Machine) -> None:
    configure(machine, '[[rule]]\nname = "unit"\nunit = "hidden.service"\noom_score_adj = -500\n')
    machine.succeed("mount -o remount,hidepid=2 /proc")
    machine.succeed(
        "mkdir -p /etc/systemd/system/oomwatchd.service.d"
        " && cp /usr/share/doc/oomwatchd/examples/no-ptrace.conf /etc/systemd/system/oomwatchd.service.d/"
        " && systemctl daemon-reload && systemctl restart oomwatchd"
    )
    try:
        pid = start(machine, "hidden", "/usr/bin/sleep 10000", "-p User=nobody")

        wait_for_value(machine, pid, -500)
        assert "hidepid" not in _findings(machine)
        assert "no-cap-sys-ptrace" in _findings(machine)
        machine.succeed("systemctl stop oomwatchd")
        assert _findings(machine)["hidepid"] == "notice"
    finally:
        machine.succeed(
            "mount -o remount,hidepid=0 /proc; rm -r /etc/systemd/system/oomwatchd.service.d;"
            " systemctl daemon-reload; systemctl restart oomwatchd"
        )


def test_a_line_that_a_program_writes_to_the_kernels_log_is_no_kill(machine: Machine) -> None:
    machine.succeed(
        "echo 'Out of memory: Killed process 1 (systemd) total-vm:4kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB'"
        " > /dev/kmsg"
    )
    _wait_for_scan(machine)
    assert machine.succeed("journalctl -b -u oomwatchd -o cat OOMWATCHD_EVENT=oom-kill").strip() in (
        "",
        "-- No entries --",
    )
