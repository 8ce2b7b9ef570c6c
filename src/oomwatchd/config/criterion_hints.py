"""Says what was meant by a key that a criterion's table { regex = "…" } doesn't have. Pure.

It is imported only where a configuration has such a mistake."""

from collections.abc import Mapping

from oomwatchd.config.keys import meant, plain
from oomwatchd.config.odd_characters import quoted

_GLOBS = {
    "glob": "{}",
    "wildcard": "{}",
    "fnmatch": "{}",
    "equals": "{}",
    "equal": "{}",
    "eq": "{}",
    "is": "{}",
    "exact": "{}",
    "literal": "{}",
    "string": "{}",
    "value": "{}",
    "path": "{}",
    "name": "{}",
    "contains": "*{}*",
    "includes": "*{}*",
    "substring": "*{}*",
    "startswith": "{}*",
    "beginswith": "{}*",
    "prefix": "{}*",
    "endswith": "*{}",
    "suffix": "*{}",
}
"""Other programs' ways to compare a text, and the glob that says the same."""
_IGNORE_CASE = ("ignorecase", "caseinsensitive", "icase", "nocase", "insensitive", "casesensitive", "case")
_FLAGS = {"multiline": "m", "dotall": "s", "verbose": "x", "extended": "x", **dict.fromkeys(_IGNORE_CASE, "i")}
_NEGATIONS = ("not", "negate", "invert", "exclude", "except")


def about_key(criterion: str, key: str, table: Mapping[str, object]) -> str:
    """About `key` in the `table` of `criterion`, which knows only regex."""
    word, value, expression = plain(key), table[key], table.get("regex")
    text = value if isinstance(value, str) else "…"
    if word in _GLOBS:
        instead = quoted(_GLOBS[word].format(text))
        return f"Unknown key '{key}'; a text or a glob is written without braces: {criterion} = {instead}"
    if word in _NEGATIONS:
        return f"Unknown key '{key}'; what is excluded stands in a table of its own: not = {{ {criterion} = … }}"
    letters = _FLAGS.get(word, "")
    if word in ("flags", "flag", "options", "modifiers", "i", "reflags"):
        letters = "".join(c for c in text.lower() if c in "imsx") or "i"
    if letters:
        flagged = quoted(f"(?{letters})" + (expression if isinstance(expression, str) else "…"), literal=True)
        return f"Unknown key '{key}'; flags stand at the begin of the expression: {criterion} = {{ regex = {flagged} }}"
    close = meant(key, ("regex",)) or ("regex" if word in ("re", "regexp", "match", "pattern", "search") else None)
    return f"Unknown key '{key}'{f'; did you mean {close!r}?' if close else ''}"
