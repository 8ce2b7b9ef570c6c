"""The packages of other distributions: they install what `make install` installs, and their versions agree."""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd import __version__
from tests.checkout import REPOSITORY, alone

CONFIG = REPOSITORY / "config"


def _run(*command: str, cwd: Path = REPOSITORY, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_package_has_the_version_of_the_program() -> None:
    spec = (CONFIG / "rpm/oomwatchd.spec").read_text()
    assert re.search(r"^Version: +(\S+)$", spec, re.MULTILINE)[1] == __version__  # type: ignore[index]
    assert re.search(r"^\* .* - (\S+)-1$", spec, re.MULTILINE)[1] == __version__  # type: ignore[index]
    assert f"\npkgver={__version__}\n" in (CONFIG / "arch/PKGBUILD").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", _changelog(), re.MULTILINE)


def _changelog() -> str:
    return (REPOSITORY / "CHANGELOG.md").read_text()


def _installed(root: Path) -> set[str]:
    """The files below `root`, without byte code and without what each distribution keeps elsewhere by its own rules."""
    files = {"/" + str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    return {_common(file) for file in files if not file.endswith(".pyc") and "/licenses/" not in file}


def _common(file: str) -> str:
    """The path that a file has in every package: /usr/sbin is /usr/bin at Arch, and manual pages are packed."""
    return file.replace("/usr/sbin/", "/usr/bin/").removesuffix(".gz")


@pytest.fixture(scope="module")
def by_make(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What `make install` puts below /usr, as debian/rules calls it."""
    root = tmp_path_factory.mktemp("make")
    with alone():
        _run("make", "-s", "install", f"DESTDIR={root}", "PREFIX=/usr", "COMPILE=no")
    return _installed(root)


@pytest.fixture
def source_archive(tmp_path: Path) -> Iterator[Path]:
    """The tree as it is, as a release would pack it."""
    path = tmp_path / f"oomwatchd-{__version__}.tar.gz"
    top = f"oomwatchd-{__version__}"
    with tarfile.open(path, "w:gz") as archive:
        for name in (
            "Makefile",
            "pyproject.toml",
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
            "src",
            "systemd",
            "config",
            "man",
        ):
            archive.add(REPOSITORY / name, f"{top}/{name}", filter=_without_byte_code)
    yield path


def _without_byte_code(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name or ".egg-info" in member.name else member


@pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="rpmbuild isn't installed (Debian: rpm)")
@pytest.mark.skipif(shutil.which("scdoc") is None, reason="scdoc isn't installed, so there are no manual pages")
def test_the_rpm_holds_what_make_installs(by_make: set[str], source_archive: Path, tmp_path: Path) -> None:
    _run(
        *("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/rpm", "--define", f"_sourcedir {tmp_path}"),
        *("--define", "_build_id_links none", str(CONFIG / "rpm/oomwatchd.spec")),
    )
    (package,) = (tmp_path / "rpm/RPMS").rglob("*.rpm")
    listed = _run("rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\\n]", str(package)).splitlines()
    files = {_common(line.split(" ", 1)[1]) for line in listed if line.startswith("-")}
    own = {file for file in files if not file.endswith(".pyc") and "/doc/" not in file and "/licenses/" not in file}
    assert own == {file for file in by_make if "/doc/" not in file}
    scripts = _run("rpm", "-qp", "--scripts", str(package))
    assert "oomwatchctl restore" in scripts
    assert "preset oomwatchd.service" in scripts
    assert _run("rpm", "-qpc", str(package)).split() == ["/etc/oomwatchd.toml"]


@pytest.mark.skipif(shutil.which("makepkg") is None, reason="makepkg isn't installed (Debian: makepkg)")
@pytest.mark.skipif(shutil.which("scdoc") is None, reason="scdoc isn't installed, so there are no manual pages")
def test_the_pkgbuild_installs_what_make_installs(by_make: set[str], source_archive: Path, tmp_path: Path) -> None:
    """makepkg refuses to run as root, and packs with bsdtar, which Debian keeps apart: its two functions are run as it
    runs them, and the file itself is read by makepkg."""
    shutil.copy(CONFIG / "arch/PKGBUILD", tmp_path)
    shutil.copy(CONFIG / "arch/oomwatchd.install", tmp_path)
    shutil.unpack_archive(source_archive, tmp_path)
    root = tmp_path / "pkg"
    script = 'set -eu; source "$1/PKGBUILD"; pkgdir=$2; cd "$1"; build; cd "$1"; package'
    _run(
        "bash",
        "-c",
        script,
        "bash",
        str(tmp_path),
        str(root),
        cwd=tmp_path,
        env={**os.environ, "srcdir": str(tmp_path)},
    )
    assert _installed(root) == by_make
    if os.geteuid() == 0 and shutil.which("setpriv"):
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents:
            if parent.stat().st_mode & 0o001 == 0:
                return  # nobody can't come here
        info = _run(
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("makepkg", "--printsrcinfo", "-p", "PKGBUILD"),
            cwd=tmp_path,
        )
        assert f"pkgver = {__version__}" in info
