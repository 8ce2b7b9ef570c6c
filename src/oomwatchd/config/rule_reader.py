"""The [[rule]] tables of one file, checked key by key."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from oomwatchd.base import uapi
from oomwatchd.config.accounts import LARGEST_ID, id_of, is_number
from oomwatchd.config.document import Document
from oomwatchd.config.keys import DAEMON_KEYS, RULE_KEYS
from oomwatchd.config.kinds import kind, shown
from oomwatchd.config.toml_positions import Path
from oomwatchd.rules import model as r
from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import Action, Criterion, Rule


@dataclass(frozen=True, slots=True)
class Placed:
    """A rule, and where it stands."""

    rule: Rule
    document: Document
    at: Path
    sound: bool
    """Whether no error was found in the rule so far. If one was, further errors may only follow from it, and aren't
    reported."""

    def error(self, message: str) -> None:
        """Note an error at the rule's header."""
        self.document.error(self.at, message)

    def value_error(self, message: str, *key: str | int) -> None:
        """Note an error at the value of a key of the rule."""
        self.document.value_error((*self.at, *key), message)


def read_rules(document: Document) -> list[Placed]:
    """The rules of a file from top to bottom, then those below a misspelt header, so that their errors are reported."""
    found = _read_tables(document)
    if document.content.keys() - {"daemon", "rule"}:
        from oomwatchd.config.key_hints import misspelt_rules

        found += [_Reader(document, table, at, broken={""}).placed() for at, table in misspelt_rules(document.content)]
    return found


def _read_tables(document: Document) -> list[Placed]:
    tables = document.content.get("rule", [])
    if isinstance(tables, dict) and tables and all(isinstance(table, (dict, list)) for table in tables.values()):
        for name in tables:
            if name not in RULE_KEYS:
                document.error(("rule", name), f'A rule has no name in its header; write [[rule]], and name = "{name}"')
                return []
    if isinstance(tables, dict):
        document.error(("rule",), "'rule' must be an array of tables: write [[rule]], with two brackets")
        return [_Reader(document, tables, ("rule",)).placed()]
    if not isinstance(tables, list):
        document.error(("rule",), "'rule' must be an array of tables: write [[rule]]")
        return []
    found = []
    for i, table in enumerate(tables):
        if isinstance(table, dict):
            found.append(_Reader(document, table, ("rule", i)).placed())
        else:
            document.error(("rule", i), f"A rule must be a table, not {kind(table)}")
    return found


