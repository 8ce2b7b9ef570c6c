"""Arguments that several verbs take: words to values, with a sentence for words that aren't any."""

import argparse


def pid(word: str) -> int:
    """A PID. Raises ArgumentTypeError."""
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"'{word}' is no PID; `pgrep -x {word}` may say which one is meant")
    number = int(word)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is no PID: the first process has 1")
    if number >= 2**31:  # pid_t
        raise argparse.ArgumentTypeError(f"{word} is more than any PID")
    return number


def count(word: str) -> int:
    """How many, from 1 up. Raises ArgumentTypeError."""
    if not (word.isascii() and word.isdigit() and int(word) > 0):
        raise argparse.ArgumentTypeError(f"'{word}' is no number from 1 up")
    return int(word)
