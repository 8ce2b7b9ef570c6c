"""Facts about memory out of /proc and the cgroup file systems: what `badness` reckons with.

Both roots are arguments, so that tests can have their own trees. A process or group that vanishes while it is
read is left out; a file that is missing or refused is an absent fact.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from oomwatchd.kernel.proc_connector import INITIAL_PID_NS
from oomwatchd.kernel.procfs import PF_KTHREAD, ProcessDir, Vanished
from oomwatchd.oom.badness import Machine, Memcg, Task

PAGE = os.sysconf("SC_PAGE_SIZE")
CAP_SYS_ADMIN = 21
# "No limit": v1 shows PAGE_COUNTER_MAX pages, v2 the word.
PAGE_COUNTER_MAX = (2**63 - 1) // PAGE


def read_file(path: str | bytes, directory: int | None = None, limit: int = 1 << 20) -> bytes | None:
    """Up to `limit` bytes of a file, None where it can't be read (missing, refused, its process gone)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return None
    try:
        parts = []
        while limit > 0 and (part := os.read(descriptor, min(limit, 1 << 16))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(descriptor)


# --- /proc/PID --------------------------------------------------------------------------------------------


def parse_fields(raw: bytes) -> dict[bytes, bytes]:
    """`Key:  value` lines (/proc/PID/status, /proc/meminfo) as a dictionary."""
    fields = {}
    for line in raw.split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon:
            fields[key] = value.strip()
    return fields


def kib(fields: dict[bytes, bytes], key: bytes) -> int | None:
    """The number of a field in kB, None if there is none."""
    words = fields.get(key, b"").split()
    return int(words[0]) if words and words[0].isdigit() else None


def pages_of_kib(amount: int | None) -> int:
    """kB as pages, rounded down; 0 for an absent fact."""
    return 0 if amount is None else amount * 1024 // PAGE


def parse_memory_cgroup(raw: bytes, version: int) -> bytes | None:
    """Of /proc/PID/cgroup the path of the memory cgroup: the line that names `memory` in v1, `0::` in v2."""
    for line in raw.split(b"\n"):
        number, _, rest = line.partition(b":")
        controllers, colon, path = rest.partition(b":")
        wanted = b"memory" in controllers.split(b",") if version == 1 else number == b"0" and not controllers
        if colon and wanted:
            return path.removesuffix(b" (deleted)")
    return None


@dataclass(frozen=True, slots=True)
class Process:
    """A process: what the kernel's choice depends on, and what else `doctor` asks about it."""

    task: Task
    ppid: int
    anon: int | None  # pages: RssAnon, None on kernels before 4.5
    nested: bool  # lives in a PID namespace below the reader's (a container)
    cap_eff: int


def read_processes(proc: str = "/proc", version: int | None = None) -> tuple[list[Process], int]:
    """Every process in `proc` but the reader itself, which is gone before anyone acts on the result; and how
    many there are that may not be read. `version` is that of the memory cgroups (see `Hierarchy`), None where
    there are none."""
    found: list[Process] = []
    refused = 0
    initial = namespace(proc, "pid") in (INITIAL_PID_NS, None)
    me = _own_name(proc)
    for name in os.listdir(proc):
        if not name.isdigit() or name == me:
            continue
        try:
            with ProcessDir(int(name), proc) as directory:
                found.append(_read_process(directory, version, initial))
        except Vanished:
            continue
        except (OSError, ValueError, KeyError, IndexError):  # refused; or no /proc that the kernel has written
            refused += 1
    return found, refused


def _own_name(proc: str) -> str | None:
    try:
        return os.readlink(os.path.join(proc, "self"))
    except OSError:
        return None


def namespace(proc: str, kind: str) -> int | None:
    """The inode of a namespace of this process ("pid", "user"), None if it can't be read."""
    try:
        link = os.readlink(os.path.join(proc, "self/ns", kind))
    except OSError:
        return None
    inode = link.partition("[")[2].rstrip("]")
    return int(inode) if inode.isdigit() else None


def _read_process(directory: ProcessDir, version: int | None, initial_namespace: bool) -> Process:
    """Raises Vanished, and PermissionError if refused."""
    stat = directory.read_stat()
    status = parse_fields(directory.read("status"))
    kernel_thread = stat.flags & PF_KTHREAD != 0
    memory = status
    if b"VmRSS" not in status and not kernel_thread:
        memory = _thread_with_memory(directory.descriptor) or status
    cgroup = None
    if version is not None:
        cgroup = parse_memory_cgroup(read_file("cgroup", directory.descriptor) or b"", version)
    cap_eff = int(status.get(b"CapEff", b"0"), 16)
    task = Task(
        pid=directory.pid,
        comm=stat.comm,
        uid=int(status[b"Uid"].split()[1]),
        oom_score_adj=directory.read_oom_score_adj(),
        rss=pages_of_kib(kib(memory, b"VmRSS")),
        swap=pages_of_kib(kib(memory, b"VmSwap")),
        pgtables=pages_of_kib((kib(memory, b"VmPTE") or 0) + (kib(memory, b"VmPMD") or 0)),
        starttime=stat.starttime,
        has_mm=b"VmRSS" in memory,
        kernel_thread=kernel_thread,
        global_init=directory.pid == 1 and initial_namespace,
        sys_admin=cap_eff >> CAP_SYS_ADMIN & 1 == 1,
        memcg=cgroup,
    )
    anon = kib(memory, b"RssAnon")
    return Process(
        task=task,
        ppid=stat.ppid,
        anon=None if anon is None else pages_of_kib(anon),
        nested=len(status.get(b"NSpid", b"").split()) > 1,
        cap_eff=cap_eff,
    )


def _thread_with_memory(directory: int) -> dict[bytes, bytes] | None:
    """The status of a thread that still has the address space when the leader has exited
    (find_lock_task_mm in mm/oom_kill.c)."""
    try:
        tasks = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        for thread in os.listdir(tasks):
            status = parse_fields(read_file(f"{thread}/status", tasks) or b"")
            if b"VmRSS" in status:
                return status
    except OSError:
        return None
    finally:
        os.close(tasks)
    return None


# --- the whole machine ------------------------------------------------------------------------------------


def read_machine(proc: str = "/proc") -> Machine:
    """The machine's memory out of /proc/meminfo. Raises OSError if that can't be read."""
    raw = read_file(os.path.join(proc, "meminfo"))
    fields = parse_fields(raw or b"")
    ram = kib(fields, b"MemTotal")
    if ram is None:
        raise FileNotFoundError(f"'{proc}/meminfo' can't be read or has no MemTotal; is /proc mounted?")
    available = kib(fields, b"MemAvailable")
    swappiness = read_number(os.path.join(proc, "sys/vm/swappiness"))
    return Machine(
        ram=pages_of_kib(ram),
        swap_total=pages_of_kib(kib(fields, b"SwapTotal")),
        available=None if available is None else pages_of_kib(available),
        swap_free=pages_of_kib(kib(fields, b"SwapFree")),
        swappiness=60 if swappiness is None else swappiness,
    )


def read_number(path: str | bytes) -> int | None:
    """A file that holds one decimal number; None if it can't be read or holds something else ("max")."""
    raw = (read_file(path) or b"").strip()
    return int(raw) if raw.lstrip(b"-").isdigit() else None


# --- memory cgroups ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where the memory controller is to be found."""

    version: int  # 1 or 2
    root: bytes  # directory of the topmost group


def find_hierarchy(cgroup: str = "/sys/fs/cgroup") -> Hierarchy | None:
    """The hierarchy below `cgroup` that the memory controller is attached to: v1, v2, or v2 beside v1."""
    top = os.fsencode(cgroup)
    if os.path.exists(os.path.join(top, b"memory/memory.usage_in_bytes")):
        return Hierarchy(1, os.path.join(top, b"memory"))
    for root in (top, os.path.join(top, b"unified")):
        controllers = read_file(os.path.join(root, b"cgroup.controllers")) or b""
        if b"memory" in controllers.split():
            return Hierarchy(2, root)
    return None


def directory_of(hierarchy: Hierarchy, path: bytes) -> bytes:
    """The directory of the group `path` ("/a/b", as in /proc/PID/cgroup)."""
    return os.path.join(hierarchy.root, path.strip(b"/"))


def group_path(hierarchy: Hierarchy, name: bytes) -> bytes | None:
    """The group that a user means by `name`, a path as in /proc/PID/cgroup or a directory of the cgroup file
    system, as "/a/b"; None if there is no such group."""
    inside = _relative(os.path.abspath(name), hierarchy.root)
    for path in ([] if inside is None else [inside]) + [b"/" + name.strip(b"/")]:
        directory = directory_of(hierarchy, path)
        if os.path.isfile(os.path.join(directory, b"cgroup.procs")):
            return path
    return None


def _relative(path: bytes, root: bytes) -> bytes | None:
    root = os.path.abspath(root)
    if path == root:
        return b"/"
    return path[len(root) :] if path.startswith(root + b"/") else None


def is_within(path: bytes | None, group: bytes) -> bool:
    """Whether the group `path` is `group` or below it. A path that is not known is in none."""
    if path is None:
        return False
    return group == b"/" or path == group or path.startswith(group + b"/")


def ancestry(path: bytes) -> list[bytes]:
    """A group and its ancestors, nearest first, without the root, which has no limit."""
    paths = []
    while path not in (b"/", b""):
        paths.append(path)
        path = os.path.dirname(path)
    return paths


def walk(hierarchy: Hierarchy) -> Iterator[bytes]:
    """The paths of all groups but the root."""
    for directory, subdirectories, _ in os.walk(hierarchy.root):
        for name in subdirectories:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                relative = _relative(path, hierarchy.root)
                assert relative is not None
                yield relative


def read_memcg(hierarchy: Hierarchy, path: bytes, machine: Machine) -> Memcg | None:
    """The group `path`; None if it is gone or the memory controller isn't enabled in it."""
    directory = directory_of(hierarchy, path)

    def pages(name: bytes) -> int | None:
        amount = read_number(os.path.join(directory, name))
        return None if amount is None or amount // PAGE >= PAGE_COUNTER_MAX else amount // PAGE

    v1 = hierarchy.version == 1
    usage = pages(b"memory.usage_in_bytes" if v1 else b"memory.current")
    if usage is None:
        return None
    limit = pages(b"memory.limit_in_bytes" if v1 else b"memory.max")
    swappiness = read_number(os.path.join(directory, b"memory.swappiness")) if v1 else None
    statistics = read_file(os.path.join(directory, b"memory.stat")) if limit is not None else None
    return Memcg(
        path=path,
        version=hierarchy.version,
        limit=limit,
        usage=usage,
        reclaimable=parse_reclaimable(statistics or b"", hierarchy.version),
        swap_limit=pages(b"memory.memsw.limit_in_bytes" if v1 else b"memory.swap.max"),
        swap_usage=pages(b"memory.memsw.usage_in_bytes" if v1 else b"memory.swap.current") or 0,
        swappiness=machine.swappiness if swappiness is None else swappiness,
    )


def parse_reclaimable(raw: bytes, version: int) -> int:
    """Of memory.stat the pages that can be taken back without killing: page cache, and in v2 slab."""
    names = (
        (b"total_inactive_file", b"total_active_file")
        if version == 1
        else (b"inactive_file", b"active_file", b"slab_reclaimable")
    )
    amount = 0
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b" ")
        if name in names:
            amount += int(value)
    return amount // PAGE
