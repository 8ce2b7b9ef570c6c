"""Says in plain words what is wrong with a file that isn't TOML 1.0: all mistakes in one go, each with its place.

tomli decides what is valid. This module is used only when tomli has refused a file, or when a file needs a later
version of TOML. It reads one statement after the other. After a broken one it goes on with the next line. It returns
the text with what its messages say to write; statements of which no message says that are blanked. So the rest of the
file can be checked, too, and so can what the messages say. The daemon loads it only
when a file is broken."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from oomwatchd.config import word_hints as words
from oomwatchd.config.header_hints import DOT, KEY, about_header, header_key
from oomwatchd.config.keys import KEYS, TEXT_KEYS
from oomwatchd.config.mending import Mending, Moved
from oomwatchd.config.odd_characters import OPENING_QUOTES, name_of
from oomwatchd.config.other_languages import other_language
from oomwatchd.config.problems import Fault, Mend, in_order
from oomwatchd.config.text_cursor import Unclosed
from oomwatchd.config.toml_positions import Path
from oomwatchd.config.value_hints import ValueReader

_HEADER = re.compile(r"((?:\[(?:[ \t]*\[)*)?)([^\[\]#\n]*)(\](?:[ \t]*\])*)?")
_HEADER_WITHOUT_START = re.compile(r"(?:daemon|rule)[ \t]*\]")
_SET = re.compile(r"(?<![A-Za-z0-9_-])([A-Za-z0-9_-]++)[ \t]*+=")
_CONFLICT = re.compile(r"<<<<<<< |=======$|>>>>>>> |\|\|\|\|\|\|\| ")
_ODD_SIGNS = re.compile(r"(?:=>|[!<>]=|=~|:=|\+=|==|<-|->|=:|<>|~=|[<>~:：＝])")
_MOST_FAULTS = 1000
"""The most mistakes that are reported. A file with more of them is no configuration."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The mistakes in a text, and the text without them."""

    faults: tuple[Fault, ...]
    mended: str
    """The text with the broken statements mended or blanked. It has as many lines as before."""
    moved: tuple[Moved, ...]
    """The parts of `mended` that stand in the place of others, in order."""
    broken: dict[Path, set[str]]
    """For each table with a blanked statement, by its path as in `toml_positions`: the keys of these statements, "" for
    a key that isn't known."""


def diagnose(text: str, tables: Collection[str], booleans: Collection[str]) -> Diagnosis:
    """Find the mistakes in `text`. `tables`: names whose headers are written [[…]]. `booleans`: keys that take true or
    false."""
    return _Diagnosis(text, tables, booleans).run()


