"""The commonest mistakes in a configuration: what is said, and where. Each is told of once, and alone."""

import re
from pathlib import Path

import pytest
import tomli
from hypothesis import example, given
from hypothesis import strategies as st

from oomwatchd.config.document import ConfigFile
from oomwatchd.config.lint import warnings
from oomwatchd.config.load import ConfigError, parse
from oomwatchd.config.syntax_hints import diagnose

HEAD = '[[rule]]\nname = "r"\nuser = "root"\n'
"""Three lines; the fourth is an action."""
RULE = HEAD + "oom_score_adj = -5\n"

# Text; for each error its line and column, and a regular expression that its message matches.
SYNTAX: list[tuple[str, list[tuple[int, int, str]]]] = [
    # Strings
    (RULE + r'cmdline = "\d+"', [(5, 12, r"\\d .*single quotes: '\\d\+'")]),
    (RULE + r'cmdline = { regex = "^\w\.x" }', [(5, 23, r"single quotes: '\^\\w\\.x'")]),
    (RULE + r'cmdline = ["\s", "\S"]', [(5, 13, "single quotes"), (5, 19, "single quotes")]),
    (RULE + r'cmdline = "it' + r"'s \d" + '"', [(5, 17, "each backslash twice")]),
    (RULE + r'cmdline = "\u12"', [(5, 12, "4 hexadecimal digits")]),
    (RULE + 'comm = "x', [(5, 8, "isn't closed")]),
    (RULE + "comm = 'x\nexe = \"/y", [(5, 8, "isn't closed"), (6, 7, "isn't closed")]),
    (RULE + 'comm = "x' + "'", [(5, 8, "ends with ''' .*close it with \"")]),
    (RULE + 'comm = """x', [(5, 8, 'with """ isn\'t closed')]),
    (RULE + 'comm = "a"b"', [(5, 11, "ends before this.*other kind")]),
    (RULE + "comm = 'it's'", [(5, 12, "ends before this.*other kind")]),
    (RULE + "comm = “x”", [(5, 8, r'U\+201C.*straight quotes: "x"')]),
    (RULE + "comm = ‘x’", [(5, 8, r'U\+2018.*straight quotes: "x"')]),
    (RULE + 'comm = "x”', [(5, 8, r"ends with '”' \(U\+201D")]),
    (RULE + "comm = `x`", [(5, 8, "straight quotes")]),
    (RULE + "comm = r'x'", [(5, 8, "no letter before a quote")]),
    (RULE + 'comm = "a\x01b"', [(5, 10, r"U\+0001")]),
    (HEAD + "oom_score_adj = <-500>", [(4, 17, "to be filled in; write -500")]),
    (RULE + "comm = <name>", [(5, 8, 'to be filled in; write "name"')]),
    # Copied with marks that don't belong to it, or not filled in
    ("1  [[rule]]\n2\tname = 'a'\n", [(1, 1, "begins with a number, 1;"), (2, 1, "begins with a number, 2;")]),
    ("+[[rule]]\n+name = 'a'\n", [(1, 1, "mark of diff"), (2, 1, "mark of diff")]),
    (HEAD + "oom_score_adj = {{ adj }}", [(4, 17, "template.*not filled in")]),
    (HEAD + "oom_score_adj = {% if x %}", [(4, 17, "template.*not filled in")]),
    ('include "/etc/x.toml"\n' + RULE, [(1, 1, "no include")]),
    # Words and numbers
    ("[[rule]]\nname = sshd\nuser = root\noom_score_adj = -5", [(2, 8, 'quotes; write "sshd"'), (3, 8, '"root"')]),
    (RULE + "exe = /usr/sbin/sshd", [(5, 7, 'quotes; write "/usr/sbin/sshd"')]),
    (RULE + "exe = /usr/sbin/sshd -D # x", [(5, 7, 'write "/usr/sbin/sshd -D"')]),
    (RULE + "comm = [a, b]", [(5, 9, 'write "a"'), (5, 12, 'write "b"')]),
    (RULE + "cmdline = /^ssh.*d$/", [(5, 11, r"regex = '\^ssh\.\*d\$'")]),
    (RULE + "enabled = True", [(5, 11, "write true")]),
    (RULE + "enabled = FALSE", [(5, 11, "write false")]),
    (RULE + "enabled = yes", [(5, 11, "write true")]),
    (RULE + "session_leader = off", [(5, 18, "write false")]),
    ("[daemon]\nproc_events = off", [(2, 15, 'quotes; write "off"')]),
    ("[daemon]\nscan_interval = 5s", [(2, 17, 'quotes; write "5s"')]),
    ("[daemon]\nscan_interval = 5 s", [(2, 17, "quotes")]),
    (RULE + "children = None", [(5, 12, "no 'None'; leave the key out")]),
    (HEAD + "oom_score_adj = −1000", [(4, 17, r"U\+2212.*write -1000")]),
    (HEAD + "oom_score_adj = –1000", [(4, 17, r"U\+2013.*write -1000")]),
    (HEAD + "oom_score_adj = - 1000", [(4, 17, "No blank.*write -1000")]),
    (HEAD + "oom_score_adj = 0500", [(4, 17, "begin with 0; write 500")]),
    (HEAD + "oom_score_adj = 1,000", [(4, 17, "without marks")]),
    ('daemon.dry_run = true\n[daemon]\non_exit = "keep"\n\n' + RULE + "usr = 1",
     [(2, 1, "'daemon' is set twice.*one place"), (9, 1, "did you mean 'user'")]),
    (RULE + 'not = { user = "x" }\nnot.comm = "y"\nusr = 1', [(6, 1, "'rule.not' is set twice"), (7, 1, "'user'")]),
    (RULE + 'comm = "x"\n  comm.regex = "y"\nusr = 1', [(6, 3, "has one already"), (7, 1, "'user'")]),
    (RULE + 'comm = ["x"]\n[[rule.comm]]\nregex = "y"', [(6, 1, "'rule.comm' is set twice")]),
    (RULE + 'not = { comm = "x", comm = "y" }', [(5, 1, "'comm' stands twice in these braces")]),
    (HEAD + "oom_score_adj = " + "9" * 5000, [(4, 17, "out of range: it has 5000 digits")]),
    (HEAD + "oom_score_adj = 5.", [(4, 17, "not the number 5.0; write 5")]),
    (HEAD + "oom_score_adj = .5", [(4, 17, "not the number 0.5")]),
    (HEAD + "oom_score_adj = −１０", [(4, 17, "write -10")]),
    (HEAD + "oom_score_adj = 500 600", [(4, 17, "500600 is out of range")]),
    (HEAD + "oom_score_adj = 500 6", [(4, 21, "without marks or blanks")]),
    (HEAD + "oom_score_adj = >= 500", [(4, 17, "write { at_least = 500 }")]),
    (HEAD + "oom_score_adj = 500..600", [(4, 17, "{ at_least = 500, at_most = 600 }")]),
    (HEAD + "oom_score_adj = { 500 }", [(4, 17, "{ at_least = 500 } or .*no braces")]),
    (HEAD + "oom_score_adj = (500)", [(4, 17, "write 500")]),
    (HEAD + "oom_score_adj = null", [(4, 17, "no 'null'; say what the rule does")]),
    (RULE + "user = ~", [(5, 1, "twice"), (5, 8, "no '~'; leave the key out")]),
    (RULE + 'group = not "bin"', [(5, 9, 'write not = { group = "bin" }')]),
    (RULE + "group = !bin", [(5, 9, 'write not = { group = "bin" }')]),
    (RULE + "group = $GROUP", [(5, 9, "Variables aren't replaced")]),
    (RULE + 'not = group = "bin"', [(5, 7, 'write { group = "bin" }')]),
    (RULE + 'not = { user = "bin" and comm = "x" }', [(5, 22, "by commas, not by 'and'")]),
    (RULE + 'not = { user = "bin"; comm = "x" }', [(5, 21, "by commas, not by ';'")]),
    (RULE + 'description = "x" "y"', [(5, 19, "ends before this")]),
    (RULE + 'comm = "x"]', [(5, 11, "Nothing is open that this ]")]),
    (RULE + 'comm = "x"; exe = "/y"', [(5, 11, "Each key has a line of its own")]),
    (RULE + 'comm = "x\ny"', [(5, 8, "isn't closed")]),
    (RULE + "EOF", [(5, 1, "'EOF' alone.*a # comment")]),
    (RULE + "group > 5", [(5, 7, "not '>'; write group = …")]),
    ("rule\n" + RULE[9:], [(1, 1, r"write \[\[rule\]\]"), *[(n, 1, "outside of any table") for n in (2, 3, 4)]]),
    ('[rule "sshd"]\nuser = 0\nignore = true', [(1, 1, r'write \[\[rule\]\], and name = "sshd"')]),
    ("[[rule]]]\n" + RULE[9:], [(1, 1, r"as many \].*write \[\[rule\]\]")]),
    ("[[[rule]]]\n" + RULE[9:], [(1, 1, r"one or two brackets.*write \[\[rule\]\]")]),
    (HEAD + "oom_score_adj = +-5", [(4, 17, "one sign")]),
    (HEAD + "oom_score_adj = at_least 300", [(4, 17, r"braces; write \{ at_least = 300 \}")]),
    (HEAD + "oom_score_adj = 50%", [(4, 17, "whole number.*thousandths.*write 500")]),
    (HEAD + "oom_score_adj = 2000%", [(4, 17, "whole number.*the string '2000%'$")]),
    (HEAD + "oom_score_adj = never", [(4, 17, "whole number.*the string 'never'")]),
    (HEAD + "oom_score_adj = −5000", [(4, 17, "-5000 is out of range")]),
    (HEAD + "oom_score_adj = { at_least = 50% }", [(4, 30, "at_least.*write 500")]),
    (HEAD + "oom_score_adj = 1,000,000", [(4, 17, "1000000 is out of range")]),
    (RULE + "children = 5%", [(5, 12, "'5%' is neither")]),
    (RULE + "children = none", [(5, 12, "leave the key out")]),
    (RULE + "session_leader = maybe", [(5, 18, "true or false, not the string 'maybe'")]),
    ("[daemon]\nscan_interval = 5 parsecs", [(2, 17, "quotes.*besides.*'5 parsecs' isn't a time span")]),
    (RULE + "group = w*", [(5, 9, "quotes.*besides.*looks like a glob")]),
    (RULE + "comm = a-name-that-is-too-long", [(5, 8, "quotes.*besides.*23 bytes")]),
    (RULE + "comm = nginx, apache2", [(5, 8, r'write \["nginx", "apache2"\]')]),
    (RULE + "comm = [a-name-that-is-too-long, −5]", [(5, 9, "besides.*23 bytes"), (5, 34, "in quotes or")]),
    # Keys and lines
    (RULE + 'comm != "x"', [(5, 6, "not '!='.*not = { comm = … }")]),
    (RULE + 'cmdline =~ "x"', [(5, 9, "not '=~'.*cmdline = { regex = … }")]),
    (HEAD + "oom_score_adj >= 300", [(4, 15, "not '>='.*oom_score_adj = { at_least = … }")]),
    (HEAD + "oom_score_adj < 300", [(4, 15, "not '<'.*oom_score_adj = { at_most = … }")]),
    (RULE + "not user = 0", [(5, 1, r"braces: not = \{user = … \}")]),
    (RULE + "comm:", [(5, 5, "not ':'")]),
    (RULE + 'comm = "x"\0', [(5, 11, r"U\+0000")]),
    (RULE + 'comm = "x"\r\r', [(5, 11, "carriage return")]),
    (RULE + "comm", [(5, 1, "write comm = …")]),
    (RULE + "comm =", [(5, 7, "missing behind the =")]),
    (RULE + 'comm "x"', [(5, 1, "'=' is missing")]),
    (RULE + 'comm == "x"', [(5, 6, "not '=='")]),
    (RULE + 'comm := "x"', [(5, 6, "not ':='")]),
    (RULE + '= "x"', [(5, 1, "key before = is missing")]),
    (RULE + 'comm: "x"', [(5, 5, "not ':'; write comm = …")]),
    ("[[rule]]\nname: x\nuser = 0\nignore = true", [(2, 5, "not ':'"), (2, 7, 'write "x"')]),
    (HEAD + "oom score adj = -5", [(4, 1, "no blanks.*did you mean 'oom_score_adj'")]),
    (HEAD + "oom_score_adj\u00a0= -5", [(4, 14, r"U\+00A0, no-break space")]),
    (HEAD + "oom_score_adj = \u200b-5", [(4, 17, r"U\+200B, zero width space")]),
    (HEAD + "oom_score_adj = -5,", [(4, 19, "No comma")]),
    (HEAD + "oom_score_adj = -5;", [(4, 19, "No semicolon")]),
    (HEAD + 'oom_score_adj = -5 comm = "x"', [(4, 20, "line of its own")]),
    (HEAD + 'oom_score_adj = -5, comm = "x"', [(4, 19, "line of its own")]),
    ('[[rule]]\nname = "x" comm = "x" ignore = true', [(2, 12, "line of its own")]),
    ('[[rule]]\ncomm = "x", name = "x"; oom_adj = 5', [(2, 11, "line of its own")]),
    ('{"rule": [{"name": "x", "comm": "x", "oom_score_adj": 5}]}', [(1, 1, "no JSON.*\\[\\[rule\\]\\]")]),
    (RULE + 'user = "bin"', [(5, 1, "'user' stands twice.*first at line 3")]),
    (HEAD + 'name = "s"\noom_score_adj = -5', [(4, 1, r"'name' stands twice.*\[\[rule\]\] is missing")]),
    (HEAD + "uzer: b, x\noom_score_adj = −5", [(4, 1, "'user'"), (4, 5, "not ':'"), (4, 7, "write"), (5, 17, "-5")]),
    (RULE + 'name = "s"\nuser = "bin"\nignore = true', [(5, 1, r"twice.*line 2.*\[\[rule\]\] is missing")]),
    # Comments
    ("; x\n" + RULE, [(1, 1, "begins with #, not with ;")]),
    ("// x\n" + RULE, [(1, 1, "begins with #, not with //")]),
    (HEAD + "oom_score_adj = -5 ; x", [(4, 20, "begins with #")]),
    (HEAD + "oom_score_adj = -5 // x", [(4, 20, "begins with #")]),
    (HEAD + 'oom_score_adj = -5\ncomm = "x" -- y', [(5, 12, "begins with #")]),
    ("/* x */\n" + RULE, [(1, 1, "begins with #")]),
    # Lists and tables
    (RULE + 'comm = ["a" "b"]', [(5, 13, "comma is missing")]),
    (RULE + 'comm = [\n"a"\n"b"\n]', [(7, 1, "comma is missing")]),
    (RULE + 'comm = ["a",, "b"]', [(5, 13, "missing before this comma")]),
    (RULE + 'comm = ["a"; "b"]', [(5, 12, "not semicolons")]),
    (RULE + 'comm = ["a", "b"\ncontainers = true', [(5, 8, r"isn't closed; close it with \]")]),
    (RULE + 'comm = ["a", "b"}', [(5, 17, r"close it with \]")]),
    (RULE + 'comm = "a", "b"', [(5, 11, r'a list.*comm = \["a", "b"\]')]),
    (RULE + 'comm = "a" or "b"', [(5, 12, "a list")]),
    (RULE + 'comm = ("a", "b")', [(5, 8, r"Parentheses.*\[")]),
    (RULE + 'comm = {"a", "b"}', [(5, 8, r"list is written in brackets")]),
    (RULE + 'not = { user = "bin" comm = "x" }', [(5, 22, "comma is missing")]),
    (RULE + 'not = { user: "bin" }', [(5, 13, "stands =, not :")]),
    (RULE + "not = { user }", [(5, 9, "'user' has no value")]),
    (RULE + 'not = { user = "bin", }', [(5, 21, "no comma before the }")]),
    (RULE + 'not = { user = "bin",\ncomm = "x" }', [(5, 7, "one line")]),
    (RULE + 'not = { # x\nuser = "bin" }', [(5, 7, "one line")]),
    (RULE + 'not = { user = "bin"\ncontainers = true', [(5, 7, "isn't closed; close it with }")]),
    # Headers
    ("[[rule]\n" + RULE[9:], [(1, 1, r"as many \].*write \[\[rule\]\]")]),
    ("[[rule\n" + RULE[9:], [(1, 1, r"isn't closed; write \[\[rule\]\]")]),
    ("rule]]\n" + RULE[9:], [(1, 1, r"not as many \] as \[; write \[\[rule\]\]")]),
    ('daemon] # x\nscan_interval = "5s"', [(1, 1, r"not as many \] as \[; write \[daemon\]")]),
    (HEAD + "oom_sc", [(4, 1, "'oom_sc' alone means nothing")]),
    (HEAD + "ign  # x", [(4, 1, "'ign' alone means nothing")]),
    (HEAD + "oom_adj x= -5", [(4, 1, "no blanks: 'oom_adj x'; did you mean 'oom_adj'")]),
    (HEAD + "a b = 1", [(4, 1, "no blanks: 'a b'$")]),
    ("[ [rule] ]\n" + RULE[9:], [(1, 1, r"No blank.*write \[\[rule\]\]")]),
    ("[[rule]] ; x\n" + RULE[9:], [(1, 10, "begins with #")]),
    (
        f"[rule]\n{RULE[9:]}[rule]\n{RULE[9:].replace('r', 's', 0)}".replace('name = "r"', 'name = "s"', 1),
        [(1, 1, r"two brackets.*\[\[rule\]\]"), (5, 1, r"two brackets.*\[\[rule\]\]")],
    ),
    ("[daemon]\ndry_run = true\n[daemon]\non_exit = 5", [(3, 1, r"\[daemon\] stands twice; first at line 1")]),
    # TOML 1.1, which some versions of tomli take
    (RULE + r'comm = "\e"', [(5, 9, r"\\e is none of TOML 1.0")]),
    (RULE + r'comm = "\x41"', [(5, 9, r"\\x is none of TOML 1.0")]),
    ("[daemon]\nscan_interval = 10:20", [(2, 17, "a time has seconds")]),
    # Other files
    ("\ufeff" + RULE, [(1, 1, "byte order mark")]),
    ("<<<<<<< HEAD\n" + RULE, [(1, 1, "merge left this mark")]),
    ("- name: x", [(1, 1, r"a rule begins with a line \[\[rule\]\]")]),
    ("# x\nrules:\n  - name: sshd\n    user: root\n    oom_score_adj: -5", [(2, 1, "no YAML")]),
    ('{\n "rule": [\n {"name": "a", "user": "root"}\n ]\n}', [(1, 1, "no JSON")]),
    ("<?xml?>\n<rule>\n<name>a</name></rule>", [(1, 1, "no XML")]),
    (RULE.replace("\n", "\r"), [(1, 1, "carriage return alone")]),
]  # fmt: skip


