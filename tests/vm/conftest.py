"""The VMs that the tests share. Booting is what costs: few, and each for as many tests as it can serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import image
from tests.vm.machine import Machine, MachineFailed

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def bookworm() -> image.Image:
    return image.build("bookworm")


@pytest.fixture(scope="session")
def trixie() -> image.Image:
    return image.build("trixie")


@pytest.fixture(scope="module")
def machine(bookworm: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Debian 12 as it comes, booted; one for all tests of a module."""
    vm = Machine(bookworm, tmp_path_factory.mktemp("vm"))
    vm.boot()
    yield vm
    vm.kill()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """To a failure, add what the VM's journal says."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when != "call" or not report.failed or isinstance(call.excinfo and call.excinfo.value, MachineFailed):
        return
    for name, value in getattr(item, "funcargs", {}).items():
        if isinstance(value, Machine):
            report.sections.append((f"journal of {name}", _journal(value)))


def _journal(machine: Machine) -> str:
    try:
        return machine.run(
            "systemctl status --no-pager -n 0 oomwatchd; journalctl -b --no-pager -n 60 -o short-monotonic", 20
        ).stdout
    except MachineFailed as failure:
        return str(failure)
