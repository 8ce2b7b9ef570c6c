"""Arguments that several verbs take: from words to values. A wrong word raises an error that says what is wanted."""

import argparse
import re
import sys
from collections.abc import Sequence

_MOST_DIGITS = 18
"""The most digits that are parsed: they fit into 64 bits. Python refuses very long numbers:
sys.get_int_max_str_digits()."""

_TIMES = ("--since", "-S", "--until", "-U")
"""Options whose values may begin with a dash."""


def joined(words: Sequence[str]) -> list[str]:
    """Join `--since -2h` to the one word `--since=-2h`. argparse takes a word that begins with a dash for an option,
    where getopt(3) takes it for the value of the option before it."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in _TIMES and re.match("-[0-9]", word):
            found[-1] += word if len(found[-1]) == len("-S") else f"={word}"
        else:
            found.append(word)
    return found


def path(word: str) -> str:
    """The path of a file or directory. Raises ArgumentTypeError where it is empty."""
    if not word:
        raise argparse.ArgumentTypeError("the name is empty; is a variable unset?")
    return word


def pid(word: str) -> int:
    """A PID. Raises ArgumentTypeError."""
    if not word:
        raise argparse.ArgumentTypeError("the PID is empty; is a variable unset?")
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"'{word}' is no PID; `pgrep -x {word}` may say which one is meant")
    number = int(word[:_MOST_DIGITS])
    if number == 0:
        raise argparse.ArgumentTypeError("0 is no PID: the first process has 1")
    if number >= 2**31 or len(word) > _MOST_DIGITS:  # pid_t
        raise argparse.ArgumentTypeError(f"{word} is more than any PID")
    return number


def count(word: str) -> int:
    """A number from 1 up. Raises ArgumentTypeError."""
    if not (word.isascii() and word.isdigit() and word.strip("0")):
        raise argparse.ArgumentTypeError(f"'{word}' is no number from 1 up")
    return int(word[:_MOST_DIGITS]) if len(word) <= _MOST_DIGITS else sys.maxsize
