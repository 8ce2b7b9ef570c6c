"""oomwatchctl check and config, without a daemon."""

import json
from pathlib import Path

import pytest

from oomwatchd.config import load as config
from oomwatchd.config.document import ConfigFile
from oomwatchd.config.lint import warnings
from oomwatchd.config.shadows import covers
from oomwatchd.ctl import main
from oomwatchd.ctl.check import as_toml, lint
from oomwatchd.ctl.protection import too_wide

GUARD = 'exe = "/usr/bin/env"\nuser = 0'


def found(*rules: str) -> list[str]:
    """Warnings about rules that are given without their names and with another value each."""
    text = "\n".join(f'[[rule]]\nname = "r{i}"\n{rule}' for i, rule in enumerate(rules))
    return [problem.message for problem in warnings(config.parse([ConfigFile("f", text)]))]


def raised(criteria: str) -> str:
    return f"{criteria}\noom_score_adj = {{ at_least = 100 }}"


COVERED = [
    # wide, narrow, whether
    ("", 'comm = "a"', True),
    ('comm = "a"', 'comm = "a"', True),
    ('comm = "a"', 'comm = "b"', False),
    ('comm = ["a", "b"]', 'comm = "b"', True),
    ('comm = "a"', 'comm = ["a", "b"]', False),
    ('comm = "a*"', 'comm = "abc"', True),
    ('comm = "a*"', 'comm = "ab*"', True),
    ('comm = "ab*"', 'comm = "a*"', False),
    ('comm = "a?"', 'comm = "a*"', False),
    ('comm = "a[*]"', 'comm = "a*"', False),
    ('comm = "*"', 'comm = "a?[bc]"', True),
    ('comm = { regex = "x" }', 'comm = "axe"', True),
    ('comm = { regex = "x" }', 'comm = "*x*"', False),
    ('comm = { regex = "x" }', 'comm = { regex = "x" }', True),
    ('comm = "a"', 'comm = "a"\nuser = "root"', True),
    ('comm = "a"\nuser = "root"', 'comm = "a"', False),
    ('user = ["root", 1]', "user = 0", True),
    ("session_leader = true", "session_leader = true", True),
    ("session_leader = true", "session_leader = false", False),
    ('exe = "/a"', 'comm = "a"', False),
    ('comm = "a"\nnot = { user = 0 }', 'comm = "a"', False),
    ('comm = "a"\nnot = { user = 0 }', 'comm = "a"\nnot = { user = 0 }', True),
    ('comm = "a"\nnot = { user = 0, group = 0 }', 'comm = "a"\nnot = { user = 0 }', True),
    ('comm = "a"\nnot = { user = 0 }', 'comm = "a"\nnot = { user = 0, group = 0 }', False),
    ('comm = "a"', 'comm = "a"\ncontainers = true', False),
    ('comm = "a"\ncontainers = true', 'comm = "a"', True),
]


@pytest.mark.parametrize(("wide", "narrow", "expected"), COVERED)
def test_shadows(wide: str, narrow: str, expected: bool) -> None:
    text = f'[[rule]]\nname = "w"\n{raised(wide)}\n[[rule]]\nname = "n"\n{raised(narrow)}'
    first, second = config.parse([ConfigFile("f", text)]).rules
    assert covers(first, second) is expected
    assert any("decides" in message for message in found(raised(wide), raised(narrow))) is expected


def test_a_shadow_is_named() -> None:
    (message,) = found(raised('comm = "a*"'), raised('comm = "ab"'))
    assert message == "Rule 'r1': never decides: rule 'r0' at f:1 comes first and fits all that it fits"


def test_duplicates_across_files() -> None:
    rules = [f'[[rule]]\nname = "{name}"\n{raised("user = 0")}' for name in "ab"]
    parsed = config.parse([ConfigFile("/etc/a.toml", rules[0]), ConfigFile("/etc/b.toml", rules[1])])
    (problem,) = warnings(parsed)
    assert problem.file == "/etc/b.toml"
    assert "a duplicate: it asks for the same as rule 'a' at /etc/a.toml:1" in problem.message


