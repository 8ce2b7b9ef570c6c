"""What pages, terminals and chats do to a line of text, undone. Pure."""

import html
import re

_COLOUR = re.compile(r"\x1b\[[0-9;:]*[mK]")
_TAG = re.compile(r"</?(?:br|p|pre|code|div|span|li|td|tr|font|b|i)\b[^<>]{0,200}>", re.IGNORECASE)
_BREAK = re.compile(r"(?<=\S)\s*<br\s*/?>\s*$|</(?:p|pre|code|div|span|li|td)>\s*$", re.IGNORECASE)
_FENCE = re.compile(r"\{(?:noformat|code)[^}]{0,60}\}|`{1,3}")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")
_BLANKS = str.maketrans(dict.fromkeys("\xa0\u2007\u202f", " "))
_PADDING = re.compile("[\xa0\u2007\u202f][\xa0\u2007\u202f \\d\\[]|[ \\[][\xa0\u2007\u202f]")


def clean(line: str) -> str:
    """The line as the kernel or a logging program wrote it: without colours, markup, no-break spaces, the pipes of a
    table in Markdown. A line that has none of them comes back as it is."""
    if "\x1b" in line:
        # The kernel's log shows an ESC in a name as \x1b, so these are the terminal's.
        line = _COLOUR.sub("", line)
    if not line.isascii():
        line = _plain_blanks(_INVISIBLE.sub("", line))
    if line[:1] in ("{", "`") and (fence := _FENCE.match(line)) is not None:
        line = line[fence.end() :]
    if line.endswith("  "):
        line = line.rstrip(" ")  # a terminal's or a page's padding
    if "<" in line or "&nbsp;" in line:
        line = _without_markup(line)
    if line.endswith(("|", "| ")) and line.lstrip().startswith("|"):
        line = line.strip()[1:-1].strip(" ")
    return line


def _plain_blanks(line: str) -> str:
    """No-break spaces made plain where they stand for padding; one that stands alone may be a name's."""
    blanks = sum(map(line.count, "\xa0\u2007\u202f"))
    if blanks >= 3 or _PADDING.search(line) is not None:
        return line.translate(_BLANKS)
    return line


def _without_markup(line: str) -> str:
    if _BREAK.search(line) is None and "&nbsp;" not in line:
        return line
    return html.unescape(_TAG.sub("", line)).translate(_BLANKS)
