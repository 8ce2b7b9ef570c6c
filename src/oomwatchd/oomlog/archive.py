"""Reads the members of a tar or zip archive in one pass, from first to last.

So an archive can come from standard input, a cut archive is read up to the cut, and the memory that this takes doesn't
grow with the number of members or with what their headers claim. Python's tarfile and zipfile keep the names of all
members, and zipfile needs the end of the file. So the headers are read here: tar's by `tarfile.TarInfo`, zip's local
headers by APPNOTE.TXT 4.3.7. Names are only shown, and nothing is written under them. Links and devices are skipped."""

import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from oomwatchd.oomlog import mail
from oomwatchd.oomlog.stream import PIECE, Damaged, Stream, raise_damage
from oomwatchd.oomlog.unpack import one_part

MAX_MEMBERS = 100_000
_MAX_HEADER = 1 << 20
"""The largest header with a long name or pax records that is read. A real one has some hundred bytes."""
_BLOCK = 512
_LONG_NAME, _PAX, _PAX_GLOBAL = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE)
_HEADERS = (_LONG_NAME, _PAX, _PAX_GLOBAL, tarfile.GNUTYPE_LONGLINK, tarfile.SOLARIS_XHDTYPE)
_FILES = (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
"""Types of members that have no data, whatever size their header has. Directories, and unknown types, may have data."""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file in an archive. `body`: its content. A part that isn't read is skipped when the next entry is asked for.
    `changed`: seconds since 1970; None: the archive doesn't say."""

    name: str
    changed: float | None
    body: Stream


def entries(stream: Stream, kind: str) -> Iterator[ArchiveEntry]:
    """The regular files of an archive of that kind ("tar", "zip", "mail"). Raises Damaged where it is cut or damaged,
    after what stands before that."""
    for count, entry in enumerate(_READERS[kind](stream)):
        if count >= MAX_MEMBERS:
            raise Damaged(f"it has more than {MAX_MEMBERS} files")
        yield entry
        while entry.body.read_some():
            pass
        raise_damage(entry.body)


def _exactly(stream: Stream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise_damage(stream)
        raise Damaged("it is cut off")
    return data


def _bounded(stream: Stream, size: int, padding: int = 0) -> Iterator[bytes]:
    """The next `size` bytes of `stream`. The `padding` bytes behind them are skipped."""
    while size > 0:
        piece = stream.read(min(size, PIECE))
        if not piece:
            raise_damage(stream)
            raise Damaged("it is cut off")
        size -= len(piece)
        yield piece
    stream.skip(padding)


# tar


def _tar(stream: Stream) -> Iterator[ArchiveEntry]:
    name: str | None = None
    size: int | None = None
    while block := _header_block(stream):
        info = _tar_info(block)
        if info.type in _HEADERS:
            name, size = _extended(stream, info, name, size)
            continue
        if info.type == tarfile.GNUTYPE_SPARSE:
            _skip_sparse_map(stream, block)
        length = info.size if size is None else size
        if info.type in _FILES and not block[:100].endswith(b"/"):
            body = Stream(_bounded(stream, length, -length % _BLOCK))
            yield ArchiveEntry(name or info.name, float(info.mtime), body)
        elif info.type not in _WITHOUT_DATA:
            stream.skip(length + -length % _BLOCK)
        name = size = None


def _header_block(stream: Stream) -> bytes:
    """The next block that isn't zeros, empty at the end. Two blocks of zeros end an archive, but another may follow."""
    while block := stream.read(_BLOCK):
        if len(block) < _BLOCK:
            raise_damage(stream)
            raise Damaged("it is cut off")
        if block.strip(b"\0"):
            return block
    return b""


def _tar_info(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise Damaged(f"it is damaged ({error})") from None
    if info.size < 0:
        raise Damaged("it is damaged (a negative size)")
    if info.type in _HEADERS and info.size > _MAX_HEADER:
        raise Damaged("it is damaged (a header of more than 1 MiB)")
    return info


def _extended(
    stream: Stream, info: tarfile.TarInfo, name: str | None, size: int | None
) -> tuple[str | None, int | None]:
    """Read a header that stands before the member's own. Returns the name and size of the member, as far as such
    headers tell them. `name` and `size`: what the headers before this one have told; None: nothing."""
    text = _exactly(stream, info.size)
    stream.skip(-info.size % _BLOCK)
    if info.type == _LONG_NAME:
        return text.rstrip(b"\0").decode("utf-8", "surrogateescape"), size
    return _pax(text, name, size) if info.type == _PAX else (name, size)


def _skip_sparse_map(stream: Stream, header: bytes) -> None:
    """GNU tar's old form of a file with holes: further blocks with its map stand before its data."""
    more = header[482]
    while more:
        more = _exactly(stream, _BLOCK)[504]


def _pax(text: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Path and size out of a pax header: records "length key=value\\n" (pax(1))."""
    at = 0
    while (blank := text.find(b" ", at, at + 20)) >= 0:
        if not text[at:blank].isdigit() or (length := int(text[at:blank])) <= blank - at:
            break
        key, _, value = text[blank + 1 : at + length - 1].partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit() and len(value) < 19:
            size = int(value)
        at += length
    return name, size


# zip

_LOCAL = struct.Struct("<4s5H3I2H")
# APPNOTE.TXT 4.4.5: methods; 4.4.4: flags.
_STORED = 0
_METHODS = {8: "deflate", 12: "bzip2", 14: "lzma of zip", 93: "zstd", 95: "xz"}
_UNPACKED = (8, 12)
_ENCRYPTED, _SIZES_BEHIND, _UTF8 = 1, 8, 0x800
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Member:
    """A local header of a zip archive. `packed`: size in bytes; None: the header doesn't say. `changed`: as in
    `ArchiveEntry`."""

    name: str
    flags: int
    method: int
    packed: int
    changed: float | None


def _zip(stream: Stream) -> Iterator[ArchiveEntry]:
    while stream.peek(4) == b"PK\x03\x04":
        member = _local_header(stream)
        body = _unpacked(stream, member)
        if not member.name.endswith("/"):
            yield ArchiveEntry(member.name, member.changed, body)
        while body.read_some():
            pass
        raise_damage(body)
        if member.flags & _SIZES_BEHIND:
            _skip_descriptor(stream)
    start = stream.peek(4)
    if not start.startswith(b"PK"):
        raise_damage(stream)
        raise Damaged("it is damaged" if start else "it is cut off")
    while stream.read_some():  # the directory
        pass


def _local_header(stream: Stream) -> _Member:
    _, _, flags, method, time, date, _, packed, size, name_length, extra_length = _LOCAL.unpack(
        _exactly(stream, _LOCAL.size)
    )
    raw_name, extra = _exactly(stream, name_length), _exactly(stream, extra_length)
    name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "surrogateescape")
    return _Member(name, flags, method, _zip64(extra, packed, size), _dos_time(date, time))


def _unpacked(stream: Stream, member: _Member) -> Stream:
    """The content of a member. Raises Damaged where it can't be had in one pass, or without a password."""
    if member.flags & _ENCRYPTED:
        raise Damaged(f"{member.name} in it is encrypted; unpack it with its password first (unzip)")
    if member.method == _STORED and member.flags & _SIZES_BEHIND:
        raise Damaged(f"the size of {member.name} in it isn't known where it begins; unpack it first (unzip)")
    if member.method == _STORED:
        return Stream(_bounded(stream, member.packed))
    if member.method in _UNPACKED:
        return Stream(one_part(stream, _METHODS[member.method]))
    how = _METHODS.get(member.method, f"method {member.method}")
    raise Damaged(f"{member.name} in it is packed with {how}; unpack it first (unzip, 7z)")


def _zip64(extra: bytes, packed: int, size: int) -> int:
    """The packed size; one that takes more than 32 bits is in the extra field 1."""
    if packed != _UNKNOWN:
        return packed
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        place = at + 4 + (8 if size == _UNKNOWN else 0)
        if tag == 1 and place + 8 <= min(len(extra), at + 4 + length):
            return int(struct.unpack_from("<Q", extra, place)[0])
        at += 4 + length
    return packed


def _skip_descriptor(stream: Stream) -> None:
    """Checksum and sizes behind a member: with a mark or without, 32 or 64 bits wide."""
    start = stream.peek(28)
    for length in (16, 12, 24, 20):
        if start[length : length + 2] == b"PK":
            stream.skip(length)
            return
    stream.skip(16)


def _dos_time(date: int, time: int) -> float | None:
    try:
        moment = datetime(
            1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, min(59, 2 * (time & 31))
        )
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _mail(stream: Stream) -> Iterator[ArchiveEntry]:
    for name, changed, content in mail.parts(stream):
        yield ArchiveEntry(name, changed, Stream(iter((content,))))


_READERS: dict[str, Callable[[Stream], Iterator[ArchiveEntry]]] = {"tar": _tar, "zip": _zip, "mail": _mail}
ARCHIVES = frozenset(_READERS)
"""The kinds that `entries` reads."""
