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
BOOLEANS = (*RULE_BOOLEANS, "dry_run", "ignore", *(row.key for row in CRITERIA.values() if row.form is Form.FLAG))

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
    "scan_interval": "interval scan period poll pollinterval",
    "on_exit": "onstop exit onshutdown",
    "log_pins": "log logging loglevel",
    "proc_events": "events netlink connector",
    "dry_run": "simulate test noop",
}


def meant(word: str, known: Sequence[str]) -> str | None:
    """The key of `known` that was meant by `word`; None: that can't be told. Case and hyphens are ignored, and names
    that other programs have for a key are known."""
    plain = _plain(word)
    for key in known:
        if _plain(key) == plain:
            return key
    other = next((key for key, others in _OTHER_NAMES.items() if plain in others.split()), None)
    if other in known:
        return other
    close = suggestion(plain, [_plain(key) for key in known])
    return next((key for key in known if f"'{_plain(key)}'" in close), None)


def _plain(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))
