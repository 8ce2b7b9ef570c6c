"""oomwatchctl edit: what becomes of the file. The editors are small programs."""

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd.ctl import main
from oomwatchd.ctl.edit import editors

GOOD = '[[rule]]\nname = "a"\nuser = 0\noom_score_adj = 1\n'
BAD = '[[rule]]\nname = "a"\nuser = root\noom_score_adj = 1\n'
PROGRAM = Path(sys.executable).with_name("oomwatchctl")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with a configuration, where no daemon runs."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    for variable in ("SUDO_EDITOR", "VISUAL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/oomwatchd.toml").write_text("# old\n")
    return tmp_path / "root"


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script, of which each test writes the lines; $1 is the file."""
    script = tmp_path / "editor"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", f"{script} -x")
    return script


def edits(editor: Path, commands: str) -> None:
    editor.write_text(f"#!/bin/sh\nshift\nfile=$1\n{commands}\n")


def writes(editor: Path, text: str) -> None:
    (editor.parent / "new").write_text(text)
    edits(editor, f'cat {editor.parent}/new > "$file"')


def edit(root: Path, *words: str) -> int:
    return main(["edit", "--root", str(root), *words])


def left_behind(root: Path) -> list[str]:
    return [str(path) for path in root.rglob(".oomwatchd-edit*")]


def test_a_valid_edit_is_put_in_place(root: Path, editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "etc/oomwatchd.toml"
    file.chmod(0o640)
    os.chown(file, os.geteuid(), os.getegid())
    writes(editor, GOOD)

    assert edit(root) == 0

    assert file.read_text() == GOOD
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert capsys.readouterr().out == f"{file} is in place. Valid: 1 file, 1 rule, 0 warnings\n"
    assert left_behind(root) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_the_owner_stays(root: Path, editor: Path) -> None:
    file = root / "etc/oomwatchd.toml"
    os.chown(file, 65534, 65534)
    writes(editor, GOOD)

    assert edit(root) == 0

    assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65534)


def test_an_invalid_edit_is_kept_beside(root: Path, editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is nobody to ask."""
    file = root / "etc/oomwatchd.toml"
    writes(editor, BAD)

    assert edit(root) == 1

    shown = capsys.readouterr()
    assert file.read_text() == "# old\n"
    assert shown.out.startswith(f'{file}:3:8: A text must stand in quotes; write "root"')
    (kept,) = (line for line in shown.err.split() if "oomwatchd-edit" in line)
    assert Path(kept).read_text() == BAD


