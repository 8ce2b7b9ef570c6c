"""Says in plain words what is wrong with a few characters of a text that isn't TOML 1.0. Pure.

Each function gets the characters, and returns a message that names the mistake and what to write.
"""

import re

from oomwatchd.config.odd_characters import DASHES, OPENING_QUOTES, name_of, quoted

OTHER_COMMENTS = re.compile(r";|//|/\*|--(?= )|<!--|\"\"\"$|%|!|\(\*|REM\b", re.IGNORECASE)
"""How comments begin in other languages."""
_SHORT_TIME = re.compile(r"(?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d(?:[Zz]|[+-]\d\d:\d\d)?$")
_TRUE_WORDS = ("true", "yes", "on", "y", "enabled", "enable")
_FALSE_WORDS = ("false", "no", "off", "n", "disabled", "disable")


# A word where a value is expected


def about_word(word: str, *, boolean: bool) -> str:
    """About a value without quotes that is none. `boolean`: its key takes true or false."""
    lower = word.lower()
    if lower in ("true", "false"):
        return f"'{word}' is no value of TOML, which has small letters here; write {lower}"
    if boolean and lower in _TRUE_WORDS + _FALSE_WORDS:
        return f"'{word}' is no value of TOML; write {'true' if lower in _TRUE_WORDS else 'false'}"
    if lower in ("none", "null", "nil"):
        return f"TOML has no '{word}'; leave the key out"
    return _about_number(word) or _about_text(word)


def _about_number(word: str) -> str:
    if word[0] in DASHES and (match := re.fullmatch(rf"[{DASHES}]\s*([\d_.]+)", word)):
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


# A line where a key is expected


def about_first_word(line: str) -> str:
    """About a line that begins with neither a key nor a header."""
    if line[0] == "{":
        return "No line begins with {: this is no JSON; a rule is a line [[rule]], and lines of key = value below it"
    if line[0] in "}])":
        return f"Nothing is open that this {line[0]} could close"
    if line[0] == ",":
        return "A line can't begin with ,"
    word = line.split("=")[0].strip()
    return f"'{word}' can't be a key: one without quotes has only letters, digits, _ and -"


# What follows a key where = should stand


def about_missing_equals(key: str, rest: str) -> tuple[str, str, bool]:
    """About `rest`, which follows `key` on its line where a = should stand. Returns the key that was meant, the
    message, and whether the mistake is at `rest` (else at the key)."""
    before, equals, _ = rest.partition("=")
    if key == "export":
        return key, "TOML knows no 'export'; write key = value", False
    if equals and key == "not":
        return key, f"What is excluded stands in braces: not = {{{before}= … }}", False
    if equals and re.fullmatch(r"[\w \t-]+", before):
        words = " ".join([key, *before.split()])
        meant = words.replace(" ", "_")
        return meant, f"A key has no blanks: '{words}'; did you mean '{meant}'?", False
    if not rest.strip() or rest.lstrip().startswith("#"):
        return key, f"'{key}' alone means nothing; write {key} = …", False
    if rest.strip()[0] in "\"'[{0123456789-+" or rest[0] in " \t":
        return key, f"'=' is missing behind the key '{key}'", False
    return key, f"'{rest[0]}' can't stand in a key: one without quotes has only letters, digits, _ and -", True


# What follows on a line where it should end


def about_rest_of_header(rest: str) -> str:
    """About `rest`, which follows a header on its line."""
    if OTHER_COMMENTS.match(rest):
        return "A comment begins with #"
    return "Nothing but a comment may follow a header on its line; put it on the next line"


def about_rest(rest: str, before: str, key: str) -> str:
    """About `rest`, which follows the value of `key` on its line. `before`: the line up to there."""
    return (
        _about_mark(rest)
        or _about_several_values(rest, before, key)
        or _about_split_value(rest, before)
        or f"'{rest[:40]}' can't stand behind the value; a comment begins with #"
    )


def _about_mark(rest: str) -> str:
    if not rest or not rest[0].isprintable():
        return f"{name_of(rest[0]) if rest else 'A carriage return'} can't stand behind the value"
    if rest == "," or re.match(r",[ \t]*#", rest):
        return "No comma stands behind a value: each key has a line of its own"
    if rest == ";":
        return "No semicolon stands behind a value: the line's end is enough"
    if match := OTHER_COMMENTS.match(rest):
        return f"A comment begins with #, not with {match.group()}"
    if re.match(r"[,;]?[ \t]*[A-Za-z0-9_.-]+[ \t]*=", rest):
        return "Each key has a line of its own: begin a new line here"
    return ""


def _about_several_values(rest: str, before: str, key: str) -> str:
    if re.match(r"(?:,|or\b|\|\|?|and\b)?[ \t]*[\"'“‘]", rest) and before.endswith(('"', "'")):
        if rest[0] in "\"'" and not re.match(r"[\"'][^\"']", rest):
            return "A quote too many stands here"
        return f'Several values are a list, in brackets and with commas between: {key} = ["a", "b"]'
    if re.match(r",[ \t]*[\[{]", rest):
        return "Several values are a list, in brackets; a key takes one table in braces"
    return ""


def _about_split_value(rest: str, before: str) -> str:
    """One value that was meant to go on."""
    if rest[0] in "\"'" or before.endswith(('"', "'")):
        quote = "double" if before.endswith('"') else "single"
        return f"The string ends before this; a {quote} quote within a string wants the other kind around it"
    if re.match(r",\d{3}\b|[ \t]*\d", rest):
        return "A number is written without marks or blanks between its digits"
    if re.match(r"[A-Za-zµ%]+$", rest):
        value = before.rpartition("=")[2].strip()
        return f"A text must stand in quotes; write {quoted(value + rest)}"
    return ""
