"""Characters that TOML 1.0 doesn't know, but that editors, web pages and word processors put into a file. Pure."""

import unicodedata

INVISIBLE = "\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2069\u3000\ufeff"
"""Characters that look like a blank, or are invisible, for the brackets of a regular expression."""
LOOKALIKES = {"：": ":", "＝": "=", "，": ",", "［": "[", "］": "]", "｛": "{", "｝": "}"}
OPENING_QUOTES = "“”„‟‘’‚‛«»‹›″′`´＂＇"
"""Quotation marks that TOML doesn't know."""
DASHES = "−–—‒―‐‑﹣－"
"""Characters that look like a minus sign."""


def name_of(character: str) -> str:
    """A character for a message: itself, its number and its name, so that people can find it in their editor."""
    shown = f"'{character}' " if character.isprintable() and not character.isspace() else ""
    name = unicodedata.name(character, "control character").lower()
    return f"{shown}(U+{ord(character):04X}, {name})"


def quoted(text: str, *, literal: bool = False) -> str:
    """`text` as a TOML string, in single quotes where double ones would read it differently, or where `literal` asks
    for them."""
    if literal or "\\" in text or '"' in text:
        return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f'"{text}"'