def problems(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(ConfigError) as refused:
        parse([ConfigFile("f", text)])
    return [(problem.line, problem.column, problem.message) for problem in refused.value.problems]


@pytest.mark.parametrize(("text", "expected"), SYNTAX)
def test_what_is_no_toml(text: str, expected: list[tuple[int, int, str]]) -> None:
    found = problems(text)

    assert [place[:2] for place in found] == [place[:2] for place in expected], found
    for (_, _, message), (_, _, pattern) in zip(found, expected, strict=True):
        assert re.search(pattern, message), message


def test_all_that_is_wrong_in_one_go() -> None:
    """What isn't TOML, and what is wrong in the rest of the file."""
    text = HEAD + 'oom_score_adj = −5\nexe = /usr/bin/x\n[[rule]]\nname = "s"\noom_score_adj = 5000\n[daemon]\nx = 1\n'

    assert [line for line, _, _ in problems(text)] == [4, 5, 8, 10]


def test_the_rest_of_a_broken_rule_is_no_further_error() -> None:
    """The name, the action and the criterion that guards are there, though they can't be read."""
    text = "[[rule]]\nname = x\nuser = root\noom_score_adj = −5\n"
    text += '[[rule]]\nname = "s"\ndescendant_of = "x"\nignore = true\n'

    assert [line for line, _, _ in problems(text)] == [2, 3, 4]


# Keys and values that are TOML, and wrong.
VALUES: list[tuple[str, list[tuple[int, int, str]]]] = [
    (HEAD + "OOMScoreAdjust = -5", [(4, 1, "did you mean 'oom_score_adj'")]),
    (HEAD + "oom-score-adj = -5", [(4, 1, "did you mean 'oom_score_adj'")]),
    (HEAD + "Oom_Score_Adj = -5", [(4, 1, "did you mean 'oom_score_adj'")]),
    (HEAD + "oom_adj = -1000", [(4, 11, "old scale.*oom_score_adj = -1000")]),
    (HEAD + "oom_adj = -500", [(4, 11, "scale of today is written oom_score_adj = -500$")]),
    (HEAD + "oom_adj = -18", [(4, 11, "its end is -17, which is oom_score_adj = -1000$")]),
    (HEAD + "oom_adj = 16", [(4, 11, "its end is 15, which is oom_score_adj = 1000$")]),
    (RULE + "nice = -5", [(5, 1, "Unknown key 'nice'; a rule sets oom_score_adj alone.*with Nice=$")]),
    (RULE + 'ioclass = "idle"', [(5, 1, "with IOSchedulingClass=$")]),
    (RULE + 'MemoryMax = "1G"', [(5, 1, "with MemoryMax=$")]),
    (HEAD + "oom_score_adj = 1001", [(4, 17, "-1000 to 1000")]),
    (HEAD + 'oom_score_adj = "-1000"', [(4, 17, "without quotes: -1000")]),
    (HEAD + "oom_score_adj = -5.0", [(4, 17, "whole number")]),
    (RULE + 'enabled = "true"', [(5, 11, "without quotes: true")]),
    (RULE + "containers = 1", [(5, 14, "true or false")]),
    (RULE + "children = true", [(5, 12, 'true is neither.*write "inherit"')]),
    (RULE + "children = false", [(5, 12, 'false is neither.*write "reset"')]),
    (RULE + "pid = 812", [(5, 1, "Unknown key 'pid'.*oomwatchctl pin")]),
    ("[Service]\nOOMScoreAdjust = -900\n" + RULE, [(1, 1, "section of systemd's units.*unit = ")]),
    (RULE + 'children = "none"', [(5, 12, "'none' is neither")]),
    (RULE + 'children = "Reset"', [(5, 12, "did you mean 'reset'")]),
    (RULE + 'children = "-5"', [(5, 12, "without quotes: -5")]),
    (RULE + 'executable = "/x"', [(5, 1, "did you mean 'exe'")]),
    (RULE + 'args = "x"', [(5, 1, "did you mean 'cmdline'")]),
    (RULE + 'service = "x"', [(5, 1, "did you mean 'unit'")]),
    (RULE + 'exclude = { user = "x" }', [(5, 1, "did you mean 'not'")]),
    (RULE + 'scan_interval = "5s"', [(5, 1, r"belongs below \[daemon\]")]),
    ('[daemon]\nname = "x"', [(2, 1, r"belongs below \[\[rule\]\]")]),
    ('name = "x"', [(1, 1, r"belongs below \[\[rule\]\]")]),
    ("dry_run = true", [(1, 1, r"belongs below \[daemon\]")]),
    ('[not]\nuser = "x"', [(1, 1, r"\[rule\.not\]")]),
    (RULE + 'regex = "x"', [(5, 1, "braces: cmdline = { regex = '…' }")]),
    ("[rule.sshd]\nuser = 0\nignore = true", [(1, 1, r'\[\[rule\]\], and name = "sshd"')]),
    ("[sshd]\nuser = 0\nignore = true", [(1, 1, r'\[\[rule\]\], and name = "sshd"')]),
    ("[[rules]]", [(1, 1, r"\[\[rule\]\]")]),
    ("[rule]\n" + RULE[9:], [(1, 1, r"\[\[rule\]\]")]),
    ("[Daemon]", [(1, 1, r"\[daemon\]")]),
    ("[daemon]\nproc_events = true", [(2, 15, '"auto", "required", "off"')]),
    ('[daemon]\non_exit = "Keep"', [(2, 11, "did you mean 'keep'")]),
    ('[daemon]\ndryrun = true', [(2, 1, "did you mean 'dry_run'")]),
    (RULE + 'comm = { regexp = "x" }', [(5, 10, "did you mean 'regex'")]),
    (RULE + 'comm = { glob = "x" }', [(5, 10, "without braces")]),
    (RULE + 'comm = { regex = ["a", "b"] }', [(5, 8, "one string")]),
    (RULE + 'comm = { regex = "" }', [(5, 18, "empty")]),
    (RULE + 'comm = { regex = "*x" }', [(5, 18, "shell glob")]),
    (RULE + 'comm = { regex = "(x" }', [(5, 18, "isn't a regular expression")]),
    (RULE + 'comm = ""', [(5, 8, "empty")]),
    (HEAD + "oom_score_adj = 0x" + "f" * 5000, [(4, 17, "a number of 20000 bits is out of range")]),
    (HEAD + "oom_adj = 0x" + "f" * 5000, [(4, 11, "a number of 20000 bits is out of range")]),
    (RULE + "comm = 0x" + "f" * 5000, [(5, 8, "in quotes.*not a number of 20000 bits")]),
    (RULE + 'group = "' + "9" * 5000 + '"', [(5, 9, "is out of range; it may be 0 to 4294967294")]),
    (RULE + 'group = "4294967295"', [(5, 9, "is out of range; it may be 0 to 4294967294")]),
    (RULE + 'comm = { regex = "a{' + "9" * 5000 + '}" }', [(5, 18, "isn't a regular expression")]),
    ("# x\n\n" + RULE + '[[rules]]\nname = "b"', [(7, 1, r"did you mean 'rule'\? Write \[\[rule\]\]")]),
    ("# x\n[[daemon]]\ndry_run = true", [(2, 1, r"write \[daemon\]")]),
    ("# x\n[[daemon.dry_run]]\nx = 1", [(2, 1, "dry_run must be true or false, not a list")]),
    (RULE + "[[rule.not]]\ncomm = 'x'", [(5, 1, "not must be a table")]),
    (HEAD + "[[rule.oom_score_adj]]\nat_least = 5", [(4, 1, "whole number from -1000 to 1000, not a list")]),
    (RULE + "[foo.bar.baz]\nx = 1", [(5, 1, "Unknown table or key 'foo'")]),
    (RULE + '"\\u0075sr" = "x"', [(5, 1, "Unknown key 'usr'")]),
    (RULE + 'not = "x"', [(5, 7, "table of criteria")]),
    (RULE + 'comm = "sixteen-bytes-16"', [(5, 8, "write 'sixteen-bytes-1'")]),
    ("[[rules]]" + RULE[8:] + "usr = 1", [(1, 1, r"\[\[rule\]\]"), (5, 1, "'user'")]),
    ("[[Rule]]" + RULE[8:] + '[[rule]]\nname = "s"\ndescendant_of = "r"\nignore = true', [(1, 1, "'rule'")]),
    ("[global]\ndry_run = true", [(1, 1, r"below \[daemon\]")]),
    ('include = "x"', [(1, 1, "/etc/oomwatchd.d")]),
    (HEAD + "[rule.action]\noom_score_adj = -5", [(4, 1, r"belongs below \[\[rule\]\] itself")]),
    ("[[rule]]\n" + RULE, [(1, 1, "The rule is empty")]),
    (RULE + 'not = { not = { user = "x" } }', [(5, 9, r"belongs below \[\[rule\]\]")]),
    (HEAD + 'oom_score_adj = "500-600"', [(4, 17, "{ at_least = 500, at_most = 600 }")]),
    (HEAD + "oom_score_adj = { min = 5 }", [(4, 19, "did you mean 'at_least'")]),
    (HEAD + "oom_score_adj = { maximum = 5 }", [(4, 19, "did you mean 'at_most'")]),
    (HEAD + "oom_score_adj = { gt = 5 }", [(4, 19, "did you mean 'at_least'")]),
    (HEAD + "oom_score_adj = { greater_than = 5 }", [(4, 19, "did you mean 'at_least'")]),
    (HEAD + "oom_score_adj = { ge = 5, lt = 9 }", [(4, 19, "'at_least'"), (4, 27, "'at_most'")]),
    (HEAD + "at-least = 5", [(4, 1, "braces: oom_score_adj = { at_least = 5 }")]),
    (HEAD + "max = 5", [(4, 1, "braces: oom_score_adj = { at_most = 5 }")]),
    (HEAD + 'oom_score_adj = "50%"', [(4, 17, "thousandths of the memory: write 500")]),
    (HEAD + 'oom_score_adj = "−1000"', [(4, 17, "without quotes: -1000")]),
    (HEAD + 'oom_score_adj = "+5"', [(4, 17, "without quotes: 5")]),
    (HEAD + 'oom_score_adj = "5000"', [(4, 17, "-1000 to 1000, not the string '5000'$")]),
    (HEAD + 'oom_score_adj = "true"', [(4, 17, "not the string 'true'$")]),
    (HEAD + "oom_score_adj = 1000.0", [(4, 17, "write 1000")]),
    (HEAD + "oom_score_adj = 0.5", [(4, 17, "not the number 0.5$")]),
    (RULE + 'enabled = "5"', [(5, 11, "not the string '5'$")]),
    (RULE + 'enabled = "yes"', [(5, 11, "without quotes: true")]),
    (RULE + "comm = { regex = 'x', flags = 'i' }", [(5, 23, r"comm = { regex = '\(\?i\)x' }")]),
    (RULE + "comm = { regex = 'x', ignore_case = true }", [(5, 23, r"comm = { regex = '\(\?i\)x' }")]),
    (RULE + "comm = { regex = 'x', flags = 'ms' }", [(5, 23, r"comm = { regex = '\(\?ms\)x' }")]),
    (RULE + "comm = { contains = 'x' }", [(5, 10, r'comm = "\*x\*"')]),
    (RULE + "comm = { starts_with = 'x' }", [(5, 10, r'comm = "x\*"')]),
    (RULE + "comm = { equals = 'x' }", [(5, 10, 'comm = "x"')]),
    (RULE + "comm = { regex = 'x', not = 'y' }", [(5, 23, "not = { comm = … }")]),
    ('[[rule]]\nname = "r"\nusr = "root"\ncomm = "x"\noom_score_adj = -5', [(3, 1, "did you mean 'user'")]),
]  # fmt: skip


def test_the_brace_that_is_there_is_not_said_twice() -> None:
    message = "A table stands in braces; write { regex = 'a' }"
    assert errors(RULE + "cmdline = regex = 'a' }") == [(5, 11, message)]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_what_is_refused(text: str, expected: list[tuple[int, int, str]]) -> None:
    found = problems(text)

    assert [place[:2] for place in found] == [place[:2] for place in expected], found
    for (_, _, message), (_, _, pattern) in zip(found, expected, strict=True):
        assert re.search(pattern, message), message


HINT = re.compile(
    r"(?:without quotes: |write (?:the string in single quotes: |straight quotes: )?|of the expression: |braces: )"
    r"([a-z_]+ = [^…]+?|[\"'\[{][^…]+?|[-\d]+|true|false)(?:;.*|, (?:or|and|with) .*)?$"
)
"""What a message says to write. Messages that say it in prose, or leave a part of it open, have none."""
VALUE = re.compile(
    r"""\\?["'“‘`](?:\\.|[^"'\\\n])*["'”’`]|\[[^\n]*\]|\{[^\n]*\}|\d{1,3}(?:,\d{3})+|[^\s,#\]}][^\n,#\]}]*"""
)


def with_hint(text: str, line: int, column: int, message: str) -> str | None:
    """The text with what the message says to write in the place of what stands at its place; None: it names nothing."""
    hint = HINT.search(message)
    if hint is None or re.search(r"\bN\b", hint[1]):
        return None
    lines = text.split("\n")
    if message.startswith("A backslash between"):  # the place is that of the backslash
        column = lines[line - 1].rindex('"', 0, column) + 1
    before, at = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
    if re.match(r"\[\[?[a-z]+\]|[a-z_]+ = ", hint[1]):
        name = re.search(r"and (name = \".*\")", message)
        lines[line - 1] = hint[1] + (f"\n{name[1]}" if name else "")
    elif found := VALUE.match(at):
        lines[line - 1] = before + hint[1] + ("" if hint[1][0] == "[" else at[found.end() :])
    else:
        return None
    return "\n".join(lines)


def errors(text: str) -> list[tuple[int, int, str]]:
    try:
        parse([ConfigFile("f", text)])
    except ConfigError as refused:
        return [(problem.line, problem.column, problem.message) for problem in refused.problems]
    return []


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    "text",
    [
        "x " + "a" * 60_000,
        "x " + "a = {\n" * 50_000,
        "a = [" + ";" * 200_000,
        f'{RULE}comm = "{"[" * 30_000}"',
    ],
    ids=lambda text: f"{text[-20:]!r}",
)
def test_a_text_that_repeats_itself_takes_no_longer_than_another(text: str) -> None:
    """A key, an image or a log may be in the file by mistake. Each of these took 20 s and more: the square of its
    length."""
    errors(text)


