"""Quotation marks around the kernel's words, from a record that was printed by another program. Pure."""

import re

from oomwatchd.oomlog.prefix import Line

_OPENING = re.compile(r"""(?:^|[\s=:\[{(,>|])(?P<quote>["'`])[^"'`]*$""")


def unquoted(parts: Line) -> Line | None:
    """A line whose prefix opens quotation marks (a field of CSV, YAML, JSON, a shell's or a program's string), without
    what closes them behind the text; None if there are none."""
    opening = _OPENING.search(parts.prefix)
    if opening is None or parts.text is None:
        return None
    quote = opening["quote"]
    body = parts.text.rstrip("\t \"'`}]),;|")
    closing = parts.text.find(quote, len(body))
    if closing < 0:
        return parts
    text = parts.text[:closing].replace(quote * 2, quote)
    return parts._replace(text=text.replace('\\"', '"') if quote == '"' else text)
