import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.exit_status import pytest_sessionfinish
from tests.faketree import Tree

__all__ = ["pytest_sessionfinish"]  # a hook of pytest

# A busy machine is no failure: no test asserts on time.
settings.register_profile("unhurried", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# A shell starts what shall run in the background with SIGINT ignored, and nohup with SIGHUP: both would be inherited by
# the programs that tests start and end by these signals.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Keep the imported modules out of later garbage collections, and collect seldom. Otherwise the collections take a
    tenth of the time of the tests."""
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A made-up machine on which only the daemon runs."""
    tree = Tree(tmp_path)
    tree.me()
    return tree


@pytest.fixture
def deadline() -> Iterator[None]:
    """Ends a test that has taken 10 s of processor time, so that a busy machine is no failure. A regular expression
    ends, too, at a signal whose handler raises an exception."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, 10)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
