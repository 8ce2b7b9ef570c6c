"""Recognizes what a file is by its first bytes, and decompresses it. The name of a file doesn't count.

gzip, bzip2, xz and lzma come with Python; for zstd, lz4, compress (.Z), lzip and lzop the program of that name does it.
A file that is cut or damaged is read up to that place. The memory that this takes doesn't grow with the size of the
content."""

import base64
import bz2
import contextlib
import lzma
import re
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from oomwatchd.oomlog.stream import PIECE, Damaged, Stream, raise_damage

MAX_DEPTH = 8
"""Compressions and archives inside one another. Real ones have three; the rest never ends."""
_LZMA_MEMORY = 192 << 20
"""`xz -9` takes 65 MiB to unpack. A header may ask for 4 GiB."""

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
    (b"LZIP", "lzip"),
    (b"\x89LZO\0", "lzop"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"LPKSHHRH", "journal"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
)
_PROGRAMS = {
    "zstd": ("zstd", ("zstd", "-dcq")),
    "lz4": ("lz4", ("lz4", "-dcq")),
    "compress": ("gzip", ("gzip", "-dcq")),
    "lzip": ("lzip", ("lzip", "-dcq")),
    "lzop": ("lzop", ("lzop", "-dcq")),
}
"""Kind -> the package that has the program, and the command that unpacks standard input."""
UNREADABLE = frozenset(("7-Zip", "RAR"))


def kind_of(start: bytes) -> str | None:
    """What the first 512 bytes of a file say that it is: a kind of compression, "tar", "zip", "journal", one of
    UNREADABLE; None for anything else, so for text."""
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            # "BZh" may be text: a level, and the mark of a block or of the end must follow.
            if kind == "bzip2" and start[4:7] not in (b"1AY", b"\x17rE"):
                return None
            return kind
    if _is_lzma(start):
        return "lzma"
    if _is_base64(start):
        return "base64"
    return "tar" if start[257:262] == b"ustar" or _is_old_tar(start) else None


def is_compressed(kind: str | None) -> bool:
    """Whether `unpacked` takes this kind."""
    return kind in _STANDARD or kind in _PROGRAMS or kind == "base64"


_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{60,}(?:\r?\n|$))+[A-Za-z0-9+/]*={0,2}\s*")


