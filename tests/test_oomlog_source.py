"""Files, plain and compressed, rotated, in any order; and the verb's output."""

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from oomwatchd import ctl
from oomwatchd.oomlog.logfile import LogFile, SourceError
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.scan import BLOCK, scan
from oomwatchd.oomlog.source import in_order, kills
from oomwatchd.oomlog.stream import Stream

DATA = Path(__file__).parent / "data" / "oomlog"
SIMPLE = DATA / "simple.kmsg"


def read(*paths: Path) -> tuple[list[OomKill], list[SourceError]]:
    failures: list[SourceError] = []
    return list(kills([str(path) for path in paths], failures.append)), failures


def stream_of(data: bytes) -> Stream:
    return Stream(iter([data]))


def victims(found: list[OomKill]) -> list[str | None]:
    return [kill.victim.comm for kill in found if kill.victim is not None]


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", "zst"])
def test_compressed(kind: str, tmp_path: Path) -> None:
    text, packed = SIMPLE.read_bytes(), tmp_path / "anything"
    if kind == "zst":
        if shutil.which("zstd") is None:
            pytest.skip("the program zstd isn't installed")
        packed.write_bytes(subprocess.run(["zstd", "-c"], input=text, capture_output=True, check=True).stdout)
    else:
        pack: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
        packed.write_bytes(pack[kind](text))
    assert victims(read(packed)[0]) == ["batch job", "leaker"]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_damaged(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    packed = tmp_path / "kern.log.2.gz"
    packed.write_bytes(pack(SIMPLE.read_bytes())[:-900])
    found, failures = read(packed)
    assert len(failures) == 1
    assert len(found) <= 2


def test_a_file_that_is_not_there_does_not_stop_the_others(tmp_path: Path) -> None:
    found, failures = read(tmp_path / "none", SIMPLE)
    assert victims(found) == ["batch job", "leaker"]
    assert [str(failure) for failure in failures] == [
        f"Failed to read {tmp_path}/none: No such file or directory.",
    ]


def syslog(hour: int, text: str) -> str:
    return "".join(f"Nov 24 {hour:02}:37:09 db1 kernel: {line.split(';', 1)[1]}\n" for line in text.splitlines())


def test_rotated_parts_are_put_in_order_and_a_report_may_span_them(tmp_path: Path) -> None:
    lines = SIMPLE.read_text().splitlines(keepends=True)
    parts = {"kern.log.2.gz": lines[:40], "kern.log.1": lines[40:100], "kern.log": lines[100:]}
    for hour, (name, part) in enumerate(parts.items()):
        raw = syslog(hour, "".join(part)).encode()
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    given = [tmp_path / name for name in ("kern.log", "kern.log.1", "kern.log.2.gz")]
    found, failures = read(*given)
    assert not failures
    assert victims(found) == ["batch job", "leaker"]
    assert not any(kill.truncated for kill in found)


def test_rotated_parts_without_dates_go_by_name(tmp_path: Path) -> None:
    names = ["log", "log.1", "log.10", "log.2.gz", "log-20250102", "log-20250101.xz"]
    for name in names:
        (tmp_path / name).write_text("nothing\n")
    (family,) = in_order([LogFile(str(tmp_path / name), datetime(2026, 1, 1)) for name in names])
    order = [Path(log.name).name for log in family]
    assert order == ["log.10", "log.2.gz", "log.1", "log-20250101.xz", "log-20250102", "log"]


def test_parts_of_different_logs_are_not_joined(tmp_path: Path) -> None:
    lines = SIMPLE.read_text().splitlines(keepends=True)
    (tmp_path / "a.log").write_text("".join(lines[:30]))
    (tmp_path / "b.log").write_text("".join(lines[30:]))
    found, _ = read(tmp_path / "a.log", tmp_path / "b.log")
    assert len(found) == 3
    assert found[0].truncated
    assert found[1].truncated


@pytest.mark.parametrize("gap", [0, 1000, BLOCK // 2, BLOCK - 300, 3 * BLOCK])
def test_a_report_anywhere_in_a_long_log(gap: int) -> None:
    noise = b"Nov 24 09:37:09 db1 systemd[1]: Started Session 17 of User root.\n"
    filler = noise * (gap // len(noise))
    text = SIMPLE.read_bytes()
    stream = stream_of(filler + text + filler + b"".join(text.splitlines(keepends=True)[60:]) + filler)
    parser = Parser(datetime(2026, 12, 31))
    found = [*scan(stream, parser), *parser.flush()]
    # The second time, the report's head is missing.
    assert victims(found) == ["batch job", "leaker"] * 2
    assert [kill.truncated for kill in found] == [False, False, True, False]
    assert len(found[2].tasks or ()) == 4


def table(rows: int, pid: int, comm: str) -> str:
    """A table of so many rows; process `pid` is called `comm`."""
    header = "[   98.000001] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
    return header + "".join(
        f"[   98.{n:06}] [{n:7}]  1000 {n:7}   204061     1279   708608        0             0 "
        f"{comm if n == pid else 'worker'}\n"
        for n in range(2, rows + 2)
    )


def test_every_row_of_a_table_longer_than_a_block() -> None:
    text = table(2 * BLOCK // 80, 5, "other").encode()
    lines = text.splitlines(keepends=True)
    lines.insert(9, b"[   98.000010] eth0: link becomes ready\n")
    parser = Parser(datetime(2026, 12, 31))
    (found,) = [*scan(stream_of(b"".join(lines)), parser), *parser.flush()]
    assert [task.pid for task in found.tasks or ()] == list(range(2, len(lines)))


@pytest.mark.parametrize("pid", [2, 3, 6])
def test_a_line_feed_in_a_name_in_a_long_table(pid: int) -> None:
    # dmesg sets the rest of the record under the first line's text.
    text = table(5, pid, "line\n               feed")
    parser = Parser(datetime(2026, 12, 31))
    (found,) = [*scan(stream_of(text.encode()), parser), *parser.flush()]
    assert [task.comm for task in found.tasks or ()] == ["line\nfeed" if n == pid else "worker" for n in range(2, 7)]


def test_a_name_like_a_stack_trace() -> None:
    text = SIMPLE.read_text().replace("batch job", "a+0x1/0x2")
    parser = Parser(datetime(2026, 12, 31))
    found = [*scan(stream_of(text.encode()), parser), *parser.flush()]
    assert victims(found) == ["a+0x1/0x2", "leaker"]
    assert [len(kill.tasks or ()) for kill in found] == [4, 3]
    assert not any(kill.truncated for kill in found)
    text = re.sub("leaker|batch job", "a+0x1/0x2", text)
    found = [*scan(stream_of(text.encode()), parser), *parser.flush()]
    assert [kill.invoker.pid for kill in found] == [20960, 20960]


def test_a_log_without_line_feeds_takes_no_memory() -> None:
    class Endless(io.RawIOBase):
        left = 40

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"oom-kill:x" * (size // 10) if self.left > 0 else b""

    parser = Parser(datetime(2026, 12, 31))
    assert not [*scan(Endless(), parser), *parser.flush()]  # type: ignore[arg-type]


# The verb.

KEYS = [
    "killer", "time", "host", "file", "page_bytes", "unit", "container", "advice", "trigger", "kernel",
    "scope", "constraint", "memcg", "task_memcg", "invoker", "victim", "also_killed", "tasks",
    "no_killable", "panic", "truncated", "replay",
]  # fmt: skip
VICTIM = [
    "pid",
    "comm",
    "uid",
    "total_vm_kb",
    "anon_rss_kb",
    "file_rss_kb",
    "shmem_rss_kb",
    "pgtables_kb",
    "oom_score_adj",
]
TASK = ["pid", "tgid", "uid", "total_vm", "rss", "pgtables_bytes", "swapents", "oom_score_adj", "comm"]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["postmortem", "--json", str(SIMPLE)]) == 0
    out = json.loads(capsys.readouterr().out)
    assert list(out) == ["kills"]
    kill = out["kills"][0]
    assert list(kill) == KEYS
    assert list(kill["invoker"]) == ["pid", "comm", "gfp_mask", "order", "oom_score_adj"]
    assert list(kill["victim"]) == VICTIM
    assert list(kill["tasks"][0]) == TASK
    assert kill["replay"] == {"predicted_pid": 20958, "agrees": True}


def test_none_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty.log"
    empty.write_text("nothing here\n")
    assert ctl.main(["postmortem", "--json", str(empty)]) == 1
    assert json.loads(capsys.readouterr().out) == {"kills": []}
    assert ctl.main(["postmortem", str(empty)]) == 1
    assert capsys.readouterr().err == f"oomwatchctl: No OOM kill found in {empty}.\n"


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["postmortem", "--replay", str(SIMPLE)]) == 0
    out = capsys.readouterr().out
    assert "memory cgroup /oomtest was at its limit" in out
    assert "batch job (20958) had the highest badness: 19.4 MiB resident of 48.0 MiB, oom_score_adj 600" in out
    assert "database (20957) held more (29.5 MiB), but is at 0." in out
    assert "agrees: reckoned from the table, the choice is batch job (20958)" in out
    assert "█" in out


def test_a_name_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes((DATA / "bytes.kmsg").read_bytes().replace(rb"\x1b", b"\x1b").replace(rb"\xff", b"\xff"))
    assert ctl.main(["postmortem", str(log)]) == 0
    assert "\x1b" not in capsys.readouterr().out


RULES = """
[[rule]]
name = "database first"
exe = "/usr/lib/*/database"
oom_score_adj = 900

[[rule]]
name = "batch"
comm = "batch*"
user = 65534
oom_score_adj = { at_most = 100 }

[[rule]]
name = "by unit"
unit = "x.service"
oom_score_adj = 900
"""


def test_under_other_rules(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    assert ctl.main(["postmortem", "--replay", "-c", str(rules), str(SIMPLE)]) == 0
    out = capsys.readouterr().out
    assert "under the rules the kernel would have taken database (20957)" in out
    assert "database (20957): 0 → 900 by rule 'database first'" in out
    assert "batch job (20958): 600 → 100 by rule 'batch'" in out
    assert "Left out, for they ask for what isn't in the log: 'by unit'." in out


def test_rules_that_are_invalid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\n")
    assert ctl.main(["postmortem", "--replay", "-c", str(rules), str(SIMPLE)]) == 1
    assert f"{rules}:1:" in capsys.readouterr().err


def page(tmp_path: Path, *names: str) -> Path:
    out = tmp_path / "page.html"
    assert ctl.main(["postmortem", "--html", str(out), *(str(DATA / name) for name in names)]) == 0
    return out


def test_the_page_holds_no_markup_of_a_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(SIMPLE.read_text().replace("batch job", "<script>x</b>"))
    text = page(tmp_path, str(log)).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;x&lt;/b&gt;") > 2


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, "simple.kmsg", "simple-3.10.log").read_text()
    assert not re.search(r"(?:src|href)=\"(?!#)|url\(|@import|https?:", text)


def test_a_page_that_cant_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert ctl.main(["postmortem", "--html", str(tmp_path / "none" / "page.html"), str(SIMPLE)]) == 1
    assert "Failed to write" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