@pytest.mark.parametrize("commands", ["", 'touch "$file"', 'cp "$file" "$file.2"; mv "$file.2" "$file"'])
def test_unchanged_is_nothing_done(root: Path, editor: Path, commands: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "etc/oomwatchd.toml"
    before = file.stat()
    edits(editor, commands)

    assert edit(root) == 0

    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert capsys.readouterr().out == f"{file} is unchanged\n"


def test_an_editor_that_fails(root: Path, editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edits(editor, "exit 3")
    assert edit(root) == 1
    assert "failed with status 3; nothing is changed" in capsys.readouterr().err
    edits(editor, f'echo "{GOOD!r}" > "$file"; exit 3')
    assert edit(root) == 1
    assert "your changes are kept in" in capsys.readouterr().err
    assert (root / "etc/oomwatchd.toml").read_text() == "# old\n"


def test_an_editor_that_is_not_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISUAL", "/no/such/editor")
    assert edit(root) == 1
    assert "Failed to run the editor '/no/such/editor' of VISUAL" in capsys.readouterr().err


def test_someone_else_was_faster(root: Path, editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "etc/oomwatchd.toml"
    (editor.parent / "new").write_text(GOOD)
    edits(editor, f'cat {editor.parent}/new > "$file"; echo "# other" > {file}')

    assert edit(root) == 1

    assert file.read_text() == "# other\n"
    assert "Someone else has changed the file" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["../srv/real.toml", "/srv/real.toml"])
def test_a_link_stays_one(target: str, root: Path, editor: Path) -> None:
    """An absolute one is followed below the root."""
    file = root / "etc/oomwatchd.toml"
    real = root / "srv/real.toml"
    real.parent.mkdir()
    file.rename(real)
    file.symlink_to(target)
    writes(editor, GOOD)

    assert edit(root) == 0

    assert file.is_symlink()
    assert real.read_text() == GOOD


def test_a_drop_in_comes_from_nothing(root: Path, editor: Path) -> None:
    writes(editor, GOOD)

    assert edit(root, "10-a") == 0
    assert edit(root, "10-a.toml") == 0

    drop_in = root / "etc/oomwatchd.d/10-a.toml"
    assert drop_in.read_text() == GOOD
    assert stat.S_IMODE(drop_in.stat().st_mode) == 0o644
    assert [path.name for path in drop_in.parent.iterdir()] == ["10-a.toml"]


def test_a_drop_in_that_is_not_written_leaves_no_directory(root: Path, editor: Path) -> None:
    edits(editor, "")

    assert edit(root, "a") == 0

    assert not (root / "etc/oomwatchd.d").exists()


def test_a_drop_in_begins_with_what_it_masks(root: Path, editor: Path) -> None:
    vendor = root / "usr/lib/oomwatchd.d/a.toml"
    vendor.parent.mkdir(parents=True)
    vendor.write_text(GOOD)
    edits(editor, 'sed -i s/1/2/ "$file"')

    assert edit(root, "a") == 0

    assert (root / "etc/oomwatchd.d/a.toml").read_text() == GOOD.replace("1", "2")


def test_it_is_checked_together_with_the_others(root: Path, editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/oomwatchd.toml").write_text(GOOD)
    writes(editor, GOOD)
    assert edit(root, "a") == 1
    assert "Another rule is named 'a' too" in capsys.readouterr().out
    (root / "etc/oomwatchd.toml").write_text(BAD)
    writes(editor, GOOD.replace('"a"', '"b"'))
    assert edit(root, "a") == 0
    assert "other files are not" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a/b", "../x", ".a", ".toml", "", "a\nb"])
def test_names_that_are_none(root: Path, editor: Path, name: str) -> None:
    writes(editor, GOOD)
    with pytest.raises(SystemExit) as end:
        edit(root, name)
    assert end.value.code == 2


def test_a_mask_is_not_edited(root: Path, editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/oomwatchd.d").mkdir()
    (root / "etc/oomwatchd.d/a.toml").symlink_to("/dev/null")
    writes(editor, GOOD)
    assert edit(root, "a") == 1
    assert "remove it first" in capsys.readouterr().err


def test_a_file_of_its_own(tmp_path: Path, root: Path, editor: Path) -> None:
    writes(editor, GOOD)
    assert main(["edit", "-c", str(tmp_path / "x.toml")]) == 0
    assert (tmp_path / "x.toml").read_text() == GOOD


def test_which_editor() -> None:
    assert editors({"EDITOR": "nano -w", "VISUAL": "vim"}) == [(["vim"], "VISUAL")]
    assert editors({"EDITOR": "nano -w", "VISUAL": ""}) == [(["nano", "-w"], "EDITOR")]
    assert editors({"SUDO_EDITOR": "a 'b c'", "VISUAL": "vim"}) == [(["a", "b c"], "SUDO_EDITOR")]
    assert [command for command, _ in editors({})] == [["sensible-editor"], ["editor"], ["nano"], ["vi"]]


@pytest.mark.parametrize(
    ("answers", "status", "content"),
    [("e\n", 0, GOOD), ("\n", 0, GOOD), ("d\n", 1, "# old\n"), ("what\nk\n", 1, "# old\n"), ("\x04", 1, "# old\n")],
)
def test_on_a_terminal_it_asks(root: Path, editor: Path, answers: str, status: int, content: str) -> None:
    """The first time the editor makes a mistake, the second time it mends it."""
    new = editor.parent
    (new / "bad").write_text(BAD)
    (new / "good").write_text(GOOD)
    edits(editor, f'if grep -q old "$file"; then cat {new}/bad > "$file"; else cat {new}/good > "$file"; fi')
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "edit", "--root", str(root)], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    shown, sent = b"", False
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:  # EIO: the program has ended
            break
        shown += part
        if b"leave? [e]" in shown and not sent:
            sent = True
            os.write(controller, answers.encode())
    assert process.wait(timeout=30) == status, shown
    os.close(controller)
    assert (root / "etc/oomwatchd.toml").read_text() == content
    assert b'write "root"' in shown
