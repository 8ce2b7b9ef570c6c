"""Recodes text to UTF-8 from UTF-16 (PowerShell's `>`) and UTF-32, with or without a byte order mark."""

import codecs
from collections.abc import Iterator

from oomwatchd.oomlog.stream import Stream, raise_damage

_LOOK = 4096
_CONTROL = bytes([*range(7), *range(14, 27)])
"""Characters that text has seldom: all below ESC, without BEL, BS, TAB, LF, VT, FF and CR."""
_MARKS = (  # the longer ones first: UTF-16's begins UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encoding_of(start: bytes) -> str | None:
    """ "utf-16-le" and the like; None for UTF-8 and all else."""
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    pairs = len(start) // 2
    if pairs < 8:
        return None
    # Mostly ASCII: every second byte is NUL. A log with NULs in it (a crash) has them in runs.
    even, odd = start[: 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
    if odd * 10 > 7 * pairs and even * 20 < pairs:
        return "utf-16-le"
    if even * 10 > 7 * pairs and odd * 20 < pairs:
        return "utf-16-be"
    return None


def as_utf8(stream: Stream) -> Stream:
    """The text of `stream` in UTF-8, without a byte order mark."""
    start = stream.peek(_LOOK)
    encoding = encoding_of(start)
    if encoding is not None:
        return Stream(_recoded(stream, encoding))
    if start.startswith(codecs.BOM_UTF8):
        stream.skip(len(codecs.BOM_UTF8))
    return stream


def _recoded(stream: Stream, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while piece := stream.read_some():
        yield decoder.decode(piece).replace("\ufeff", "").encode("utf-8", "backslashreplace")
    raise_damage(stream)


def is_text(start: bytes) -> bool:
    """Whether a file with this beginning may be a log."""
    return why_no_text(start) is None


def why_no_text(start: bytes) -> str | None:
    """Why a file with this beginning isn't a log, and what to do; None: it may be a log. NULs don't count: where power
    failed, a log has them."""
    for magic, why in _NO_LOGS:
        if start.startswith(magic):
            return why
    if encoding_of(start) is not None:
        return None
    start = start.replace(b"\0", b"")
    control = len(start) - len(start.translate(None, _CONTROL))
    strange = start.decode("utf-8", "replace").count("\ufffd")
    return "it holds no text" if control * 10 >= max(1, len(start)) or strange * 4 > len(start) else None


_NO_LOGS = (
    (b"%PDF-", "it is a PDF; copy its text into a file"),
    (b"\x7fELF", "it is a program or a memory dump; of a kernel's dump vmcore-dmesg(8) and crash(8) show the log"),
    (b"KDUMP   ", "it is a kernel's memory dump; vmcore-dmesg(8) and crash(8) show its log"),
)
