"""Warns of executables that rules name, by the files on this machine."""

import os
import re
import shutil
import stat

from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.config.lint_texts import WILD

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


def path(text: str, *, is_glob: bool) -> str:
    """The warning about the path or glob of an executable; empty: none."""
    if text[0] not in ("/", *WILD):
        return _relative(text)
    if text.endswith(" (deleted)"):
        return f"exe '{text}' fits nothing: \" (deleted)\" is no part of the path; leave it out"
    plain = _plain(text)
    if plain != text and not is_glob and os.path.isdir(plain):
        return f"exe '{text}' fits nothing: it is a directory; write '{plain.rstrip('/')}/*' for all programs below it"
    if plain != text:
        return f"exe '{text}' fits nothing: programs show the plain path; write '{plain}'"
    place = literal_directory(text) if is_glob else text
    if not place or place == "/":
        return ""
    real = os.path.realpath(place)
    if real != place:
        return (
            f"exe '{text}' fits nothing: {place} is reached by a symbolic link here, and programs show the path behind "
            f"it; write '{real}{text[len(place) :]}'" + ("" if is_glob else _kind(real))
        )
    if not os.path.lexists(place):
        return _not_there(text, place)
    return "" if is_glob else _wrong_kind(text)


def _relative(text: str) -> str:
    if match := re.match(r"(?:regexp?|re|pcre|rx|~)[:=~ ]{0,2}(?=[/^.])", text):
        return f"exe '{text}' fits nothing; a regular expression is written {{ regex = '{text[match.end() :]}' }}"
    if match := re.match(r"(?:file|path|glob|exe)[:=]/{0,2}(?=/)", text):
        return (
            f"exe '{text}' fits nothing; a path is written without what stands before it; write '{text[match.end() :]}'"
        )
    name = text.partition(" ")[0]
    found = shutil.which(name, path=_USUAL_PATH) if "/" not in name and not set(WILD) & set(name) else None
    advice = f"write '{os.path.realpath(found)}'" if found else "write one"
    return f"exe '{text}' fits nothing: an executable is shown by its whole path; {advice}, or use comm"


def _plain(text: str) -> str:
    """The path as the kernel shows it: without double slashes, without `.` and `..`, and without a slash at the end."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == ".." and parts and not set(WILD) & set(parts[-1]):
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if text.startswith("/") else "") + "/".join(parts)


def _not_there(text: str, place: str) -> str:
    words = re.split(r"[ \t]+", text, maxsplit=1)
    if len(words) == 2 and (os.path.isfile(words[0]) or (text[0] == "/" and words[1].startswith("-"))):
        return (
            f"exe '{text}' fits nothing: arguments are no part of the path; write exe = \"{words[0]}\" and "
            f'cmdline = "* {words[1]}"'
        )
    return f"exe '{text}' fits no program now: there is no {place} here; that is right if it is installed later"


def _wrong_kind(text: str) -> str:
    try:
        status = os.stat(text)
    except OSError:
        return ""
    if stat.S_ISDIR(status.st_mode):
        return f"exe '{text}' fits nothing: it is a directory; write '{text}/*' for all programs below it"
    if not stat.S_ISREG(status.st_mode):
        return f"exe '{text}' fits nothing: it is no regular file"
    interpreter = _interpreter(text)
    if interpreter:
        comm = os.path.basename(text).encode()[:COMM_MAX].decode(errors="ignore")
        return (
            f"exe '{text}' fits nothing: it is a script, and what runs is {interpreter}; write comm = \"{comm}\" or "
            f'cmdline = "*{text}*"'
        )
    if not status.st_mode & 0o111:
        return f"exe '{text}' fits nothing: the file isn't executable"
    return ""


def _kind(real: str) -> str:
    """The warning about the path `real` to which a link leads, as the end of another sentence."""
    interpreter = _interpreter(real) if os.path.isfile(real) else ""
    return f"; but that is a script, and what runs is {interpreter}: use comm or cmdline" if interpreter else ""


def _interpreter(file: str) -> str:
    """The interpreter of a script; empty: the file is no script, or can't be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        first = os.read(descriptor, 256)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    if not first.startswith(b"#!"):
        return ""
    return first[2:].split(b"\n")[0].strip().decode(errors="backslashreplace") or "its interpreter"


def literal_directory(glob: str) -> str:
    """The part of a glob up to the last slash before its first wildcard; empty: there is none."""
    at = min(i for i in map(glob.find, WILD) if i >= 0)
    return glob[:at].rpartition("/")[0] or ("/" if glob.startswith("/") else "")
