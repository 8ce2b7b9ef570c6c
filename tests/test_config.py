"""Configuration: what is accepted, and each error with its place."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomwatchd.base.timespan import parse_time_span
from oomwatchd.config.account_hints import about_name
from oomwatchd.config.document import ConfigFile, DaemonSettings
from oomwatchd.config.load import Config, ConfigError, layout, load, parse
from oomwatchd.config.toml_positions import locate
from oomwatchd.rules.model import Action

HEAD = '[[rule]]\nname = "r"\n'


def read(text: str) -> Config:
    return parse([ConfigFile("f", text)])


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(text)
    return str(refused.value).split("\n")


def test_empty_file_is_the_default() -> None:
    assert read("").settings == DaemonSettings()
    assert read("").rules == ()


def test_everything() -> None:
    config = read("""
        [daemon]
        scan_interval = "1min 30s"
        proc_events = "off"
        dry_run = true
        on_exit = "restore"
        log_pins = "summary"

        [[rule]]
        name = "a"
        description = "all of it"
        exe = ["/usr/bin/a", "/opt/*/a"]
        comm = "a"
        cmdline = { regex = "a+" }
        user = ["root", 65534]
        group = "root"
        unit = "a.service"
        user_unit = "b.service"
        slice = "a.slice"
        cgroup = "/a"
        session_leader = true
        descendant_of = "b"
        not = { cmdline = ["x", { regex = "y" }], user = "nobody" }
        oom_score_adj = { at_least = -5, at_most = 5 }
        children = 7
        containers = true
        spoofable = true

        [[rule]]
        name = "b"
        enabled = false
        comm = "b"
        ignore = true
    """)

    assert config.settings == DaemonSettings(90.0, "off", True, "restore", "summary")
    first, second = config.rules
    assert first.action == Action(-5, 5)
    assert first.criterion("user") is not None
    assert [c.ids for c in first.criteria if c.key == "user"] == [frozenset({0, 65534})]
    assert (first.children, first.containers, first.spoofable, first.line) == (7, True, True, 9)
    assert (second.enabled, second.action.ignore) == (False, True)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("x = 1", ["f:1:1: Unknown table or key 'x'; there are [daemon] and [[rule]]"]),
        ("[rules]", ["f:1:1: Unknown table or key 'rules'; did you mean 'rule'? Write [[rule]]"]),
        ("rule = 3", ["f:1:1: 'rule' must be an array of tables: write [[rule]]"]),
        ("daemon = 3", ["f:1:1: 'daemon' must be a table, not the number 3: write [daemon]"]),
        ("[daemon]\nscan_intervall = 1", ["f:2:1: Unknown key 'scan_intervall'; did you mean 'scan_interval'?"]),
        ("[daemon]\n  scan_interval = 5", ['f:2:19: scan_interval must be a time span in quotes, such as "5s", not the number 5']),
        ('[daemon]\nscan_interval = "2h"', ["f:2:17: scan_interval: '2h' is out of range; it may be 100ms to 1h"]),
        ('[daemon]\nscan_interval = "soon"', ["f:2:17: scan_interval: 'soon' isn't a time span such as \"5s\" or \"1min 30s\""]),
        ('[daemon]\nproc_events = "on"', ['f:2:15: proc_events: \'on\' isn\'t one of "auto", "required", "off"']),
        ("[daemon]\ndry_run = 1", ["f:2:11: dry_run must be true or false, not the number 1"]),
        ("[[rule]]\nignore = true", ['f:1:1: The rule has no name; give it one with name = "…"']),
        (HEAD, ["f:1:1: The rule has no action; say oom_score_adj = N, oom_adj = N or ignore = true"]),
        (HEAD + "ignore = true\noom_adj = 1", ["f:4:1: A rule has exactly one action, but this one has ignore and oom_adj"]),
        (HEAD + "ignore = false", ["f:3:10: ignore = false is no action; leave it out, and say what the rule does"]),
        (HEAD + "oom_score_adj = 1001", ["f:3:17: oom_score_adj: 1001 is out of range; it may be -1000 to 1000"]),
        (HEAD + "oom_score_adj = true", ["f:3:17: oom_score_adj must be a whole number from -1000 to 1000, not true"]),
        (HEAD + "oom_adj = -18", ["f:3:11: oom_adj: -18 is out of range; it is the old scale, -17 to 15; its end is -17, which is oom_score_adj = -1000"]),
        (HEAD + "oom_score_adj = { at_leest = 1 }", ["f:3:19: Unknown key 'at_leest'; did you mean 'at_least'?"]),
        (HEAD + "oom_score_adj = { at_least = 2, at_most = 1 }", ["f:3:17: oom_score_adj: at_least 2 is more than at_most 1"]),
        (HEAD + "ignore = true\nchildren = \"rest\"", ["f:4:12: children: 'rest' is neither \"inherit\" nor \"reset\" nor a number; did you mean 'reset'?"]),
        (HEAD + "ignore = true\nuser = \"r*\"", ["f:4:8: user: 'r*' looks like a glob; a user or group is a name or a number"]),
        (HEAD + "ignore = true\ncomm = [\"a\", 3]", ['f:4:14: comm must be a string in quotes or { regex = "…" }, not the number 3']),
        (HEAD + "ignore = true\ncomm = []", ["f:4:8: comm: an empty list fits nothing"]),
        (HEAD + "ignore = true\ncmdline = { regex = \"(\" }", ["f:4:21: cmdline: '(' isn't a regular expression: missing ), unterminated subpattern at position 0"]),
        (HEAD + "ignore = true\nnot = { commm = \"a\" }", ["f:4:9: Unknown key 'commm'; did you mean 'comm'?"]),
        (HEAD + "ignore = true\ndescendant_of = \"r\"", ["f:4:17: Rule 'r': descendant_of names the rule that it stands in"]),
        (HEAD + "ignore = true\ndescendant_of = \"rr\"", ["f:4:17: Rule 'r': descendant_of: no rule is named 'rr'; did you mean 'r'?"]),
        (HEAD + "ignore = true\n" + HEAD + "ignore = true", ["f:5:8: Another rule is named 'r' too, at f:1"]),
        ("\ufeff", ["f:1:1: The file starts with a byte order mark, which TOML doesn't know; save it as UTF-8 without"]),
        ('a = "\n', ['f:1:5: The string that begins here with " (double quote) isn\'t closed on this line; close it with "']),
        ("a = [1", ["f:1:5: The list that begins here with [ isn't closed; close it with ]"]),
    ],
)  # fmt: skip
def test_errors(text: str, errors: list[str]) -> None:
    found = problems(text)

    assert [line.split(" (")[0] for line in found[: len(errors)]] == [line.split(" (")[0] for line in errors]


def test_name_longer_than_the_kernel_keeps() -> None:
    (error,) = problems(HEAD + 'ignore = true\ncomm = "gnome-session-binary"')

    assert error.startswith("f:4:8: comm: 'gnome-session-binary' has 20 bytes, but the kernel keeps only the first 15")
    assert "write 'gnome-session-b'" in error


def test_all_errors_at_once() -> None:
    found = problems("[daemon]\nx = 1\n" + HEAD + 'oom_score_adj = "a"\nuser = 1.5\n' + '[[rule]]\nname = "q"')

    assert [line.split(":")[1] for line in found] == ["2", "5", "6", "7"]


def test_an_error_of_several_keys_is_reported_with_the_rest() -> None:
    found = problems(HEAD + 'comm = "x"\noom_adj = -1\n[daemon]\nx = 1\n')

    assert [line.split(":")[1] for line in found] == ["1", "6"]
    assert "says who controls the process" in found[0]


@pytest.mark.parametrize(
    ("criteria", "refused"),
    [
        ('comm = "sshd"', True),
        ('cmdline = "*sshd*"', True),
        ('user_unit = "a.service"', True),
        ('cgroup = "/a"', True),
        ("session_leader = true", True),
        ('not = { user = "root" }', True),
        ('comm = "sshd"\nuser = "root"', False),
        ('exe = "/usr/sbin/sshd"', True),
        ('exe = "/usr/sbin/sshd"\nnot = { user = 1000 }', True),
        ('comm = "sshd"\nuser = ["root", 1000]', False),
        ('exe = "/usr/sbin/sshd"\nuser = "root"', False),
        ('unit = "a.service"', False),
        ('slice = "a.slice"', False),
        ("group = 0", False),
        ('comm = "sshd"\nspoofable = true', False),
    ],
)
@pytest.mark.parametrize("action", ["oom_score_adj = -1", "oom_adj = -17", "oom_score_adj = { at_most = 500 }"])
def test_lowering_needs_what_says_who_controls_the_process(criteria: str, refused: bool, action: str) -> None:
    text = f"{HEAD}{criteria}\n{action}\n"

    if not refused:
        assert read(text).rules[0].guarded
        return
    error = problems(text)[-1]
    assert 'add user = "root"' in error
    assert "says who controls the process" in error


def test_an_unguarded_rule_that_lowers_is_reported_beside_one_of_the_same_name() -> None:
    rule = '[[rule]]\nname = "a"\nexe = "/usr/sbin/sshd"\noom_score_adj = -5\n'
    first, second = problems(rule + rule + 'user = "root"\n')
    assert "f:1:1: Rule 'a' can lower oom_score_adj" in first
    assert "Another rule is named 'a' too" in second


@pytest.mark.parametrize("action", ["oom_score_adj = 300", "oom_score_adj = { at_least = -5 }", "ignore = true"])
def test_raising_may_go_by_names(action: str) -> None:
    assert not read(f'{HEAD}comm = "x"\n{action}').rules[0].guarded


def test_children_gain_no_more_than_what_is_pinned() -> None:
    by_name = HEAD + 'comm = "x"\noom_score_adj = { at_least = 300 }\nchildren = '

    assert "says who controls the process" in problems(by_name + "-1")[0]
    (rule,) = read(by_name + "0").rules
    assert [rule.child_value(600, original=600), rule.child_value(300, original=-5)] == [600, 0]
    (spoofable,) = read(by_name + "-1\nspoofable = true").rules
    assert spoofable.child_value(600, original=600) == -1


RULES = {
    "user": 'user = "root"',
    "name": 'comm = "a"',
    "path": 'exe = "/a"',
    "spoofable": 'comm = "a"\nspoofable = true',
    "below user": 'descendant_of = "user"',
    "below name": 'descendant_of = "name"',
    "circle": 'descendant_of = "circle too"',
    "circle too": 'descendant_of = "circle"',
    "circle and user": 'descendant_of = ["circle", "user"]',
}


@pytest.mark.parametrize(
    ("criteria", "guarded"),
    [
        ('descendant_of = "user"', True),
        ('descendant_of = "below user"', True),
        ('descendant_of = ["user", "below user"]', True),
        ('descendant_of = ["user", "name"]', False),
        ('descendant_of = "name"', False),
        ('descendant_of = "path"', False),
        ('descendant_of = "below name"', False),
        ('descendant_of = "spoofable"', False),
        ('descendant_of = "spoofable"\nspoofable = true', True),
        ('descendant_of = "circle"', False),
        ('descendant_of = "circle and user"', False),
        ('descendant_of = "circle"\nuser = "root"', True),
        ('not = { descendant_of = "user" }', False),
    ],
)
def test_descent_is_worth_what_the_other_rules_are(criteria: str, guarded: bool) -> None:
    others = "".join(f'[[rule]]\nname = "{name}"\n{text}\noom_score_adj = 5\n' for name, text in RULES.items())
    lowers = f"{HEAD}{criteria}\noom_score_adj = -5\n"

    if guarded:
        read(others + lowers)
    else:
        assert "says who controls the process" in problems(others + lowers)[0]
    assert read(f"{HEAD}{criteria}\noom_score_adj = 5\n" + others).rules[0].guarded is guarded


def test_many_rules_below_each_other() -> None:
    """Rules that all name all others are told from each other in no time."""
    names = ", ".join(f'"{i}"' for i in range(60))
    text = "".join(
        f'[[rule]]\nname = "{i}"\ndescendant_of = [{names.replace(f"{chr(34)}{i}{chr(34)}, ", "")}]\noom_score_adj = 5\n'
        for i in range(59)
    )

    rules = read(text + '[[rule]]\nname = "59"\nuser = 0\noom_score_adj = 5\n').rules

    assert [rule.guarded for rule in rules] == [False] * 59 + [True]


def test_user_that_does_not_exist_is_a_warning() -> None:
    config = read(HEAD + 'user = "no-such-user"\noom_score_adj = -5')

    assert [str(warning) for warning in config.warnings] == ["f:3:1: Rule 'r': user 'no-such-user' doesn't exist (yet)"]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("user", "@wheel", 'write group = "wheel"'),
        ("user", "%wheel", 'write group = "wheel"'),
        ("group", "@wheel", 'write group = "wheel"'),
        ("user", "root:adm", 'user = "root" and group = "adm"'),
        ("user", "uid:0", "; write user = 0"),
        ("user", "gid=7", "; write group = 7"),
        ("user", "user:bob", '; write user = "bob"'),
        ("user", "root, www-data", 'user = ["root", "www-data"]'),
        ("group", "adm daemon", 'group = ["adm", "daemon"]'),
        ("user", " root", 'write user = "root"'),
        ("user", "!root", 'not = { user = "root" }'),
        ("user", "1000-2000", "no ranges of numbers"),
        ("user", "postgrse", "did you mean 'postgres'?"),
        ("user", "alice", ""),
    ],
)
def test_what_a_name_that_nobody_has_was_meant_to_be(kind: str, name: str, said: str) -> None:
    hint = about_name(kind, name, ["root", "postgres"])
    assert hint.startswith("; ") == bool(said)
    assert said in hint


def test_drop_ins_mask_and_follow_by_name(tmp_path: Path) -> None:
    def put(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o644)

    def one(name: str) -> str:
        return f'[[rule]]\nname = "{name}"\nexe = "/x"\nignore = true\n'

    put("etc/oomwatchd.toml", one("main"))
    put("etc/oomwatchd.d/20-b.toml", one("b of etc"))
    put("run/oomwatchd.d/20-b.toml", one("b of run"))
    put("run/oomwatchd.d/10-a.toml", one("a of run"))
    put("usr/lib/oomwatchd.d/30-c.toml", one("c of lib"))
    put("usr/lib/oomwatchd.d/40-d.toml", one("d of lib"))
    put("usr/lib/oomwatchd.d/50-e.toml", one("e of lib"))
    put("usr/lib/oomwatchd.d/ignored.conf", "nonsense")
    put("run/oomwatchd.d/40-d.toml", "")
    (tmp_path / "etc/oomwatchd.d/50-e.toml").symlink_to("/dev/null")

    config = load(layout(root=str(tmp_path)))

    assert [rule.name for rule in config.rules] == ["main", "a of run", "b of etc", "c of lib"]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("etc/oomwatchd.toml", "/conf/main.toml"),
        ("etc/oomwatchd.toml", "../conf/main.toml"),
        ("etc/oomwatchd.toml", "../../../../conf/main.toml"),
        ("etc/oomwatchd.toml", "/conf/../alias/./main.toml"),
        ("etc/oomwatchd.d", "/alias"),
        ("etc/oomwatchd.d/a.toml", "/alias/main.toml"),
        ("etc", "/conf/etc"),
    ],
)
def test_links_are_followed_below_the_root(tmp_path: Path, link: str, target: str) -> None:
    """As systemd's tools do it. What has these paths on this machine isn't read."""
    root = tmp_path / "deep/root"
    (root / "conf/etc").mkdir(parents=True)
    for name in ("conf/main.toml", "conf/etc/oomwatchd.toml"):
        (root / name).write_text('[[rule]]\nname = "x"\nexe = "/x"\nignore = true\n')
    (root / "alias").symlink_to("/conf")
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(target)

    (rule,) = load(layout(root=str(root))).rules

    assert rule.file.startswith(f"{root}/etc/oomwatchd.")


def test_links_below_the_root_that_lead_nowhere(tmp_path: Path) -> None:
    drop_ins = tmp_path / "etc/oomwatchd.d"
    drop_ins.mkdir(parents=True)
    (tmp_path / "etc/oomwatchd.toml").symlink_to("/etc/oomwatchd.toml")
    (drop_ins / "mask.toml").symlink_to("/dev/null")
    (tmp_path / "usr/lib/oomwatchd.d").mkdir(parents=True)
    (tmp_path / "usr/lib/oomwatchd.d/mask.toml").write_text("nonsense")

    with pytest.raises(ConfigError, match="Failed to read the file: Too many levels of symbolic links"):
        load(layout(root=str(tmp_path)))


def test_drop_in_settings_override_the_main_file(tmp_path: Path) -> None:
    (tmp_path / "etc/oomwatchd.d").mkdir(parents=True)
    (tmp_path / "etc/oomwatchd.toml").write_text('[daemon]\nscan_interval = "1s"\non_exit = "restore"\n')
    (tmp_path / "etc/oomwatchd.d/a.toml").write_text('[daemon]\nscan_interval = "2s"\n')

    settings = load(layout(root=str(tmp_path))).settings

    assert (settings.scan_interval, settings.on_exit) == (2.0, "restore")


@pytest.mark.parametrize(("mode", "refused"), [(0o644, False), (0o600, False), (0o664, True), (0o646, True)])
def test_file_that_others_could_write(tmp_path: Path, mode: int, refused: bool) -> None:
    file = tmp_path / "f.toml"
    file.write_text("")
    file.chmod(mode)

    if not refused:
        load(layout(str(file)))
        return
    with pytest.raises(ConfigError, match="Others than the owner may write"):
        load(layout(str(file)))


NOBODY = 65534
DIRECTORIES = {
    "its owner's": ((0o755, 0), False),
    "a private one": ((0o700, 0), False),
    "one that its group writes": ((0o775, 0), True),
    "one that everybody writes": ((0o777, 0), True),
    "a sticky one that everybody writes": ((0o1777, 0), False),
    "another user's": ((0o755, NOBODY), True),
}


@pytest.mark.parametrize("depth", ["", "a/b/"])
@pytest.mark.parametrize(("directory", "refused"), DIRECTORIES.values(), ids=DIRECTORIES)
@pytest.mark.skipif(os.geteuid() != 0, reason="to give a directory to another user takes root")
def test_directory_in_which_others_write(tmp_path: Path, directory: tuple[int, int], refused: bool, depth: str) -> None:
    mode, owner = directory
    weak = tmp_path / "weak"
    file = weak / f"{depth}f.toml"
    file.parent.mkdir(parents=True)
    file.write_text("")
    link = tmp_path / "link.toml"
    link.symlink_to(f"../{tmp_path.name}/weak/{depth}f.toml")
    weak.chmod(mode)
    os.chown(weak, owner, 0)

    for path in (file, link):
        if not refused:
            load(layout(str(path)))
            continue
        with pytest.raises(ConfigError, match=r"Others could put another file in the place of this one: .*weak"):
            load(layout(str(path)))


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a link to another user takes root")
def test_anothers_link_in_a_sticky_directory(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("")
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    link = sticky / "f.toml"
    link.symlink_to(tmp_path / "f.toml")
    load(layout(str(link)))
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)

    with pytest.raises(ConfigError, match="Others could put another file"):
        load(layout(str(link)))


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
@pytest.mark.parametrize("content", [None, "", "[daemon]\n"])
def test_drop_ins_where_others_could_put_theirs(tmp_path: Path, mode: int, content: str | None) -> None:
    directory = tmp_path / "etc/oomwatchd.d"
    directory.mkdir(parents=True)
    if content is not None:
        (directory / "a.toml").write_text(content)
    directory.chmod(mode)

    with pytest.raises(ConfigError, match="Others could put rules of theirs beside"):
        load(layout(root=str(tmp_path)))


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "latin").write_bytes(b"# \xff\n")
    (tmp_path / "late").write_bytes(b'[[rule]]\nname = "\xc3\xbcb\xfc"\n')
    (tmp_path / "utf16").write_bytes('[[rule]]\nname = "r"\n'.encode("utf-16-le"))
    (tmp_path / "utf32").write_bytes("\ufeff# x\n".encode("utf-32-le"))
    (tmp_path / "zeros").write_bytes(bytes(4096))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    messages = {
        "fifo": ":1:1: Not a regular file",
        "socket": ":1:1: Not a regular file",
        "": ":1:1: A directory, not a file",
        "latin": ":1:3: Not UTF-8",
        "late": ":2:11: Not UTF-8",
        "utf16": ":1:1: The file is full of NUL bytes, as UTF-16 is",
        "utf32": ":1:1: Not UTF-8, as TOML wants it, but UTF-32",
        "zeros": ":1:1: The file holds NUL bytes alone",
    }
    for name, message in messages.items():
        with pytest.raises(ConfigError, match=message):
            load(layout(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("5s", 5),
        ("100ms", 0.1),
        ("1min 30s", 90),
        ("1h30min", 5400),
        ("2.5 sec", 2.5),
        ("1d", 86400),
        ("", None),
        ("s", None),
        ("5 parsecs", None),
        ("-5s", None),
        ("1" * 5000 + "!", None),
    ],
)
def test_time_spans(text: str, seconds: float | None) -> None:
    assert parse_time_span(text) == pytest.approx(seconds)


def test_positions() -> None:
    text = '''# comment [x]
a = """
[[rule]]
""" # not that one
[daemon]
"quoted key" = 'x = 1'
'''
    text += 'b.c = [ # [\n  1, { d = "]" },\n]\n[[rule]]\nx = 1\n  [rule.not]\n  y = 2\n[[rule]]\nz = 1_000\n'

    found = locate(text).positions

    assert found["a",] == (2, 1)
    assert found["daemon",] == (5, 1)
    assert found["daemon", "quoted key"] == (6, 1)
    assert found["daemon", "b", "c"] == (7, 1)
    assert found["daemon", "b", "c", 1] == (8, 6)
    assert found["daemon", "b", "c", 1, "d"] == (8, 8)
    assert found["rule", 0] == (10, 1)
    assert found["rule", 0, "not", "y"] == (13, 3)
    assert found["rule", 1, "z"] == (15, 1)


PLAIN = """[daemon] # c
scan_interval = "5s"  # c

