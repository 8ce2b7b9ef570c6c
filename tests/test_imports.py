"""What the daemon carries in memory for as long as it runs."""

import os
import subprocess
import sys

import pytest

DEPENDENCIES = "import pyinotify, tomli, systemd._journal, systemd._daemon"
DAEMON = "import oomwatchd.daemon.main, oomwatchd.config.watch, oomwatchd.base.footprint, oomwatchd.daemon.requests"
HEAVY = {"argparse", "asyncio", "difflib", "email", "hashlib", "http", "pathlib", "secrets", "typing", "urllib"}
"""Half a MiB and more each."""
FOR_LIBC = {"bz2", "lzma", "random", "shutil", "tempfile"}
"""What ctypes.util needs in order to find libc."""


def loaded(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*(name for name, module in sys.modules.items() if module.__spec__))"
    # `make coverage` would be measured too, and it has loaded half of the library.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_nothing_heavy_besides_what_the_dependencies_load() -> None:
    assert not (loaded(DAEMON) - loaded(DEPENDENCIES)) & HEAVY


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="dataclasses with slots have used inspect since 3.14")
def test_inspect_is_not_used() -> None:
    """It is if a dataclass has no docstring."""
    assert not loaded(DAEMON) & {"ast", "dis", "inspect"}


def test_what_is_seldom_used_is_not_loaded() -> None:
    assert not (loaded(DAEMON) - loaded("pass")) & {"glob", "locale", "subprocess", "tokenize", "traceback"}


def test_pyinotify_gets_stand_ins_for_what_it_does_not_need_here() -> None:
    assert not (loaded(DAEMON) - loaded("pass")) & {"asyncore", "logging", "threading"}
    statement = "import oomwatchd.config.inotify, logging, threading; logging.getLogger().level; threading.Lock"
    assert {"logging", "threading"} <= loaded(statement), "later importers get the modules themselves"


def test_libc_is_not_searched_for() -> None:
    assert not (loaded(DAEMON) - loaded("pass")) & FOR_LIBC
