"""The section about the criteria in oomwatchd.toml(5), made of `criteria.CRITERIA`.

`python -m oomwatchd.rules.manual man/oomwatchd.toml.5.scd` puts it into the page's source, between the comments that
mark its place. The daemon doesn't load this."""

import re
import sys
from collections.abc import Mapping

from oomwatchd.rules.criteria import CRITERIA, Form, Row

BEGIN = "; The criteria, by python -m oomwatchd.rules.manual\n"
END = "; End of the criteria\n"
TYPES: Mapping[Form, str] = {
    Form.TEXT: "text, or a list of texts",
    Form.ID: "string or integer, or a list of these",
    Form.FLAG: "boolean",
    Form.RULE: "string, or a list of strings",
}
_SPECIAL, _ESCAPED = re.compile(r"[*_\\]"), r"\\\g<0>"
_SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z_*])")


def criteria() -> str:
    """The section in the markup of scdoc(5): for each criterion what it is compared with, whether it says who controls
    the process, its type, and an example."""
    return "\n".join(map(_paragraph, CRITERIA.values()))


def _paragraph(row: Row) -> str:
    lines = [
        *_SENTENCE_END.split(row.manual),
        "",
        *_SENTENCE_END.split(f"Says who controls the process: {_answer(row)}"),
    ]
    lines += ["", f"Type: {TYPES[row.form]}.", "", f"Example: *{_SPECIAL.sub(_ESCAPED, row.example)}*"]
    return "\n".join([f"*{row.key}*", *(f"\t{line}" if line else "" for line in lines), ""])


def _answer(row: Row) -> str:
    if row.says_who is None:
        return row.caution
    word = "yes." if row.says_who else "no."
    return f"{word} {row.caution}" if row.caution else word


def put_in(page: str) -> str:
    """The page's source with the section of today. Raises ValueError if the page has no place for it."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{criteria()}\n{END}{after}"


if __name__ == "__main__":
    with open(sys.argv[1], "r+", encoding="utf-8") as file:
        made = put_in(file.read())
        file.seek(0)
        file.truncate()
        file.write(made)
