"""oomwatchctl's command line, where no daemon runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd import __version__
from oomwatchd.ctl import VERBS, main

NOT_RUNNING = (
    "oomwatchctl: oomwatchd isn't running: nobody listens at {runtime}/control; to start it: "
    "systemctl start oomwatchd\n"
)

DEFAULTS = """[daemon]
scan_interval = "5s"
proc_events = "auto"
dry_run = false
on_exit = "keep"
log_pins = "auto"
"""

NOTHING = (
    "{runtime}/etc/oomwatchd.toml:1:1: warning: There is no configuration, neither this file nor a drop-in: "
    "nothing is protected"
)

# argv, exit status, stdout, stderr
TABLE = [
    (["--version"], 0, "oomwatchctl {version}\n", ""),
    ([], 2, "", "required: VERB"),
    (["help", "nosuch"], 2, "", "unknown verb 'nosuch'"),
    (["STATUS"], 2, "", "unknown verb 'STATUS'; did you mean 'status'?"),
    (["version"], 0, "oomwatchctl {version}\n", ""),
    (["nonsense"], 2, "", "oomwatchctl: unknown verb 'nonsense'\nSee oomwatchctl --help."),
    (["sttaus"], 2, "", "oomwatchctl: unknown verb 'sttaus'; did you mean 'status'?\n"),
    (["--hepl"], 2, "", "unknown option '--hepl'; did you mean '--help'?"),
    (["--json"], 2, "", "oomwatchctl: a verb is required: VERB\n"),
    (["--no-legend", "--root=/x"], 2, "", "oomwatchctl: a verb is required: VERB\n"),
    (["-c", "/x"], 2, "", "oomwatchctl: a verb is required: VERB\n"),
    (["explain"], 2, "", "give PIDs, or"),
    (["explain", "sshd"], 2, "", "argument PID: 'sshd' is no PID; `pgrep -x sshd`"),
    (["pin", "sshd", "5"], 2, "", "'sshd' is no PID"),
    (["pin", "1", "low"], 2, "", "'low' is no number"),
    (["explain", "9" * 5000], 2, "", "is more than any PID"),
    (["explain", "--user", "²"], 2, "", "there is no user '²'"),
    (["explain", "--user", "9" * 5000], 2, "", "is out of range; it may be 0 to 4294967294"),
    (["explain", "--group", "4294967295"], 2, "", "is out of range; it may be 0 to 4294967294"),
    (["explain", ""], 2, "", "argument PID: the PID is empty; is a variable unset?"),
    (["check", ""], 2, "", "argument FILE: the name is empty; is a variable unset?"),
    (["-c", "", "check"], 2, "", "argument -c: the name is empty"),
    (["config", "--root", ""], 2, "", "argument --root: the name is empty"),
    (["status", "--root", ""], 2, "", "argument --root: the name is empty"),
    (["postmortem", ""], 2, "", "argument FILE: the name is empty"),
    (["rank", "--with", ""], 2, "", "argument --with: the name is empty"),
    (["rank", "--cgroup", ""], 2, "", "argument --cgroup: the name is empty"),
    (["doctor", "--root", "/nosuch"], 1, "", "/nosuch: No such directory; it was given as --root"),
    (["doctor", "--root", "/etc/passwd"], 1, "", "/etc/passwd: No such directory; it was given as --root"),
    (["explain", "--exe", ""], 2, "", "can't be empty"),
    (["pin", "1", "９"], 2, "", "'９' is no number"),
    (["rank", "-n", "²"], 2, "", "argument -n: '²' is no number from 1 up"),
    (["postmortem", "--since", "-2h", "/dev/null"], 1, "", "No OOM kill found in /dev/null"),
    (["postmortem", "-S", "-2h", "-U", "-1h", "/dev/null"], 1, "", "No OOM kill found in /dev/null"),
    (["rank", "-n", "0"], 2, "", "argument -n: '0' is no number from 1 up"),
    (["status"], 3, "", NOT_RUNNING),
    (["--json", "status"], 3, "", NOT_RUNNING),
    (["list"], 3, "", NOT_RUNNING),
    (["rules"], 3, "", NOT_RUNNING),
    (["reload"], 3, "", NOT_RUNNING),
    (["monitor"], 3, "", NOT_RUNNING),
    (["metrics"], 3, "", NOT_RUNNING),
    (["metrics", "--json"], 3, "", NOT_RUNNING),
    (["pin", "1", "-500"], 3, "", NOT_RUNNING),
    (["pin", "1", "500", "--for", "1h 30min"], 3, "", NOT_RUNNING),
    (["pin", "1", "1001"], 2, "", "1001 is out of range"),
    (["pin", "1", "5", "--for", "0"], 2, "", "isn't a time span"),
    (["unpin", "1"], 3, "", NOT_RUNNING),
    (["restore"], 3, "", NOT_RUNNING),
    (["--root", "{runtime}", "config"], 0, "# no files\n{defaults}", ""),
    (["--root", "{runtime}", "check"], 0, "{nothing}\nValid: 0 files, 0 rules, 1 warning\n", ""),
    (["--root", "{runtime}", "check", "--strict"], 1, "{nothing}\nValid: 0 files, 0 rules, 1 warning\n", ""),
    (["--root", "/nonexistent", "config"], 1, "", "/nonexistent:1:1: No such directory"),
    (["--root", "/nonexistent", "check"], 1, "/nonexistent:1:1: No such directory; it was given as --root\n", ""),
    (["explain", "-c", "/nonexistent", "1"], 1, "", "the configuration is invalid:\n/nonexistent:1:1: No such file\n"),
    (["config", "-c", "/nonexistent"], 1, "", "/nonexistent:1:1: No such file"),
    (["check", "/nonexistent"], 1, "/nonexistent:1:1: No such file\n", ""),
    (["check", "-c", "/a", "/b"], 2, "", "give one of them"),
    (["__complete", "rules"], 0, "", ""),
    (["status", "extra"], 2, "", "unrecognized arguments: extra"),
    (["status", "--js"], 2, "", "unrecognized arguments: --js"),
]


@pytest.mark.parametrize(("argv", "status", "stdout", "stderr"), TABLE, ids=lambda value: str(value)[:40])
def test_without_a_daemon(
    argv: list[str],
    status: int,
    stdout: str,
    stderr: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    try:
        result: object = main([word.format(runtime=tmp_path) for word in argv])
    except SystemExit as end:
        result = end.code
    shown = capsys.readouterr()
    assert result == status
    nothing = NOTHING.format(runtime=tmp_path)
    assert shown.out == stdout.format(runtime=tmp_path, defaults=DEFAULTS, nothing=nothing, version=__version__)
    expected = stderr.format(runtime=tmp_path)
    assert expected in shown.err if expected else not shown.err


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: oomwatchctl {verb}")


def test_a_reader_that_leaves_is_no_error() -> None:
    program = Path(sys.executable).with_name("oomwatchctl")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([program, "rank"], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_help_has_each_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for words in (["help"], ["--help"], ["-h"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    assert [line.split()[0] for line in shown[0].splitlines() if line.startswith("  ")][: len(VERBS)] == list(VERBS)
    assert all(len(line) <= 80 for line in shown[0].splitlines())


def test_the_manual_has_the_verbs_in_the_same_order() -> None:
    text = (Path(__file__).parent.parent / "man/oomwatchctl.1.scd").read_text().partition("# VERBS")[2]
    names = [line.split("*")[1] for line in text.splitlines() if line.startswith("*")]
    order = list(dict.fromkeys(name for name in names if name in VERBS))
    assert order == list(VERBS)


def test_help_of_one_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["help", "pin"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: oomwatchctl pin")
