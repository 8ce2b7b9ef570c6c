"""Finds the places of the keys and values in a TOML document.

tomli has read the text before, so its syntax is right. This module only passes over strings, brackets and comments, and
returns no values."""

import contextlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import tomli

Path = tuple[str | int, ...]
Position = tuple[int, int]
"""Line and column, both from 1, as editors count."""

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|(?!""").)*"""+', re.DOTALL),
    re.compile(r"'''(?:(?!''').)*'''+", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_PLAIN = r"""(?:"[^"\\\n]*"(?!")|'[^'\n]*'(?!')|[A-Za-z0-9_+.-]++)[ \t]*+"""
_PLAIN_PAIR = re.compile(rf"([A-Za-z0-9_-]++)[ \t]*+=[ \t]*+{_PLAIN}(?=[\r\n#]|\Z)")
"""Matches most pairs by one search; finding their parts one by one takes twenty."""
_PLAIN_LINE = re.compile(
    rf"""[ \t]*+(?:(?P<rule>\[\[rule\]\])|\[[A-Za-z0-9_.-]+\]|[A-Za-z0-9_-]++[ \t]*+=[ \t]*+(?:{_PLAIN}"""
    rf"""|\[[ \t]*+{_PLAIN}(?:,[ \t]*+{_PLAIN})*\]|\{{[ \t]*+[A-Za-z0-9_-]++[ \t]*+=[ \t]*+{_PLAIN}\}}))?"""
    r"""[ \t]*+(?:#[^\n]*)?\r?(?:\n|\Z)"""
)
"""A line whose parts needn't be found, unless a message asks for the place of one."""

# What TOML 1.1 has and TOML 1.0 hasn't, besides line ends, comments and a last comma in inline tables.
_NEW_ESCAPE = re.compile(r"(?:[^\\]|\\[^ex])*\\[ex]", re.DOTALL)
_NEW_TIME = re.compile(r"(?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d(?!:)")


@dataclass(frozen=True, slots=True)
class Located:
    """The places in a document."""

    positions: "Positions"
    """The place of each key, table header and member of an array, by its path. The path of the second rule's `not.comm`
    is ("rule", 1, "not", "comm")."""
    newer: bool
    """Whether the document needs a later version of TOML than 1.0. Some versions of tomli take 1.1, some don't."""


def locate(text: str) -> Located:
    """Find the places in `text`. On text that isn't TOML it stops early, and raises nothing."""
    rules = _plain_rules(text)
    if rules is not None:
        return Located(Positions(text, rules), False)
    scanner = _Scanner(text)
    return Located(Positions(text, [], scanner.scan()), scanner.newer)


def _plain_rules(text: str) -> list[int] | None:
    """The offsets of the headers of rules, if all lines are plain; None: not all are. A line that needs a later version
    than TOML 1.0 isn't plain."""
    found = []
    at = 0
    while at < len(text):
        line = _PLAIN_LINE.match(text, at)
        if line is None:
            return None
        if line["rule"]:
            found.append(line.start("rule"))
        at = line.end()
    return found


def _unquoted(key: str) -> str:
    if key[0] == '"' and "\\" in key:
        with contextlib.suppress(tomli.TOMLDecodeError):
            return str(tomli.loads(f"key = {key}")["key"])
    return key[1:-1]


class Positions(Mapping[Path, Position]):
    """The places of keys by path. All places but those of rules are looked for only when a message asks for one,
    because with many rules that takes more time and memory than to read the rules."""

    def __init__(self, text: str, rules: list[int], offsets: dict[Path, int] | None = None) -> None:
        """`rules`: the offsets of the headers of rules, in a text of plain lines. `offsets`: the offset of each key;
        None: not known yet."""
        self._text = text
        self._rules: dict[Path, int] = {("rule", number): offset for number, offset in enumerate(rules)}
        self._offsets = offsets
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def _all(self) -> dict[Path, int]:
        if self._offsets is None:
            self._offsets = _Scanner(self._text).scan()
        return self._offsets

    def __getitem__(self, path: Path) -> Position:
        offset = self._rules.get(path)
        return self._position(self._all()[path] if offset is None else offset)

    def value(self, path: Path) -> Position:
        """The place of the value of a key, or of a member of an array. Of a table that has no place of its own, such as
        that of a header: the place of its key. Raises KeyError."""
        return self._position(_Scanner(self._text).value_offset(path, self._all()[path]))

    def _position(self, offset: int) -> Position:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def __iter__(self) -> Iterator[Path]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, path: object) -> bool:
        return path in self._rules or path in self._all()


class _Scanner:
    """Goes through a text once, and notes the place of each key.

    It has more public methods than usual: there is one for each part of TOML's grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}
        self.newer = False

    def scan(self) -> dict[Path, int]:
        """The offset of everything in the text, by its path."""
        table: Path = ()
        while True:
            self.skip(_SPACE)
            if self.at >= len(self.text):
                break
            before = self.at
            plain = _PLAIN_PAIR.match(self.text, self.at)
            if plain is not None:
                self.found.setdefault((*table, plain[1]), self.at)
                self.at = plain.end()
            elif self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            if self.at == before:
                break
        return self.found

    def value_offset(self, path: Path, key_offset: int) -> int:
        """Where the value of the key at `key_offset` begins; `key_offset` where no value of this path follows."""
        self.at = key_offset
        key = self.key() if not self.peek("[") else ()
        if not key or path[-len(key) :] != key or not self.eat("="):
            return key_offset
        self.skip(_BLANK)
        return self.at

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match.group()

    def peek(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def eat(self, token: str) -> bool:
        if not self.peek(token):
            return False
        self.at += len(token)
        return True

    def key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self.skip(_BLANK)
            part = self.string()
            parts.append(_unquoted(part) if part else self.skip(_KEY))
            self.skip(_BLANK)
            if not self.eat("."):
                return tuple(parts)

    def string(self) -> str:
        text = next((text for pattern in _STRINGS if (text := self.skip(pattern))), "")
        if text.startswith('"') and "\\" in text and _NEW_ESCAPE.match(text):
            self.newer = True
        return text

    def header(self) -> Path:
        start = self.at
        double = self.eat("[[")
        if not double:
            self.eat("[")
        path = self.resolve(self.key())
        self.eat("]]" if double else "]")
        if double:
            index = self.arrays.get(path, -1) + 1
            self.arrays[path] = index
            path = (*path, index)
        for length in range(1, len(path) + 1):  # tables that only this header makes, such as a of [a.b], or of [[a]]
            self.found.setdefault(path[:length], start)
        return path

    def resolve(self, key: tuple[str, ...]) -> Path:
        """A header's names as a path: below an array of tables it means that array's last member."""
        path: Path = ()
        for i, part in enumerate(key):
            path = (*path, part)
            if path in self.arrays and i < len(key) - 1:
                path = (*path, self.arrays[path])
        return path

    def pair(self, table: Path) -> None:
        self.skip(_BLANK)
        start = self.at
        path = table
        for part in self.key():
            path = (*path, part)
            self.found.setdefault(path, start)
        if self.eat("="):
            self.value(path)

    def value(self, path: Path) -> None:
        self.skip(_SPACE)
        if self.eat("["):
            self.array(path)
        elif self.eat("{"):
            self.inline_table(path)
        elif not self.string() and _NEW_TIME.match(self.skip(_SCALAR)):
            self.newer = True

    def array(self, path: Path) -> None:
        index = 0
        while True:
            self.skip(_SPACE)
            if self.eat("]") or self.at >= len(self.text):
                return
            before = self.at
            self.found[(*path, index)] = self.at
            self.value((*path, index))
            self.skip(_SPACE)
            self.eat(",")
            index += 1
            if self.at == before:
                return

    def inline_table(self, path: Path) -> None:
        comma = False
        while True:
            self.skip_in_line()
            if self.eat("}") or self.at >= len(self.text):
                self.newer = self.newer or comma
                return
            before = self.at
            self.pair(path)
            self.skip_in_line()
            comma = self.eat(",")
            if self.at == before:
                return

    def skip_in_line(self) -> None:
        if set("\n#").intersection(self.skip(_SPACE)):
            self.newer = True
