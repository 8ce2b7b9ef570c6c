"""Says in plain words what is wrong with a few characters of a text that isn't TOML 1.0. Pure.

Each function gets the characters, and returns a message that names the mistake and what to write.
"""

import re
from dataclasses import dataclass

from oomwatchd.config.keys import ACTIONS, KEYS, LIST_KEYS
from oomwatchd.config.odd_characters import DASHES, LOOKALIKES, OPENING_QUOTES, name_of, quoted
from oomwatchd.config.problems import suggestion
from oomwatchd.rules.criteria import CRITERIA

OTHER_COMMENTS = re.compile(r";|//|/\*|--(?= )|<!--|\"\"\"$|%|!(?!include\b)|\(\*|REM\b", re.IGNORECASE)
"""How comments begin in other languages."""
_SHORT_TIME = re.compile(r"(?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d(?:[Zz]|[+-]\d\d:\d\d)?$")
TRUE_WORDS = ("true", "yes", "on", "y", "enabled", "enable")
FALSE_WORDS = ("false", "no", "off", "n", "disabled", "disable")


# A word where a value is expected


_Remark = tuple[str, str | None]
"""A message, and what it says to write instead; None: it names no text."""


def about_word(word: str, key: str, *, boolean: bool) -> _Remark:
    """About a value of `key` without quotes that is none. `boolean`: the key takes true or false."""
    lower = word.lower()
    if lower in ("true", "false"):
        return f"'{word}' is no value of TOML, which has small letters here; write {lower}", lower
    if boolean and lower in TRUE_WORDS + FALSE_WORDS:
        meant = "true" if lower in TRUE_WORDS else "false"
        return f"'{word}' is no value of TOML; write {meant}", meant
    if lower in ("none", "null", "nil", "~"):
        advice = "; say what the rule does" if key in ACTIONS else "; leave the key out"
        return f"TOML has no '{word}'{advice}", None
    number = _about_number(word) or _about_odd_number(word, key)
    return number or _about_operator(word, key) or _about_odd_text(word) or _about_list(word) or _about_text(word)


def _about_number(word: str) -> _Remark | None:
    if word[0] in DASHES and (match := re.fullmatch(rf"[{DASHES}]\s*([0-9_.]+)", word)):
        return f"{name_of(word[0])} is no minus sign for TOML; write -{match[1]}", f"-{match[1]}"
    if match := re.fullmatch(r"([+-])[ \t]+([\d_.]+)", word):
        number = match[1] + match[2]
        return f"No blank may stand between the sign and the number; write {number}", number
    if match := re.fullmatch(r"([+-]?)0+(\d+)", word):
        number = match[1].strip("+") + match[2]
        return f"A number doesn't begin with 0; write {number}", number
    if re.fullmatch(r"[+-]?\d{1,3}(?:[,.' ]\d{3})+", word):
        number = re.sub("[,.' ]", "", word)
        return f"A number is written without marks or blanks between its digits; write {number}", number
    if match := re.fullmatch(r"[+-]*([+-])([0-9]+)", word):
        number = match[1].strip("+") + match[2]
        return f"A number has one sign only; write {number}", number
    if match := re.fullmatch(r"([+-]?)([0-9]*)\.([0-9]*)", word):
        number = f"{match[1]}{match[2] or '0'}.{match[3] or '0'}"
        return f"'{word}': digits must stand on both sides of the point; write {number}", number
    if _SHORT_TIME.match(word):
        return "In TOML 1.0 a time has seconds, such as 10:20:00; put it in quotes if it is a text", quoted(word)
    return None


def _about_odd_number(word: str, key: str) -> _Remark | None:
    """About digits of another script, and about bounds."""
    plain = re.sub(f"[{DASHES}]", "-", "".join(str(int(c)) if c.isdecimal() else c for c in word))
    if plain != word and re.fullmatch(r"[+-]?(?:0|[1-9][0-9]*)", plain):
        number = plain.strip("+")
        return f"'{word}' has digits or a sign that TOML doesn't know; write {number}", number
    if key == "oom_score_adj" and (match := re.fullmatch(r"([<>])=?\s*(-?[0-9]+)", word)):
        instead = f"{{ {'at_least' if match[1] == '>' else 'at_most'} = {match[2]} }}"
        return f"Bounds stand in braces; write {instead}", instead
    return None


def _about_operator(word: str, key: str) -> _Remark | None:
    """About what other languages have before or in a value."""
    if match := re.match(r"(?:not\b|!)\s*[\"']?([^\"']*)", word):
        if key not in CRITERIA:
            return None
        return f"What is excluded stands in a table of its own; write not = {{ {key} = {quoted(match[1])} }}", None
    if word[0] == "$":
        return f"Variables aren't replaced; write in quotes what {word} stands for", None
    if re.match(r"[A-Za-z_]+[ \t]*=[ \t]*[\"'{\[]", word):
        if word.endswith("}") and "{" not in word:  # only the brace that opens it is missing
            word = word[:-1].rstrip()
        return f"A table stands in braces; write {{ {word} }}", f"{{ {word} }}"
    return None


