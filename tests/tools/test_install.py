"""`make install` and `make uninstall` into a directory. That what they install runs, tests/vm shows."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd import __version__
from tests.checkout import REPOSITORY, alone

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make isn't installed")


def _make(target: str, destination: Path, *variables: str) -> None:
    with alone():
        done = subprocess.run(
            # The interpreter of the tests has what the daemon imports; the distribution's may not.
            ["make", "-s", target, f"DESTDIR={destination}", f"PYTHON_RUN={sys.executable}", *variables],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def _files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make install` makes; tests only read it."""
    destination = tmp_path_factory.mktemp("installed")
    _make("install", destination)
    return destination


def test_files_go_below_the_prefix_and_the_configuration_to_etc(installed: Path) -> None:
    files = _files(installed)
    assert {
        "usr/local/sbin/oomwatchd",
        "usr/local/bin/oomwatchctl",
        "usr/local/lib/oomwatchd/oomwatchd/daemon/main.py",
        "usr/local/lib/systemd/system/oomwatchd.service",
        "usr/local/lib/systemd/catalog/oomwatchd.catalog",
        "usr/local/share/oomwatchd/oomwatchd.schema.json",
        "etc/oomwatchd.toml",
    } <= files
    assert {file for file in files if not file.startswith("usr/local/")} == {"etc/oomwatchd.toml"}
    configuration = (installed / "etc/oomwatchd.toml").read_text()
    assert configuration.startswith("#:schema /usr/local/share/oomwatchd/oomwatchd.schema.json\n")
    unit = (installed / "usr/local/lib/systemd/system/oomwatchd.service").read_text()
    assert "\nExecStart=/usr/local/sbin/oomwatchd\n" in unit
    assert "\nExecReload=/usr/local/bin/oomwatchctl reload\n" in unit
    assert "\nExecPaths=/usr\n" in unit


def test_a_prefix_outside_of_usr_may_be_executed_from(tmp_path: Path) -> None:
    _make("install", tmp_path, "PREFIX=/opt/oomwatchd", "COMPILE=no")
    unit = (tmp_path / "opt/oomwatchd/lib/systemd/system/oomwatchd.service").read_text()
    assert "\nExecStart=/opt/oomwatchd/sbin/oomwatchd\n" in unit
    assert "\nExecPaths=/opt/oomwatchd /usr\n" in unit


def test_byte_code_is_never_compared_with_its_source(installed: Path) -> None:
    """pyc files, PEP 552: flags 1 is hash-based, unchecked."""
    compiled = list(installed.rglob("*.pyc"))
    assert compiled
    assert {file.read_bytes()[4:8] for file in compiled} == {b"\x01\0\0\0"}


def test_a_changed_configuration_stays_and_nothing_else(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path, dirs_exist_ok=True)
    mine = tmp_path / "etc/oomwatchd.toml"
    mine.write_text("# mine\n")
    left_over = tmp_path / "usr/local/lib/oomwatchd/oomwatchd/of_an_earlier_version.py"
    left_over.touch()
    _make("install", tmp_path, "COMPILE=no")
    assert mine.read_text() == "# mine\n"
    assert not left_over.exists()
    _make("uninstall", tmp_path)
    assert _files(tmp_path) == {"etc/oomwatchd.toml"}


def test_an_unchanged_configuration_goes(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path, dirs_exist_ok=True)
    _make("uninstall", tmp_path)
    assert _files(tmp_path) == set()


def test_what_was_pinned_is_given_back_before_the_service_stops() -> None:
    command = ["make", "-n", "uninstall"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert -1 < told.index("oomwatchctl' restore") < told.index("systemctl disable --now oomwatchd.service")


def test_the_package_has_the_version_of_the_program() -> None:
    head = (REPOSITORY / "debian/changelog").read_text().split("\n", 1)[0]
    assert f"({__version__})" in head
