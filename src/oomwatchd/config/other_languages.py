"""Recognizes a file that isn't TOML at all: one message says so, in the place of one for each of its lines. Pure."""

import re

from oomwatchd.config.problems import Fault

_RULE = "a rule begins with a line [[rule]], and has lines of key = value below it"
_JSON = re.compile(r"\s*\{\s*(?:\"|\}|\Z)")
_YAML = re.compile(
    r"^[ \t]*(?:[A-Za-z_]+:[ \t]*\n[ \t]*(?:-[ \t]|[A-Za-z_]+:)|-[ \t]+[A-Za-z_]+:(?:[ \t]|$))", re.MULTILINE
)
_XML = re.compile(r"\s*<[?!]?[A-Za-z]")
_TOML = re.compile(r"^[ \t]*(?:\[|[A-Za-z_]+[ \t]*=)", re.MULTILINE)
"""A line that only TOML, or a file with mistakes in TOML, has."""


def other_language(text: str) -> Fault | None:
    """The one mistake in a text of another language, or with other line ends; None: it is none."""
    if "\n" not in text and "\r" in text.rstrip("\r"):
        return Fault(0, "The lines end with a carriage return alone, as on old Macs; save the file with Unix line ends")
    if _JSON.match(text):
        return _at(text, f"This is no JSON: {_RULE}")
    if _XML.match(text) and not _TOML.search(text):
        return _at(text, f"This is no XML: {_RULE}")
    yaml = _YAML.search(text)
    if yaml is not None and not _TOML.search(text):
        return _at(text, f"This is no YAML: {_RULE}", yaml.start())
    return None


def _at(text: str, message: str, start: int = 0) -> Fault:
    return Fault(start + len(text[start:]) - len(text[start:].lstrip()), message)
