"""What the modules that read lines of a report have in common: numbers and names in them. Pure."""

import re
from collections.abc import Iterator

NUMBER = r"-?\d{1,18}"
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")


def comm_length(name: str) -> int:
    """The bytes of a name. The log may show an odd byte as \\xNN."""
    return len(_ESCAPED.sub("?", name).encode(errors="replace"))


# Only from a word's begin on: else a long word would be tried at each of its letters.
_UNSETTLED = re.compile(r"(?<![^\s,;:=()\[\]])[^\s,;:=()\[\]]+$")
# What nothing can follow but another word: a size with its unit, the values that no digit makes longer. And the words
# and numbers that end a line of the kernel's: a whole log that was copied often lacks the line feed at its end, which
# is less rare than a log that was cut within such a number.
_SETTLED = re.compile(
    r"(?::\d+[kK]B|(?:UID:|order=)0|(?:uid=|oom_score_adj[:=]-?)\d+"
    r"| name| processes\.*| child| enabled| memory| set|\+0x[0-9a-f]+/0x[0-9a-f]+)$"
)


def settled(text: str) -> str:
    """A text that was cut at its end, without its last word, unless that is certainly whole."""
    return text if _SETTLED.search(text) is not None else _UNSETTLED.sub("", text)


def last(found: Iterator[re.Match[str]]) -> re.Match[str] | None:
    """The last of some matches."""
    match = None
    for one in found:
        match = one
    return match
