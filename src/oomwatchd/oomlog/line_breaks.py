"""Texts whose lines don't end in line feeds: another character, an escape, markup; or that break within lines, as
quoted-printable does. Found out by how a text begins, and made lines with line feeds. Pure but for the stream."""

import binascii
import re
from collections.abc import Callable, Iterator

from oomwatchd.oomlog.stream import PIECE, Stream, raise_damage

_LOOK = 64 << 10
_FEW = 4
"""With fewer breaks of a kind nothing is changed: a single line may hold the characters for another reason."""
# What separates lines instead of a line feed: bare CR (old Macs, progress bars), Unicode's separators, an escape that a
# shipper or rsyslog wrote ("\n", "#012"), a page's markup.
_BREAKS: tuple[re.Pattern[bytes], ...] = (
    re.compile(rb"\r(?!\n)"),
    re.compile(b"\xe2\x80\xa8|\xe2\x80\xa9|\xc2\x85"),
    re.compile(rb"(?:(?<!\\)\\r)?(?<!\\)\\n"),
    re.compile(rb"#015#012|#012"),
    re.compile(rb"<br\s{0,2}/?>", re.IGNORECASE),
    # A page that shows all in one line: only what each line begins with is left.
    re.compile(rb"(?<!kernel:) (?=\[ {0,6}\d{1,9}\.\d{6}\] )"),
    re.compile(rb" (?=\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d \d{4}\] )"),
    re.compile(rb" (?=[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d \S{1,64} [\w./@-]{1,64}(?:\[\d{1,10}\])?: )"),
    re.compile(rb" (?=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S{0,16} \S{1,64} [\w./@-]{1,64}(?:\[\d{1,10}\])?: )"),
)
_JSON = re.compile(rb"\A\s*(?:[{\[]\s*[\"{\[}\]]|\x1e\{|data: ?\{)|[{,]\s*\"[\w@.-]{1,40}\"\s?:\s?\"")
_FRAME = re.compile(rb"\n?([1-9]\d{0,5}) (?=<\d{1,3}>)")
_FRAME_HEAD = 16
_SOFT_BREAK = re.compile(rb"=\r?\n")
_OCTET = re.compile(rb"=(?:[0-9A-F]{2})")
_ITSELF = re.compile(rb"=(?!\r?\n|[0-9A-F]{2}|.?\Z)")
"""An equals sign that is neither a soft break, nor the beginning of an octet, nor at the end of what was read."""


def with_line_feeds(stream: Stream) -> Stream:
    """The text of `stream` with a line feed at the end of each line. One that has them comes back as it is."""
    head = stream.peek(_LOOK)
    if _is_quoted_printable(head):
        return Stream(_changed(stream, _plain_octets, b"\n"))
    if _are_frames(head):
        return Stream(_unframed(stream))
    feeds = head.count(b"\n")
    if _JSON.search(head) is not None:
        return stream
    for pattern in _BREAKS:
        if len(head) > _FEW and (count := len(pattern.findall(head))) >= _FEW and count > 3 * feeds:
            return Stream(_broken(stream, pattern))
    return stream


def _are_frames(head: bytes) -> bool:
    """Whether messages of syslog stand behind their lengths, RFC 6587, 3.4.1: "74 <4>1 2026-…"."""
    first = _FRAME.match(head)
    if first is None:
        return False
    end = first.end() + int(first[1])
    return _FRAME.match(head, end) is not None and head[first.end() : end].count(b"\n") <= 1


def _unframed(stream: Stream) -> Iterator[bytes]:
    """A line for each message. What follows a length that isn't true is left as it is."""
    while (frame := _FRAME.match(stream.peek(_FRAME_HEAD))) is not None:
        stream.skip(frame.end())
        yield stream.read(int(frame[1])).removesuffix(b"\n") + b"\n"
    while piece := stream.read_some():
        yield piece
    raise_damage(stream)


def _is_quoted_printable(head: bytes) -> bool:
    """Whether lines end in soft breaks (RFC 2045, 6.7), and "=" itself is written as "=3D". In a text with few of them,
    as in one short report, no "=" may stand for itself."""
    breaks = len(_SOFT_BREAK.findall(head)) if b"=3D" in head else 0
    if breaks == 0 or max(map(len, head.split(b"\n")[:-1]), default=0) > 78:
        return False
    return (breaks >= _FEW and len(_OCTET.findall(head)) >= _FEW) or _ITSELF.search(head) is None


def _broken(stream: Stream, pattern: re.Pattern[bytes]) -> Iterator[bytes]:
    """The stream with line feeds in place of what `pattern` matches. A piece ends before a match, since only there
    nothing is divided that belongs to a match."""
    held = b""
    while piece := stream.read_some():
        data = held + piece
        *breaks, last = [match.span() for match in pattern.finditer(data)] or [(0, 0)]
        if last[0] == 0 and len(data) > 4 * PIECE:
            yield pattern.sub(b"\n", data)
            held = b""
            continue
        begins = (0, *(end for _, end in breaks))
        ends = (*(start for start, _ in breaks), last[0])
        yield b"\n".join(data[begin:end] for begin, end in zip(begins, ends, strict=True))
        held = data[last[0] :]
    yield pattern.sub(b"\n", held)
    raise_damage(stream)


def _plain_octets(data: bytes) -> bytes:
    return binascii.a2b_qp(data)


def _changed(stream: Stream, change: Callable[[bytes], bytes], end: bytes) -> Iterator[bytes]:
    """What `change` makes of the stream, piece by piece. A piece ends behind `end` and not in a soft break."""
    held = b""
    while piece := stream.read_some():
        data = held + piece
        cut = data.rfind(end)
        while cut > 0 and data[max(0, cut - 2) : cut].rstrip(b"\r").endswith(b"="):
            cut = data.rfind(end, 0, cut)
        cut = len(data) if len(data) > 4 * PIECE and cut <= 0 else cut + 1
        yield change(data[:cut])
        held = data[cut:]
    yield change(held)
    raise_damage(stream)
