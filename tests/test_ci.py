"""The summary of a CI run: what fails once and then passes is told, everything else that fails ends with status 1."""

import os
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
