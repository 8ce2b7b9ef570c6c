"""Add up the JUnit reports of a CI run: `summary.py DIRECTORY SECONDS`. Exits with 1 where something failed.

DIRECTORY holds STEP.1.xml, the report of a step, and STEP.2.xml, that of its second try, in which only what failed runs
again. A test's last outcome counts. STEP.1.status and STEP.2.status have pytest's exit status of each, which the target
of make hides. The file `failed` names the steps whose last try failed, a line each.
"""

import os
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

OUTCOMES = {"failure": "failed", "error": "errors", "skipped": "skipped"}
"""What a report calls an outcome, and what the summary calls it, as pytest does. Without any of them, it passed."""

TESTED = ("test-unit", "test-tools", "test-kernel", "test-vm")
"""The steps that run pytest."""

ENDS = {
    "0": ", though its tests have passed",
    "1": "",
    "2": ": pytest was stopped before all tests had run",
    "3": ": pytest had an error of its own",
    "5": ": there was no test to run",
}
"""What pytest's exit status says (its ExitCode), beside the outcomes of tests."""

Test = tuple[str, str]
"""The module (and class) of a test, and its name."""


def outcomes(report: Path) -> dict[Test, str]:
    """The outcome of each test of a report. Raises ElementTree.ParseError for a report that is not whole."""
    found: dict[Test, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test = (case.get("classname") or "", case.get("name") or "")
        failed = next((name for tag, name in OUTCOMES.items() if case.find(tag) is not None), "passed")
        # A test whose teardown fails too is there twice.
        if found.get(test) not in ("failed", "errors"):
            found[test] = failed
    return found


def why(directory: Path, step: str) -> str:
    """What is known of a failure besides what the outcomes of tests say."""
    tries = sorted(directory.glob(f"{step}.*.status"))
    if not tries:
        return "" if step not in TESTED else ": pytest never began, or it was killed"
    status = tries[-1].read_text().strip()
    return ENDS.get(status, f": pytest ended with status {status}")


def main() -> int:
    directory, seconds = Path(sys.argv[1]), sys.argv[2]
    ended: dict[Test, str] = {}
    wrong = []
    for report in sorted(directory.glob("*.xml")):
        try:
            of_report = outcomes(report)
        except ElementTree.ParseError as error:
            wrong.append(f"The report {report.name} is not whole ({error}), so pytest did not end as it should.")
            continue
        for test, outcome in of_report.items():
            if ended.get(test) in ("failed", "errors") and outcome == "passed":
                print("Flaky: it failed, and passed the second time: " + ".".join(test))
            ended[test] = outcome
    failed = directory / "failed"
    steps = failed.read_text().split() if failed.exists() else []
    wrong += [f"'make {step}' failed{why(directory, step)}." for step in steps]
    # Where root runs this, these tests can run.
    if os.geteuid() == 0 and not any(
        module.startswith("tests.kernel") and outcome != "skipped" for (module, _), outcome in ended.items()
    ):
        wrong.append("No test of tests/kernel ran, though this is root.")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    count = Counter(ended.values())
    if wrong and not count["failed"] + count["errors"]:
        count["errors"] = len(wrong)
    order = ("failed", "passed", "skipped", "errors")
    said = ", ".join(f"{count[what]} {what}" for what in order if count[what])
    print(f" {said} in {seconds}.00s ".center(80, "="))
    return 1 if count["failed"] + count["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
