"""Arguments that several verbs take: words to values, with a sentence for words that aren't any."""

import argparse


def pid(word: str) -> int:
    """A PID. Raises ArgumentTypeError."""
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"'{word}' is no PID; `pgrep -x {word}` may say which one is meant")
    number = int(word)
    if not 0 < number < 2**22 + 1:  # include/linux/threads.h: PID_MAX_LIMIT
        raise argparse.ArgumentTypeError(f"{word} is no PID: they go from 1 to {2**22}")
    return number


def count(word: str) -> int:
    """How many, from 1 up. Raises ArgumentTypeError."""
    if not (word.isascii() and word.isdigit() and int(word) > 0):
        raise argparse.ArgumentTypeError(f"'{word}' is no number from 1 up")
    return int(word)
