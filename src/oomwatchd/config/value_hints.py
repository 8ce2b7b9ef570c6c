"""Reads one TOML value as far as it can be understood, and says in plain words what is wrong with it.

Only for text that tomli has refused: see `oomwatchd.config.syntax_hints`. The grammar is that of TOML 1.0."""

import re
import unicodedata
from collections.abc import Callable

from oomwatchd.config.problems import Fault

INVISIBLE = "\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2069\u3000\ufeff"
"""Characters that look like a blank or like nothing, for a regular expression's brackets."""
LOOKALIKES = {"：": ":", "＝": "=", "，": ",", "［": "[", "］": "]", "｛": "{", "｝": "}"}
OPENING_QUOTES = "“”„‟‘’‚‛«»‹›″′`´＂＇"
"""Quotation marks that TOML doesn't know."""
_DASHES = "−–—‒―‐‑﹣－"

_BLANK = re.compile(rf"[ \t{INVISIBLE}]*")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_SPACE = re.compile(rf"(?:[ \t\r\n{INVISIBLE}]|#[^\n]*)*")
_COMMENT = re.compile(r"[ \t]*(?:#[^\n]*)?")
_TIME = r"\d\d:\d\d:\d\d(?:\.\d+)?"
_VALID_SCALAR = re.compile(
    rf"(?:true|false|[+-]?(?:inf|nan)"
    rf"|0x[0-9A-Fa-f](?:_?[0-9A-Fa-f])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*"
    rf"|\d{{4}}-\d\d-\d\d(?:[Tt ]{_TIME}(?:[Zz]|[+-]\d\d:\d\d)?)?|{_TIME}"
    r"|[+-]?(?:0|[1-9](?:_?\d)*)(?:\.\d(?:_?\d)*)?(?:[eE][+-]?\d(?:_?\d)*)?)"
    r"(?=[\s,\]}#;]|//|$)"
)
_SHORT_TIME = re.compile(r"(?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d(?:[Zz]|[+-]\d\d:\d\d)?$")
_ESCAPE = re.compile(r'\\(?:[btnfr"\\]|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})')
_LINE_ENDING_BACKSLASH = re.compile(r"\\[ \t]*\n[ \t\n]*")
_BRACKETS = re.compile(
    r"\"{3}(?:\\.|(?!\"{3}).)*\"{3,5}|'{3}(?:(?!'{3}).)*'{3,5}|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|#[^\n]*|[][{}]|\n",
    re.DOTALL,
)
_KEY_AND_EQUALS = re.compile(r"[ \t]*[A-Za-z0-9_.\"'-]+[ \t]*=(?!=)")
_HEADER_LINE = re.compile(r"[ \t]*\[\[?[ \t]*[A-Za-z_][A-Za-z0-9_.-]*[ \t]*\]\]?[ \t]*(?:#[^\n]*)?(?:\n|$)")

TRUE_WORDS = ("true", "yes", "on", "y", "enabled", "enable")
FALSE_WORDS = ("false", "no", "off", "n", "disabled", "disable")


