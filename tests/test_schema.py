"""The JSON Schema for editors: it accepts what the parser accepts, and nothing else."""

import json
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.config.document import DaemonSettings, Document
from oomwatchd.config.keys import CHOICES, DAEMON_KEYS, RULE_KEYS
from oomwatchd.config.problems import Problems
from oomwatchd.config.rule_reader import read_rules
from oomwatchd.config.schema import DESCRIPTIONS, schema
from oomwatchd.config.toml_positions import locate

CONFIG = Path(__file__).parent.parent / "config"
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema isn't installed (`make test` installs it)")
VALIDATOR = jsonschema.Draft7Validator(schema())


def by_parser(content: dict[str, object]) -> list[str]:
    """What the parser says of one file; what concerns several rules is left out."""
    found = Problems([])
    document = Document("f", content, locate("").positions, found)
    document.settings(DaemonSettings())
    read_rules(document)
    return [problem.message for problem in found.errors]


def by_schema(content: dict[str, object]) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(content)]


def test_the_file_is_what_the_tables_give() -> None:
    """Else: python -m oomwatchd.config.schema > config/oomwatchd.schema.json"""
    assert json.loads((CONFIG / "oomwatchd.schema.json").read_text()) == schema()


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(schema())


def test_each_key_is_described() -> None:
    assert set(DESCRIPTIONS) == {*DAEMON_KEYS, *RULE_KEYS}


def test_the_shipped_configuration_names_it_and_keeps_to_it() -> None:
    text = (CONFIG / "oomwatchd.toml").read_text()

    assert text.startswith("#:schema /usr/share/oomwatchd/oomwatchd.schema.json\n")
    assert by_schema(tomli.loads(text)) == []


texts = st.sampled_from(["a", "/x*", "[", "", "a\0", "exactly15bytes!", "sixteen-bytes-16", "sixteen-bytes-16*", " "])
wrong: st.SearchStrategy[object] = st.sampled_from([None, 1, -1, 2**32, True, "", [], {}, [[]], [1], {"x": 1}])
patterns = texts | st.sampled_from(
    [{"regex": "a"}, {"regex": ""}, {"regex": 1}, {"regexp": "a"}, {"regex": "a", "b": 1}]
)
criteria = {
    **dict.fromkeys(("exe", "comm", "cmdline", "unit", "user_unit", "slice", "cgroup"), patterns),
    **dict.fromkeys(("user", "group"), st.sampled_from(["root", "r*", "", 0, -1, 2**32 - 2, 2**32 - 1, True])),
    "session_leader": st.sampled_from([True, False, 1, "true"]),
    "descendant_of": st.sampled_from(["other", "", 1]),
}
lists = {
    key: value if key == "session_leader" else value | st.lists(value, max_size=2) for key, value in criteria.items()
}
numbers = st.sampled_from([-1001, -1000, -18, -17, 0, 15, 16, 1000, 1001, "0", True])
bounds = st.fixed_dictionaries(
    {},
    optional={"at_least": st.sampled_from([-1001, -5, "x"]), "at_most": st.sampled_from([5, 1001]), "at": st.just(1)},
)
rules = st.fixed_dictionaries(
    {},
    optional={
        **{key: value | wrong for key, value in lists.items()},
        "name": st.sampled_from(["a", "a b", "é", "", " ", "a\nb", 1]),
        "description": st.sampled_from(["", "x\ny", 1]),
        **dict.fromkeys(("enabled", "containers", "spoofable"), st.sampled_from([True, False, 0, "false"])),
        "not": st.fixed_dictionaries({}, optional=lists) | wrong,
        "oom_score_adj": numbers | bounds | wrong,
        "oom_adj": numbers,
        "ignore": st.sampled_from([True, False, 1]),
        "children": numbers | st.sampled_from(["inherit", "reset", "x"]),
        "nonsense": st.just(1),
    },
)
sound = st.fixed_dictionaries(
    {"name": st.just("a")},
    optional={"exe": st.just(["/a", {"regex": "x"}]), "not": st.just({"user": ["root", 0]}), "enabled": st.booleans()},
)
actions = st.sampled_from(
    [{"oom_score_adj": -5}, {"oom_score_adj": {"at_least": 5}}, {"oom_adj": -17}, {"ignore": True}, {"ignore": False}]
)
nearly = st.builds(
    lambda rule, action, odd: {**rule, **action, **dict([odd] if odd else [])},
    sound,
    actions,
    st.none() | st.sampled_from(sorted(lists)).flatmap(lambda key: st.tuples(st.just(key), lists[key])),
)
daemons = st.fixed_dictionaries(
    {},
    optional={
        "scan_interval": st.sampled_from(["5s", "1min 30s", "5", "", "soon", "5 s", "100ms", 5]),
        "dry_run": st.sampled_from([True, 1, "yes"]),
        **{key: st.sampled_from([*choices, "x", 1, True]) for key, choices in CHOICES.items()},
        "name": st.just("x"),
    },
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "daemon": daemons | st.sampled_from([1, []]),
        "rule": st.lists(rules | nearly, max_size=2) | st.sampled_from([1, {}, [1]]),
        "rules": st.just([]),
    },
)


@given(documents)
def test_the_parser_and_the_schema_agree(document: dict[str, object]) -> None:
    parser, editor = by_parser(document), by_schema(document)

    assert (parser == []) == (editor == []), (parser, editor)


@given(nearly)
def test_they_agree_on_single_rules(rule: dict[str, object]) -> None:
    document: dict[str, object] = {"rule": [rule]}

    assert (by_parser(document) == []) == (by_schema(document) == []), (by_parser(document), by_schema(document))
