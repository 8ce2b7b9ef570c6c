"""Removes from a line what terminals, web pages and chats have added to it. Pure."""

import html
import re

# ECMA-48: a control sequence, a string such as a window's title, a choice of characters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]{0,20}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)?|[()][0-9A-Z]|[=>78M])")
# A colour whose ESC was shown ("^[", "\e", rsyslog's "#033") or lost on the way.
_SHOWN_COLOUR = re.compile(r"(?:\^\[|#033|\\e|\\033|\u241b)\[[\d;]{0,20}[mK]|(?<!\\x1b)\[\d{1,3}(?:;\d{1,3}){0,8}m")
# Nearly every line has nothing that must be removed.
_ORDINARY = re.compile(
    r"(?!\[[a-zA-Z])[^\x1b<&\\`{\x80-\U0010ffff\[]*+(?:\[(?!\d{0,3}[;mK])[^\x1b<&\\`{\x80-\U0010ffff\[]*+)*+"
)
_TAG = re.compile(
    r"</?(?:br|p|pre|code|div|span|li|ol|ul|td|th|tr|table|tbody|font|b|i|em|tt|blockquote|summary|details|a|samp"
    r"|html|body)\b[^<>]{0,300}>",
    re.IGNORECASE,
)
_CELL_END = re.compile(r"</t[dh]>", re.IGNORECASE)
_BREAK = re.compile(
    r"(?<=\S)\s*<br\s*/?>\s*$|</(?:p|pre|code|div|span|li|td|tr|table)>\s*$"
    r"|^\s*<(?:p|pre|code|div|span|li|td|tr|table|blockquote|samp|html|body)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\{(?:noformat|code)[^}]{0,60}\}|`{1,3}(?:[a-z]{1,10}$)?")
_BB_CODE = re.compile(r"^(?:\[(?:code|quote|spoiler|pre|font|size|b|i)\b[^\]\n]{0,80}\])+", re.IGNORECASE)
_BB_END = re.compile(r"(?:\[/(?:code|quote|spoiler|pre|font|size|b|i)\])+\s*$", re.IGNORECASE)
_MARKDOWN_ESCAPE = re.compile(r"\\([_\[\]*<>#`()|-])")
_ESCAPED_MARK = re.compile(r"^\\\[|[a-z]\\_[a-z]")
# Markdown's bold and bold italic.
_EMPHASIS = re.compile(r"(?<!\*)(\*{2,3})([^\s*](?:[^*]*[^\s*])?)\1(?!\*)")
# Cisco's switches: "*Sep 21 14:13:20.123: %KERN-3-SYSTEM_MSG: [1.000000] text - kernel".
_CISCO = re.compile(r"^[*.]?(.*?)%KERN-\d-[A-Z_]{1,40}: (.*?)(?: - kernel)?$")
_EMPHASIS_BEGINS = re.compile(r"\*{2,3}(?=[^\s*])")
_FRAMES = ("\u2502", "\u2503", "\u2551")
"""Vertical lines that a terminal draws around a text."""
_INVISIBLE = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_NO_BREAK = "\xa0\u2007\u202f"
_BLANKS = str.maketrans(dict.fromkeys(_NO_BREAK, " "))
_PADDING = re.compile("[\xa0\u2007\u202f][\xa0\u2007\u202f \\d\\[]|[ \\[][\xa0\u2007\u202f]")
# Typesetting that a PDF or a word processor puts in place of plain letters and hyphens.
_PRINTED = str.maketrans(
    {
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "st",
        **dict.fromkeys("\u2010\u2011\u2212\ufe63\uff0d", "-"),
    }
)
_QUOTES = "\u201c\u201d\u201e\u2018\u2019\xab\xbb"