def test_a_disabled_rule_shadows_nothing_and_is_not_looked_at() -> None:
    assert found(raised('comm = "a"\nenabled = false'), raised('comm = "a"')) == []
    assert found(raised('comm = "a"'), raised('comm = "a"\nenabled = false')) == []


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ('exe = "sshd"', "shown by its whole path"),
        ('exe = "/no/such/file"', "there is no /no/such/file here"),
        ('exe = "/no/such/directory/*"', "there is no /no/such/directory here"),
        ('comm = "sixteen-bytes-16*"', "cuts a name after 15 bytes"),
        ('unit = "ssh"', "such as 'ssh.service'"),
        ('unit = "ssh@.service"', "isn't the whole name"),
        ('user_unit = "foo.slice"', "isn't the whole name"),
        ('slice = "user"', "such as 'user-*.slice'"),
        ('unit = "ssh@*.sservice"', "the name of a unit ends in .service or"),
        ('unit = "*ssh"', "the name of a unit ends in .service or"),
        ('unit = "[as]*.timer"', "the name of a unit ends in .service or"),
        ('user_unit = "*/app-*.scope"', "has no slash"),
        ('slice = "user-*.service"', "the name of a slice ends in .slice"),
        ('cgroup = "system.slice"', "begins with a slash"),
    ],
)
def test_nothing_can_fit(criterion: str, said: str) -> None:
    (message,) = found(raised(criterion))
    assert said in message


@pytest.mark.parametrize(
    "criterion",
    [
        'comm = "fifteen-bytes15*"',
        'unit = "ssh.service"',
        'unit = "getty@tty1.service"',
        'unit = "session-1.scope"',
        'unit = "a*"',
        'unit = ["ssh@*.service", "*-boot.mount", "*vice", "a?", "a[b.]", "[a/b]*"]',
        'user_unit = "app.service"',
        'slice = ["-.slice", "user-1000.slice", "user-*", "*.slice"]',
        'cgroup = "/a"',
        'exe = { regex = "x" }',
    ],
)
def test_nothing_to_say(criterion: str) -> None:
    assert found(raised(criterion)) == []


def test_a_path_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/x").touch()
    (tmp_path / "bin").symlink_to("usr")
    for name in ("x", "*"):
        (message,) = found(raised(f'exe = "{tmp_path}/bin/{name}"'))
        assert f"write '{tmp_path}/usr/{name}'" in message


@pytest.mark.parametrize(
    ("criteria", "vague"),
    [
        ('unit = "*"', True),
        ('slice = ["x.slice", "*"]', True),
        ('unit = { regex = ".*" }\nexe = "/usr/bin/env"', True),
        ('unit = "*"\nuser = 0', False),
        ('slice = "*.slice"', False),
    ],
)
def test_guards_that_hold_for_everybody(criteria: str, vague: bool) -> None:
    assert any("every user" in message for message in found(f"{criteria}\noom_score_adj = -1")) is vague
    assert not any("every user" in message for message in found(raised(criteria)))


def test_a_value_that_never_lowers() -> None:
    assert "at_least = 0" in found('comm = "a"\noom_score_adj = 0')[0]
    for more in ("user = 0", "spoofable = true"):
        assert found(f'comm = "a"\n{more}\noom_score_adj = 0') == []
    assert found('comm = "a"\noom_score_adj = 1000') == []


def test_protection_that_is_too_wide() -> None:
    """On this machine: nothing is written."""
    wide, narrow = (
        config.parse([ConfigFile("f", f'[[rule]]\nname = "r"\n{criterion}\noom_score_adj = {value}')]).rules
        for criterion, value in (('cgroup = "*"\nspoofable = true', -1000), (GUARD, -1000))
    )
    (problem,) = too_wide(wide)
    assert "would be unkillable" in problem.message
    assert too_wide(narrow) == []


def test_protection_needs_no_look_without_minus_1000(tmp_path: Path) -> None:
    rules = config.parse([ConfigFile("f", f'[[rule]]\nname = "r"\n{GUARD}\noom_score_adj = -999')]).rules
    assert too_wide(rules, str(tmp_path / "not there")) == []


