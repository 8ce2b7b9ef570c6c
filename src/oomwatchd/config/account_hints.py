"""Says what was meant by a name that no user or group has. Pure.

It is imported only where a configuration has such a name."""

import re
from collections.abc import Sequence

from oomwatchd.config.odd_characters import quoted
from oomwatchd.config.problems import suggestion


def about_name(kind: str, name: str, known: Sequence[str]) -> str:
    """What to write instead of `name`, behind "; "; empty: nothing is known. `kind`: "user" or "group". `known`: the
    names that there are."""
    bare = name.strip()
    if bare != name:
        return f'; a blank belongs to the name here, write {kind} = "{bare}"'
    if len(name) > 1 and name[0] in "@%&+":
        inner = name[1:]
        return f'; {name[0]} marks a group elsewhere; for processes that run with this group, write group = "{inner}"'
    if len(name) > 1 and name[0] in "!-~^":
        return f'; what is excluded stands in braces: not = {{ {kind} = "{name[1:]}" }}'
    if re.fullmatch(r"\d+ ?(?:-|\.\.|:) ?\d+", name):
        return f"; there are no ranges of numbers: write a list, {kind} = [1000, 1001]"
    if (marked := re.fullmatch(r"(?i:(?:e?[ug]id|user|group|name)[:=])\s?([\w.-]+)", name)) is not None:
        key = "group" if name[:1] in "gG" or name[:2].lower() == "eg" else "user"
        return f"; write {key} = {marked[1] if marked[1].isdecimal() else quoted(marked[1])}"
    if (parts := re.fullmatch(r"([\w.-]+):([\w.-]+)", name)) is not None and kind == "user":
        return f'; user and group are two keys: user = "{parts[1]}" and group = "{parts[2]}"'
    members = [part for part in re.split(r"[,;|\s]+", name) if part]
    if len(members) > 1:
        listed = ", ".join(f'"{member}"' for member in members)
        return f"; several are a list: {kind} = [{listed}]"
    return suggestion(name, known)