[[rule]]
name = "a"
  comm = ["x", 'y']
[rule.not]
user = 1
[[rule]]
exe = { regex = "b" }
"""


@pytest.mark.parametrize("line", ["", "x = [\n]\n", "x = {y = {}}\n", 'x = """\n[[rule]]"""\n', "[[rule ]]\n"])
def test_places_are_found_alike_whether_all_lines_are_plain_or_not(line: str) -> None:
    found = locate(PLAIN + line).positions

    assert (found["rule", 0], found["rule", 1]) == ((4, 1), (9, 1)), "asked first: that needs no other places"
    assert (("rule", 2) in found) == line.startswith("[[")
    assert {path: place for path, place in found.items() if place[0] < 11} == {
        ("daemon",): (1, 1),
        ("daemon", "scan_interval"): (2, 1),
        ("rule",): (4, 1),
        ("rule", 0): (4, 1),
        ("rule", 0, "name"): (5, 1),
        ("rule", 0, "comm"): (6, 3),
        ("rule", 0, "comm", 0): (6, 11),
        ("rule", 0, "comm", 1): (6, 16),
        ("rule", 0, "not"): (7, 1),
        ("rule", 0, "not", "user"): (8, 1),
        ("rule", 1): (9, 1),
        ("rule", 1, "exe"): (10, 1),
        ("rule", 1, "exe", "regex"): (10, 9),
    }


TOKENS = """[[rule]] [daemon] [ ] { } = , . " \'\'\' \\"\\"\\" # 1 true name exe comm not oom_score_adj children regex ( \\\\
    1979-05-27 é at_least"""
tokens = st.sampled_from(
    [
        *TOKENS.split(),
        *("\n", " ", "\x00", "1" * 200, "[" * 100, 'name = "a"\n', 'exe = "/a"\n'),
        *("oom_score_adj = -1\n", "ignore = true\n", "user = 1\n"),
    ]
)


@given(st.lists(tokens, max_size=40).map("".join))
def test_any_text_is_rules_or_errors(text: str) -> None:
    locate(text)
    try:
        read(text)
    except ConfigError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


keys = st.sampled_from(["exe", "comm", "not", "name", "oom_score_adj", "regex", "at_least", "user"])
leaves = st.booleans() | st.integers() | st.text(max_size=5)


@settings(max_examples=25)
@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner)))
def test_any_shape_is_rules_or_errors(value: object) -> None:
    def toml(x: object) -> str:
        if isinstance(x, dict):
            return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in x.items()) + "}"
        if isinstance(x, list):
            return "[" + ", ".join(map(toml, x)) + "]"
        if isinstance(x, bool):
            return str(x).lower()
        return str(x) if isinstance(x, int) else '"' + "".join(f"\\U{ord(c):08x}" for c in str(x) if c < "\ud800") + '"'

    for text in (f"rule = {toml(value)}", f"rule = [{toml(value)}]", f"daemon = {toml(value)}"):
        try:
            read(text)
        except ConfigError as error:
            assert error.problems


def test_drop_ins_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    drop_ins = tmp_path / "etc/oomwatchd.d"
    drop_ins.symlink_to("oomwatchd.d")  # what keeps root out, too

    with pytest.raises(ConfigError) as refused:
        load(layout(root=str(tmp_path)))

    assert str(refused.value) == f"{drop_ins}:1:1: Failed to list the directory: Too many levels of symbolic links"
