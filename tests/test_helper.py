"""Calls in helper processes that this process starts by itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oomwatchd.base import helper


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_call_that_is_given_up_leaves_no_process() -> None:
    before = children()

    with pytest.raises(helper.HelperError):
        helper.call(time.sleep, 1000, seconds=0.05)

    assert children() <= before


def test_next_call_of_a_function_is_served_by_the_same_helper() -> None:
    assert helper.call(os.getpid, seconds=20) == helper.call(os.getpid, seconds=20) != os.getpid()


def test_answer_that_is_too_long_is_none() -> None:
    with pytest.raises(helper.HelperError, match="longer"):
        helper.call(bytes, helper._MESSAGE_BYTES, seconds=20)


_WITHOUT_MEMORY = """
import os, resource, select
from oomwatchd.base import helper
server = helper.ForkServer({"getpid": os.getpid})
asked, other = server.start(), server.start()
asked.send("getpid", ())
select.select([asked], [], [])
long, hoard, before = bytes(helper._MESSAGE_BYTES), [], resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (0, before[1]))
try:
    while True:
        hoard.append(bytes(helper._MESSAGE_BYTES))
except MemoryError:
    pass
said = []
for call in (lambda: asked.receive(20.0), lambda: other.send("getpid", (long,))):
    try:
        call()
    except helper.HelperError:
        said.append("HelperError")
asked.kill()
while not asked.has_ended():
    pass
resource.setrlimit(resource.RLIMIT_AS, before)
server.close()
print(*said)
"""


def test_no_memory_for_a_message_ends_the_call() -> None:
    """As with vm.overcommit_memory=2. An answer that stayed unread would wake the daemon up again and again."""
    ended = subprocess.run([sys.executable, "-c", _WITHOUT_MEMORY], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("HelperError HelperError\n", "")