def _about_odd_text(word: str) -> _Remark | None:
    if re.match(r"[rRbBfFuU]{1,2}[\"']", word):
        inner = word.lstrip("rRbBfFuU").strip("\"'")
        if not inner:
            return f"A quote is missing before {word}", None
        message = "TOML knows no letter before a quote; in single quotes a backslash is just a backslash: "
        return f"{message}'{inner}'", f"'{inner}'"
    if re.fullmatch(r"/.*[\\^$|+()\[*].*/[a-z]*", word):
        instead = f"{{ regex = {quoted(word.strip('/'), literal=True)} }}"
        return f"A regular expression is written {instead}", instead
    if match := re.match(r"(at_least|at_most)\b[ \t=]*(-?\d+)?", word):
        instead = f"{{ {match[1]} = {match[2] or 'N'} }}"
        return f"Bounds stand in braces; write {instead}", instead if match[2] else None
    if match := re.fullmatch(r"<([^<>]+)>", word):
        instead = match[1] if re.fullmatch("-?[1-9][0-9]*", match[1]) else quoted(match[1])
        return f"<…> marks what is to be filled in; write {instead}", instead
    if match := re.match("[=:<>~]+", word):
        rest = word[match.end() :].strip()
        instead = rest if re.fullmatch("-?[0-9]+", rest) or not rest else quoted(rest.strip("\"'"))
        return f"Between a key and its value stands one =, not ={match.group()}", instead or None
    return None


def _about_list(word: str) -> _Remark | None:
    """About several texts without quotes, between commas or bars."""
    members = [member.strip("\"' \t" + OPENING_QUOTES) for member in re.split(r"[,|]", word)]
    if len(members) < 2 or not all(re.fullmatch(r"[\w./@:*?-]+", member) for member in members):
        return None
    instead = f"[{', '.join(map(quoted, members))}]"
    return f"Several texts are a list, each in quotes; write {instead}", instead


def _about_text(word: str) -> _Remark:
    instead = quoted(word.strip("\"'" + OPENING_QUOTES))
    return f"A text must stand in quotes; write {instead}", instead


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
    if line[0] in "+-" and re.match(r"[+-]\s*(?:\[\[?\w|\w+\s*=)", line) is not None:
        return f"The line begins with {line[0]}, a mark of diff(1); leave it out"
    return f"'{word}' can't be a key: one without quotes has only letters, digits, _ and -"


# What follows a key where = should stand


def about_sign(sign: str, key: str) -> str:
    """About `sign`, which stands where = should."""
    name = name_of(sign) if sign in LOOKALIKES else f"'{sign}'"
    instead = f"{key} = …"
    if sign in ("!=", "<>") and key in CRITERIA:
        instead = f"not = {{ {key} = … }}"
    elif sign in ("=~", "~=", "~") and key in CRITERIA:
        instead = f"{key} = {{ regex = … }}"
    elif sign in ("<", "<=", ">", ">=") and key == "oom_score_adj":
        instead = f"{key} = {{ {'at_least' if sign[0] == '>' else 'at_most'} = … }}"
    return f"Between a key and its value stands =, not {name}; write {instead}"


def about_missing_equals(key: str, rest: str) -> tuple[str, str, bool]:
    """About `rest`, which follows `key` on its line where a = should stand. Returns the key that was meant, which may
    be unknown; the message; and whether the mistake is at `rest` (else at the key)."""
    before, equals, _ = rest.partition("=")
    if not rest.partition("#")[0].strip():
        return key, _about_key_alone(key), False
    if key == "export":
        return key, "TOML knows no 'export'; write key = value", False
    if equals and key == "not":
        return key, f"What is excluded stands in braces: not = {{{before}= … }}", False
    if equals and re.fullmatch(r"[\w \t-]+", before):
        words = " ".join([key, *before.split()])
        if key.isdigit():
            return before.strip(), f"The line begins with a number, {key}; leave the numbers of the lines out", False
        meant = words.replace(" ", "_")
        return meant, f"A key has no blanks: '{words}'{suggestion(meant, KEYS)}", False
    if key.isdigit() and rest.strip()[0] == "[":
        return key, f"The line begins with a number, {key}; leave the numbers of the lines out", False
    if key.lower() in ("include", "import", "source") and rest.strip()[0] in "\"'":
        return key, "Other files are read if they are /etc/oomwatchd.d/*.toml; there is no include", False
    if rest.strip()[0] in "\"'[{0123456789-+" or rest[0] in " \t":
        return key, f"'=' is missing behind the key '{key}'", False
    return key, f"'{rest[0]}' can't stand in a key: one without quotes has only letters, digits, _ and -", True


