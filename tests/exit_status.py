"""Tells .ci/run pytest's exit status, for make(1) ends with one of its own."""

import os
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave the status in the file $PYTEST_STATUS_FILE, once the reports are written."""
    named = os.environ.get("PYTEST_STATUS_FILE")
    if named and not hasattr(session.config, "workerinput"):  # a worker process of pytest-xdist has that
        Path(named).write_text(f"{int(exitstatus)}\n")