class Unclosed(Exception):
    """The value has no end that could be found. `offset`: where its line ends."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def name_of(character: str) -> str:
    """A character as people find it in their editor: itself, its number, and its name."""
    shown = f"'{character}' " if character.isprintable() and not character.isspace() else ""
    name = unicodedata.name(character, "control character").lower()
    return f"{shown}(U+{ord(character):04X}, {name})"


def quoted(text: str) -> str:
    """`text` as a TOML string, in single quotes where double ones would read it differently."""
    if "\\" in text or '"' in text:
        return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f'"{text}"'


class ValueReader:
    """A cursor over the text; each method reads one thing and notes what is wrong with it."""

    def __init__(self, text: str, fault: Callable[[int, str], None], is_boolean: Callable[[str], bool]) -> None:
        self.text = text
        self.at = 0
        self._fault = fault
        self._is_boolean = is_boolean
        """Whether a key takes true or false."""

    # Between values

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def line_end(self, offset: int) -> int:
        end = self.text.find("\n", offset)
        return len(self.text) if end < 0 else end

    def skip_blank(self) -> None:
        self._skip(_BLANK)

    def skip_comment(self) -> bool:
        """Go behind blanks and a comment; whether the line ends there."""
        self.skip_blank()
        match = _COMMENT.match(self.text, self.at)
        end = match.end() if match else self.at
        if end < len(self.text) and self.text[end] != "\n":
            return False
        self.at = end
        return True

    def _skip_space(self) -> None:
        self._skip(_SPACE)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return
        skipped, self.at = match.group(), match.end()
        odd = _INVISIBLE.search(re.sub("#[^\n]*", lambda comment: " " * len(comment.group()), skipped))
        if odd is not None:
            where = match.start() + odd.start()
            self._fault(where, f"An invisible character stands here, {name_of(odd.group())}; write an ordinary blank")

    # Values

    def value(self, key: str, closers: str = "") -> None:
        """Read the value of `key`. `closers`: what ends a value besides the end of the line. Raises Unclosed."""
        start = self.text[self.at : self.at + 3]
        if start in ('"""', "'''"):
            self._long_string(start)
        elif start[:1] in ('"', "'"):
            self._string(start[0])
        elif start[:1] == "[":
            self._array(key)
        elif start[:1] == "{":
            self._inline_table(key)
        elif start[:1] and start[0] in OPENING_QUOTES:
            self._typographic_string(closers)
        elif start[:1] == "(":
            self._wrong_brackets(closers)
        else:
            self._scalar(key, closers)

    def _string(self, quote: str) -> None:
        start = self.at
        end = self.line_end(start)
        at = start + 1
        bad_escape = -1
        while at < end and self.text[at] != quote:
            if quote == '"' and self.text[at] == "\\":
                match = _ESCAPE.match(self.text, at)
                if match is None and bad_escape < 0:
                    bad_escape = at
                at = match.end() if match else min(at + 2, end)
            else:
                at += 1
        if at >= end:
            self._unclosed_string(start, end, quote)
            raise Unclosed(end)
        self.at = at + 1
        if bad_escape >= 0:
            self._bad_escape(bad_escape, self.text[start + 1 : at])
        self._control_characters(start, at)

    def _unclosed_string(self, start: int, end: int, quote: str) -> None:
        line = self.text[start:end].rstrip()
        name = "single" if quote == "'" else "double"
        if len(line) > 1 and line[-1] in OPENING_QUOTES + "\"'" and line[-1] != quote:
            said = f"ends with {name_of(line[-1])}"
        elif quote == '"' and re.search(r'(?<!\\)\\"$', line):
            self._fault(
                start + len(line) - 2,
                "The backslash takes away the meaning of the quote behind it, so that the string isn't closed; write "
                "the string in single quotes: '…'",
            )
            return
        else:
            said = "isn't closed on this line"
        self._fault(start, f"The string that begins here with {quote} ({name} quote) {said}; close it with {quote}")

    def _bad_escape(self, at: int, inner: str) -> None:
        escape = self.text[at : at + 2]
        better = inner.replace('\\"', '"')
        if escape in ("\\u", "\\U"):
            said = f"{escape} wants {4 if escape == chr(92) + 'u' else 8} hexadecimal digits"
        else:
            said = f"{escape} is none of TOML 1.0"
        plain = "'" not in better and "\n" not in better
        advice = f"write the string in single quotes: '{better}'" if plain else "write each backslash twice"
        self._fault(at, f"A backslash between double quotes begins an escape sequence, and {said}; {advice}")

    def _control_characters(self, start: int, end: int) -> None:
        match = re.compile("[\x00-\x08\x0b-\x1f\x7f]").search(self.text, start, end)
        if match is not None:
            self._fault(match.start(), f"A string can't hold the character {name_of(match.group())} as it is")

    def _long_string(self, quotes: str) -> None:
        start, at = self.at, self.at + 3
        bad_escape = -1
        while not self.text.startswith(quotes, at):
            if at >= len(self.text):
                self._fault(start, f"The string that begins here with {quotes} isn't closed; close it with {quotes}")
                raise Unclosed(len(self.text))
            if quotes == '"""' and self.text[at] == "\\":
                match = _ESCAPE.match(self.text, at) or _LINE_ENDING_BACKSLASH.match(self.text, at)
                if match is None and bad_escape < 0:
                    bad_escape = at
                at = match.end() if match else at + 2
            else:
                at += 1
        end = at + 3
        while end < at + 5 and self.text[end : end + 1] == quotes[0]:  # up to two quotes may stand before the end
            end += 1
        self.at = end
        if bad_escape >= 0:
            self._bad_escape(bad_escape, self.text[start + 3 : at])
        self._control_characters(start, at)

    def _typographic_string(self, closers: str) -> None:
        start = self.at
        end = self.line_end(start)
        closing = next((i for i in range(start + 1, end) if self.text[i] in OPENING_QUOTES + "\"'"), None)
        inner = self._bare(start + 1, closers) if closing is None else self.text[start + 1 : closing]
        self.at = start + 1 + len(inner) if closing is None else closing + 1
        character = self.text[start]
        self._fault(start, f"{name_of(character)} is no quote for TOML; write straight quotes: {quoted(inner)}")

    def _wrong_brackets(self, closers: str) -> None:
        self._fault(self.at, 'Parentheses mean nothing in TOML; a list is written ["a", "b"]')
        closing = self.text.find(")", self.at, self.line_end(self.at))
        self.at = closing + 1 if closing >= 0 else self.at + 1 + len(self._bare(self.at + 1, closers))

    # Lists and tables

    def _array(self, key: str) -> None:
        start = self.at
        self.at += 1
        comma = True
        """Whether a member may follow: at the start, or behind a comma."""
        while True:
            before = self.at
            self._skip_space()
            character = self.peek()
            if character == "]":
                self.at += 1
                return
            if not character or self._statement_begins(before):
                self._not_closed(start, before, "list", "]")
            if character == ",":
                if comma:
                    self._fault(self.at, "A member of the list is missing before this comma")
                comma = True
                self.at += 1
                continue
            if character in "})":
                self._fault(self.at, f"The list that begins with [ ends with {character}; close it with ]")
                self.at += 1
                return
            if character == ";":
                self._fault(self.at, "The members of a list are parted by commas, not semicolons")
                comma = True
                self.at += 1
                continue
            if not comma:
                self._fault(self.at, "A comma is missing before this member of the list")
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
        self._fault(start, f"The {what} that begins here with {self.text[start]} isn't closed; close it with {closer}")
        raise Unclosed(self.line_end(before) if before < len(self.text) else len(self.text))

    def _inline_table(self, key: str) -> None:
        start = self.at
        one_line = self._reaches_brace()
        self.at += 1
        comma: int | None = -1
        """Where the comma stands that a key may follow; -1 at the start; None: a comma is due."""
        while True:
            before = self.at
            if one_line:
                self.skip_blank()
            else:
                self._skip_space()
            character = self.peek()
            if character == "}":
                if comma is not None and comma >= 0:
                    self._fault(comma, "TOML 1.0 has no comma before the } of a table in braces; remove it")
                self.at += 1
                return
            if character == "]":
                self._fault(self.at, "The table that begins with { ends with ]; close it with }")
                self.at += 1
                return
            if not character or character in "\n#" or (not one_line and self._header_begins(before)):
                self._not_closed(start, before, "table", "}")
            if character == ",":
                if comma is not None:
                    self._fault(self.at, "A key is missing before this comma")
                comma = self.at
                self.at += 1
                continue
            if comma is None:
                self._fault(self.at, "A comma is missing before this key")
            comma = None
            if not self._inline_pair(start):
                return

    def _reaches_brace(self) -> bool:
        """Whether a table in braces ends on its line. Notes the fault if it ends on a later one: TOML 1.1 alone has
        that. One that ends on none isn't closed, which shows later."""
        opened: list[str] = []
        newline = False
        for match in _BRACKETS.finditer(self.text, self.at):
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
            self._fault(self.at, message)
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
            if match is not None and match.group()[0] not in "\"'":
                self._fault(key_start, f"'{match.group()}' has no value; write {match.group()} = …")
            else:
                self._fault(start, 'Braces hold keys and values; a list is written in brackets: ["a", "b"]')
            self.at = closing + 1 if closing >= 0 else self.line_end(self.at)
            return False
        if sign in (":", "："):
            self._fault(self.at, f"Between a key and its value stands =, not {sign}")
        elif sign != "=":
            self._fault(self.at, f"'=' is missing behind the key '{match.group()}'")
            self.at -= 1
        self.at += 1
        self.skip_blank()
        if self.peek() in ("", "\n", ",", "}"):
            self._fault(self.at, f"The value of '{match.group()}' is missing")
            return True
        self.value(match.group(), ",}")
        return True

    # Words and numbers

    def _scalar(self, key: str, closers: str) -> None:
        match = _VALID_SCALAR.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return
        start = self.at
        word = self._bare(start, closers)
        self.at = start + max(len(word), 1)
        self._fault(start, self._about(word or self.text[start : start + 1], key))

    def _bare(self, start: int, closers: str) -> str:
        """What is written without quotes, up to a comment, the end of the line, or `closers`."""
        stop = re.compile(r"[\n#" + re.escape(closers) + "]|(?<=[ \t])//|[ \t]*;(?=[ \t]|$)|[ \t]*,[ \t]*(?=\n|$)")
        match = stop.search(self.text, start)
        end = match.start() if match else len(self.text)
        return self.text[start:end].rstrip()

    def _about(self, word: str, key: str) -> str:
        lower = word.lower()
        if lower in ("true", "false"):
            return f"'{word}' is no value of TOML, which has small letters here; write {lower}"
        if self._is_boolean(key) and lower in TRUE_WORDS + FALSE_WORDS:
            return f"'{word}' is no value of TOML; write {'true' if lower in TRUE_WORDS else 'false'}"
        if lower in ("none", "null", "nil"):
            return f"TOML has no '{word}'; leave the key out"
        return _about_number(word) or _about_text(word)


