"""How long a search for a regular expression can take, told by its form."""

import re
import time

import pytest

from oomwatchd.rules.effort import longest_within, seconds, shape, slow_part

WORTH_A_WARNING = (
    r"java .*-jar .*/x\.war",
    r"(a+)+$",
    r"(x+x+)+y",
    r"(.*,)*x",
    r"(a|aa)+$",
    r"(.|\s)*x",
    r"(\w+\s?)*$",
    r"a.*b.*c",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"\S+.*foo",
)
FINE = (
    r"foo.*bar",
    r"--type=renderer",
    r"^/usr/lib/[^/]+/bin/[^/]+$",
    r".*foo.*",
    r"python3?(\.\d+)?",
    r"([a-z]+\.)*com",
    r"(\S+ )*x",
    r"(foo|bar)+z",
    r"(?i)nginx: (worker|master)",
    r"\bfoo\b.*--x=\S+",
    r"[0-9]+\.[0-9]+",
    r"(a{1,3}){1,3}",
)


@pytest.mark.parametrize("regex", WORTH_A_WARNING)
def test_what_can_take_long_is_warned_of(regex: str) -> None:
    assert slow_part(regex)


@pytest.mark.parametrize("regex", FINE)
def test_no_false_alarm(regex: str) -> None:
    assert slow_part(regex) == ""


LIMIT_S = 0.002


def searched(regex: str, unit: str) -> float:
    """The seconds of processor time that a search takes in `unit` again and again, as long as is searched at once."""
    length = min(longest_within([shape(regex)], LIMIT_S), 128 << 10)
    compiled, text = re.compile(regex), (unit * length)[:length]
    started = time.thread_time()
    compiled.search(text)
    return time.thread_time() - started


@pytest.fixture(scope="module")
def reference_s() -> float:
    """What the search takes here that the bound was measured with: machines differ, and what else they do."""
    return min(searched(r"\d+x", "1") for _ in range(10))


@pytest.mark.parametrize("regex", [*WORTH_A_WARNING, *FINE, r"(a*)\1b", r"\d+x", r"(?<=a)b.*c", r"(?:.?){8}x"])
@pytest.mark.parametrize("unit", ["a", "foo", "java -jar ", "x", "1", "ab", ",", "/", "a ", "abc"])
def test_what_is_searched_at_once_is_quick(regex: str, unit: str, reference_s: float) -> None:
    """Were a repeat or an option overlooked, it would take hundreds of times as long and more, each time."""
    assert any(searched(regex, unit) < 50 * reference_s for _ in range(20))


def test_many_expressions_share_the_limit() -> None:
    linear = shape("foo")
    assert longest_within([linear] * 100, 0.002) < longest_within([linear], 0.002)
    assert seconds([shape("foo.*bar")], 1000) > seconds([linear], 1000)
