"""--since and --until: systemd.time(7)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from oomwatchd.ctl.moments import parse_moment

NOW = datetime(2026, 3, 15, 14, 30, 5, 250000).astimezone()


def local(*parts: int) -> datetime:
    return datetime(*parts).astimezone()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("today", local(2026, 3, 15)),
        ("yesterday", local(2026, 3, 14)),
        ("tomorrow", local(2026, 3, 16)),
        ("-1h", NOW - timedelta(hours=1)),
        ("+5min", NOW + timedelta(minutes=5)),
        ("2 days ago", NOW - timedelta(days=2)),
        ("1month 1d ago", NOW - timedelta(days=1, seconds=2629800)),
        ("3s left", NOW + timedelta(seconds=3)),
        ("2026-01-02", local(2026, 1, 2)),
        ("26-01-02 03:04", local(2026, 1, 2, 3, 4)),
        ("2026-01-02 03:04:05.5", local(2026, 1, 2, 3, 4, 5, 500000)),
        ("Fri 2026-01-02 03:04", local(2026, 1, 2, 3, 4)),
        ("13:14", local(2026, 3, 15, 13, 14)),
        ("13:14:15", local(2026, 3, 15, 13, 14, 15)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05 UTC", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))),
        ("2026-07-02 03:04:05 Europe/Berlin", datetime(2026, 7, 2, 1, 4, 5, tzinfo=UTC)),
        ("@1700000000.5", datetime.fromtimestamp(1700000000.5, UTC)),
    ],
)
def test_moment(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "foo", "2026-13-01", "2026-02-30", "25:00", "1:2:3", "@x", "ago", "-", "-1lightyear", "2026-01-02 UTCX/Y"],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=f"^Failed to parse timestamp: {text}$"):
        parse_moment(text, NOW)
