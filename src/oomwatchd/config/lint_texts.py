"""Warns of texts in criteria that are valid, but match nothing, or not what was meant. Pure."""

import re
from collections.abc import Iterator

from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.config.odd_characters import name_of
from oomwatchd.kernel.systemd_cgroups import parse_units
from oomwatchd.rules.effort import slow_part
from oomwatchd.rules.model import Pattern

WILD = "*?["

_LIKE_A_REGEX = re.compile(r"^\.\*|/\.\*|\.\+|\\[dswbDSW.]|^\^|[^\\]\$$|\(\?|\([^)]*\|[^)]*\)")
_LETTERS_DOT_STAR = re.compile(r"[A-Za-z_)\]]\.\*")
"""A regular expression such as "nginx.*" in the place of a glob. After a digit, as in "python3.*", a version may be
meant."""
_GLOB_IN_REGEX = re.compile(r"(?:^|[/ -])\*(?:$|[./])|^[\w/-]+\*$")
_TYPOGRAPHIC = re.compile("[\u2010-\u2015\u2018-\u201f\u00a0\u00ab\u00bb\u2212\u200b\ufeff]")
_BRACES = re.compile(r"\{[^{}]*,[^{}]*\}")
_POSIX_CLASS = re.compile(r"\[:(\w+):\]")
_POSIX_AS_PYTHON = {
    "digit": r"\d",
    "space": r"\s",
    "alnum": "[A-Za-z0-9]",
    "alpha": "[A-Za-z]",
    "lower": "[a-z]",
    "upper": "[A-Z]",
    "xdigit": "[0-9A-Fa-f]",
    "blank": r"[ \t]",
    "word": r"\w",
    "punct": r"[^\w\s]",
}


def texts(key: str, pattern: Pattern) -> Iterator[str]:
    """The warning about one string of the criterion `key`; at most one, because others would only follow from it."""
    text = pattern.text
    if not pattern.literal and not pattern.is_glob:
        yield from _regex(key, text)
        return
    for found in (_any_text(key, text), _BY_KEY.get(key, _nothing)(key, pattern)):
        if found:
            yield found
            return


def _nothing(key: str, pattern: Pattern) -> str:
    return ""


def _regex(key: str, text: str) -> Iterator[str]:
    if match := _POSIX_CLASS.search(text):
        better = _POSIX_AS_PYTHON.get(match[1], r"\d, \s, \w or [a-z]")
        yield f"{key}: [:{match[1]}:] means nothing in these regular expressions, which are Python's; write {better}"
    elif re.search(r"[\x08\x0c]", text):
        yield (
            f"{key}: the expression has a control character: between double quotes \\b and \\f are backspace and form "
            "feed; write it in single quotes"
        )
    elif _GLOB_IN_REGEX.search(text):
        better = f'write {key} = "{text}"'
        yield f"{key}: '{text}' reads like a shell glob, but here * repeats what stands before it; {better}"
    elif why := slow_part(text):
        yield (
            f"{key}: '{text}' can take long on a text made for it: {why}; who shows one doesn't fit the rule (a few "
            "milliseconds are spent on it)"
        )


def _any_text(key: str, text: str) -> str:
    if text != text.strip():
        return f"{key}: '{text}' begins or ends with a blank, which is compared too"
    if _LIKE_A_REGEX.search(text) or (key in ("exe", "comm", "cmdline") and _LETTERS_DOT_STAR.search(text)):
        return (
            f"{key}: '{text}' reads like a regular expression, but it is compared as a shell glob; write "
            f"{key} = {{ regex = '{text}' }}"
        )
    if match := _TYPOGRAPHIC.search(text):
        return f"{key}: '{text}' has {name_of(match.group())}, which is hardly ever in a name or on a command line"
    if match := _BRACES.search(text):
        return f"{key}: '{text}': braces mean nothing in a glob; write a list of texts in place of {match.group()}"
    if text[0] == "!" and len(text) > 1:
        advice = f'what is excluded stands in braces: not = {{ {key} = "{text[1:].strip()}" }}'
        return f"{key}: '{text}': ! excludes nothing here; {advice}"
    if match := re.search(r"\[\^", text):
        return f"{key}: '{text}': in a glob, all characters but some are [!…], not [^…]"
    if re.search(r"\$\{?[A-Z]|^~", text):
        return f"{key}: '{text}': variables and ~ are not replaced"
    return ""


def _comm(key: str, pattern: Pattern) -> str:
    text = pattern.text
    if re.match(r"[\w.-]+: ", text):
        return f"comm '{text}' is what a program shows as its command line; write cmdline = \"{text}\""
    if "/" in text and not text.startswith("*"):
        name = text.rstrip("/").rpartition("/")[2]
        if not name.strip("*?"):
            return f"comm '{text}' is a path, and a task name is none; use exe"
        return f"comm '{text}' is a path, and a task name is none; write comm = \"{name}\", or use exe"
    if sign := re.search("[,|]", text):
        members = ", ".join(f'"{part.strip()}"' for part in re.split("[,|]", text) if part.strip())
        return f"comm '{text}' is one name with {sign.group()} in it; several are a list: comm = [{members}]"
    if pattern.is_glob and "[" not in text and len(text.replace("*", "").encode()) > COMM_MAX:
        return f"comm '{text}' fits nothing: the kernel cuts a name after {COMM_MAX} bytes"
    return ""