def _is_base64(start: bytes) -> bool:
    """Whether this is something in base64 (RFC 4648), that holds text or what is packed: a console's output as a
    cloud's API gives it, a log that came by a terminal."""
    if _BASE64.fullmatch(start) is None:
        return False
    digits = re.sub(rb"\s", b"", start)
    plain = base64.b64decode(digits[: len(digits) // 4 * 4])
    return any(plain.startswith(magic) for magic, _ in _MAGIC) or (b" " in plain and _is_printable(plain))


def _is_printable(text: bytes) -> bool:
    return sum(byte < 9 or 13 < byte < 27 or byte > 126 for byte in text) * 50 < len(text)


def _from_base64(stream: Stream) -> Iterator[bytes]:
    digits = b""
    while piece := stream.read_some():
        digits += re.sub(rb"\s", b"", piece)
        whole = len(digits) // 4 * 4
        try:
            yield base64.b64decode(digits[:whole], validate=True)
        except ValueError as error:
            raise Damaged(f"it is damaged ({error})") from None
        digits = digits[whole:]
    raise_damage(stream)
    if digits:
        raise Damaged("it is cut off")


def _is_lzma(start: bytes) -> bool:
    """.lzma has no magic: lc/lp/pb in a byte, a dictionary of 2^n or 2^n + 2^(n-1), the size, often unknown."""
    if len(start) < 14 or start[0] >= 225 or start[13] != 0:
        return False
    dictionary, size = int.from_bytes(start[1:5], "little"), int.from_bytes(start[5:13], "little")
    top = 1 << max(0, dictionary.bit_length() - 1)
    return (
        12 <= dictionary.bit_length() <= 31
        and dictionary in (top, top + top // 2)
        and (size == (1 << 64) - 1 or size < 1 << 38)
    )


def _is_old_tar(start: bytes) -> bool:
    """tar before POSIX has no magic, but a checksum of its header."""
    if len(start) < 512 or not start[0] or not start[148:156].strip(b" \0").isdigit():
        return False
    try:
        noted = int(start[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return noted == sum(start[:148]) + 8 * ord(" ") + sum(start[156:512])


class _Decompressor(Protocol):
    """bz2.BZ2Decompressor, lzma.LZMADecompressor, and zlib's in their shape."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflate:
    """zlib's decompressor in the shape of the others. `wbits` as zlib.decompressobj() has it."""

    def __init__(self, wbits: int) -> None:
        self._object = zlib.decompressobj(wbits)
        self._tail = b""

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._object.decompress(self._tail + data, max(0, max_length))
        self._tail = self._object.unconsumed_tail
        return out


def _lzma(format_: int) -> Callable[[], _Decompressor]:
    return lambda: lzma.LZMADecompressor(format_, memlimit=_LZMA_MEMORY)


_STANDARD: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: _Inflate(31),
    "deflate": lambda: _Inflate(-15),
    "bzip2": bz2.BZ2Decompressor,
    "xz": _lzma(lzma.FORMAT_XZ),
    "lzma": _lzma(lzma.FORMAT_ALONE),
}


def unpacked(stream: Stream, kind: str) -> Stream:
    """What a compressed stream holds. Raises Damaged if the program that this takes isn't installed."""
    if kind == "base64":
        return Stream(_from_base64(stream))
    if kind not in _PROGRAMS:
        return Stream(_all_parts(stream, kind))
    package, command = _PROGRAMS[kind]
    if shutil.which(command[0]) is None:
        raise Damaged(f"it is packed with {kind}, and the program {command[0]} isn't installed (package {package})")
    return Stream(piped(command, stream))


def _all_parts(stream: Stream, kind: str) -> Iterator[bytes]:
    """The parts of a compressed file one after the other, and plain text behind them: `cat a.gz b.gz`, and a logger
    that wrote on into a file that was compressed already."""
    while True:
        yield from one_part(stream, kind)
        start = stream.peek(512).lstrip(b"\0")
        if not start:
            return
        if kind_of(stream.peek(512)) == kind:
            continue
        if _looks_like_text(start):
            yield b"\n"
            while piece := stream.read_some():
                yield piece
            raise_damage(stream)
            return
        raise Damaged("what follows the compressed part is neither compressed nor text")


def one_part(stream: Stream, kind: str) -> Iterator[bytes]:
    """One compressed part, up to its end; what follows stays in `stream`. Raises Damaged."""
    decompressor = _STANDARD[kind]()
    while not decompressor.eof:
        data = stream.read_some() if decompressor.needs_input else b""
        if not data and decompressor.needs_input:
            raise_damage(stream)
            raise Damaged("it is cut off")
        try:
            # A decompressor that fails keeps what it had got so far, so it is fed in small bites.
            for at in range(0, max(1, len(data)), _BITE):
                yield from _drained(decompressor, data[at : at + _BITE])
                if decompressor.eof:
                    stream.unread(data[at + _BITE :])
                    break
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise Damaged(f"it is damaged ({error})") from None
    stream.unread(decompressor.unused_data)


_BITE = 1 << 9


def _drained(decompressor: _Decompressor, data: bytes) -> Iterator[bytes]:
    """All that `data` makes."""
    while True:
        out = decompressor.decompress(data, PIECE)
        if out:
            yield out
        data = b""
        if decompressor.eof or decompressor.needs_input:
            return


def _looks_like_text(start: bytes) -> bool:
    return sum(byte < 9 or 13 < byte < 27 for byte in start) * 20 < len(start)


def piped(command: tuple[str, ...], stream: Stream | None) -> Iterator[bytes]:
    """What `command` makes of `stream`. Raises Damaged with what it says if it fails."""
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stream is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        stack.callback(_stop, process)
        assert process.stdout is not None
        if stream is not None:
            assert process.stdin is not None
            feeder = threading.Thread(target=_pour, args=(stream, process.stdin), daemon=True)
            feeder.start()
            stack.callback(feeder.join, 1)  # the thread may wait for a standard input that never ends
            stack.callback(_stop, process)
        while piece := process.stdout.read1(PIECE):  # type: ignore[attr-defined]
            yield piece
        if process.wait() != 0:
            raise Damaged(_last_words(said, command[0], process.returncode))
    if stream is not None:
        raise_damage(stream)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdout is not None:
        process.stdout.close()
    process.kill()
    process.wait()


def _pour(stream: Stream, sink: IO[bytes]) -> None:
    # Errors are ignored: the program ends early at a damaged file, and the reader may stop before the end.
    with contextlib.suppress(OSError, ValueError):
        while piece := stream.read_some():
            sink.write(piece)
    with contextlib.suppress(OSError, ValueError):
        sink.close()


def _last_words(said: IO[bytes], program: str, status: int) -> str:
    size = said.seek(0, 2)
    said.seek(max(0, size - 4096))
    words = [line.strip() for line in said.read().decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    reason = words[-1] if words else f"exit status {status}"
    return f"{program} says: {reason.rpartition(' : ')[2].removeprefix(f'{program}: ').rstrip('.')}"