@pytest.mark.parametrize("text", [text for text, _ in SYNTAX + VALUES])
def test_what_a_message_says_to_write_is_no_next_error(text: str) -> None:
    """Each hint is applied by itself: the errors that are left are those that there were before."""
    before = errors(text)
    for line, column, message in before:
        mended = with_hint(text, line, column, message)
        if mended is not None:
            others = [problem[2] for problem in before if problem[:2] != (line, column)]
            assert [p for p in errors(mended) if p[2] not in others] == [], (message, mended)


def test_most_messages_name_what_to_write() -> None:
    """Else the test above would hold by itself."""
    named = [with_hint(text, *problem) for text, _ in SYNTAX + VALUES for problem in errors(text)]

    assert sum(mended is not None for mended in named) >= 60


RAISE = '[[rule]]\nname = "r"\noom_score_adj = { at_least = 300 }\n'
"""Three lines; the fourth is a criterion."""

# What is accepted, with one warning each.
PLAUSIBLE: list[tuple[str, tuple[int, int], str]] = [
    (HEAD + "oom_score_adj = -17", (4, 1), "old scale.*oom_adj = -17"),
    (HEAD + "oom_score_adj = { at_least = -1000 }", (4, 1), "whole range"),
    (HEAD + "ignore = true\nchildren = 5", (5, 1), "children says nothing"),
    (HEAD + 'oom_score_adj = -1000\nchildren = "inherit"', (5, 1), "can't be killed either"),
    (RAISE, (1, 1), "fits every process"),
    (RAISE + 'user = "root"\nnot = { user = "root" }', (5, 1), "excludes all"),
    (RAISE + 'exe = "/usr"', (4, 1), r"a directory; write '/usr/\*'"),
    (RAISE + 'exe = "/usr/"', (4, 1), r"a directory; write '/usr/\*'"),
    (RAISE + 'exe = "/usr//bin/env"', (4, 1), "write '/usr/bin/env'"),
    (RAISE + 'exe = "/usr/./bin/../bin/env"', (4, 1), "write '/usr/bin/env'"),
    (RAISE + 'exe = "/usr/bin/env (deleted)"', (4, 1), "no part of the path"),
    (RAISE + 'exe = "/usr/bin/env -i"', (4, 1), "arguments are no part"),
    (RAISE + 'exe = "/opt/nosuch --daemon"', (4, 1), r'write exe = "/opt/nosuch" and cmdline = "\* --daemon"'),
    (RAISE + 'exe = "regex:/usr/lib/x"', (4, 1), r"written { regex = '/usr/lib/x' }"),
    (RAISE + 'exe = "glob:/usr/lib/*"', (4, 1), r"write '/usr/lib/\*'"),
    (RAISE + 'comm = "sshd: root@pts/0"', (4, 1), 'write cmdline = "sshd: root@pts/0"'),
    (RAISE + 'comm = "!sshd"', (4, 1), r'not = { comm = "sshd" }'),
    (RAISE + 'cmdline = ["java", "-jar"]', (4, 20), r"write '\*-jar\*'"),
    (RAISE + 'unit = "session-1"', (4, 1), "such as 'session-1.scope'"),
    (RAISE + 'slice = "/user-7.slice"', (4, 1), "such as 'user-7.slice'"),
    (RAISE + 'slice = "user.slice/user-7.slice"', (4, 1), "such as 'user-7.slice'"),
    (RAISE + 'cgroup = "system.slice/x.service"', (4, 1), "write '/system.slice/x.service'"),
    (RAISE + 'cgroup = "0::/system.slice/x.service"', (4, 1), "write '/system.slice/x.service'"),
    (RAISE + 'cgroup = "9:name=systemd:/a"', (4, 1), "write '/a'"),
    (RAISE + 'exe = "/etc/passwd"', (4, 1), "isn't executable"),
    (RAISE + 'exe = ["/usr/bin/env", "/no/such"]', (4, 24), "there is no /no/such"),
    (RAISE + 'exe = "env"', (4, 1), "write '/usr/bin/env'"),
    (RAISE + 'exe = "~/bin/x"', (4, 1), "~ are not replaced"),
    (RAISE + 'exe = "/opt/{a,b}/x"', (4, 1), "braces mean nothing"),
    (RAISE + 'comm = "/usr/sbin/sshd"', (4, 1), 'write comm = "sshd"'),
    (RAISE + 'comm = "bin/sshd"', (4, 1), 'write comm = "sshd"'),
    (RAISE + 'comm = "cc1, ld"', (4, 1), r'comm = \["cc1", "ld"\]'),
    (RAISE + 'comm = "cc1|ld"', (4, 1), r'comm = \["cc1", "ld"\]'),
    (RAISE + 'comm = "“ld”"', (4, 1), r"U\+201C"),
    (RAISE + 'cmdline = "*–type=x*"', (4, 1), r"U\+2013"),
    (RAISE + 'comm = "ld "', (4, 1), "ends with a blank"),
    (RAISE + 'comm = "nginx.*"', (4, 1), r"regex = 'nginx\.\*'"),
    (RAISE + 'comm = "^nginx$"', (4, 1), "reads like a regular expression"),
    (RAISE + "cmdline = '.*--x \\d+'", (4, 1), "reads like a regular expression"),
    (RAISE + 'cmdline = "--type=x"', (4, 1), r"write '\*--type=x\*'"),
    (RAISE + "comm = \"[^a]*\"", (4, 1), r"\[!…\]"),
    (RAISE + 'cmdline = { regex = "[[:digit:]]+" }', (4, 1), r"write \\d"),
    (RAISE + 'exe = { regex = "/usr/bin/*" }', (4, 1), "reads like a shell glob"),
    (RAISE + 'comm = { regex = "nginx*" }', (4, 1), "reads like a shell glob"),
    (RAISE + 'comm = { regex = "\\bx" }', (4, 1), "single quotes"),
    (RAISE + 'slice = "user.slice"', (4, 1), r"write 'user-\*\.slice'"),
    (RAISE + 'slice = "app.slice"', (4, 1), r'cgroup = "\*/app.slice/\*"'),
    (RAISE + 'slice = "system"', (4, 1), "such as 'system.slice'"),
    (RAISE + 'unit = "ssh"', (4, 1), "such as 'ssh.service'"),
    (RAISE + 'unit = "backup.timer"', (4, 1), "write 'backup.service'"),
    (RAISE + 'unit = "getty@.service"', (4, 1), r"write 'getty@\*\.service'"),
    (RAISE + 'cgroup = "system.slice"', (4, 1), "begins with a slash"),
    (RAISE + 'cgroup = "/sys/fs/cgroup/a"', (4, 1), "write '/a'"),
    (RAISE + 'cgroup = "/system.slice"', (4, 1), r"write '/system\.slice/\*'"),
    (RAISE + 'cgroup = "/a/"', (4, 1), r"write '/a/\*'"),
    (RAISE + 'not = { exe = "/no/such" }\nuser = 0', (4, 9), "not: exe '/no/such'"),
    (RAISE + 'descendant_of = "s"\n[[rule]]\nname = "s"\nuser = 0\nignore = true', (4, 1), "holds nobody"),
    (
        RAISE + 'descendant_of = "s"\n[[rule]]\nname = "s"\nuser = 0\noom_score_adj = 5\nenabled = false',
        (4, 1),
        "is disabled",
    ),
]  # fmt: skip