def _cmdline(key: str, pattern: Pattern) -> str:
    text = pattern.text
    if pattern.literal and re.match(r"--[A-Za-z]|-(?!(?:\w*sh|su)$)[A-Za-z]", text):  # "-bash" is a login shell
        return f"cmdline '{text}' fits only who has nothing but that as arguments; write '*{text}*'"
    return ""


def _cgroup(key: str, pattern: Pattern) -> str:
    text = pattern.text
    mounted = re.match("/sys/fs/cgroup(?:/unified|/systemd)?(?=/|$)", text)
    if mounted:
        below = text[mounted.end() :] or "/"
        return f"cgroup '{text}' fits nothing: the path begins below /sys/fs/cgroup; write '{below}'"
    if match := re.match(r"\d{1,3}:[\w,=.-]*:(?=/)", text):
        return f"cgroup '{text}' fits nothing: it is the path alone; write '{text[match.end() :]}'"
    if text[0] not in ("/", *WILD):
        return f"cgroup '{text}' fits nothing: a cgroup path begins with a slash; write '/{text}'"
    if len(text) > 1 and text.endswith("/"):
        return f"cgroup '{text}' fits nothing: a cgroup path doesn't end with a slash; write '{text}*' for all below it"
    if pattern.literal and text.endswith(".slice"):
        return f"cgroup '{text}' fits only what is directly in that slice; write '{text}/*' for what is below it"
    return ""


_WITH_PROCESSES = (".service", ".scope", ".socket", ".mount", ".swap")
"""How the names of units end that can have processes (systemd.kill(5), systemd.scope(5))."""


def _of_glob(key: str, text: str, endings: tuple[str, ...]) -> str:
    """The warning if the glob fits no unit's name. Such a name ends in one of `endings`, and has no slash. The glob's
    end is what stands behind its last wildcard."""
    if "/" in text and "[" not in text:
        return f"{key} '{text}' fits nothing: a unit's name has no slash; a path is compared with cgroup"
    last = re.split(r"[*?\]]", text)[-1]
    if any(ending.endswith(last) or last.endswith(ending) for ending in endings):
        return ""
    return f"{key} '{text}' fits nothing: the name of a {key.replace('_', ' ')} ends in {' or '.join(endings)}"


def _unit(key: str, pattern: Pattern) -> str:
    """The warning if no unit of systemd with such a name can have a cgroup."""
    text = pattern.text
    if pattern.is_glob:
        return _of_glob(key, text, _WITH_PROCESSES)
    if text.endswith((".timer", ".path", ".target", ".device")):
        return f"{key} '{text}' fits nothing: it has no processes; write '{text.rpartition('.')[0]}.service'"
    above = "/user.slice/user-1000.slice/user@1000.service" if key == "user_unit" else ""
    if getattr(parse_units(f"{above}/{text}"), key) == text:
        return ""
    name = text.rpartition("/")[2]
    kind = "user unit" if key == "user_unit" else "unit"
    if name.endswith(".slice"):
        return f"{key} '{text}' fits nothing: it isn't the whole name of a {kind} with processes; use slice or cgroup"
    if name.endswith("@.service"):
        return f"{key} '{text}' fits nothing: it isn't the whole name of a unit; write '{name[:-8]}*.service' for all"
    kind_of_unit = "scope" if re.match(r"session-\w+|run-\w+-i\d+", name) else "service"
    example = f"{name.partition('.')[0] or name}.{kind_of_unit}"
    return f"{key} '{text}' fits nothing: it isn't the whole name of a {kind} with processes, such as '{example}'"


_USER_SLICES = ("app.slice", "session.slice", "background.slice")


def _slice(key: str, pattern: Pattern) -> str:
    text = pattern.text
    if pattern.is_glob:
        return _of_glob(key, text, (".slice",))
    if text == "-.slice":
        return ""
    if text == "user.slice":
        return (
            "slice 'user.slice' fits only what is directly in it, and each user's processes are in a slice of its own "
            "below it; write 'user-*.slice'"
        )
    if text in _USER_SLICES:
        return (
            f"slice '{text}' fits nothing: it is a slice of users' own managers, which don't count here; write "
            f'cgroup = "*/{text}/*"'
        )
    if parse_units(f"/{text}").slice == text:
        return ""
    name = text.rstrip("/").rpartition("/")[2]
    example = name if name.endswith(".slice") else f"{name.partition('.')[0]}.slice"
    if example == text or parse_units(f"/{example}").slice != example:
        example = "system.slice"
    if example == "user.slice":
        example = "user-*.slice"
    return f"slice '{text}' fits nothing: it isn't the whole name of a slice, such as '{example}'"


_BY_KEY = {
    "comm": _comm,
    "cmdline": _cmdline,
    "cgroup": _cgroup,
    "unit": _unit,
    "user_unit": _unit,
    "slice": _slice,
}
