"""Reads the settings of systemd's units and daemons from their files (systemd.unit(5), systemd-system.conf(5)).

Settings at run time are in files, too: transient units and `systemctl set-property` write below /run and /etc. So
systemd needn't be asked, and the tree of a system that doesn't run can be read. A file that was changed since the last
daemon-reload is read as it is now."""

import os
from collections.abc import Callable, Iterable, Iterator

from oomwatchd.oom.small_files import read_file

# In the order of precedence (systemd.unit(5), "Unit File Load Path"; src/libsystemd/sd-path, path-lookup.c).
_SYSTEM = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)
_USER = (
    "{home}/.config/systemd/user.control",
    "run/user/{uid}/systemd/user.control",
    "run/user/{uid}/systemd/transient",
    "run/user/{uid}/systemd/generator.early",
    "{home}/.config/systemd/user",
    "etc/systemd/user",
    "run/user/{uid}/systemd/user",
    "run/systemd/user",
    "run/user/{uid}/systemd/generator",
    "{home}/.local/share/systemd/user",
    "usr/local/share/systemd/user",
    "usr/share/systemd/user",
    "usr/local/lib/systemd/user",
    "usr/lib/systemd/user",
    "lib/systemd/user",
    "run/user/{uid}/systemd/generator.late",
)
_CONF = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd", "lib/systemd")
_LARGEST = 1 << 18


class UnitFiles:
    """The units of the system manager and of users' managers, below `root`. `home` gives a user's home directory; None:
    not known."""

    def __init__(self, root: str = "/", home: Callable[[int], str | None] = lambda _: None) -> None:
        self._root = root
        self._home = home
        self._listings: dict[int | None, list[tuple[str, frozenset[str]]]] = {}

    def settings(self, name: str, manager: int | None = None) -> dict[str, str]:
        """All settings of the unit `name`, of all sections. Of a setting that comes more than once, the last one
        counts. `manager`: the UID of a user's manager; None: the system's."""
        values: dict[str, str] = {}
        for path in self._fragments(name, manager):
            values |= parse(read_file(path, limit=_LARGEST) or b"")
        return values

    def _fragments(self, name: str, manager: int | None) -> Iterator[str]:
        """The unit's file, then its drop-ins in the order in which they apply."""
        listings = self._listing(manager)
        names = _with_template(name)
        main = next((f"{d}/{n}" for n in names for d, files in listings if n in files), None)
        if main is not None:
            yield main
        dropins: dict[str, str] = {}
        for directory in _dropin_directories(name):
            for above, files in listings:
                if directory in files:
                    for file in _listdir(f"{above}/{directory}"):
                        if file.endswith(".conf"):
                            dropins.setdefault(file, f"{above}/{directory}/{file}")
        for file in sorted(dropins):
            yield dropins[file]

    def _listing(self, manager: int | None) -> list[tuple[str, frozenset[str]]]:
        """Each directory of the load path, with the names in it."""
        if manager not in self._listings:
            paths = _SYSTEM if manager is None else tuple(self._user_paths(manager))
            directories = [os.path.join(self._root, path) for path in paths]
            self._listings[manager] = [(d, frozenset(_listdir(d))) for d in directories]
        return self._listings[manager]

    def _user_paths(self, uid: int) -> Iterator[str]:
        home = self._home(uid)
        for path in _USER:
            if home is not None or "{home}" not in path:
                yield path.format(home=(home or "").strip("/"), uid=uid)


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _with_template(name: str) -> list[str]:
    """A unit's name, and that of the template which it is an instance of."""
    stem, _, suffix = name.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return [name, f"{prefix}@.{suffix}"] if at else [name]


def _dropin_directories(name: str) -> Iterator[str]:
    """The names of the directories for drop-ins of a unit, the most specific first: that of the unit and of its
    template, those of each prefix of the name that ends in a dash, that of all units of its type."""
    for each in _with_template(name):
        yield f"{each}.d"
    for each in _with_template(name):
        stem, _, suffix = each.rpartition(".")
        prefix, at, instance = stem.partition("@")
        while (cut := prefix.rstrip("-").rfind("-")) > 0:
            prefix = prefix[: cut + 1]
            yield f"{prefix}{at}{instance}.{suffix}.d"
    yield f"{name.rpartition('.')[2]}.d"


def parse(raw: bytes, section: str | None = None) -> dict[str, str]:
    """`Key=value` lines of a file in the syntax of systemd.syntax(7): those of one section, or of all. Of a key that
    comes more than once the last counts, and an empty value resets it."""
    values: dict[str, str] = {}
    inside = section is None
    for line in _logical_lines(raw.decode("utf-8", "replace")):
        if line.startswith("[") and line.endswith("]"):
            inside = section in (None, line[1:-1])
        elif inside and "=" in line:
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip()
    return values


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments; one that ends in a backslash goes on in the next."""
    held = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        if held or line:
            yield (held + line).strip()
        held = ""
    if held:
        yield held.strip()


def read_conf(name: str, section: str, root: str = "/") -> dict[str, str]:
    """The settings of /etc/systemd/NAME and its drop-ins (NAME.d/*.conf), as systemd's own daemons read them: the main
    file from the first directory that has it, then the drop-ins by name. A name in an earlier directory masks the same
    name in a later one."""
    values: dict[str, str] = {}
    for path in conf_files(name, root):
        values |= parse(read_file(path, limit=_LARGEST) or b"", section)
    return values


def conf_files(name: str, root: str = "/") -> Iterable[str]:
    """The files that read_conf() reads, in the order in which they apply."""
    places = [os.path.join(root, place) for place in _CONF]
    main = next((f"{place}/{name}" for place in places if os.path.exists(f"{place}/{name}")), None)
    dropins: dict[str, str] = {}
    for place in places:
        for file in _listdir(f"{place}/{name}.d"):
            if file.endswith(".conf"):
                dropins.setdefault(file, f"{place}/{name}.d/{file}")
    return [*([] if main is None else [main]), *(dropins[file] for file in sorted(dropins))]
