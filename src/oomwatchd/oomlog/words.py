"""Searches large blocks of a log for words. Pure.

Few lines of a log matter, so this search takes most of the time. Words that share a part are found by one search for
that part."""

import re
from collections.abc import Iterable

_PARTS = (b"oom", b"OOM", b"emory", b'"MESSAGE"')
"""What several words have in common."""


class Block:
    """Whole lines of a log: `data` from `start` to `end`. Remembers where each word or part of one comes first."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data = data
        self.start = start
        self.end = end
        self._first: dict[bytes, int] = {}

    def first(self, word: bytes) -> int:
        """Where `word` comes first; -1: nowhere."""
        at = self._first.get(word)
        if at is None:
            at = self._first[word] = self.data.find(word, self.start, self.end)
        return at


class Words:
    """Some words, in groups that share a part: with each part a pattern of what stands around it, None where the word
    is the part itself."""

    def __init__(self, words: Iterable[str]) -> None:
        groups: dict[bytes, list[bytes]] = {}
        for word in (word.encode() for word in words):
            groups.setdefault(next((part for part in _PARTS if part in word), word), []).append(word)
        self.groups = tuple((part, None if group == [part] else _around(part, group)) for part, group in groups.items())

    def any_in(self, block: Block) -> bool:
        """Whether the block has one of them."""
        return Search(self, block).next(block.start) >= 0


def _around(part: bytes, words: Iterable[bytes]) -> re.Pattern[bytes]:
    """Matches at `part` if it stands in one of `words`."""
    forms = []
    for word in words:
        at = word.index(part)
        forms.append((b"(?<=%b)" % re.escape(word[:at]) if at else b"") + re.escape(word[at:]))
    return re.compile(b"|".join(forms))


class Search:
    """Finds the words of a block in order. `next` is to be called with rising positions."""

    def __init__(self, words: Words, block: Block) -> None:
        self._block = block
        self._groups = words.groups
        self._upcoming = [-1] * len(words.groups)

    def next(self, position: int) -> int:
        """The first place from `position` on where a word stands, of which that is the word's part; -1: nowhere."""
        first = end = self._block.end
        for number, (part, pattern) in enumerate(self._groups):
            at = self._upcoming[number]
            if at < position:
                self._upcoming[number] = at = self._find(part, pattern, position)
            first = min(first, at)
        return first if first < end else -1

    def _find(self, part: bytes, pattern: re.Pattern[bytes] | None, position: int) -> int:
        block = self._block
        data, end = block.data, block.end
        at = block.first(part)
        if 0 <= at < position:
            at = data.find(part, position, end)
        while at >= 0 and pattern is not None and pattern.match(data, at, end) is None:
            at = data.find(part, at + 1, end)
        return end if at < 0 else at
