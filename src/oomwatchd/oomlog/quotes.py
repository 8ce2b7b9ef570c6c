"""Removes quotation marks that another program has put around the kernel's words. Pure."""

import re

from oomwatchd.oomlog.prefix import Line

_OPENING = re.compile(r"""(?:^|[\s=:\[{(,>|])(?P<quote>["'`])[^"'`]*$""")

_LINE_FEED = re.compile(r"(?:\\r)?\\n$")
"""A line feed at the end of a string, as a program's source shows it."""


def unquoted(parts: Line) -> Line | None:
    """The line without the quotation mark that closes its text, and without what follows that. None: its prefix doesn't
    end with an opening quotation mark, as that of a field of CSV, YAML or JSON, or of a string in a program does."""
    opening = _OPENING.search(parts.prefix)
    if opening is None or parts.text is None:
        return None
    quote = opening["quote"]
    body = parts.text.rstrip("\t \"'`}]),;|")
    closing = parts.text.find(quote, len(body))
    if closing < 0:
        return parts
    text = _LINE_FEED.sub("", parts.text[:closing]).replace(quote * 2, quote)
    return parts._replace(text=text.replace('\\"', '"') if quote == '"' else text)
