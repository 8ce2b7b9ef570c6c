"""The table of criteria in oomwatchd.toml(5), made of `criteria.CRITERIA`.

`python -m oomwatchd.rules.manual man/oomwatchd.toml.5.scd` puts it into the page's source, between the comments that
mark it. The daemon doesn't load this."""

import sys
import textwrap

from oomwatchd.rules.criteria import CRITERIA, Row

BEGIN = "; The criteria, by python -m oomwatchd.rules.manual\n"
END = "; End of the criteria\n"
_WIDTH = 120


def table() -> str:
    """The table in the markup of scdoc(5)."""
    lines = ["[[ *Key*", ":[ *Compared with*", ":[ *Says who controls the process?*"]
    for row in CRITERIA.values():
        lines += [f"|  *{row.key}*", *_cell(row.manual), *_cell(_answer(row))]
    return "\n".join(lines) + "\n"


def _answer(row: Row) -> str:
    word = "yes" if row.says_who else "no"
    if row.says_who is None:
        return row.caution
    return f"{word}: {row.caution}" if row.caution else word


def _cell(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=":  ", subsequent_indent="   ", break_on_hyphens=False)


def put_in(page: str) -> str:
    """The page's source with the table of today. Raises ValueError if it has no place for it."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    with open(sys.argv[1], "r+", encoding="utf-8") as file:
        made = put_in(file.read())
        file.seek(0)
        file.truncate()
        file.write(made)
