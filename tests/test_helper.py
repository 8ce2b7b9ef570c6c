"""Calls in helper processes that this process starts by itself."""

import os
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
