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
def test_what_is_searched_at_once_is_quick(regex: str, reference_s: float) -> None:
    """Were a repeat or an option overlooked, it would take hundreds of times as long and more, each time."""
    for unit in ("a", "foo", "java -jar ", "x", "1", "ab", ",", "/", "a ", "abc"):
        assert any(searched(regex, unit) < 50 * reference_s for _ in range(20)), unit


@pytest.mark.parametrize(
    ("regex", "slow"),
    [
        # Choices within a repeat: can two of them begin with the same character?
        ("(?:a|b)+$", False),
        ("(?:[a-f]|a)+$", False),  # one class of characters, as re reads it
        ("(?:ab|b|ac)+$", True),
        ("(?:[0-9]x|ay)+$", False),
        ("(?:[b-f]x|ay)+$", False),
        ("(?:[a-f]x|ay)+$", True),
        ("(?:[a-f]x|fy)+$", True),
        ("(?:[a-f]x|gy)+$", False),
        ("(?:[xa]x|ay)+$", True),
        ("(?:[xy]x|ay)+$", False),
        ("(?:[^a]x|ay)+$", False),
        ("(?:[^b]x|ay)+$", True),
        ("(?:[^ab]x|ay)+$", False),
        ("(?:[^bc]x|ay)+$", True),
        (r"(?:\dx|ay)+$", False),
        (r"(?:\Dx|ay)+$", True),
        (r"(?:\wx|ay)+$", True),
        (r"(?:\Wx|ay)+$", False),
        (r"(?:\sx|ay)+$", False),
        (r"(?:[\s\d]x|ay)+$", False),
        (r"(?:[\s\w]x|ay)+$", True),
        ("(?:.x|ay)+$", True),
        ("(?:[a-c]x|[x-z]y)+$", True),  # two classes aren't compared
        ("(?:|a)+$", True),
        # A repeat within a repeat: can it take all that stands beside it?
        ("(?:a+)+$", True),
        ("(?:a+?)+$", True),
        ("(?:a+a)+$", True),
        ("(?:a++)+$", False),
        ("(?:a+)++$", False),
        ("(?:a+b)+$", False),
        ("(?:(a)+b)+$", False),
        ("(?:[ab]+b)+$", True),
        ("(?:a{1,8})+$", False),
        ("(?:a{1,9})+$", True),
        ("(?:a+){1,8}$", False),
        ("(?:a+){1,9}$", True),
        ("x(?:y|(?:a+)+)z", True),
        ("(?>(?:a+)+)z", True),
        ("(?=(?:a+)+$)a", True),
        ("(?:(?:a+)+){2}", True),
        # Repeats one after the other: can each take what the next one needs?
        (".*a.*b", True),
        ("x(.*a)(.*b)", True),
        (".*a.*", False),
        (r".*\d.*\d", True),
        ("[^,]*,[^,]*,x", False),
        ("[^;]*,[^;]*,x", True),
        ("[^a]*b[^a]*b", False),
        (r"[^;]*\d[^;]*\d", True),
        ("(?:.x?)*a(?:.x?)*b", True),
        (".{0,8}a.{0,8}b", False),
        (".{0,9}a.{0,9}b", True),
    ],
)
def test_each_reason_for_a_warning(regex: str, slow: bool) -> None:
    assert bool(slow_part(regex)) is slow


def test_what_the_warning_says() -> None:
    assert slow_part("(?:a+)+$") == "it has a repeat within a repeat"
    assert slow_part(".*a.*b.*c") == "it has 3 repeats that can each take what the next one needs"


@pytest.mark.parametrize(
    ("regex", "repeats", "options", "nested"),
    [
        ("abc", 0, 0, False),
        ("a*b+?c{9,}", 3, 0, False),
        ("a{0,8}", 0, 8, False),
        ("a{0,9}", 1, 0, False),
        ("a{9}", 0, 0, False),
        ("a{2,5}b?", 0, 4, False),
        ("(?:a?b?){3}", 0, 6, False),
        ("(?:a*b*){3}", 6, 0, False),
        ("(?:a{2}|b|c)(?:de|f)", 0, 2, False),
        (r"(?:a*)*", 2, 0, True),
        (r"(?:a?){9}", 0, 1, True),
        (r"(a*)\1(a*)\2", 4, 0, False),
        (r"(a)?(?(1)b*|c*)", 2, 2, False),
        (r"(?i)(a)\1", 1, 0, False),
        (r"(a)(?:\1)*", 2, 0, True),
        (r"(?!a*)b", 1, 0, False),
    ],
)
def test_shape(regex: str, repeats: int, options: int, nested: bool) -> None:
    found = shape(regex)

    assert (found.repeats, found.options, found.nested) == (repeats, options, nested)


def test_many_expressions_share_the_limit() -> None:
    linear = shape("foo")
    assert longest_within([linear] * 100, 0.002) < longest_within([linear], 0.002)
    assert seconds([shape("foo.*bar")], 1000) > seconds([linear], 1000)


def test_the_times_of_all_expressions_are_added() -> None:
    shapes = [shape(regex) for regex in ("foo", "(?:a+)+", "a*b*", "foo")]
    for order in (shapes, shapes[::-1]):
        assert seconds(order, 20) == pytest.approx(sum(seconds([each], 20) for each in shapes))


def test_how_the_time_grows_with_the_text() -> None:
    nested, two, choices, more = (shape(regex) for regex in ("(?:a+)+", "a*b*", "a?" * 10, "a?" * 11))
    assert seconds([nested], 41) == pytest.approx(2 * seconds([nested], 40))
    assert seconds([two], 20_000) == pytest.approx(8 * seconds([two], 10_000), rel=1e-3)
    assert seconds([more], 1000) == pytest.approx(2 * seconds([choices], 1000), rel=1e-2)


@pytest.mark.parametrize("regex", ["foo", "a*b", ".*a.*b", "(?:a+)+"])
def test_the_longest_text_for_a_time(regex: str) -> None:
    shapes = [shape(regex)]
    for length in (1, 2, 64, 1 << 24):
        limit_s = seconds(shapes, length)
        assert longest_within(shapes, limit_s) == length
        assert longest_within(shapes, limit_s * 1.1) == length
    assert longest_within(shapes, 0.0) == 1
    assert longest_within(shapes, 1e99) == 1 << 24
