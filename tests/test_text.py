import pytest

from oomwatchd.base.text import decode, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"sshd", "sshd"),
        (b"a b", "a b"),
        ("grüße".encode(), "grüße"),
        (b"a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202egnp.exe".encode(), "\\xe2\\x80\\xaegnp.exe"),
        (rb"dev-disk-by\x2dlabel.swap", r"dev-disk-by\x2dlabel.swap"),
    ],
)
def test_printable_is_one_safe_line(raw: bytes, shown: str) -> None:
    assert printable(raw) == shown


def test_decode_keeps_what_json_escapes_itself() -> None:
    assert decode(b"a\nb\xff") == "a\nb\\xff"
