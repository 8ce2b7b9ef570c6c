"""Finds the numbers of users and groups by name, without waiting for a name service.

The local files, passwd(5) and group(5), are read at once. Other name services of nsswitch.conf(5), such as LDAP or
SSSD, may answer late or never. So a helper process (base/helper.py) asks them for the names that the files don't
have."""

import grp
import os
import pwd
from collections.abc import Iterable

from oomwatchd.base import helper
from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import Rule

Name = tuple[str, str]
"""A kind, "user" or "group", and a name."""

LARGEST_ID = 2**32 - 2
"""The largest number of a user or group. The next number means "no change": setresuid(2)."""
PASSWD, GROUP = "/etc/passwd", "/etc/group"
_MAX_FILE_BYTES = 64 << 20
_WAIT_SECONDS = 5.0
_GONE_AFTER = 2
"""How often in a row a name service must say that a user doesn't exist, before that is believed. A name service that is
down for a moment may say so, too."""


def look_up(kind: str, name: str) -> tuple[int | None]:
    """The number that name services have for a name, as a tuple of one number; None in it: there is no such name. This
    may never return, so call it in a helper."""
    try:
        return (pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid,)
    except (KeyError, ValueError, OSError):
        return (None,)


def names_in(rules: Iterable[Rule]) -> list[Name]:
    """The names in `user` and `group` of the enabled rules. Numbers are left out."""
    criteria = (c for rule in rules if rule.enabled for c in (*rule.criteria, *rule.excluded))
    asked = ((c.key, name) for c in criteria if CRITERIA[c.key].form is Form.ID for name in c.names)
    return list(dict.fromkeys((key, name) for key, name in asked if not is_number(name)))


class Accounts:
    """The numbers of users and groups that are known now."""

    def __init__(self, passwd: str = PASSWD, group: str = GROUP) -> None:
        self._paths = {"user": passwd, "group": group}
        self._seen: dict[str, object] = {}
        self._files: dict[str, dict[str, int]] = {"user": {}, "group": {}}
        self._services: dict[Name, int | None] = {}
        self._missed: dict[Name, int] = {}
        self.refresh()

    def local_names(self, kind: str) -> tuple[str, ...]:
        """The names of users or groups that the files have."""
        return tuple(self._files[kind])

    def refresh(self) -> bool:
        """Read the files again if they have changed. Returns whether they have."""
        before = dict(self._seen)
        for kind, path in self._paths.items():
            try:
                status = os.stat(path)
                stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
                if stamp == self._seen.get(kind):
                    continue
                with open(path, "rb") as file:
                    self._files[kind] = _parse(file.read(_MAX_FILE_BYTES))
            except OSError:
                continue  # the file is just being replaced: the numbers from before are used on
            self._seen[kind] = stamp
        return self._seen != before

    def number(self, kind: str, name: str) -> int | None:
        """The number of a user or group; None: it doesn't exist, or isn't known yet, see is_known()."""
        if is_number(name):
            return id_of(name)
        found = self._files[kind].get(name)
        return self._services.get((kind, name)) if found is None else found

    def is_known(self, kind: str, name: str) -> bool:
        """Whether it is known which number a name has, or that it has none, so that no name service needs to be
        asked."""
        return is_number(name) or name in self._files[kind] or (kind, name) in self._services

    def not_in_files(self, names: Iterable[Name]) -> list[Name]:
        """Those of `names` that aren't in the files, so that only name services may know them."""
        return [(kind, name) for kind, name in names if name not in self._files[kind]]

    def learn(self, kind: str, name: str, number: int | None) -> None:
        """Remember the number that name services have for a name. None: there is no such name."""
        key = (kind, name)
        if number is None and self._services.get(key) is not None:
            self._missed[key] = self._missed.get(key, 0) + 1
            if self._missed[key] < _GONE_AFTER:
                return
        self._missed.pop(key, None)
        self._services[key] = number


class AskedAccounts(Accounts):
    """Accounts for programs that have nothing else to do meanwhile. It waits for name services, for at most 5 s a
    name."""

    def is_known(self, kind: str, name: str) -> bool:
        """As Accounts.is_known(), after name services were asked if the files don't have the name."""
        if super().is_known(kind, name):
            return True
        try:
            answer = helper.call(look_up, kind, name, seconds=_WAIT_SECONDS)
        except (helper.HelperError, OSError):
            return False
        assert isinstance(answer, tuple)
        self.learn(kind, name, answer[0])
        return True


def is_number(name: str) -> bool:
    """Whether `name` is a number of a user or group in digits."""
    return name.isascii() and name.isdigit()


def id_of(digits: str) -> int | None:
    """The number of a user or group in `digits`; None: it is out of range. Python can't read a number of thousands of
    digits (sys.get_int_max_str_digits())."""
    digits = digits.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(LARGEST_ID)) else LARGEST_ID + 1
    return number if number <= LARGEST_ID else None


def _parse(raw: bytes) -> dict[str, int]:
    """Names and numbers of passwd(5) or group(5): both have them in the first and the third field."""
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        fields = line.split(b":", 3)
        if len(fields) > 2 and fields[2].isdigit() and not line.startswith((b"+", b"-", b"#")):
            number = id_of(fields[2].decode())
            if number is not None:
                found.setdefault(fields[0].decode("utf-8", "surrogateescape"), number)
    return found