def warned_of(text: str) -> list[tuple[int, int, str]]:
    return [(problem.line, problem.column, problem.message) for problem in warnings(parse([ConfigFile("f", text)]))]


@pytest.mark.parametrize(("text", "place", "pattern"), PLAUSIBLE)
def test_what_is_warned_of(text: str, place: tuple[int, int], pattern: str) -> None:
    found = warned_of(text)

    assert [problem[:2] for problem in found] == [place], found
    assert re.search(pattern, found[0][2]), found


def test_descent_in_a_circle() -> None:
    text = "".join(
        f'[[rule]]\nname = "{name}"\nuser = 0\noom_score_adj = 5\ndescendant_of = "{other}"\n'
        for name, other in ("ab", "bc", "ca")
    )

    assert [(line, "in a circle" in message) for line, _, message in warned_of(text) if "decide" not in message] == [
        (5, True),
        (10, True),
        (15, True),
    ]


def test_a_script_and_what_is_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh -e\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "link").symlink_to("script")

    ((_, _, script),) = warned_of(RAISE + f'exe = "{tmp_path}/script"')
    ((_, _, link),) = warned_of(RAISE + f'exe = "{tmp_path}/link"')

    assert 'it is a script, and what runs is /bin/sh -e; write comm = "script"' in script
    assert f"write '{tmp_path}/script'; but that is a script" in link