class _Diagnosis:
    def __init__(self, text: str, tables: Collection[str], booleans: Collection[str]) -> None:
        self.text = text
        self.arrays_wanted = tables
        self.reader = ValueReader(text, lambda key: key in booleans)
        self.mended = Mending()
        self.broken: dict[Path, set[str]] = {}
        self.table: Path = ()
        self.skipping = False
        """Whether the statements up to the next header are left out, because their table isn't known or is there
        twice."""
        self.defined: dict[Path, int] = {}
        """The offset of each key and table."""
        self.counts: dict[Path, int] = {}
        """The number of members of each array of tables."""

    def run(self) -> Diagnosis:
        reader = self.reader
        other = other_language(self.text)
        if other is not None:
            return Diagnosis((other,), "\n" * self.text.count("\n"), (), {(): {""}})
        while reader.at < len(self.text):
            start, known = reader.at, len(reader.faults)
            if known > _MOST_FAULTS:
                self.mended.blank(self.text[start:])
                break
            keys, header = self._statement()
            end = max(reader.at, start + 1)
            if reader.at < len(self.text):
                end = reader.line_end(reader.at) + 1
            end = min(end, len(self.text))
            self._keep(start, end, reader.faults[known:], keys, header)
            reader.at = end
        faults = in_order(reader.faults)[:_MOST_FAULTS]
        return Diagnosis(tuple(faults), self.mended.text(), tuple(self.mended.moved), self.broken)

    def _keep(self, start: int, end: int, faults: list[Fault], keys: str, header: str) -> None:
        """Take the statement from `start` to `end` into the mended text, as far as it can be read."""
        part = self.text[start:end]
        mends = [fault.mend for fault in faults if fault.mend is not None]
        if self.skipping:
            self.mended.blank(part)
        elif len(mends) == len(faults) and self.mended.mend(part, start, mends):
            return
        else:
            self.mended.blank(part, header)
        if faults:
            self.broken.setdefault(self.table, set()).update({keys}, _SET.findall(part))

    # Statements

    def _statement(self) -> tuple[str, str]:
        """Read one line, or as many as its value takes. Returns its key and, of a broken header, what it should be."""
        reader = self.reader
        line_start = reader.at
        if reader.skip_comment():
            return "", ""
        start = reader.at
        line = self.text[start : reader.line_end(start)]
        if line[0] in "\r" and not line.strip("\r"):
            self.reader.fault(start, "A carriage return stands here that ends no line")
            reader.at = reader.line_end(start)
            return "", ""
        if _CONFLICT.match(line):
            self.reader.fault(start, f"A merge left this mark: {line[:7]}; choose one of the two versions")
            reader.at = reader.line_end(start)
            return "", ""
        if line[0] in "[［" or _HEADER_WITHOUT_START.match(line):
            return "", self._header(line_start, start, line)
        return self._pair(start, line), ""

    def _header(self, line_start: int, start: int, line: str) -> str:
        reader = self.reader
        known = len(self.reader.faults)
        match = _HEADER.match(line)
        assert match is not None  # each part of it may be empty
        name = match[2].strip()
        parts = header_key(name)
        if parts is None:
            self.reader.fault(start, about_header(name))
            reader.at = reader.line_end(start)
            self.skipping = True
            return ""
        self.skipping = False
        opening, closing = match[1], match[3] or ""
        double = opening.count("[") > 1
        wanted = parts[0] in self.arrays_wanted and len(parts) == 1
        right = f"[[{name}]]" if wanted or (double and closing.count("]") == 2) else f"[{name}]"
        if not closing:
            self.reader.fault(start, f"The header isn't closed; write {right}")
        elif " " in opening + closing or "\t" in opening + closing:
            self.reader.fault(start, f"No blank may stand between the two brackets; write {right}")
        elif opening.count("[") != closing.count("]"):
            self.reader.fault(start, f"The header has not as many ] as [; write {right}")
        elif opening.count("[") > 2:
            self.reader.fault(start, f"A header has one or two brackets; write {right}")
        elif wanted and not double:
            self.reader.fault(start, f"There may be several of '{name}', so it has two brackets; write {right}")
        reader.at = start + match.end()
        if closing:
            self._rest(start, "", header=True)
        else:
            reader.at = reader.line_end(start)
        self._enter(tuple(parts), right.startswith("[["), start)
        return right if len(self.reader.faults) > known and not self.skipping else ""

    def _enter(self, parts: tuple[str, ...], double: bool, start: int) -> None:
        path: Path = ()
        for i, part in enumerate(parts):
            path = (*path, part)
            if path in self.counts and i < len(parts) - 1:
                path = (*path, self.counts[path] - 1)
        if double:
            index = self.counts.get(path, 0)
            self.counts[path] = index + 1
            self.table = (*path, index)
            return
        self.table = path
        if path in self.defined:
            self.reader.fault(
                start,
                f"[{'.'.join(parts)}] stands twice; first at line {self.reader.line(self.defined[path])}; "
                "write one table",
            )
            self.skipping = True
        self.defined.setdefault(path, start)

    def _pair(self, start: int, line: str) -> str:
        reader = self.reader
        parts = self._key(start, line)
        if parts is None:
            reader.at = reader.line_end(start)
            return ""
        key = parts[0]
        unread = self._equals(start, key)
        if unread is not None:
            reader.at = reader.line_end(reader.at)
            return unread
        self._define(parts, start)
        value_start = reader.at
        try:
            reader.value(parts[-1])
            self._rest(value_start, parts[-1])
        except Unclosed as unclosed:
            reader.at = unclosed.offset
        return key

    def _key(self, start: int, line: str) -> list[str] | None:
        reader = self.reader
        key_follows = re.match(r"[A-Za-z-]+[ \t]*[.=]", line)
        if (match := words.OTHER_COMMENTS.match(line)) and not key_follows:
            self.reader.fault(start, f"A comment begins with #, not with {match.group()}")
            return None
        if line.startswith("- ") and not key_follows:
            self.reader.fault(start, 'A list is written key = ["a", "b"], and each rule begins with a line [[rule]]')
            return None
        if line[0] in "=:":
            self.reader.fault(start, f"The key before {line[0]} is missing")
            return None
        parts: list[str] = []
        while match := KEY.match(self.text, reader.at):
            parts.append(match.group().strip("\"'"))
            reader.at = match.end()
            dot = DOT.match(self.text, reader.at)
            if dot is None:
                return parts
            reader.at = dot.end()
        self._odd_key(start, line)
        return None

    def _odd_key(self, start: int, line: str) -> None:
        character = self.text[self.reader.at : self.reader.at + 1]
        if character and (character in OPENING_QUOTES or not character.isprintable()):
            self.reader.fault(self.reader.at, f"A line begins with a key or a header, not with {name_of(character)}")
        else:
            self.reader.fault(start, words.about_first_word(line))

    def _equals(self, start: int, key: str) -> str | None:
        """Go behind the = of a pair. Returns None if a value follows. If none does: the key that was meant, or "" if
        the configuration has no such key."""
        reader = self.reader
        reader.skip_blank()
        sign = _ODD_SIGNS.match(self.text, reader.at)
        if sign is not None:
            self.reader.fault(reader.at, words.about_sign(sign.group(), key), Mend(reader.at, sign.end(), " = "))
            reader.at = sign.end()
        elif reader.peek() == "=":
            reader.at += 1
        else:
            rest = self.text[reader.at : reader.line_end(start)]
            meant, message, at_rest = words.about_missing_equals(key, rest)
            self.reader.fault(reader.at if at_rest else start, message)
            return meant if meant in KEYS else ""
        reader.skip_blank()
        if reader.peek() in ("", "\n", "#"):
            if sign is not None:
                reader.faults[-1] = replace(reader.faults[-1], mend=None)
                return key
            self.reader.fault(reader.at, f"The value of '{key}' is missing behind the =")
            return key
        return None

    def _define(self, parts: list[str], start: int) -> None:
        path: Path = (*self.table, *parts)
        if self.skipping:
            return
        if path in self.defined:
            where = f"first at line {self.reader.line(self.defined[path])}"
            message = f"The key '{'.'.join(parts)}' stands twice in this table, {where}; keep one of them"
            if parts == ["name"] and len(self.table) == 2:
                message = (
                    f"The key 'name' stands twice in this rule, {where}; if another rule begins here, the line "
                    f"[[{self.table[0]}]] is missing above it"
                )
                self.skipping = True
                self.broken.setdefault(self.table, set()).add("")
            self.reader.fault(start, message)
            return
        self.defined[path] = start

    # Behind a value

    def _rest(self, value_start: int, key: str, *, header: bool = False) -> None:
        """Read the rest of the line after a value or a header. It should be a comment, or nothing."""
        reader = self.reader
        if reader.skip_comment():
            return
        at = reader.at
        rest = self.text[at : reader.line_end(at)].rstrip()
        reader.at = reader.line_end(at)
        if header:
            reader.fault(at, words.about_rest_of_header(rest))
            return
        found = words.about_rest(rest, self.text[value_start:at].rstrip(), key)
        start = value_start if found.with_value else at
        mend = None if found.instead is None else Mend(start, at + len(rest), found.instead)
        reader.fault(value_start if found.at_value else at, found.message, mend, certain=key in TEXT_KEYS)