def _about_number(word: str) -> str:
    if word[0] in _DASHES and (match := re.fullmatch(rf"[{_DASHES}]\s*([\d_.]+)", word)):
        return f"{name_of(word[0])} is no minus sign for TOML; write -{match[1]}"
    if match := re.fullmatch(r"([+-])[ \t]+([\d_.]+)", word):
        return f"No blank may stand between the sign and the number; write {match[1]}{match[2]}"
    if match := re.fullmatch(r"([+-]?)0+(\d+)", word):
        return f"A number doesn't begin with 0; write {match[1].strip('+')}{match[2]}"
    if re.fullmatch(r"[+-]?\d{1,3}(?:[,.' ]\d{3})+", word):
        return "A number is written without marks or blanks between its digits; write " + re.sub("[,.' ]", "", word)
    if re.fullmatch(r"[+-]{2,}\d+", word):
        return "A number has one sign only"
    if re.fullmatch(r"[+-]?(?:\d+\.|\.\d+)", word):
        return f"'{word}': digits must stand on both sides of the point"
    if _SHORT_TIME.match(word):
        return "In TOML 1.0 a time has seconds, such as 10:20:00; put it in quotes if it is a text"
    return ""


def _about_text(word: str) -> str:
    if re.match(r"[rRbBfFuU]{1,2}[\"']", word):
        inner = word.lstrip("rRbBfFuU").strip("\"'")
        if not inner:
            return f"A quote is missing before {word}"
        return f"TOML knows no letter before a quote; in single quotes a backslash is just a backslash: '{inner}'"
    if re.fullmatch(r"/.*[\\^$|+()\[*].*/[a-z]*", word):
        return f"A regular expression is written {{ regex = '{word.strip('/')}' }}"
    if match := re.match(r"(at_least|at_most)\b[ \t=]*(-?\d+)?", word):
        return f"Bounds stand in braces; write {{ {match[1]} = {match[2] or 'N'} }}"
    if word[0] in "=:>~":
        return f"Between a key and its value stands one =, not ={word[0]}"
    inner = word.strip("\"'" + OPENING_QUOTES)
    return f"A text must stand in quotes; write {quoted(inner)}"


def faults_sorted(faults: list[Fault]) -> list[Fault]:
    """In the order of the text, each place once."""
    first: dict[int, Fault] = {}
    for fault in sorted(faults, key=lambda fault: fault.offset):
        first.setdefault(fault.offset, fault)
    return list(first.values())