@pytest.mark.parametrize(
    "criterion",
    [
        'comm = ["python3.*", "Web Content", "[ab]*", "a.b", "(sd-pam)"]',
        'exe = ["/usr/bin/env", "/usr/*", "*/x"]',
        'cmdline = ["-bash", "*--x=*", "postgres: *", "* -c *.conf"]',
        'unit = ["a*.service", "a.service", "session-1.scope"]',
        'slice = ["system.slice", "user-*.slice"]',
        "cmdline = { regex = '^/usr/bin/x( .*)?$' }",
        "comm = { regex = 'a*b' }",
    ],
)
def test_what_is_right_is_not_warned_of(criterion: str) -> None:
    assert warned_of(RAISE + criterion) == []


def test_a_posix_class_brings_no_warning_of_python(recwarn: pytest.WarningsRecorder) -> None:
    parse([ConfigFile("f", RAISE + 'comm = { regex = "[[:upper:]]" }')])

    assert not recwarn.list


words = st.sampled_from(
    [
        *[
            "[[rule]]",
            "[daemon]",
            "[x.y]",
            "[",
            "]",
            "{",
            "}",
            "=",
            ",",
            ".",
            '"',
            "'",
            '"""',
            "\\",
            "#",
            ";",
            "//",
            ":",
            "(",
            "“",
            "”",
            "−",
            "True",
            "yes",
            "1",
            "-5",
            "5s",
            "\\e",
            "\\d",
            "[[",
        ],
        *("\n", "\n", " ", "\u00a0", 'name = "a"\n', "oom_score_adj = -1\n", "user = { a = 1 }\n", "comm = [\n", "'x'"),
    ]
)


