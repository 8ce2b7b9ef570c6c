"""debian/tests, run in a VM as autopkgtest runs them on a machine of its own: after the installation, as root."""

from tests.vm.conftest import REPOSITORY
from tests.vm.machine import Machine

IMAGE = "with_package"


def test_what_debian_runs(machine: Machine) -> None:
    control = (REPOSITORY / "debian/tests/control").read_text()
    assert "Tests: pin\n" in control
    machine.write("/root/pin", (REPOSITORY / "debian/tests/pin").read_bytes())
    machine.succeed("cd /root && AUTOPKGTEST_TMP=$(mktemp -d) sh -e /root/pin")
