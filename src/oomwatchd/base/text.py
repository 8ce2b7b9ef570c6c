"""Shows bytes that a process has chosen (names, arguments, paths, cgroups) as safe text."""

import functools


def decode(raw: bytes | str) -> str:
    """`raw` as UTF-8 text; each byte that isn't valid UTF-8 becomes ``\\xNN``. Control characters stay: the text is for
    JSON, which escapes them. If `raw` is a `str`, it was decoded with surrogateescape, as the facts in
    `oomwatchd.rules.criteria.Process` are."""
    if isinstance(raw, str):
        if raw.isascii():
            return raw
        raw = _encode(raw)
    return raw.decode("utf-8", "backslashreplace")


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, which JSON may contain
        return text.encode("utf-8", "surrogatepass")


def printable(raw: bytes | str) -> str:
    """`raw` as one line that is safe on a terminal and in the journal. Invalid UTF-8, control characters and all that
    Unicode calls unprintable (bidirectional overrides, line separators) become ``\\xNN``, one for each byte of their
    UTF-8 form. Backslashes stay as they are, because names of units have them."""
    text = raw if isinstance(raw, str) else decode(raw)
    if text.isprintable():  # False for surrogates
        return text
    text = decode(text)
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def columns_of(text: str) -> int:
    """The number of columns that the text takes on a terminal, as by wcwidth(3): wide characters of East Asia take two,
    combining characters none."""
    return len(text) if text.isascii() else _columns_of(text)


@functools.lru_cache(maxsize=1024)
def _columns_of(text: str) -> int:
    import unicodedata  # not at the top: it would make `oomwatchctl status` slower

    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(c) in ("W", "F")
        else 1
        for c in text
    )


def counted(number: int, what: str) -> str:
    """A number and the English noun `what`: "1 rule", "2 rules"."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