def clean(line: str) -> str:
    """The line as the kernel or a logging program wrote it: without colours, markup, no-break spaces, the pipes of a
    table in Markdown. A line that has none of them comes back as it is."""
    if _ORDINARY.fullmatch(line) is not None and line[-1:] not in ("]", "|", " ") and "**" not in line:
        return line if "%KERN-" not in line else _CISCO.sub(r"\1kernel: \2", line)
    if "\x1b" in line:
        # The kernel's log shows an ESC in a name as \x1b, so these are the terminal's.
        line = without_colours(line)
    if "[0m" in line or "[m" in line or "[K" in line:  # a colour ends in its line
        line = _SHOWN_COLOUR.sub("", line)
    if not line.isascii():
        line = _plain_letters(line)
    line = _without_fences(line)
    if line.endswith("  "):
        line = line.rstrip(" ")  # a terminal's or a page's padding
    if "<" in line or "&" in line:
        line = _without_markup(line)
    if "\\" in line:
        line = _without_escapes(line)
    if "**" in line:
        line = _EMPHASIS.sub(r"\2", line)
        line = line[match.end() :] if (match := _EMPHASIS_BEGINS.match(line)) is not None else line
    if _is_table_row(line):
        line = line.strip()[1:-1].strip(" ")
    return line


def _is_table_row(line: str) -> bool:
    return line.endswith(("|", "| ")) and line.lstrip().startswith("|")


def completed_row(before: str, line: str) -> str:
    """A line within which the log ends, with the pipe at its end if the line `before` is a row of a table in
    Markdown."""
    if not line.lstrip().startswith("|") or _is_table_row(line) or not _is_table_row(before):
        return line
    return f"{line}|"


def _without_fences(line: str) -> str:
    """The line without the marks that a page puts around code: Jira's {noformat}, Markdown's backquotes, a forum's
    [code]."""
    if line[:1] in ("{", "`") and (fence := _FENCE.match(line)) is not None:
        ticks = fence[0].startswith("`")
        line = line[fence.end() :]
        line = line.rstrip(" ").rstrip("`") if ticks else line
    if line[:1] == "[" and line[1:2].isalpha() and (code := _BB_CODE.match(line)) is not None:
        line = line[code.end() :]
    if line.endswith("]") and (code := _BB_END.search(line)) is not None:
        line = line[: code.start()]
    return line


def without_colours(text: str) -> str:
    """`text` without the control sequences of a terminal."""
    return _ESCAPES.sub("", text)


def _plain_letters(line: str) -> str:
    """No-break spaces made plain where they stand for padding (one that stands alone may be a name's), printers'
    letters and hyphens, marks that are not seen, quotation marks around all."""
    line = _without_frame(_INVISIBLE.sub("", line).translate(_PRINTED))
    line = line.lstrip(_QUOTES) if line[:1] in _QUOTES else line
    line = line.rstrip(_QUOTES) if line[-1:] in _QUOTES else line
    blanks = sum(map(line.count, _NO_BREAK))
    if blanks >= 3 or _PADDING.search(line) is not None:
        return line.translate(_BLANKS)
    return line


def _without_frame(line: str) -> str:
    if line.startswith(_FRAMES):
        line = line[1:].removeprefix(" ")
    if (ended := line.rstrip()).endswith(_FRAMES):
        line = ended[:-1].rstrip()
    return line


def _without_markup(line: str) -> str:
    marked = _BREAK.search(line) is not None
    if not marked and "&" not in line:
        return line
    if not marked and _ENTITY.search(line) is None:
        return line
    plain = html.unescape(_TAG.sub("", _CELL_END.sub(" ", line))).translate(_BLANKS)
    return plain.rstrip(" ") if marked else plain


# Signs that the kernel's lines have, as a page's source shows them. A name may hold "&lt;" itself.
_ENTITY = re.compile(r"&nbsp;|^(?:&gt;\s?)+|&#0?9[13];|&#x5[bd];|^\s*&lt;\d{1,3}&gt;|&lt;/?TASK&gt;", re.IGNORECASE)


def _without_escapes(line: str) -> str:
    """Markdown's backslashes, where they stand before signs that need none in a log."""
    if line.endswith("\\") and not line.endswith("\\\\"):
        line = line[:-1]
    return _MARKDOWN_ESCAPE.sub(r"\1", line) if _ESCAPED_MARK.search(line) is not None else line