class _Reader:
    """Reads one rule."""

    def __init__(
        self, document: Document, table: Mapping[str, object], at: Path, broken: AbstractSet[str] = frozenset()
    ) -> None:
        self.document = document
        self.table = table
        self.at = at
        self.broken = document.broken.get(at, set()) | broken

    def placed(self) -> Placed:
        """The rule, and where it stands."""
        errors = len(self.document.found.errors)
        rule = self._rule()
        sound = not self.broken and len(self.document.found.errors) == errors
        return Placed(rule, self.document, self.at, sound)

    def error(self, message: str, *key: str | int) -> None:
        """Note an error at a key of the rule."""
        self.document.error((*self.at, *key), message)

    def value_error(self, message: str, *key: str | int) -> None:
        """Note an error at the value of a key of the rule."""
        self.document.value_error((*self.at, *key), message)

    def _rule(self) -> Rule:
        document, table, at = self.document, self.table, self.at
        if not table and not self.broken:
            self.error("The rule is empty; it wants a name, criteria and an action")
            return Rule("", (), Action(ignore=True), file=document.file, line=document.place(at)[0])
        others = dict.fromkeys(DAEMON_KEYS, "[daemon]")
        meant_keys = document.unknown_keys(at, table, RULE_KEYS, others)
        name = document.string(at, table, "name")
        if "name" not in table:
            if not {"", "name"} & self.broken and "name" not in meant_keys:
                self.error('The rule has no name; give it one with name = "…"')
        elif isinstance(table["name"], str) and (not name.strip() or not name.isprintable()):
            self.value_error("name must have at least one character, and only printable ones", "name")
        return Rule(
            name=name,
            criteria=self._criteria((), table),
            action=self._action(meant_keys),
            excluded=self._exclusion(table["not"]) if "not" in table else (),
            children=self._children(),
            containers=document.boolean(at, table, "containers", False),
            spoofable=document.boolean(at, table, "spoofable", False),
            enabled=document.boolean(at, table, "enabled", True),
            description=document.string(at, table, "description"),
            file=document.file,
            line=document.place(at)[0],
        )

    # Criteria

    def _exclusion(self, table: object) -> tuple[Criterion, ...]:
        if not isinstance(table, dict):
            message = f'not must be a table of criteria, such as not = {{ user = "root" }}, not {kind(table)}'
            self.value_error(message, "not")
            return ()
        others = dict.fromkeys((key for key in RULE_KEYS if key not in CRITERIA), "[[rule]]")
        self.document.unknown_keys((*self.at, "not"), table, tuple(CRITERIA), others)
        if not table:
            self.value_error("not is empty: it would exclude every process", "not")
        return self._criteria(("not",), table)

    def _criteria(self, below: Path, table: Mapping[str, object]) -> tuple[Criterion, ...]:
        # By the key of CRITERIA: the reader of TOML has made a text of its own for each rule.
        found = (self._criterion((*below, row.key), row.key, table[row.key]) for row in map(CRITERIA.get, table) if row)
        return tuple(criterion for criterion in found if criterion is not None)

    def _criterion(self, at: Path, key: str, value: object) -> Criterion | None:
        form = CRITERIA[key].form
        if form is Form.FLAG:
            flag = self.document.boolean((*self.at, *at[:-1]), {key: value}, key, False)
            return Criterion(key, flag=flag) if isinstance(value, bool) else None
        members = value if isinstance(value, list) else [value]
        if not members:
            self.value_error(f"{key}: an empty list fits nothing", *at)
        paths = [(*at, i) for i in range(len(members))] if isinstance(value, list) else [at]
        if form is Form.TEXT:
            patterns = [self._pattern(path, key, member) for path, member in zip(paths, members, strict=True)]
            return Criterion(key, patterns=tuple(p for p in patterns if p is not None))
        names = [self._id_or_name(path, key, member) for path, member in zip(paths, members, strict=True)]
        return Criterion(key, names=tuple(name for name in names if name is not None))

    def _id_or_name(self, at: Path, key: str, value: object) -> str | None:
        numeric = CRITERIA[key].form is Form.ID
        if numeric and isinstance(value, int) and not isinstance(value, bool):
            return None if self.document.integer((*self.at, *at), value, key, 0, LARGEST_ID) is None else str(value)
        if not isinstance(value, str):
            wanted = "a name or a number" if numeric else "the name of a rule"
            self.value_error(f"{key} must be {wanted}, not {kind(value)}", *at)
            return None
        if not value:
            self.value_error(f"{key} is empty", *at)
            return None
        if numeric and is_number(value) and id_of(value) is None:
            self.value_error(f"{key}: {value} is out of range; it may be 0 to {LARGEST_ID}", *at)
            return None
        if numeric and any(c in value for c in "*?["):
            self.value_error(f"{key}: '{value}' looks like a glob; a user or group is a name or a number", *at)
            return None
        return value

    def _pattern(self, at: Path, key: str, value: object) -> r.Pattern | None:
        if isinstance(value, dict):
            return self._regex(at, key, value)
        if not isinstance(value, str):
            self.value_error(f'{key} must be a string in quotes or {{ regex = "…" }}, not {kind(value)}', *at)
            return None
        if not value:
            self.value_error(f"{key} is empty, so that it fits nothing", *at)
            return None
        if "\0" in value:
            self.value_error(f"{key} has a NUL character, so that it fits nothing", *at)
            return None
        pattern = r.literal_or_glob(value)
        if key == "comm" and not pattern.is_glob:
            self._comm(at, value)
        return pattern

    def _comm(self, at: Path, value: str) -> None:
        length, longest = len(value.encode()), uapi.COMM_MAX
        if length <= longest or re.search("[/,|]", value):  # the latter has a warning of its own
            return
        cut = value.encode()[:longest].decode(errors="ignore")
        self.value_error(
            f"comm: '{value}' has {length} bytes, but the kernel keeps only the first {longest} of a name, so that it "
            f"fits nothing; write '{cut}', or use exe or cmdline",
            *at,
        )

    def _regex(self, at: Path, key: str, table: Mapping[str, object]) -> r.Pattern | None:
        for other in table:
            if other != "regex":
                from oomwatchd.config.criterion_hints import about_key

                self.error(about_key(key, other, table), *at, other)
        if "regex" not in table and table:
            return None
        text = table.get("regex")
        if isinstance(text, list):
            self.value_error(
                f'{key}: regex takes one string; write {key} = [{{ regex = "…" }}, {{ regex = "…" }}]', *at
            )
            return None
        if not isinstance(text, str):
            self.value_error(f'{key}: write {{ regex = "…" }} with the expression as a string', *at, "regex")
            return None
        if not text:
            self.value_error(f"{key}: an empty regular expression fits everything; leave {key} out", *at, "regex")
            return None
        try:
            return r.regex(text)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            hint = ""
            if text[0] in "*?":
                hint = "; it reads like a shell glob, and a glob is written without { regex = … }"
            self.value_error(f"{key}: '{text}' isn't a regular expression: {error}{hint}", *at, "regex")
            return None

    # What becomes of the process

    def _action(self, meant_keys: set[str]) -> Action:
        document, table, at = self.document, self.table, self.at
        given = [key for key in table if key in ("oom_score_adj", "oom_adj", "ignore")]
        actions = {"", "oom_score_adj", "oom_adj", "ignore"}
        if not given:
            if not actions & (self.broken | meant_keys):
                self.error("The rule has no action; say oom_score_adj = N, oom_adj = N or ignore = true")
            return Action(ignore=True)
        if len(given) > 1:
            self.error(f"A rule has exactly one action, but this one has {' and '.join(given)}", given[1])
        if "oom_score_adj" in given:
            return self._oom_score_adj(table["oom_score_adj"])
        if "oom_adj" in given:
            return self._oom_adj(table["oom_adj"])
        if not document.boolean(at, table, "ignore", True):
            self.value_error("ignore = false is no action; leave it out, and say what the rule does", "ignore")
        return Action(ignore=True)

    def _oom_adj(self, value: object) -> Action:
        low, high = uapi.OOM_DISABLE, uapi.OOM_ADJUST_MAX
        if isinstance(value, int) and not isinstance(value, bool) and not low <= value <= high:
            said, end = "", low if value < low else high
            if abs(value) <= 20:  # meant for the old scale
                said = f"; its end is {end}, which is oom_score_adj = {r.oom_adj_to_score(end)}"
            elif abs(value) <= uapi.OOM_SCORE_ADJ_MAX:
                said = f"; a value of the scale of today is written oom_score_adj = {value}"
            scale = f"it is the old scale, {low} to {high}{said}"
            self.value_error(f"oom_adj: {shown(value)} is out of range; {scale}", "oom_adj")
            return Action(0, 0)
        legacy = self.document.integer((*self.at, "oom_adj"), value, "oom_adj", low, high)
        score = 0 if legacy is None else r.oom_adj_to_score(legacy)
        return Action(score, score)

    def _oom_score_adj(self, value: object) -> Action:
        key = "oom_score_adj"
        at = (*self.at, key)
        bounds = (uapi.OOM_SCORE_ADJ_MIN, uapi.OOM_SCORE_ADJ_MAX)
        if not isinstance(value, dict):
            number = self.document.integer(at, value, key, *bounds)
            return Action(0, 0) if number is None else Action(number, number)
        self.document.unknown_keys(at, value, ("at_least", "at_most"))
        low, high = (
            self.document.integer((*at, bound), value[bound], bound, *bounds) if bound in value else None
            for bound in ("at_least", "at_most")
        )
        if not value:
            self.value_error(f"{key}: give at_least, at_most or both", key)
        if low is not None and high is not None and low > high:
            self.value_error(f"{key}: at_least {low} is more than at_most {high}", key)
            return Action(low, low)
        return Action(low, high)

    def _children(self) -> str | int | None:
        value = self.table.get("children")
        if value is None or value in (r.INHERIT, r.RESET):
            return value if isinstance(value, str) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return self.document.integer(
                (*self.at, "children"), value, "children", uapi.OOM_SCORE_ADJ_MIN, uapi.OOM_SCORE_ADJ_MAX
            )
        from oomwatchd.config.type_hints import instead_of_children

        self.value_error(f"children: {instead_of_children(value)}", "children")
        return None
