"""What becomes of the pins when the package is upgraded, removed, and purged."""

from tests.vm.conftest import install
from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, start, wait_for_value

IMAGE = "with_package"
REMOVE = "DEBIAN_FRONTEND=noninteractive apt-get {} -q -y oomwatchd"


def test_an_upgrade_keeps_the_pins(machine: Machine) -> None:
    provide(machine, GUARDED)
    machine.succeed("systemctl enable --now oomwatchd")
    configure(machine, GUARD)
    held = start(machine, "held", f"{GUARDED} infinity")
    wait_for_value(machine, held, -1000)

    machine.succeed("systemctl stop oomwatchd; dpkg -i --force-confold /root/oomwatchd.deb")

    assert machine.oom_score_adj(held) == -1000
    machine.succeed("systemctl start oomwatchd")
    pins = {pin["pid"]: pin for pin in machine.json("oomwatchctl list --json")["pins"]}
    assert (pins[held]["oom_score_adj"], pins[held]["original"]) == (-1000, 0)


def test_a_removal_gives_back_what_everyone_had(machine: Machine) -> None:
    held = machine.main_pid("held")

    said = machine.run(REMOVE.format("remove"))

    assert said.status == 0
    assert machine.oom_score_adj(held) == 0
    assert "not every process" not in said.stdout + said.stderr


def test_a_removal_while_the_daemon_does_not_run_gives_values_back(machine: Machine, deb: bytes) -> None:
    held = machine.main_pid("held")
    install(machine, deb)
    machine.succeed("systemctl start oomwatchd")
    wait_for_value(machine, held, -1000)
    machine.succeed("systemctl stop oomwatchd")
    assert machine.oom_score_adj(held) == -1000

    machine.succeed(REMOVE.format("purge"))

    assert machine.oom_score_adj(held) == 0
    assert machine.run("ls -d /run/oomwatchd").status != 0
