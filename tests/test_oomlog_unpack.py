"""Logs in containers: compressed, cut, damaged, in archives and folders, in other encodings, in JSON."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from oomwatchd.oomlog import gather
from oomwatchd.oomlog.learned import Learned
from oomwatchd.oomlog.logfile import SourceError, find_logs
from oomwatchd.oomlog.prefix import Line
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.source import kills
from oomwatchd.oomlog.spool import Spool

SIMPLE = (Path(__file__).parent / "data" / "oomlog" / "simple.kmsg").read_bytes()
TEXT = "".join(
    f"Nov 24 09:37:09 db1 kernel: {line.split(';', 1)[1]}\n" for line in SIMPLE.decode().splitlines()
).encode()
NOISE = b"".join(
    b"Nov 24 09:%02d:%02d db1 cron[%d]: (u%d) CMD (test)\n" % (38 + n // 60, n % 60, n * 7919 % 30000, n % 77)
    for n in range(1200)
)
BOTH = ["batch job", "leaker"]


def program(*command: str) -> Callable[[bytes], bytes]:
    def pack(text: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            pytest.skip(f"the program {command[0]} isn't installed")
        return subprocess.run(command, input=text, capture_output=True, check=True).stdout

    return pack


def lzma_alone(text: bytes) -> bytes:
    return lzma.compress(text, lzma.FORMAT_ALONE)


STANDARD = [gzip.compress, bz2.compress, lzma.compress, lzma_alone]
OTHERS = [program("zstd", "-c"), program("lz4", "-c"), program("compress", "-c"), program("lzip", "-c")]


def read(*paths: Path) -> tuple[list[OomKill], list[str]]:
    said: list[SourceError] = []
    found = list(kills([str(path) for path in paths], said.append))
    return found, [str(one) for one in said]


def victims(*paths: Path) -> list[str | None]:
    """Who died; nothing was wrong."""
    found, said = read(*paths)
    assert not said
    return [kill.victim.comm for kill in found if kill.victim is not None]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.parametrize("pack", [*STANDARD, *OTHERS])
def test_compressed(pack: Callable[[bytes], bytes], log: Path) -> None:
    log.write_bytes(pack(TEXT))
    assert victims(log) == BOTH


@pytest.mark.parametrize("pack", STANDARD)
def test_parts_one_behind_another_and_text_behind_them(pack: Callable[[bytes], bytes], log: Path) -> None:
    half = len(TEXT) // 2
    log.write_bytes(pack(TEXT[:half]) + pack(TEXT[half:]))
    assert victims(log) == BOTH
    log.write_bytes(pack(NOISE) + TEXT)
    assert victims(log) == BOTH


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lzma_alone])
@pytest.mark.parametrize("harm", ["cut", "damaged"])
def test_what_stands_before_the_damage_is_read(pack: Callable[[bytes], bytes], harm: str, log: Path) -> None:
    packed = bytearray(pack(TEXT + NOISE))
    where = len(packed) * 3 // 4
    log.write_bytes(packed[:where] if harm == "cut" else packed[:where] + b"\xff" * 64 + packed[where + 64 :])
    found, said = read(log)
    assert [kill.victim.comm for kill in found if kill.victim is not None] == BOTH
    assert len(said) == 1
    assert said[0].startswith(f"Failed to read all of {log}: it is {'cut off' if harm == 'cut' else 'damaged'}")


def test_a_file_that_can_not_be_unpacked_is_reported(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(range(64)))
    monkeypatch.setenv("PATH", "/nowhere")
    assert read(log) == (
        [],
        [f"Failed to read {log}: it is packed with zstd, and the program zstd isn't installed (package zstd)."],
    )
    log.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    assert read(log) == ([], [f"Failed to read {log}: it is a 7-Zip archive; unpack it first."])


def test_text_that_begins_like_something_packed(log: Path) -> None:
    log.write_bytes(b"BZh is a word\n" + TEXT)
    assert victims(log) == BOTH


# Archives


def tar(members: list[tuple[str, bytes, int]], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data, mtime in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_rotated_members_of_an_archive_are_one_log(mode: str, log: Path) -> None:
    cut = TEXT.index(b"\n", len(TEXT) // 3) + 1
    log.write_bytes(tar([("l/kern.log", TEXT[cut:], 9), ("l/kern.log.1.gz", gzip.compress(TEXT[:cut]), 8)], mode))
    assert victims(log) == BOTH
    assert read(log)[0][0].file == f"{log}/l/kern.log.1.gz"


def test_zip(log: Path) -> None:
    with zipfile.ZipFile(log, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("var/log/kern.log", TEXT)
        archive.writestr("stored", NOISE, zipfile.ZIP_STORED)
        archive.writestr("inner.tar.gz", tar([("messages", TEXT.replace(b" db1 ", b" db2 "), 1)], "w:gz"))
    assert sorted(name or "" for name in victims(log)) == sorted(BOTH * 2)
    log.write_bytes(log.read_bytes()[:-200])
    assert len(read(log)[0]) == 4
    assert read(log)[1] == [f"Failed to read all of {log}: it is cut off. What stands before that was read."]


def test_an_encrypted_zip_is_reported(log: Path) -> None:
    with zipfile.ZipFile(log, "w") as archive:
        archive.writestr("kern.log", TEXT)
    raw = bytearray(log.read_bytes())
    raw[6] |= 1
    log.write_bytes(raw)
    assert "is encrypted" in read(log)[1][0]


def test_members_whose_names_lead_elsewhere_are_only_read(log: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, target in (("a", tarfile.SYMTYPE, "/etc/passwd"), ("b", tarfile.CHRTYPE, ""), ("f", b"6", "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        info = tarfile.TarInfo("../../../../" + "x" * 200)
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    log.write_bytes(out.getvalue())
    assert victims(log) == BOTH
    assert os.listdir(log.parent) == ["log"]


def test_archives_without_end(log: Path) -> None:
    packed = TEXT
    for _ in range(12):
        packed = gzip.compress(packed)
    log.write_bytes(packed)
    assert read(log) == ([], [f"Failed to read {log}: it is packed too often, one thing inside another."])
    packed = TEXT
    for _ in range(12):
        packed = tar([("a", packed, 1)])
    log.write_bytes(packed)
    found, said = read(log)
    assert not found
    assert "packed too often" in said[0]


def test_a_bomb_stops_at_the_limit(log: Path) -> None:
    log.write_bytes(tar([("a", TEXT, 1), ("b", b"x\n" * (8 << 20), 1)], "w:gz"))
    said: list[SourceError] = []
    spool = Spool(limit=1 << 20)
    assert [found.name for found in find_logs([str(log)], spool, said.append)] == [f"{log}/a"]
    assert [str(one).split(",")[0] for one in said] == [f"Failed to read {log}/b: it unpacks to more than 1 MiB"]
    spool.close()


@pytest.mark.parametrize("offset", [0, 100, 124, 148, 156, 500])
def test_a_damaged_tar(offset: int, log: Path) -> None:
    first, rest = tar([("a", TEXT, 1)])[: -10240 % 512 or None], tar([("b", NOISE, 1)])
    size = 512 + len(TEXT) + -len(TEXT) % 512
    raw = bytearray(first[:size] + rest)
    raw[size + offset] ^= 0x55
    log.write_bytes(raw)
    found, said = read(log)
    assert [kill.victim.comm for kill in found if kill.victim is not None] == BOTH
    assert len(said) == 1


# Folders


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sos"
    (folder / "var/log").mkdir(parents=True)
    (folder / "var/log/messages").write_bytes(TEXT)
    (folder / "var/log/lastlog").write_bytes(bytes(5000) + TEXT)
    (folder / "var/log/old.gz").write_bytes(gzip.compress(NOISE))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(TEXT)
    (folder / "link").symlink_to(elsewhere)
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    assert victims(folder) == BOTH
    assert victims(folder, folder / "var/log/messages") == BOTH


def test_a_pipe_and_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", 'gzip -c "$0" > "$1"', tmp_path / "log", pipe]) as writer:
        pass_on = tmp_path / "log"
        pass_on.write_bytes(TEXT)
        found, said = read(pipe)
        assert writer.wait() == 0
    assert not said
    assert len(found) == 2
    assert "it is a device" in read(Path("/dev/zero"))[1][0]


# Encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_encodings(encoding: str, log: Path) -> None:
    log.write_bytes(TEXT.decode().replace("\n", "\r\n").encode(encoding))
    assert victims(log) == BOTH


# JSON

LINES = TEXT.decode().splitlines()
BARE = [line.partition("kernel: ")[2] for line in LINES]


def nested(**outer: object) -> list[dict[str, object]]:
    return [{**outer, "_source": {"@timestamp": "2025-11-24T09:37:09Z", "message": line}} for line in BARE]


SHAPES: dict[str, object] = {
    "array": [{"timestamp": "2025-11-24T09:37:09Z", "textPayload": line + "\r\n"} for line in BARE],
    "search": {"took": 3, "hits": {"total": 9, "hits": nested(_index="logs")}},
    "attributes": [{"id": 1, "attributes": {"message": line, "timestamp": 1763977029000}} for line in BARE],
    "gelf": [{"version": "1.1", "host": "db1", "short_message": line, "timestamp": 1763977029.5} for line in BARE],
    "payload": [{"jsonPayload": {"message": line}, "timestamp": "2025-11-24T09:37:09Z"} for line in BARE],
    "streams": {"data": {"result": [{"stream": {"h": "a"}, "values": [["1763977029000000000", one] for one in BARE]}]}},
    "rows": {"tables": [{"columns": ["t", "m"], "rows": [["2025-11-24T09:37:09Z", "db1", one] for one in BARE]}]},
    "bytes": [{"__REALTIME_TIMESTAMP": "1763977029000000", "_TRANSPORT": "kernel", "MESSAGE": list(one.encode())}
              for one in BARE],
    "lines": LINES,
    "string": {"InstanceId": "i-1", "Output": "\r\n".join(LINES)},
    "escaped": {"content": "\\n".join(LINES)},
    "telemetry": {"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"timeUnixNano": "1763977029000000000", "body": {"stringValue": one}} for one in BARE]}]}]},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("indent", [None, 2])
def test_json(name: str, indent: int | None, log: Path) -> None:
    log.write_text(json.dumps(SHAPES[name], indent=indent))
    found, said = read(log)
    assert not said
    assert [kill.victim.comm for kill in found if kill.victim is not None] == BOTH
    assert all(isinstance(kill.time, str) and "-11-24T09:37:09" in kill.time for kill in found)
    assert [len(kill.tasks or ()) for kill in found] == [4, 3]


def test_json_objects_one_after_another(log: Path) -> None:
    log.write_text("\x1e".join(json.dumps(one, indent=2) for one in nested()))
    assert victims(log) == BOTH


def test_json_too_large_for_one_piece_is_entered(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oomwatchd.oomlog.json_document.WHOLE", 4096)
    for name in ("search", "rows", "string"):
        log.write_text(json.dumps(SHAPES[name], indent=1))
        assert victims(log) == BOTH, name


def test_json_that_is_cut(log: Path) -> None:
    log.write_text(json.dumps(SHAPES["array"] + nested() * 3, indent=1)[:-5000])  # type: ignore[operator]
    found, said = read(log)
    assert len(found) >= 2
    assert said == [f"Failed to read all of {log}: the JSON is cut off. What stands before that was read."]


def test_a_mail_with_very_many_parts_within_each_other(log: Path) -> None:
    parts = "".join(f"Content-Type: multipart/mixed; boundary=x{n}\n\n--x{n}\n" for n in range(1000))
    log.write_text(f"From: root@db1\n{parts}")
    why = "a mail with hundreds of parts within each other"
    assert read(log) == ([], [f"Failed to read all of {log}: {why}. What stands before that was read."])


def test_a_mail_whose_file_name_cant_be_read(log: Path) -> None:
    head = f"From: a\nContent-Type: text/plain\nContent-Disposition: attachment; filename*{'9' * 5000}=x\n"
    log.write_bytes(f"{head}Content-Transfer-Encoding: quoted-printable\n\n".encode() + TEXT.replace(b"=", b"=3D"))
    assert victims(log) == BOTH


def test_json_of_another_program_is_not_believed(log: Path) -> None:
    log.write_text(json.dumps([{"program": "npd", "message": line} for line in BARE], indent=1))
    assert victims(log) == []
    faked = {"__REALTIME_TIMESTAMP": "1", "_TRANSPORT": "syslog", "SYSLOG_IDENTIFIER": "kernel"}
    log.write_text("\n".join(json.dumps({**faked, "MESSAGE": line}) for line in BARE))
    assert victims(log) == []


def test_no_prefix_makes_the_search_for_it_long() -> None:
    """NULs in a prefix once became a pattern that takes years over digits."""
    learned = Learned()
    learned.learn("\0" * 60 + "x|Mem-Info:")
    assert learned.split(Line("", "9" * 60 + "y")) is None


@pytest.mark.parametrize("text", [b"time,message\r,x\n", b'time,message\n1,"' + b"x" * 200_000 + b'"\n'])
def test_what_only_looks_like_csv(text: bytes, log: Path) -> None:
    log.write_bytes(text + TEXT)
    assert isinstance(read(log)[0], list)


def test_an_event_of_two_logs_that_has_a_time_in_one(log: Path) -> None:
    log.write_bytes(TEXT)
    kill = read(log)[0][0]
    told = list(gather.history([[replace(kill, time=None, truncated=False)], [replace(kill, truncated=True)]]))
    assert {one.time for one in told} >= {kill.time}
    assert gather._joined(replace(kill, time=None), replace(kill, truncated=True)).time == kill.time


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (random.Random(1).randbytes(5000), "it holds no text"),
        (b"%PDF-1.7\n%%EOF\n", "copy its text"),
        (b"\x7fELF\x02\x01" + b"a" * 999, "vmcore-dmesg"),
    ],
)
def test_a_file_that_is_no_log_is_reported_if_asked_for(content: bytes, said: str, log: Path) -> None:
    log.write_bytes(content)
    found, failures = read(log)
    assert not found
    assert said in failures[0]
    assert read(log.parent) == ([], [])


def test_a_log_in_a_folder_may_begin_with_nuls(log: Path) -> None:
    line = b"[   12.000000] Out of memory: Killed process 7 (a) total-vm:4kB, anon-rss:4kB, file-rss:0kB\n"
    log.write_bytes(b"\0" * 9000 + line)
    found, failures = read(log.parent)
    assert [kill.victim.pid for kill in found if kill.victim is not None] == [7]
    assert not failures


def test_the_last_record_is_cut(log: Path) -> None:
    head = {"_TRANSPORT": "kernel", "_HOSTNAME": "h1", "__REALTIME_TIMESTAMP": "1773547655927515"}
    texts = (
        "a invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=0",
        "Out of memory: Killed process 7 (a) total-vm:4kB, anon-rss:4kB, file-rss:0kB",
    )
    log.write_text("\n".join(json.dumps({**head, "MESSAGE": text}) for text in texts)[:-20])
    found, _ = read(log)
    assert [(kill.host, kill.victim.pid) for kill in found if kill.victim is not None] == [("h1", 7)]
    assert len(found) == 1