def test_warnings_come_in_the_order_of_the_files() -> None:
    text = '[[rule]]\nname = "a"\nexe = "/no/such"\nignore = true\n[[rule]]\nname = "b"\nuser = "nosuchuser"\n'
    problems = lint(config.parse([ConfigFile("f", f"{text}oom_score_adj = 1\n")]))
    assert [problem.line for problem in problems] == [3, 7]


# The command line


def test_several_files_each_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, missing = (tmp_path / name for name in ("good.toml", "bad.toml", "missing.toml"))
    good.write_text('[[rule]]\nname = "same"\nuser = 0\noom_score_adj = 1\n')
    bad.write_text('[[rule]]\nname = "same"\nuser = 0\noom_score_adj = "1"\nunknown = 1\n')
    assert main(["check", str(good), str(good)]) == 0
    assert capsys.readouterr().out == "Valid: 2 files, 2 rules, 0 warnings\n"
    assert main(["check", "--json", str(good), str(bad), str(missing)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["ok", "errors", "warnings"]
    assert answer["ok"] is False
    assert [(e["file"], e["line"], e["column"]) for e in answer["errors"]] == [
        (str(bad), 4, 17),
        (str(bad), 5, 1),
        (str(missing), 1, 1),
    ]
    assert all(list(e) == ["file", "line", "column", "message"] for e in answer["errors"])
    assert main(["check", str(bad)]) == 1
    assert capsys.readouterr().out.startswith(f"{bad}:4:17: ")


def test_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc/oomwatchd.d").mkdir(parents=True)
    main_file, drop_in = tmp_path / "etc/oomwatchd.toml", tmp_path / "etc/oomwatchd.d/a.toml"
    main_file.write_text('[[rule]]\nname = "a"\nuser = 0\noom_score_adj = 1\n')
    drop_in.write_text('[daemon]\nscan_interval = "1min"\n[[rule]]\nname = "b"\ngroup = 0\noom_score_adj = 2\n')
    assert main(["--root", str(tmp_path), "check"]) == 0
    assert capsys.readouterr().out == "Valid: 2 files, 2 rules, 0 warnings\n"
    assert main(["config", "--json", "--root", str(tmp_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["files"] == [str(main_file), str(drop_in)]
    assert answer["daemon"]["scan_interval"] == 60.0
    assert [(rule["rule"], rule["file"], rule["line"]) for rule in answer["rules"]] == [
        ("a", str(main_file), 1),
        ("b", str(drop_in), 3),
    ]
    assert answer["rules"][1]["table"] == {"name": "b", "group": 0, "oom_score_adj": 2}


def test_a_warning_is_an_error_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        '[[rule]]\nname = "a"\nuser = 0\noom_score_adj = -17\n[[rule]]\nname = "b"\nuser = 1\nignore = true\n'
    )
    file.write_text(file.read_text() + "enabled = false\n")

    assert main(["check", str(file)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{file}:4:1: warning: ")
    assert shown.endswith("\nValid: 1 file, 2 rules (1 disabled), 1 warning\n")
    assert main(["check", "--strict", str(file)]) == 1
    capsys.readouterr()
    assert main(["check", "--strict", "--json", str(file)]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_what_is_found_beside_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop_ins = tmp_path / "etc/oomwatchd.d"
    drop_ins.mkdir(parents=True)
    for name in ("10-a.conf", "b.TOML", "c.toml~", ".d.toml", "e.toml.dpkg-old", "README"):
        (drop_ins / name).write_text("nonsense")
    (drop_ins / "gone.toml").symlink_to("nowhere")
    (tmp_path / "etc/oomwatchd.toml").write_text("[daemon]\n")

    assert main(["check", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": warning: ") for line in lines[:-1]] == [
        [f"{drop_ins}/10-a.conf:1:1", "Not read: the name of a drop-in ends in .toml"],
        [f"{drop_ins}/b.TOML:1:1", "Not read: the name of a drop-in ends in .toml"],
        [f"{drop_ins}/gone.toml:1:1", "A symbolic link to nowhere, which isn't there"],
        [f"{tmp_path}/etc/oomwatchd.toml:1:1", "No rule is in force: nothing is protected"],
    ]


@pytest.mark.parametrize(
    "name", ["oomwatchd.conf", "oomwatchd.conf.d/a.toml", "oomwatchd.toml.d/a", "oomwatchd/oomwatchd.toml"]
)
def test_configuration_at_the_place_of_other_programs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main_file, misplaced = tmp_path / "etc/oomwatchd.toml", tmp_path / "etc" / name
    misplaced.parent.mkdir(parents=True)
    misplaced.write_text("nonsense")
    main_file.write_text('[[rule]]\nname = "a"\nuser = 0\noom_score_adj = 7\n')
    shown = misplaced.parent if misplaced.parent.name.endswith(".d") else misplaced

    assert main(["check", "--root", str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    advice = f"rules are in {main_file}, or in files NAME.toml in {tmp_path}/etc/oomwatchd.d"
    assert first == f"{shown}:1:1: warning: Not read: {advice}"


def test_a_file_in_the_place_of_the_drop_ins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/oomwatchd.d").write_text("")
    (tmp_path / "etc/oomwatchd.toml").write_text('[[rule]]\nname = "a"\nuser = 0\noom_score_adj = 7\n')
    assert main(["check", "--root", str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{tmp_path}/etc/oomwatchd.d:1:1: warning: Not a directory, so that no drop-in is read here"


def test_many_rules_are_compared_with_few_others() -> None:
    """With 10,000 rules, each with each would be fifty million comparisons."""
    from oomwatchd.config import shadows

    text = "".join(f'[[rule]]\nname = "{i}"\ncomm = "n{i}"\nuser = 0\noom_score_adj = 1\n' for i in range(1000))
    rules = config.parse([ConfigFile("f", text)]).rules
    index = shadows._Index()
    candidates = 0
    for number, rule in enumerate(rules):
        candidates += len(index.candidates(rule))
        index.add(number, rule)
    assert candidates == 0


def test_a_list_of_many_names_shadows_one() -> None:
    names = ", ".join(f'"n{i}"' for i in range(15_000))
    assert any("never decides" in m for m in found(raised(f"comm = [{names}]"), raised('comm = ["n14999", "n7"]')))


CONFIG = """
[daemon]
dry_run = true

[[rule]]
name = 'a "quoted" \u00e9'
comm = ["x", { regex = "^\\\\w$" }]
not = { user = "root", cmdline = "* -x" }
oom_score_adj = { at_least = 3 }
children = "reset"
"""


def test_what_config_prints_is_the_same_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, again = tmp_path / "a.toml", tmp_path / "b.toml"
    file.write_text(CONFIG)
    assert main(["config", "-c", str(file)]) == 0
    printed = capsys.readouterr().out
    assert f"# {file}:5" in printed
    again.write_text(printed)
    assert main(["config", "-c", str(again), "--no-legend"]) == 0
    assert capsys.readouterr().out == "".join(line + "\n" for line in printed.splitlines() if not line.startswith("#"))
    first, second = (config.load(config.layout(str(path))) for path in (file, again))
    assert first.settings == second.settings
    assert [(r.name, r.criteria, r.excluded, r.action, r.children) for r in first.rules] == [
        (r.name, r.criteria, r.excluded, r.action, r.children) for r in second.rules
    ]


def test_toml_of_odd_strings() -> None:
    import tomli

    for text in ("\x7f", "\x00\x1f", 'a"b\\c', "\U0001f600", "\u2028"):
        assert tomli.loads(f"x = {as_toml(text)}") == {"x": text}


def test_a_rule_that_switches_the_filter_off_for_the_others_is_named() -> None:
    literal, wide = f"{GUARD}\noom_score_adj = 5", raised('cgroup = "/a*"')
    assert found(literal) == found(wide) == []

    message, *more = found(literal, wide, raised("session_leader = true"))

    assert more == []
    assert message.startswith("Rule 'r1': it names nothing that the kernel can compare, nor do 1 more")
    assert "wakes up for every program" in message
