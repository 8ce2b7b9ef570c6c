"""Reads strings of a text that isn't TOML 1.0, and says in plain words what is wrong with them."""

import re

from oomwatchd.config.odd_characters import OPENING_QUOTES, name_of, quoted
from oomwatchd.config.problems import Mend
from oomwatchd.config.text_cursor import Cursor, Unclosed

_ESCAPE = re.compile(r'\\(?:[btnfr"\\]|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})')
_LINE_ENDING_BACKSLASH = re.compile(r"\\[ \t]*\n[ \t\n]*")


def read_string(cursor: Cursor, quote: str) -> None:
    """Read a string on one line, from its opening `quote` on. Raises Unclosed."""
    start = cursor.at
    end = cursor.line_end(start)
    at = start + 1
    bad_escape = -1
    while at < end and cursor.text[at] != quote:
        if quote == '"' and cursor.text[at] == "\\":
            match = _ESCAPE.match(cursor.text, at)
            if match is None and bad_escape < 0:
                bad_escape = at
            at = match.end() if match else min(at + 2, end)
        else:
            at += 1
    if at >= end:
        _unclosed(cursor, start, end, quote)
        # A text that goes on in the next line: what stands there is no mistake of its own.
        rest = re.compile(rf"\n[^\n=\[{quote}]*{quote}[ \t]*(?=\n|\Z)").match(cursor.text, end)
        raise Unclosed(rest.end() if rest else end)
    cursor.at = at + 1
    if bad_escape >= 0:
        _bad_escape(cursor, bad_escape, start, cursor.text[start + 1 : at], 1)
    _control_characters(cursor, start, at)


def read_long_string(cursor: Cursor, quotes: str) -> None:
    """Read a string over several lines, from its three opening `quotes` on. Raises Unclosed."""
    start, at = cursor.at, cursor.at + 3
    bad_escape = -1
    while not cursor.text.startswith(quotes, at):
        if at >= len(cursor.text):
            cursor.fault(start, f"The string that begins here with {quotes} isn't closed; close it with {quotes}")
            raise Unclosed(len(cursor.text))
        if quotes == '"""' and cursor.text[at] == "\\":
            match = _ESCAPE.match(cursor.text, at) or _LINE_ENDING_BACKSLASH.match(cursor.text, at)
            if match is None and bad_escape < 0:
                bad_escape = at
            at = match.end() if match else at + 2
        else:
            at += 1
    end = at + 3
    while end < at + 5 and cursor.text[end : end + 1] == quotes[0]:  # up to two quotes may stand before the end
        end += 1
    cursor.at = end
    if bad_escape >= 0:
        _bad_escape(cursor, bad_escape, start, cursor.text[start + 3 : at], 3)
    _control_characters(cursor, start, at)


def read_typographic_string(cursor: Cursor, closers: str) -> None:
    """Read a string that begins with a quotation mark that TOML doesn't know. `closers`: what ends a value without
    quotes."""
    start = cursor.at
    end = cursor.line_end(start)
    closing = next((i for i in range(start + 1, end) if cursor.text[i] in OPENING_QUOTES + "\"'"), None)
    inner = cursor.bare(start + 1, closers) if closing is None else cursor.text[start + 1 : closing]
    cursor.at = start + 1 + len(inner) if closing is None else closing + 1
    character = cursor.text[start]
    message = f"{name_of(character)} is no quote for TOML; write straight quotes: {quoted(inner)}"
    cursor.fault(start, message, Mend(start, cursor.at, quoted(inner)))


def _unclosed(cursor: Cursor, start: int, end: int, quote: str) -> None:
    line = cursor.text[start:end].rstrip()
    name = "single" if quote == "'" else "double"
    if len(line) > 1 and line[-1] in OPENING_QUOTES + "\"'" and line[-1] != quote:
        said = f"ends with {name_of(line[-1])}"
    elif quote == '"' and re.search(r'(?<!\\)\\"$', line):
        cursor.fault(
            start + len(line) - 2,
            "The backslash takes away the meaning of the quote behind it, so that the string isn't closed; write "
            "the string in single quotes: '…'",
        )
        return
    else:
        said = "isn't closed on this line"
    cursor.fault(start, f"The string that begins here with {quote} ({name} quote) {said}; close it with {quote}")


def _bad_escape(cursor: Cursor, at: int, start: int, inner: str, quotes: int) -> None:
    """Note the escape sequence at offset `at`, which is none. `start`: where the string begins. `inner`: what stands
    between its quotes. `quotes`: how many of them there are at each end."""
    escape = cursor.text[at : at + 2]
    better = inner.replace('\\"', '"')
    if escape in ("\\u", "\\U"):
        said = f"{escape} wants {4 if escape == chr(92) + 'u' else 8} hexadecimal digits"
    else:
        said = f"{escape} is none of TOML 1.0"
    plain = "'" not in better and "\n" not in better
    advice = f"write the string in single quotes: '{better}'" if plain else "write each backslash twice"
    mend = Mend(start, start + len(inner) + 2, f"'{better}'") if plain and quotes == 1 else None
    cursor.fault(at, f"A backslash between double quotes begins an escape sequence, and {said}; {advice}", mend)


def _control_characters(cursor: Cursor, start: int, end: int) -> None:
    match = re.compile("[\x00-\x08\x0b-\x1f\x7f]").search(cursor.text, start, end)
    if match is not None:
        cursor.fault(match.start(), f"A string can't hold the character {name_of(match.group())} as it is")
