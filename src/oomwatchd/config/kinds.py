"""Names values and numbers in messages. Pure."""

VERY_LONG = 10**40
"""Python doesn't write very long numbers in digits: sys.get_int_max_str_digits()."""
_MOST_CHARACTERS = 80


def kind(value: object) -> str:
    """The type of a value that has the wrong one, in words for a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string '{value if len(value) <= _MOST_CHARACTERS else value[:_MOST_CHARACTERS] + '…'}'"
    if isinstance(value, (int, float)):
        return f"the number {value}" if isinstance(value, float) or abs(value) < VERY_LONG else shown(value)
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def shown(number: int) -> str:
    """A number for people."""
    return str(number) if abs(number) < VERY_LONG else f"a number of {number.bit_length()} bits"
