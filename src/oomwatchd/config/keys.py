"""The keys of the configuration besides the criteria (rules/criteria.py): what each takes, and what other programs call
them.

The parser goes by these tables, and the JSON Schema for editors is made of them."""

from collections.abc import Mapping, Sequence

from oomwatchd.config.problems import suggestion
from oomwatchd.rules.criteria import CRITERIA, Form

CHOICES: Mapping[str, tuple[str, ...]] = {
    "proc_events": ("auto", "required", "off"),
    "on_exit": ("keep", "restore"),
    "log_pins": ("auto", "each", "summary", "off"),
}
"""Keys of [daemon] that take one of these words; the first is the default."""
DAEMON_KEYS = ("scan_interval", "proc_events", "dry_run", "on_exit", "log_pins")
RULE_BOOLEANS = ("enabled", "containers", "spoofable")
ACTIONS = ("oom_score_adj", "oom_adj", "ignore")
RULE_KEYS = ("name", "description", *RULE_BOOLEANS, "not", *ACTIONS, "children", *CRITERIA)
KEYS = (*RULE_KEYS, *DAEMON_KEYS)
"""All keys of the configuration but those within values."""
BOOLEANS = (*RULE_BOOLEANS, "dry_run", "ignore", *(row.key for row in CRITERIA.values() if row.form is Form.FLAG))
TEXT_KEYS = (
    "name",
    "description",
    "regex",
    "scan_interval",
    *CHOICES,
    *(row.key for row in CRITERIA.values() if row.form is not Form.FLAG),
)
"""Keys whose values stand in quotes."""
LIST_KEYS = tuple(row.key for row in CRITERIA.values() if row.form is not Form.FLAG)
"""Keys that take a list of values."""

_OTHER_NAMES = {
    "oom_score_adj": "oomscoreadjust oomscore score adj adjust value oomadjust priority oomscoreadjustment",
    "exe": "executable path binary program prog bin file exec execstart",
    "comm": "command process processname procname taskname proc match",
    "cmdline": "args argv arguments commandline cmd pattern full",
    "user": "uid owner username euid account",
    "group": "gid groupname egid",
    "unit": "service systemdunit systemunit",
    "user_unit": "userservice",
    "cgroup": "controlgroup cgrouppath",
    "descendant_of": "parent ancestor childof ppid descendantof descendents",
    "session_leader": "leader sessionleader",
    "containers": "container",
    "enabled": "enable disabled active",
    "not": "exclude except unless without excluding ignoreif",
    "children": "child childs inherit descendants",
    "ignore": "skip action",
    "description": "comment desc note",
    "name": "id title rulename",
    "at_least": "min minimum ge gte gt atleast greater greaterthan morethan above lower lowest lowerbound floor from",
    "at_most": "max maximum le lte lt atmost less lessthan below upper highest upperbound ceiling to",
    "scan_interval": "interval scan period poll pollinterval",
    "on_exit": "onstop exit onshutdown",
    "log_pins": "log logging loglevel",
    "proc_events": "events netlink connector",
    "dry_run": "simulate test noop",
}


def meant(word: str, known: Sequence[str]) -> str | None:
    """The key of `known` that seems to be meant by `word`; None: none does. Case and hyphens are ignored, and names
    that other programs have for a key count."""
    named = synonym(word, known)
    if named is not None:
        return named
    close = suggestion(plain(word), [plain(key) for key in known])
    return next((key for key in known if f"'{plain(key)}'" in close), None)


def synonym(word: str, known: Sequence[str]) -> str | None:
    """The key of `known` that `word` is another spelling of, or another program's name for; None: none of them."""
    written = plain(word)
    for key in known:
        if plain(key) == written:
            return key
    other = next((key for key, others in _OTHER_NAMES.items() if written in others.split()), None)
    return other if other in known else None


def plain(word: str) -> str:
    """A key without capitals, hyphens and underscores, for comparing."""
    return "".join(filter(str.isalnum, word.casefold()))
