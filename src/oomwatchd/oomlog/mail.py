"""Mails and mailboxes with logs in them: the texts and attachments, decoded (RFC 2045, RFC 4155)."""

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from email.utils import parsedate_to_datetime

from oomwatchd.oomlog.stream import PIECE, Damaged, Stream, raise_damage

LOOK = 64 << 10
"""How much of a file `is_mail` is to see."""
MAX_BYTES = 64 << 20
_FIRST = re.compile(
    rb"\s*(?:From \S+ [^\n]*\d\d:\d\d[^\n]*\n)?"
    rb"(?:Return-Path|Received|Delivered-To|Date|From|To|Subject|MIME-Version|Message-ID|Content-[\w-]+|X-[\w-]+"
    rb"|DKIM-Signature|Authentication-Results|ARC-[\w-]+|List-[\w-]+|Reply-To|References|In-Reply-To|User-Agent): ",
    re.IGNORECASE,
)
_CODED = re.compile(
    rb"(?im)^Content-(?:Transfer-Encoding:\s{1,9}(?:base64|quoted-printable)|Type:\s{1,9}multipart/)",
)
_NEXT_MAIL = re.compile(rb"(?m)^From \S+ [^\n]*\d\d:\d\d[^\n]*\n(?=[\w-]+: )")


def is_mail(start: bytes) -> bool:
    """Whether a file that begins so is a mail that has to be decoded. One of plain text is read as it is."""
    return _FIRST.match(start) is not None and _CODED.search(start) is not None


def parts(stream: Stream) -> Iterator[tuple[str, float | None, bytes]]:
    """Name, date (seconds since 1970) and content of each text and attachment, in their order. Raises Damaged."""
    text = b""
    while piece := stream.read(PIECE):
        text += piece
        if len(text) > MAX_BYTES:
            raise Damaged(f"a mailbox of more than {MAX_BYTES >> 20} MiB; save the mail by itself first")
    starts = [match.start() for match in _NEXT_MAIL.finditer(text)]
    if not starts or text[: starts[0]].strip():
        starts.insert(0, 0)
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(text)], strict=True), start=1):
        whole = _parsed(re.sub(rb"\AFrom [^\n]*\n", b"", text[start:end].lstrip()))
        changed = _date(whole[0])
        for place, part in enumerate(whole, start=1):
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and content.strip():
                yield _file_name(part) or f"mail-{number}.{place}", changed, content
    raise_damage(stream)


def _parsed(raw: bytes) -> "list[Message[str, str]]":
    """A mail and all its parts, at any depth. Raises Damaged."""
    try:
        return list(message_from_bytes(raw).walk())
    except RecursionError:
        raise Damaged("a mail with hundreds of parts within each other") from None


def _file_name(part: "Message[str, str]") -> str | None:
    try:
        return part.get_filename()
    except ValueError:  # "filename*" with a number of thousands of digits
        return None


def _date(mail: "Message[str, str]") -> float | None:
    try:
        return parsedate_to_datetime(str(mail.get("Date"))).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
