"""Where the keys and values of a TOML document stand. tomli has read the text before and vouches for its syntax;
this only skips over strings, brackets and comments, and gives no values."""

import re

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


def locate(text: str) -> dict[Path, Position]:
    """The position of each key and table header of `text`, and of each member of an array, by its path: the
    second rule's `not.comm` is ("rule", 1, "not", "comm"). Never raises: on text that isn't TOML it stops early."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}

    def scan(self) -> dict[Path, Position]:
        table: Path = ()
        while True:
            self.skip(_SPACE)
            if self.at >= len(self.text):
                break
            before = self.at
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            if self.at == before:
                break
        return self.as_lines()

    def as_lines(self) -> dict[Path, Position]:
        starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = 0
        positions = {}
        for path, offset in sorted(self.found.items(), key=lambda item: item[1]):
            while line + 1 < len(starts) and starts[line + 1] <= offset:
                line += 1
            positions[path] = (line + 1, offset - starts[line] + 1)
        return positions

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
            parts.append(part[1:-1] if part else self.skip(_KEY))
            self.skip(_BLANK)
            if not self.eat("."):
                return tuple(parts)

    def string(self) -> str:
        return next((text for pattern in _STRINGS if (text := self.skip(pattern))), "")

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
        self.found.setdefault(path, start)
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
        elif not self.string():
            self.skip(_SCALAR)

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
        while True:
            self.skip(_SPACE)
            if self.eat("}") or self.at >= len(self.text):
                return
            before = self.at
            self.pair(path)
            self.skip(_SPACE)
            self.eat(",")
            if self.at == before:
                return
