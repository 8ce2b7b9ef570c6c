"""Reads the name in the header of a table, of a text that isn't TOML 1.0. Pure."""

import re

from oomwatchd.config.odd_characters import INVISIBLE, OPENING_QUOTES, name_of

KEY = re.compile(r"(?:[A-Za-z0-9_-]+|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*')")
DOT = re.compile(r"[ \t]*\.[ \t]*")


def header_key(name: str) -> list[str] | None:
    """The parts of a header's name; None: the name can't be split."""
    parts, at = [], 0
    while match := KEY.match(name, at):
        parts.append(match.group().strip("\"'"))
        dot = DOT.match(name, match.end())
        if dot is None:
            at = match.end()
            break
        at = dot.end()
    return parts if parts and at == len(name) else None


def about_header(name: str) -> str:
    """About a name that can't be split into its parts."""
    if named := re.fullmatch(r"rules?[ \t]+[\"']?([^\"']+)[\"']?", name):
        return f'A rule has no name in its header; write [[rule]], and name = "{named[1]}"'
    odd = re.search(f"[{INVISIBLE}{OPENING_QUOTES}]", name)
    if odd is not None:
        return f"The name in the header has {name_of(odd[0])}; write it anew"
    return "This isn't the header of a table; write [daemon] or [[rule]]"
