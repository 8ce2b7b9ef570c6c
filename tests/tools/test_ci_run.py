"""Runs of .ci/run: what fails once and then passes is told, everything else that fails ends with status 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import exit_status
from tests.test_ci import CI, KERNEL, write

pytestmark = pytest.mark.skipif(not CI.exists(), reason="a source archive has no .ci")

MAKEFILE = """\
packages check vm-images:
	@{set_up}
test-unit:
	@{python} -m pytest -q {options} tests/test_unit.py
test-tools test-kernel test-vm:
	@cp other.xml $$(expr "$$PYTEST_ADDOPTS" : '.*--junitxml=\\(.*\\)')
"""
FIRST_TIME = "import pathlib, pytest\nseen = pathlib.Path('seen')\nfirst = not seen.exists()\nseen.touch()\n"
TWO = "def test_two():\n    pass\n"
KILLED = "import os, signal\ndef test_one():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
"""Of the process that runs it, which is a worker process of pytest-xdist with -n."""


def ci(directory: Path, tests: str, options: str = "", set_up: str = "true") -> tuple[int, str]:
    """Exit status and last lines of .ci/run in a checkout whose unit tests are `tests`."""
    shutil.copytree(CI, directory / ".ci")
    run = directory / ".ci/run"
    run.write_text(run.read_text().replace("/usr/sbin/policy-rc.d", str(directory / "policy")))
    (directory / "tests").mkdir()
    shutil.copy(exit_status.__file__, directory / "tests/conftest.py")
    (directory / "tests/test_unit.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\n")
    write(directory / "other.xml", KERNEL)
    (directory / "Makefile").write_text(MAKEFILE.format(python=sys.executable, options=options, set_up=set_up))
    # As .ci/run has it, not as the pytest that runs this test.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE", "MFLAGS"))
    }
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # to load them takes longer than these tests
    done = subprocess.run(
        [run], cwd=directory, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert not (directory / "policy").exists()
    print(done.stdout, done.stderr)
    return done.returncode, "\n".join(done.stdout.splitlines()[-5:])


def test_a_run_in_which_all_passes(tmp_path: Path) -> None:
    status, said = ci(tmp_path, TWO)
    assert (status, " 2 passed in " in said) == (0, True)


def test_a_run_in_which_a_test_fails_once(tmp_path: Path) -> None:
    status, said = ci(tmp_path, f"{FIRST_TIME}def test_one():\n    assert not first\n{TWO}")
    assert status == 0
    assert "Flaky: it failed, and passed the second time: tests.test_unit.test_one\n" in said
    assert " 3 passed in " in said


@pytest.mark.parametrize(
    ("tests", "options", "reason"),
    [
        ("def test_one():\n    assert False\n", "", "'make test-unit' failed.\n"),
        (
            "import pytest\n@pytest.fixture\ndef vm():\n    raise OSError('no boot')\ndef test_one(vm):\n    pass\n",
            "",
            "'make test-unit' failed.\n",
        ),
        (KILLED, "", "'make test-unit' failed: pytest never began, or it was killed.\n"),
        (KILLED, "-p xdist.plugin -n 1 --max-worker-restart=0", "'make test-unit' failed.\n"),
        # What comes after it never runs, and the second time what has failed may hold.
        (
            f"{FIRST_TIME}def test_one():\n    assert not first\ndef test_end():\n    pytest.exit('ended')\n{TWO}",
            "",
            "'make test-unit' failed: pytest was stopped before all tests had run.\n",
        ),
        (
            f"{FIRST_TIME}def test_one():\n    assert not first\n{TWO}",
            "--no-such-option",
            "pytest never began, or it was killed.\n",
        ),
        ("", "", "'make test-unit' failed: there was no test to run.\n"),
        (
            "import resource\ndef test_one():\n    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n",
            "-p no:cacheprovider",
            "is not whole",
        ),
    ],
    ids=["test", "fixture", "killed", "worker killed", "stopped", "bad option", "none", "report cut"],
)
def test_a_run_in_which_something_fails(tmp_path: Path, tests: str, options: str, reason: str) -> None:
    status, said = ci(tmp_path, tests, options)
    assert status == 1
    assert reason in said


def test_a_run_whose_set_up_fails(tmp_path: Path) -> None:
    status, said = ci(tmp_path, TWO, set_up="false")
    assert status == 1
    assert "'make packages' failed.\n'make check' failed.\n" in said
