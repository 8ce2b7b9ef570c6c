"""Bytes that a process chose (names, arguments, paths, cgroups) as text that is safe to show."""

import functools


def decode(raw: bytes | str) -> str:
    """`raw` as UTF-8 text; each byte that isn't valid UTF-8 becomes ``\\xNN``. Control characters stay: this is
    for JSON, which escapes them itself. A `str` is one decoded with surrogateescape, as the facts in
    `oomwatchd.rules.criteria.Process` are."""
    if isinstance(raw, str):
        if raw.isascii():
            return raw
        raw = _encode(raw)
    return raw.decode("utf-8", "backslashreplace")


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON may hold it
        return text.encode("utf-8", "surrogatepass")


def printable(raw: bytes | str) -> str:
    """`raw` as one line that a terminal or the journal can take: invalid UTF-8, control characters and
    whatever else Unicode calls unprintable (bidirectional overrides, line separators) become ``\\xNN``, one
    for each byte of their UTF-8 form. Backslashes stay as they are: unit names hold them."""
    text = raw if isinstance(raw, str) else decode(raw)
    if text.isprintable():  # no surrogate is
        return text
    text = decode(text)
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes, as wcwidth(3) has it: characters of East Asia take two, combining
    ones none."""
    return len(text) if text.isascii() else _columns_of(text)


@functools.lru_cache(maxsize=1024)
def _columns_of(text: str) -> int:
    import unicodedata  # `status` hasn't the time for

    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(c) in ("W", "F")
        else 1
        for c in text
    )


def counted(number: int, what: str) -> str:
    """A number and a noun: "1 rule", "2 rules"."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
