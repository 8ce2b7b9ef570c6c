"""`make release` in a clean checkout: what it makes, that it makes the same twice, and what it refuses.

It boots nothing. It stands here because it builds the packages, as the other tests here do, and takes its time."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from oomwatchd import __version__
from tests.vm.conftest import REPOSITORY

TAG = f"v{__version__}"
TIMEOUT_S = 900
WHO = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
# The packages' own tests have run already.
ENVIRONMENT = {**os.environ, **dict.fromkeys(WHO, "release@example.org"), "DEB_BUILD_OPTIONS": "nocheck"}


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S
    )


def _release(checkout: Path) -> subprocess.CompletedProcess[str]:
    return _run("make", "--no-print-directory", "release", cwd=checkout)


def _clone(target: Path) -> Path:
    done = _run("git", "clone", "-q", "--no-tags", str(REPOSITORY), str(target), cwd=REPOSITORY)
    if done.returncode != 0:
        pytest.skip(f"this isn't a git checkout that can be cloned: {done.stderr.strip()}")
    return target


@pytest.fixture(scope="module")
def released(deb: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which it has run. To build the package first installs what is missing, one apt-get at a time."""
    checkout = _clone(tmp_path_factory.mktemp("release") / "one")
    done = _release(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def test_it_makes_all_packages_with_their_checksums_and_the_tag(released: Path) -> None:
    names = {path.name for path in (released / "dist").iterdir()}
    packages = {
        f"oomwatchd-{__version__}.tar.gz",
        f"oomwatchd_{__version__}_all.deb",
        f"oomwatchd-{__version__}-1.noarch.rpm",
    }
    assert packages <= names
    sums = (released / "dist/SHA256SUMS").read_text()
    assert {line.split()[1] for line in sums.splitlines()} == packages
    assert _run("sha256sum", "--check", "SHA256SUMS", cwd=released / "dist").returncode == 0
    assert (
        _run("git", "rev-parse", f"{TAG}^{{commit}}", cwd=released).stdout
        == _run("git", "rev-parse", "HEAD", cwd=released).stdout
    )
    assert _run("git", "status", "--porcelain", cwd=released).stdout == ""


def test_two_builds_are_the_same_bytes(released: Path, tmp_path: Path) -> None:
    """Another directory, another umask, another time of the files."""
    checkout = _clone(tmp_path / "a-longer-name")
    done = _run("sh", "-c", "umask 002 && find . -type f -exec touch {} + && make release", cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout / "dist/SHA256SUMS").read_text() == (released / "dist/SHA256SUMS").read_text()


def test_it_refuses_a_second_tag_and_keeps_what_is_there(released: Path) -> None:
    before = (released / "dist/SHA256SUMS").read_text()
    done = _release(released)
    assert done.returncode != 0
    assert f"{TAG} is tagged already" in done.stdout
    assert (released / "dist/SHA256SUMS").read_text() == before


def test_it_refuses_a_checkout_with_changes(tmp_path: Path) -> None:
    checkout = _clone(tmp_path / "changed")
    (checkout / "new").write_text("")
    for changed in ("new", "README.md"):
        done = _release(checkout)
        assert done.returncode != 0
        assert "changes that aren't committed" in done.stdout, changed
        assert not (checkout / "dist").exists()
        (checkout / "new").unlink(missing_ok=True)
        (checkout / "README.md").write_text("")
    assert _run("git", "tag", cwd=checkout).stdout == ""


def test_it_refuses_a_version_that_the_changelog_has_no_date_for(tmp_path: Path) -> None:
    checkout = _clone(tmp_path / "undated")
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(re.sub(r"^(## \[[0-9.]+\]) - .*$", r"\1", changelog.read_text(), flags=re.MULTILINE))
    assert _run("git", "commit", "-qam", "undated", cwd=checkout).returncode == 0
    done = _release(checkout)
    assert done.returncode != 0
    assert f"no dated [{__version__}]" in done.stdout
    assert _run("git", "tag", cwd=checkout).stdout == ""
