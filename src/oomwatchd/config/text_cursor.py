"""Moves through a text that isn't TOML 1.0, over blanks, comments and words."""

import re

from oomwatchd.config.odd_characters import INVISIBLE, name_of
from oomwatchd.config.problems import Fault, Mend

_BLANK = re.compile(rf"[ \t{INVISIBLE}]*")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_SPACE = re.compile(rf"(?:[ \t\r\n{INVISIBLE}]|#[^\n]*)*")
_COMMENT = re.compile(r"[ \t]*(?:#[^\n]*)?")


class Unclosed(Exception):
    """The end of a value can't be found. `offset`: the end of its line."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class Cursor:
    """A place in a text, and the mistakes that were found there. `at` is its offset."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.faults: list[Fault] = []

    def fault(self, offset: int, message: str, mend: Mend | None = None, *, certain: bool = True) -> None:
        """Note a mistake."""
        self.faults.append(Fault(offset, message, mend, certain))

    def peek(self) -> str:
        """The character here; empty at the end of the text."""
        return self.text[self.at : self.at + 1]

    def line_end(self, offset: int) -> int:
        """The offset of the line feed at or behind `offset`, or the text's length."""
        end = self.text.find("\n", offset)
        return len(self.text) if end < 0 else end

    def line(self, offset: int) -> int:
        """The number of the line that `offset` is on, from 1."""
        return self.text.count("\n", 0, offset) + 1

    def skip_blank(self) -> None:
        """Go behind blanks on this line. Invisible characters that aren't blanks in TOML are a mistake."""
        self._skip(_BLANK)

    def skip_space(self) -> None:
        """Go behind blanks, line ends and comments. Invisible characters are a mistake."""
        self._skip(_SPACE)

    def skip_comment(self) -> bool:
        """Go behind blanks and a comment. Returns whether the line ends there; if not, only blanks are passed over."""
        self.skip_blank()
        match = _COMMENT.match(self.text, self.at)
        end = match.end() if match else self.at
        if end < len(self.text) and self.text[end] != "\n":
            return False
        self.at = end
        return True

    def bare(self, start: int, closers: str) -> str:
        """What is written without quotes, up to a comment, the end of the line, or `closers`."""
        stop = re.compile(r"[\n#" + re.escape(closers) + "]|(?<=[ \t])//|[ \t]*;(?=[ \t]|$)|[ \t]*,[ \t]*(?=\n|$)")
        match = stop.search(self.text, start)
        end = match.start() if match else len(self.text)
        return self.text[start:end].rstrip()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return
        skipped, self.at = match.group(), match.end()
        odd = _INVISIBLE.search(re.sub("#[^\n]*", lambda comment: " " * len(comment.group()), skipped))
        if odd is not None:
            where = match.start() + odd.start()
            message = f"An invisible character stands here, {name_of(odd.group())}; write an ordinary blank"
            blanks = _INVISIBLE.sub(" ", skipped)
            mend = None if "#" in skipped or "\n" in skipped else Mend(match.start(), match.end(), blanks)
            self.fault(where, message, mend)