@given(st.lists(words, max_size=30).map("".join) | st.text(st.sampled_from("[]{}=,.\"'\\\\#\\n\\r\\0\\x1aa-1 “\u00a0")))
@example("{\n")
def test_any_text_is_read_to_its_end(text: str) -> None:
    diagnosis = diagnose(text, ("rule",), ("enabled",))

    assert all(0 <= fault.offset <= len(text) for fault in diagnosis.faults)
    if "\r" not in text:
        assert diagnosis.mended.count("\n") == text.count("\n")


keys = st.text("abcxyz-_", min_size=1, max_size=4) | st.text(max_size=4).map(lambda key: _toml_string(key))
strings = st.text(max_size=6).map(lambda text: _toml_string(text)) | st.sampled_from(
    ["'\\d'", '"""a\n"b"""', "'''\n'''"]
)
scalars = strings | st.integers(-2000, 2000).map(str) | st.sampled_from(["true", "0x1f", "1e5", "1979-05-27T07:32:00Z"])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda members: "[ # x ]\n" + ",\n".join(members) + "]")
        | st.dictionaries(keys, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=6,
)


def _toml_string(text: str) -> str:
    return (
        '"'
        + "".join(
            c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text if not "\ud800" <= c < "\ue000"
        )
        + '"'
    )


@given(st.lists(st.tuples(keys, values), max_size=5))
def test_what_is_toml_is_not_found_fault_with(pairs: list[tuple[str, str]]) -> None:
    """Else one mistake would bring up others that are none."""
    text = "[[x]]\n" + "".join(f"{key} = {value} # y\n" for key, value in pairs)
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return  # a key twice, or a table in braces over several lines
    from oomwatchd.config.toml_positions import locate

    if locate(text).newer:
        return
    assert diagnose(text, ("rule",), ("enabled",)).faults == ()