def _about_key_alone(key: str) -> str:
    instead = "a line is key = value, a header such as [[rule]], or a # comment"
    if key in ("daemon", "rule"):
        instead = f"a header has brackets; write {'[[rule]]' if key == 'rule' else '[daemon]'}"
    elif key in KEYS:
        instead = f"write {key} = …"
    return f"'{key}' alone means nothing; {instead}"


# What follows on a line where it should end


def about_rest_of_header(rest: str) -> str:
    """About `rest`, which follows a header on its line."""
    if OTHER_COMMENTS.match(rest):
        return "A comment begins with #"
    return "Nothing but a comment may follow a header on its line; put it on the next line"


@dataclass(frozen=True, slots=True)
class Rest:
    """What to say of the rest of a line behind a value."""

    message: str
    instead: str | None = None
    """What to write in the place of the rest; None: the message names no text."""
    with_value: bool = False
    """Whether `instead` takes the place of the value, too."""
    at_value: bool = False
    """Whether the mistake begins with the value."""


def about_rest(rest: str, value: str, key: str) -> Rest:
    """About `rest`, which follows `value` of `key` on its line."""
    return (
        _about_mark(rest)
        or _about_several_values(rest, value, key)
        or _about_split_value(rest, value)
        or Rest(f"'{rest[:40]}' can't stand behind the value; a comment begins with #")
    )


def _about_mark(rest: str) -> Rest | None:
    if not rest or not rest[0].isprintable():
        return Rest(f"{name_of(rest[0]) if rest else 'A carriage return'} can't stand behind the value")
    if re.match(r"[,;][ \t]*[A-Za-z0-9_.-]+[ \t]*=", rest):
        return Rest("Each key has a line of its own: begin a new line here")
    if rest[0] in "])}":
        return Rest(f"Nothing is open that this {rest[0]} could close", "" if len(rest) == 1 else None)
    if rest == "," or re.match(r",[ \t]*#", rest):
        return Rest("No comma stands behind a value: each key has a line of its own", rest[1:])
    if rest == ";":
        return Rest("No semicolon stands behind a value: the line's end is enough", "")
    if match := OTHER_COMMENTS.match(rest):
        return Rest(f"A comment begins with #, not with {match.group()}", "")
    if re.match(r"[A-Za-z0-9_.-]+[ \t]*=", rest):
        return Rest("Each key has a line of its own: begin a new line here")
    return None


_STRING = r"""(?:"[^"\\]*"|'[^']*')"""
_MORE_STRINGS = re.compile(rf"(?:[ \t]*(?:,|or\b|\|\|?|and\b)?[ \t]*{_STRING})+[ \t]*(?:#.*)?")


def _about_several_values(rest: str, value: str, key: str) -> Rest | None:
    if re.match(r"(?:,|or\b|\|\|?|and\b)?[ \t]*[\"'“‘]", rest) and value.endswith(('"', "'")) and key in LIST_KEYS:
        if rest[0] in "\"'" and not re.match(r"[\"'][^\"']", rest):
            return Rest("A quote too many stands here")
        message = "Several values are a list, in brackets and with commas between: write "
        if not _MORE_STRINGS.fullmatch(rest):
            return Rest(f'{message}{key} = ["a", "b"]')
        members = ", ".join([value, *re.findall(_STRING, rest)])
        return Rest(f"{message}{key} = [{members}]", f"[{members}]", with_value=True)
    if re.match(r",[ \t]*[\[{]", rest):
        return Rest("Several values are a list, in brackets; a key takes one table in braces")
    return None


def _about_split_value(rest: str, value: str) -> Rest | None:
    """One value that was meant to go on."""
    if rest[0] in "\"'" or value.endswith(('"', "'")):
        quote = "double" if value.endswith('"') else "single"
        message = f"The string ends before this; a {quote} quote within a string wants the other kind around it"
        return Rest(message)
    if re.match(r",\d{3}\b|\d", rest):
        message = "A number is written without marks or blanks between its digits"
        if not re.fullmatch(r"[+-]?[0-9]{1,3}(?:[, ][0-9]{3})+", f"{value}{rest if rest[0] == ',' else ' ' + rest}"):
            return Rest(message)
        number = value + re.sub("[, ]", "", rest)
        return Rest(f"{message}; write {number}", number, with_value=True, at_value=True)
    if re.match(r"[A-Za-zµ%]+$", rest):
        text = quoted(f"{value} {rest}")
        return Rest(f"A text must stand in quotes; write {text}", text, with_value=True, at_value=True)
    return None
