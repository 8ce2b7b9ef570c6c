"""Shell completion, in the shells themselves."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd.ctl import VERBS, main
from oomwatchd.ctl.completion import SHELLS, verbs
from oomwatchd.ctl.completion import main as generate

BIN = Path(sys.executable).parent


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With oomwatchctl in the path, and without a daemon."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RUNTIME_DIRECTORY": str(tmp_path),
        "HOME": str(tmp_path),
    }


def written(shell: str, directory: Path) -> Path:
    assert generate([str(directory)]) == 0
    return directory / f"completion.{shell}"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_syntax_is_right(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} isn't installed")
    done = subprocess.run([shell, "-n", written(shell, tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_option_is_there(shell: str, tmp_path: Path) -> None:
    text = written(shell, tmp_path).read_text()
    for verb in verbs():
        assert verb.name in text
        for option in verb.options:
            for flag in option.flags:
                assert (f"-l {flag[2:]}" if shell == "fish" and flag.startswith("--") else flag[-1]) in text
                assert shell == "fish" or flag in text


WORDS = [
    (["sta"], ["status"]),
    (["explain", "--des"], ["--descendant-of"]),
    (["list", "--"], ["--help", "--json", "--no-legend", "--no-pager", "--root"]),
    (["explain", "--user", "nobod"], ["nobody"]),
    (["explain", "--descendant-of", ""], []),
    (["explain", "1"], ["1"]),
    (["unpin", ""], []),
]


def without_others(offered: list[str]) -> list[str]:
    """Of PIDs only that of init, which is everywhere."""
    return [word for word in offered if word == "1" or not word.isdigit()]


@pytest.mark.parametrize(("words", "expected"), WORDS, ids=lambda value: " ".join(value))
def test_in_bash(
    words: list[str],
    expected: list[str],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    script = f"""
        source {written("bash", tmp_path)}
        compopt() {{ :; }}
        COMP_WORDS=(oomwatchctl "$@") COMP_CWORD=$#
        _oomwatchctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert (sorted(without_others(done.stdout.split())), done.stderr) == (expected, "")


@pytest.mark.parametrize(("words", "expected"), WORDS, ids=lambda value: " ".join(value))
def test_in_fish(
    words: list[str],
    expected: list[str],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish isn't installed")
    path = written("fish", tmp_path)
    line = " ".join(["oomwatchctl", *words])
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {path}; complete -C {line!r}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    offered = sorted(row.split("\t")[0] for row in done.stdout.splitlines())
    assert without_others(offered) == expected


@pytest.mark.parametrize(("words", "expected"), [case for case in WORDS if case[1]], ids=lambda value: " ".join(value))
def test_in_zsh(
    words: list[str],
    expected: list[str],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """In an interactive shell, as one types: what it shows after a tab."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh isn't installed")
    written("zsh", tmp_path).rename(tmp_path / "_oomwatchctl")
    setup = f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -D -u; PS1='REA''DY> '; "
    setup += "unsetopt beep menu_complete; LISTMAX=1000; bindkey '^I' complete-word; "
    setup += "zstyle ':completion:*' list-grouped no\n"
    typed = " ".join(["oomwatchctl", *words]) + "\t\t"
    typed_into(["zsh", "-f", "-i"], environment, setup, typed, expected)


def typed_into(command: list[str], environment: dict[str, str], setup: str, typed: str, awaited: list[str]) -> None:
    """Type into an interactive shell, and wait until it shows all that is awaited."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, {**environment, "TERM": "xterm", "COLUMNS": "200", "LINES": "100"})
    shown = ""
    try:
        os.write(terminal, setup.encode())
        while "READY> " not in shown:  # only then the shell reads keys, and no longer lines
            shown += _read(terminal)
        os.write(terminal, typed.encode())
        shown = ""
        while not all(word in shown for word in awaited):
            part = _read(terminal)
            assert part, f"{awaited} isn't offered: {shown}"
            shown += part
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read(terminal: int) -> str:
    """What comes next; nothing for so long that nothing will."""
    readable, _, _ = select.select([terminal], [], [], 30)
    return os.read(terminal, 65536).decode(errors="replace") if readable else ""


def test_units_and_cgroups_are_offered(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("units", "user_units", "slices", "cgroups"):
        assert main(["__complete", kind]) == 0
        words = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
        assert words == sorted(words)
    assert all(word.startswith("/") for word in words)


def test_processes_are_offered_with_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "processes"]) == 0
    rows = [row.split("\t") for row in capsys.readouterr().out.splitlines()]
    assert str(os.getpid()) in [row[0] for row in rows]
    assert all(len(row) == 2 for row in rows)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate([]) == 2
    assert generate(["bash", "zsh"]) == 2
    assert "DIRECTORY" in capsys.readouterr().err
    assert [verb.name for verb in verbs()] == list(VERBS)
