"""The verb postmortem: many kills, which of them, in which order, and what is said where there are none."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd import ctl
from oomwatchd.oomlog import journal


def killed(hour: int, name: str, day: int = 15) -> str:
    return (
        f"2026-03-{day}T{hour:02}:07:35+00:00 web1 kernel: Out of memory: Killed process {100 + hour} ({name}) "
        f"total-vm:{hour}kB, anon-rss:{hour * 1024}kB, file-rss:0kB, shmem-rss:0kB, "
        "UID:0 pgtables:4kB oom_score_adj:0\n"
    )


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "kern.log"
    path.write_text(killed(1, "one") + killed(2, "two") + killed(3, "one") + killed(4, "four"))
    return str(path)


def names(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    ctl.main(["postmortem", "--json", *arguments])
    return [kill["victim"]["comm"] for kill in json.loads(capsys.readouterr().out)["kills"]]


def test_which_kills_in_which_order(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(capsys, log) == ["one", "two", "one", "four"]
    assert names(capsys, log, "-n", "2") == ["one", "four"]
    assert names(capsys, log, "--lines=all", "--reverse") == ["four", "one", "two", "one"]
    assert names(capsys, log, "-r", "-n", "2") == ["four", "one"]
    assert names(capsys, log, "-n", "0") == []
    assert names(capsys, log, "--since", "2026-03-15 02:07:35 UTC") == ["two", "one", "four"]
    assert names(capsys, log, "--until", "2026-03-15T02:07:35Z") == ["one", "two"]
    assert names(capsys, log, "-S", "2026-03-15 02:00 UTC", "-U", "2026-03-15 03:00 UTC") == ["two"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "soon"], "Failed to parse timestamp: soon"),
        (["--until", "2026-02-30"], "Failed to parse timestamp: 2026-02-30"),
        (["--boot", "zzz"], "Failed to parse boot descriptor 'zzz'"),
        (["-n", "many"], "Failed to parse lines 'many'"),
        (["--since", "today", "--until", "yesterday"], "--since= must be before --until=."),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = ctl.main(["postmortem", *arguments, log])
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_text_does_not_tell_of_boots(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["postmortem", "--boot", "-1", log]) == 1
    assert capsys.readouterr().err == f"oomwatchctl: Left out {log}: a text doesn't say which boot a line is of.\n"
    assert ctl.main(["postmortem", "--boot", "all", log]) == 0


def test_kills_without_a_date_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "dmesg"
    log.write_text(f"[    9.000000] {killed(1, 'one').partition('kernel: ')[2]}")
    assert ctl.main(["postmortem", "--since", "yesterday", str(log)]) == 1
    assert "1 kills without a date were left out" in capsys.readouterr().err


def test_many_kills_begin_with_a_summary(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["postmortem", log]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "4 OOM kills, from 2026-03-15 01:07:35+00:00 to 2026-03-15 04:07:35+00:00\n"
        "  of      one (2), two (1), four (1)\n"
        "  in      the machine (4)\n\n"
        "2026-03-15 01:07:35+00:00, web1: the machine was out of memory\n"
        "  killed  one (101)\n"
    )
    assert ctl.main(["postmortem", "-n", "1", log]) == 0
    assert capsys.readouterr().out.startswith("2026-03-15 04:07:35+00:00, web1: ")


def test_growth_is_reported_and_counts_what_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "kern.log"
    log.write_text("".join(killed(hour, "leaky") for hour in (1, 2, 3)))
    assert ctl.main(["postmortem", "--json", "-n", "1", str(log)]) == 0
    (kill,) = json.loads(capsys.readouterr().out)["kills"]
    assert [one["id"] for one in kill["advice"]] == ["growing"]
    assert list(kill["advice"][0]) == ["id", "message"]


def test_what_can_not_be_read_is_not_called_free_of_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken.zst"
    empty.write_text("nothing\n")
    broken.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(range(40)))
    assert ctl.main(["postmortem", str(broken)]) == 1
    said = capsys.readouterr().err
    assert "Failed to read" in said
    assert "No OOM kill found" not in said
    assert ctl.main(["postmortem", str(broken), str(empty)]) == 1
    assert capsys.readouterr().err.endswith("oomwatchctl: There is no OOM kill in what could be read.\n")
    assert ctl.main(["postmortem", str(empty)]) == 1
    assert capsys.readouterr().err == f"oomwatchctl: No OOM kill found in {empty}.\n"


def test_a_reader_of_the_pager_who_quits_is_no_failure(log: str) -> None:
    script = "import sys; from oomwatchd import ctl; sys.stdout.isatty = lambda: True; sys.exit(ctl.main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "postmortem", log],
        env={**os.environ, "TERM": "xterm", "SYSTEMD_PAGER": "head -c 5", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "4 OOM", "")


# The journal. Its files are made by systemd-journal-remote.

_REMOTE = "/lib/systemd/systemd-journal-remote"


def write_journal(path: Path) -> None:
    if not os.path.exists(_REMOTE) or shutil.which("journalctl") is None:
        pytest.skip("systemd-journal-remote, which makes journal files, isn't installed")
    records = [
        {"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": killed(1, "real").partition("kernel: ")[2]},
        {"_TRANSPORT": "syslog", "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": killed(2, "fake").partition("kernel: ")[2]},
    ]
    text = ""
    for number, record in enumerate(records):
        fields = {
            "__REALTIME_TIMESTAMP": str(1773547655123456 + number),
            "__MONOTONIC_TIMESTAMP": str(1000000 + number),
            "_BOOT_ID": "0123456789abcdef" * 2,
            "_MACHINE_ID": "fedcba9876543210" * 2,
            "_HOSTNAME": "db7",
            **record,
        }
        text += "".join(f"{key}={value.strip()}\n" for key, value in fields.items()) + "\n"
    subprocess.run([_REMOTE, "-o", str(path), "-"], input=text.encode(), check=True, capture_output=True)


def test_a_journal_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.journal"
    write_journal(path)
    assert ctl.main(["postmortem", "--json", str(path)]) == 0
    (kill,) = json.loads(capsys.readouterr().out)["kills"]
    assert (kill["victim"]["comm"], kill["host"], kill["time"]) == ("real", "db7", "2026-03-15T04:07:35.123456+00:00")
    assert names(capsys, "--boot", "0123456789abcdef" * 2, str(path)) == ["real"]
    assert names(capsys, "--since", "2026-03-16", str(path)) == []


def test_a_damaged_journal_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.journal"
    write_journal(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:4000])
    assert ctl.main(["postmortem", str(path)]) == 1
    said = capsys.readouterr().err
    assert re.search(r"Failed to read .*system.journal: the journal file is damaged", said)
    assert "No OOM kill found" not in said
    (tmp_path / "whole.journal").write_bytes(raw)
    assert names(capsys, str(tmp_path)) == ["real"]


def test_a_journal_that_one_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "journal" / ("ab" * 16)
    directory.mkdir(parents=True)
    (directory / "system.journal").write_bytes(b"")
    monkeypatch.setattr(journal, "_SYSTEM", (f"{tmp_path}/journal/*/system.journal",))
    assert journal.may_read_system_journal()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not journal.may_read_system_journal()


def test_the_page_tells_where_it_is_from_and_can_be_filtered(tmp_path: Path) -> None:
    log, target = tmp_path / "a<b>.log", tmp_path / "page.html"
    early = 'web1 earlyoom[5]: sending SIGTERM to process 9 uid 0 "</pre><img>": badness 9, VmRSS 1 MiB\n'
    log.write_text(f"{killed(1, '<script>x')}2026-03-15T02:00:00+00:00 {early}")
    assert ctl.main(["postmortem", "--html", str(target), str(log)]) == 0
    page = target.read_text()
    assert not re.search(r"<(?:script|img|/pre><img)| on\w+=", page)
    assert "<dt>host</dt><dd>web1</dd>" in page
    assert f"<dt>log</dt><dd>{tmp_path}/a&lt;b&gt;.log</dd>" in page
    assert "<dt>period</dt><dd>2026-03-15 01:07:35 to 2026-03-15 02:00:00</dd>" in page
    for kind in ("global", "other"):
        assert f'<input class="box" type="checkbox" id="f-{kind}" checked>' in page
        assert f"#f-{kind}:not(:checked) ~ main .k-{kind} {{ display: none }}" in page
        assert page.count(f'class="k-{kind}"') == 2  # its mark and its section
    assert page.count("<summary>Original text</summary>") == 2
    assert "Killed process 101 (&lt;script&gt;x) total-vm:1kB" in page
    assert "<li>earlyoom acted before the kernel did." in page
