"""The packages of other distributions: they install what `make install` installs, and their versions agree."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        *("--define", "_build_id_links none", "--define", "_binary_payload w0.gzdio"),  # packing takes a second
        str(CONFIG / "rpm/oomwatchd.spec"),
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


@pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="Nix isn't installed (Debian: nix-bin)")
def test_the_nix_module_makes_the_configuration_and_enables_the_service(tmp_path: Path) -> None:
    """With a stand-in for nixpkgs, of which there is no package here."""
    made = _evaluated('{ enable = true; package = "/package"; settings = example; }', tmp_path)
    service = made["config"]["systemd"]["services"]["oomwatchd"]
    assert service["wantedBy"] == ["multi-user.target"]
    source = made["config"]["environment"]["etc"]["oomwatchd.toml"]["source"]
    assert service["reloadTriggers"] == [source]
    written = json.dumps(made["example"], separators=(",", ":"))
    assert source.splitlines()[0] == f"/package/bin/oomwatchctl check <oomwatchd.toml {written}>"
    assert made["config"]["systemd"]["packages"] == made["config"]["environment"]["systemPackages"] == ["/package"]
    assert _evaluated("{ }", tmp_path)["config"] == {}


@pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="Nix isn't installed (Debian: nix-bin)")
def test_the_example_of_the_nix_module_holds(tmp_path: Path) -> None:
    settings = _evaluated("{ }", tmp_path)["example"]
    path = tmp_path / "oomwatchd.toml"
    tables = [("[daemon]", settings["daemon"]), *(("[[rule]]", rule) for rule in settings["rule"])]
    lines = [f"{head}\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in t.items()) for head, t in tables]
    path.write_text("".join(lines))
    _run(sys.executable, "-m", "oomwatchd", "--check", "-c", str(path))


def _evaluated(given: str, tmp_path: Path) -> Any:
    """What the module makes of what somebody's system says, an expression that may use the module's own `example`."""
    expression = (
        f"import {REPOSITORY}/tests/data/nix-stub.nix {{ module = {CONFIG}/nix/module.nix; given = example: {given}; }}"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "NIX_STATE_DIR": str(tmp_path), "NIX_STORE_DIR": str(tmp_path)}
    return json.loads(_run("nix-instantiate", "--eval", "--strict", "--json", "-E", expression, env=environment))
