"""Debian 13 (Linux 6.12, systemd 257, Python 3.13): the same package."""

import re

from tests.vm.conftest import install
from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, start, wait_for_value

IMAGE = "trixie"


def test_the_package_of_debian_12_installs_and_runs(machine: Machine, deb: bytes) -> None:
    machine.succeed("systemctl is-system-running --wait")
    install(machine, deb)
    assert machine.succeed("systemctl is-enabled oomwatchd; systemctl is-active oomwatchd").split() == [
        "enabled",
        "active",
    ]
    assert machine.succeed("systemctl is-system-running") == "running"
    assert machine.run("systemd-analyze verify --man=no oomwatchd.service").stderr == ""
    machine.succeed("systemd-analyze security --threshold=21 oomwatchd.service")
    assert machine.succeed("uname -r").startswith("6.12.")
    status = machine.json("oomwatchctl status --json")
    assert (status["proc_events"], status["filter"], status["filter_reason"]) == ("on", "names", "")


def test_it_pins_and_reloads(machine: Machine) -> None:
    provide(machine, GUARDED)
    configure(machine, GUARD)
    pid = start(machine, "guarded", f"{GUARDED} infinity")
    wait_for_value(machine, pid, -1000)
    machine.write("/etc/oomwatchd.toml", GUARD.replace("exe", "exec"))
    assert machine.run("systemctl reload oomwatchd").status != 0
    assert machine.is_active("oomwatchd")
    configure(machine, "")
    wait_for_value(machine, pid, 0)


def test_the_log_of_the_unit_and_of_the_daemon_tell_of_the_pin(machine: Machine) -> None:
    (record,) = machine.journal("-b -u oomwatchd OOMWATCHD_EVENT=pinned OOMWATCHD_UNIT=guarded.service")
    assert (record["OOMWATCHD_NEW"], record["OBJECT_SYSTEMD_UNIT"]) == ("-1000", "guarded.service")
    assert record["MESSAGE"] in machine.succeed("journalctl -b --no-pager -o cat -u guarded.service")


def test_no_unexpected_record_in_the_journal(machine: Machine) -> None:
    assert machine.journal("-b -u oomwatchd -p err OOMWATCHD_EVENT=pin-failed") == []
    log = machine.succeed("journalctl -b --no-pager -u oomwatchd -o cat")
    assert "Traceback" not in log and not re.search(r"\wWarning:", log)


def test_it_comes_back_after_a_reboot(machine: Machine) -> None:
    machine.write("/etc/oomwatchd.toml", GUARD)
    machine.reboot()
    machine.succeed("systemctl is-system-running --wait")
    wait_for_value(machine, start(machine, "guarded", f"{GUARDED} infinity"), -1000)


def test_it_is_purged(machine: Machine) -> None:
    machine.succeed("DEBIAN_FRONTEND=noninteractive apt-get purge -q -y oomwatchd")
    assert machine.run("ls -d /run/oomwatchd /etc/oomwatchd*").stdout == ""
