"""The VMs that the tests share. Booting is what costs: few, and each for as many tests as it can serve."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vm import image
from tests.vm.machine import Machine, MachineFailed

REPOSITORY = Path(__file__).parent.parent.parent
INSTALL_TIMEOUT_S = 600
# Without the kernel's stack traces and tables.
JOURNAL = """\
systemctl status --no-pager -n 0 oomwatchd
journalctl -b --no-pager -n 400 -o short-monotonic | grep -v -e 'vm kernel:  ' -e '^  *[a-z_]* [0-9]*$' | tail -n 40
"""


LONGEST_FIRST = (
    "test_killers",
    "test_prediction",  # which wants no package, while the first one builds it
    "test_upgrade",
    "test_oom",
    "test_journey",
    "test_lineage",
    "test_trixie",
    "test_storm",
    "test_removal",
    "test_release",
    "test_filter_ways",
    "test_container",
)
"""Modules, in the order in which two processes (pytest-xdist) take them: they end at about the same time then."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def bookworm() -> image.Image:
    return image.build("bookworm")


@pytest.fixture(scope="session")
def trixie() -> image.Image:
    return image.build("trixie")


@contextmanager
def shared(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A directory of this test run, for one of its worker processes (pytest-xdist) at a time."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a directory in that of the run
        base = base.parent
    directory = base / name
    directory.mkdir(exist_ok=True)
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The package, built from this checkout."""
    with shared(tmp_path_factory, "checkout") as directory:
        package = directory / "oomwatchd.deb"
        if not package.exists():
            _build_package(package)
        return package.read_bytes()


def _build_package(package: Path) -> None:
    for old in (REPOSITORY / "dist").glob("*.deb"):
        old.unlink()
    done = subprocess.run(
        ["make", "--no-print-directory", "deb", "DEB_BUILD_OPTIONS=nocheck"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (REPOSITORY / "dist").glob("oomwatchd_*_all.deb")
    shutil.copy(built, package)


@pytest.fixture(scope="session")
def installed_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make install` makes of this checkout: a directory that stands for /."""
    with shared(tmp_path_factory, "checkout"):  # `make deb` writes into the checkout too
        destination = tmp_path_factory.mktemp("tree")
        subprocess.run(["make", "-s", "man"], cwd=REPOSITORY, check=True, timeout=600, stdin=subprocess.DEVNULL)
        subprocess.run(["make", "-s", "install", f"DESTDIR={destination}"], cwd=REPOSITORY, check=True, timeout=600)
    return destination


def install(machine: Machine, deb: bytes) -> None:
    """As a user installs a package that he has downloaded."""
    machine.write("/root/oomwatchd.deb", deb)
    machine.succeed("DEBIAN_FRONTEND=noninteractive apt-get install -q -y /root/oomwatchd.deb", INSTALL_TIMEOUT_S)


@pytest.fixture(scope="session")
def with_package(bookworm: image.Image, deb: bytes, tmp_path_factory: pytest.TempPathFactory) -> image.Image:
    """Debian 12 with the package installed, as Debian enables it."""
    with shared(tmp_path_factory, "with-package") as directory:
        installed = directory / "installed"
        if not installed.exists():
            vm = Machine(bookworm, directory)
            try:
                vm.boot()
                install(vm, deb)
                vm.shut_down()
            finally:
                vm.kill()
            installed.touch()
        return Machine.disk(bookworm, directory)


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted VM for all tests of a module, which says from which image (IMAGE) and how large (MEMORY_MIB)."""
    disk: image.Image = request.getfixturevalue(request.module.IMAGE)
    vm = Machine(disk, tmp_path_factory.mktemp("vm"), getattr(request.module, "MEMORY_MIB", 512))
    try:
        vm.boot()
        yield vm
    finally:
        vm.kill()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """To a failure, add what the VM's journal says."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when != "call" or not report.failed or (call.excinfo and call.excinfo.errisinstance(MachineFailed)):
        return
    for name, value in getattr(item, "funcargs", {}).items():
        if isinstance(value, Machine):
            report.sections.append((f"journal of {name}", _journal(value)))


def _journal(machine: Machine) -> str:
    try:
        return machine.run(JOURNAL, 20).stdout
    except MachineFailed as failure:
        return str(failure)
