"""Reads one TOML value as far as it can be understood, and says in plain words what is wrong with it.

Only for text that tomli has refused: see `oomwatchd.config.syntax_hints`. The grammar is that of TOML 1.0."""

import re
from collections.abc import Callable

from oomwatchd.config.keys import TEXT_KEYS
from oomwatchd.config.odd_characters import OPENING_QUOTES
from oomwatchd.config.problems import Mend
from oomwatchd.config.string_hints import read_long_string, read_string, read_typographic_string
from oomwatchd.config.text_cursor import Cursor, Unclosed
from oomwatchd.config.word_hints import about_word

_TIME = r"\d\d:\d\d:\d\d(?:\.\d+)?"
_LONG_NUMBER = re.compile(r"[+-]?[0-9_]{40,}")
"""Python doesn't read very long ones: sys.get_int_max_str_digits()."""
_VALID_SCALAR = re.compile(
    rf"(?:true|false|[+-]?(?:inf|nan)"
    rf"|0x[0-9A-Fa-f](?:_?[0-9A-Fa-f])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*"
    rf"|\d{{4}}-\d\d-\d\d(?:[Tt ]{_TIME}(?:[Zz]|[+-]\d\d:\d\d)?)?|{_TIME}"
    r"|[+-]?(?:0|[1-9](?:_?\d)*)(?:\.\d(?:_?\d)*)?(?:[eE][+-]?\d(?:_?\d)*)?)"
    r"(?=[\s,\]}#;]|//|$)"
)
_BRACKETS = re.compile(
    r"\"{3}(?:\\.|(?!\"{3}).)*\"{3,5}|'{3}(?:(?!'{3}).)*'{3,5}|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|#[^\n]*|[][{}]|\n",
    re.DOTALL,
)
_LONGEST_TABLE = 4 << 10
"""How far the end of a table in braces is looked for. Without a limit, many that don't end would each take a look at
all that follows."""
_KEY_AND_EQUALS = re.compile(r"[ \t]*[A-Za-z0-9_.\"'-]+[ \t]*=(?!=)")
_CONJUNCTION = re.compile(r"(and|AND|&&|;|\|)(?=[ \t]*[A-Za-z_])")
_HEADER_LINE = re.compile(r"[ \t]*\[\[?[ \t]*[A-Za-z_][A-Za-z0-9_.-]*[ \t]*\]\]?[ \t]*(?:#[^\n]*)?(?:\n|$)")


