"""Numbers of users and groups out of files of the test's own."""

from pathlib import Path

from oomwatchd.config.accounts import Accounts, names_in
from oomwatchd.rules.model import Action, Criterion, Rule


def accounts(tmp_path: Path, passwd: str, group: str = "") -> Accounts:
    (tmp_path / "passwd").write_text(passwd)
    (tmp_path / "group").write_text(group)
    return Accounts(str(tmp_path / "passwd"), str(tmp_path / "group"))


def test_files(tmp_path: Path) -> None:
    known = accounts(tmp_path, "root:x:0:0::/:/bin/sh\nweb:x:33:33\nweb:x:34:34\n", "staff:x:50:a,b\n")

    assert (known.number("user", "web"), known.number("group", "staff")) == (33, 50)
    assert known.number("user", "staff") is None
    assert known.number("user", "1234") == 1234


def test_lines_that_mean_nothing(tmp_path: Path) -> None:
    known = accounts(tmp_path, "+nis::::::\n-bad:x:1:\n\n#c:x:2:2\nx\nminus:x:-1:1\n\xff:x:7:7\nno:x:0x1:1\n")

    assert [known.number("user", name) for name in ("+nis", "-bad", "", "#c", "x", "minus", "no")] == [None] * 7


def test_change_is_found(tmp_path: Path) -> None:
    known = accounts(tmp_path, "a:x:1:1\n")
    assert not known.refresh()

    (tmp_path / "new").write_text("a:x:2:2\n")
    (tmp_path / "new").rename(tmp_path / "passwd")
    assert known.refresh()
    assert known.number("user", "a") == 2

    (tmp_path / "passwd").unlink()
    assert not known.refresh()
    assert known.number("user", "a") == 2


def test_files_come_before_name_services(tmp_path: Path) -> None:
    known = accounts(tmp_path, "a:x:1:1\n")
    known.learn("user", "a", 99)
    known.learn("user", "b", 98)

    assert (known.number("user", "a"), known.number("user", "b")) == (1, 98)
    assert known.not_in_files([("user", "a"), ("user", "b")]) == [("user", "b")]


def test_name_service_that_is_down_for_a_moment(tmp_path: Path) -> None:
    known = accounts(tmp_path, "")
    assert not known.is_known("user", "b")
    known.learn("user", "b", 98)
    assert known.is_known("user", "b")

    known.learn("user", "b", None)
    assert known.number("user", "b") == 98
    known.learn("user", "b", None)
    assert known.number("user", "b") is None


def test_names_in_rules() -> None:
    user = Criterion("user", names=("a", "12"))
    group = Criterion("group", names=("a",))
    rules = (
        Rule("1", (user, Criterion("comm")), Action(1, 1), excluded=(group,)),
        Rule("2", (user,), Action(1, 1)),
        Rule("3", (Criterion("user", names=("off",)),), Action(1, 1), enabled=False),
    )

    assert names_in(rules) == [("user", "a"), ("group", "a")]
