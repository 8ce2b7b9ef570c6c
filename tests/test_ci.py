"""A CI run and its summary: what fails once and then passes is told, everything else that fails ends with status 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parent.parent / ".ci"
pytestmark = pytest.mark.skipif(not CI.exists(), reason="a source archive has no .ci")

FAILED = '<failure message="no">Traceback</failure>'
KERNEL = ("tests.kernel.test_held", "test_one", "")


def write(path: Path, *cases: tuple[str, str, str]) -> None:
    """A report in JUnit's form, as pytest writes it."""
    lines = "".join(
        f'<testcase classname="{of}" name="{name}" time="0.1">{inside}</testcase>' for of, name, inside in cases
    )
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite>{lines}</testsuite>'
        "</testsuites>"
    )


def summary(directory: Path) -> tuple[int, str]:
    """Exit status and output of the summary."""
    done = subprocess.run(
        [sys.executable, CI / "summary.py", directory, "12"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_everything_passed(tmp_path: Path) -> None:
    write(tmp_path / "test.1.xml", KERNEL, ("tests.test_one", "test_a", ""), ("tests.test_one", "test_b", "<skipped/>"))
    status, output = summary(tmp_path)
    assert status == 0
    assert output.strip("=\n ") == "2 passed, 1 skipped in 12.00s"


def test_a_test_that_failed_once_and_then_passed_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "test.1.xml", KERNEL, ("tests.test_one", "test_a", FAILED), ("tests.test_one", "test_b", ""))
    write(tmp_path / "test.2.xml", ("tests.test_one", "test_a", ""))
    status, output = summary(tmp_path)
    assert status == 0
    assert "Flaky: it failed, and passed the second time: tests.test_one.test_a\n" in output
    assert output.endswith(" 3 passed in 12.00s ".center(80, "=") + "\n")


def test_a_test_that_failed_twice_is_a_failure(tmp_path: Path) -> None:
    for attempt in ("1", "2"):
        write(tmp_path / f"test.{attempt}.xml", KERNEL, ("tests.test_one", "test_a", FAILED))
    (tmp_path / "failed").write_text("test\n")
    status, output = summary(tmp_path)
    assert status == 1
    assert "'make test' failed." in output
    assert " 1 failed, 1 passed in 12.00s " in output


def test_a_failed_teardown_counts_although_the_test_passed(tmp_path: Path) -> None:
    teardown = ("tests.test_one", "test_a", '<error message="failed on teardown"/>')
    write(tmp_path / "test.1.xml", KERNEL, teardown, ("tests.test_one", "test_a", ""))
    status, output = summary(tmp_path)
    assert status == 1
    assert "1 errors" in output


def test_a_step_without_a_report_failed(tmp_path: Path) -> None:
    write(tmp_path / "test.1.xml", KERNEL)
    (tmp_path / "failed").write_text("check\n")
    status, output = summary(tmp_path)
    assert status == 1
    assert "'make check' failed." in output
    assert "1 passed, 1 errors" in output


@pytest.mark.parametrize("length", [0, 100])
def test_a_report_that_ends_early_is_a_failure_and_the_rest_counts(tmp_path: Path, length: int) -> None:
    write(tmp_path / "test.1.xml", KERNEL)
    (tmp_path / "test.1.xml").write_bytes((tmp_path / "test.1.xml").read_bytes()[:length])
    write(tmp_path / "test-vm.1.xml", KERNEL)
    status, output = summary(tmp_path)
    assert status == 1
    assert "The report test.1.xml is not whole" in output
    assert "1 passed, 1 errors" in output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is told that the kernel's tests are missing")
def test_no_test_of_the_kernel_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "test.1.xml", ("tests.test_one", "test_a", ""))
    status, output = summary(tmp_path)
    assert status == 1
    assert "No test of tests/kernel ran, though this is root." in output


MAKEFILE = """\
packages check vm-images:
	@{set_up}
test-unit:
	@{python} -m pytest -q {options} tests/test_unit.py
test-kernel test-vm:
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
    shutil.copy(Path(__file__).with_name("exit_status.py"), directory / "tests/conftest.py")
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