class ValueReader(Cursor):
    """Reads values, and notes what is wrong with them. `is_boolean`: whether a key takes true or false."""

    def __init__(self, text: str, is_boolean: Callable[[str], bool]) -> None:
        super().__init__(text)
        self._is_boolean = is_boolean

    def value(self, key: str, closers: str = "") -> None:
        """Read the value of `key`. `closers`: what ends a value besides the end of the line. Raises Unclosed."""
        start = self.text[self.at : self.at + 3]
        if start in ('"""', "'''"):
            read_long_string(self, start)
        elif start[:1] in ('"', "'"):
            read_string(self, start[0])
        elif start[:1] == "[":
            self._array(key)
        elif start[:1] == "{":
            self._inline_table(key)
        elif start[:1] and start[0] in OPENING_QUOTES:
            read_typographic_string(self, closers)
        elif start[:1] == "(":
            self._wrong_brackets(closers)
        else:
            self._scalar(key, closers)

    def _wrong_brackets(self, closers: str) -> None:
        start = self.at
        closing = self.text.find(")", start, self.line_end(start))
        self.at = closing + 1 if closing >= 0 else start + 1 + len(self.bare(start + 1, closers))
        inner = self.text[start + 1 : self.at - 1].strip()
        if re.fullmatch("-?[1-9][0-9]*", inner):
            message = f"A number stands without parentheses; write {inner}"
            self.fault(start, message, Mend(start, self.at, inner), certain=False)
        else:
            self.fault(start, 'Parentheses mean nothing in TOML; a list is written ["a", "b"]')

    # Lists and tables

    def _array(self, key: str) -> None:
        start = self.at
        self.at += 1
        comma = True
        """Whether a member may follow: at the start, or behind a comma."""
        while True:
            before = self.at
            self.skip_space()
            character = self.peek()
            if character == "]":
                self.at += 1
                return
            if not character or self._statement_begins(before):
                self._not_closed(start, before, "list", "]")
            if character == ",":
                if comma:
                    self.fault(self.at, "A member of the list is missing before this comma")
                comma = True
                self.at += 1
                continue
            if character in "})":
                self.fault(self.at, f"The list that begins with [ ends with {character}; close it with ]")
                self.at += 1
                return
            if character == ";":
                message = "The members of a list are parted by commas, not semicolons"
                self.fault(self.at, message, Mend(self.at, self.at + 1, ","))
                comma = True
                self.at += 1
                continue
            if not comma:
                self.fault(self.at, "A comma is missing before this member of the list")
            comma = False
            self.value(key, ",]")

    def _statement_begins(self, before: int) -> bool:
        """Whether the cursor, which came from `before`, stands where a new line begins another key or table."""
        if "\n" not in self.text[before : self.at]:
            return False
        line = self.text.rfind("\n", 0, self.at) + 1
        if self.peek() == "[":
            return _HEADER_LINE.match(self.text, line) is not None
        return _KEY_AND_EQUALS.match(self.text, line) is not None

    def _not_closed(self, start: int, before: int, what: str, closer: str) -> None:
        self.fault(start, f"The {what} that begins here with {self.text[start]} isn't closed; close it with {closer}")
        raise Unclosed(self.line_end(before) if before < len(self.text) else len(self.text))

    def _inline_table(self, key: str) -> None:
        start = self.at
        one_line = self._reaches_brace()
        self.at += 1
        comma: int | None = -1
        """The offset of the comma before the next key; -1: this is the first key; None: a comma must come first."""
        while True:
            before = self.at
            if one_line:
                self.skip_blank()
            else:
                self.skip_space()
            character = self.peek()
            if character and character in "}]":
                self._table_ends(character, comma)
                return
            if not character or character in "\n#" or (not one_line and self._header_begins(before)):
                self._not_closed(start, before, "table", "}")
            if character == ",":
                if comma is not None:
                    self.fault(self.at, "A key is missing before this comma")
                comma = self.at
                self.at += 1
                continue
            if comma is None and (word := _CONJUNCTION.match(self.text, self.at)):
                message = f"Keys in braces are parted by commas, not by '{word[1]}'"
                self.fault(self.at, message, Mend(self.at, self.at + len(word[1]), ","))
                comma = self.at
                self.at += len(word[1])
                continue
            if comma is None:
                self.fault(self.at, "A comma is missing before this key")
            comma = None
            if not self._inline_pair(start):
                return

    def _table_ends(self, character: str, comma: int | None) -> None:
        """Go behind the bracket that ends a table in braces. `comma`: where a comma stands just before it, if any."""
        if character == "]":
            self.fault(self.at, "The table that begins with { ends with ]; close it with }")
        elif comma is not None and comma >= 0:
            message = "TOML 1.0 has no comma before the } of a table in braces; remove it"
            self.fault(comma, message, Mend(comma, comma + 1, ""))
        self.at += 1

    def _reaches_brace(self) -> bool:
        """Whether a table in braces ends on its line. Notes a mistake if it ends on a later line, which only TOML 1.1
        allows. A table that doesn't end at all is noted later."""
        opened: list[str] = []
        newline = False
        for match in _BRACKETS.finditer(self.text, self.at, self.at + _LONGEST_TABLE):
            token = match.group()
            if token in ("{", "["):
                opened.append(token)
            elif token in ("}", "]"):
                opened.pop()
            elif token[0] == "\n" and opened[-1] == "{":  # within a list a line may end
                newline = True
                if _HEADER_LINE.match(self.text, match.end()):
                    return True
            if not opened:
                break
        if newline and not opened:
            message = "In TOML 1.0 a table in braces stands on one line; join the lines, or give it a header of its own"
            self.fault(self.at, message)
        return not newline or bool(opened)

    def _header_begins(self, before: int) -> bool:
        return self.peek() == "[" and "\n" in self.text[before : self.at]

    def _inline_pair(self, start: int) -> bool:
        """Read `key = value`. False: this was no table at all, and its end has been read."""
        key_start = self.at
        match = re.compile(r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')(?:[ \t]*\.[ \t]*[A-Za-z0-9_-]+)*").match(
            self.text, self.at
        )
        if match is not None:
            self.at = match.end()
            self.skip_blank()
        sign = self.peek()
        if match is None or sign in (",", "}"):
            closing = self.text.find("}", self.at, self.line_end(self.at))
            if match is not None and re.fullmatch("-?[0-9]+", match.group()):
                bounds = f"{{ at_least = {match.group()} }} or {{ at_most = {match.group()} }}"
                self.fault(start, f"Braces hold keys and values: {bounds}; a number alone has no braces")
            elif match is not None and match.group()[0] not in "\"'":
                self.fault(key_start, f"'{match.group()}' has no value; write {match.group()} = …")
            elif self.text.startswith(("{{", "{%"), start):
                self.fault(start, "This is a place for a value in a template, which was not filled in")
                self.at = self.line_end(self.at)
                return False
            else:
                self.fault(start, 'Braces hold keys and values; a list is written in brackets: ["a", "b"]')
            self.at = closing + 1 if closing >= 0 else self.line_end(self.at)
            return False
        if sign in (":", "："):
            self.fault(self.at, f"Between a key and its value stands =, not {sign}", Mend(self.at, self.at + 1, " ="))
        elif sign != "=":
            self.fault(self.at, f"'=' is missing behind the key '{match.group()}'")
            self.at -= 1
        self.at += 1
        self.skip_blank()
        if self.peek() in ("", "\n", ",", "}"):
            self.fault(self.at, f"The value of '{match.group()}' is missing")
            return True
        self.value(match.group(), ",}")
        return True

    # Words and numbers

    def _scalar(self, key: str, closers: str) -> None:
        match = _VALID_SCALAR.match(self.text, self.at)
        if match is not None:
            if _LONG_NUMBER.fullmatch(match.group()):
                self.fault(self.at, f"This number is out of range: it has {len(match.group())} digits")
            self.at = match.end()
            return
        start = self.at
        word = self.bare(start, closers)
        self.at = start + max(len(word), 1)
        word = word or self.text[start : start + 1]
        message, instead = about_word(word, key, boolean=self._is_boolean(key))
        mend = None if instead is None else Mend(start, start + len(word), instead)
        self.fault(start, message, mend, certain=key in TEXT_KEYS)
