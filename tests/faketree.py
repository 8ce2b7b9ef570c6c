"""A root directory with just as much of /proc and /sys/fs/cgroup in it as a test asks for."""

from dataclasses import dataclass
from pathlib import Path

ALL_CAPS = (1 << 41) - 1


@dataclass(frozen=True)
class Tree:
    """Everything below `root`. Made by tests; nothing here looks at the real system."""

    root: Path

    @property
    def proc(self) -> str:
        return str(self.root / "proc")

    @property
    def cgroup(self) -> str:
        return str(self.root / "sys/fs/cgroup")

    def write(self, path: str, text: str | bytes | int) -> None:
        """Write a file below the root, its directories included."""
        file = self.root / path
        data = text if isinstance(text, bytes) else f"{text}\n".encode()
        try:
            file.write_bytes(data)
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def machine(self, ram_kib: int = 8 << 20, swap_kib: int = 0, available_kib: int = 4 << 20) -> None:
        """/proc/meminfo, and this process as root of the initial namespaces with all capabilities."""
        self.write(
            "proc/meminfo",
            f"MemTotal:       {ram_kib} kB\nMemAvailable:   {available_kib} kB\n"
            f"SwapTotal:      {swap_kib} kB\nSwapFree:       {swap_kib} kB\n"
            f"CommitLimit:    {ram_kib // 2} kB\nCommitted_AS:   {ram_kib // 4} kB",
        )
        self.me()
        self.write("proc/net/connector", "Name            ID\ncn_proc         1:1")
        self.write("dev/kmsg", b"")

    def me(self, uid: int = 0, caps: int = ALL_CAPS, pid_ns: int = 4026531836, user_ns: int = 4026531837) -> None:
        """/proc/self."""
        self.write("proc/self/status", f"Pid:\t4711\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps:016x}")
        for kind, inode in (("pid", pid_ns), ("user", user_ns)):
            link = self.root / "proc/self/ns" / kind
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"{kind}:[{inode}]")

    def process(
        self,
        pid: int,
        comm: bytes = b"sleep",
        *,
        ppid: int = 1,
        uid: int = 1000,
        adj: int = 0,
        rss_kib: int | None = 4096,
        anon_kib: int | None = None,
        swap_kib: int = 0,
        pte_kib: int = 40,
        kernel_thread: bool = False,
        caps: int = 0,
        nspid: str | None = None,
        cgroup: str = "/",
        version: int = 2,
    ) -> None:
        """A process. `rss_kib` None: it has no address space (a zombie, a kernel thread)."""
        flags = 0x00200000 if kernel_thread else 0
        rest = f"S {ppid} {pid} {pid} 0 -1 {flags} " + "0 " * 12 + f"{pid * 10} 0"
        self.write(f"proc/{pid}/stat", b"%d (%s) %s\n" % (pid, comm, rest.encode()))
        self.write(f"proc/{pid}/status", self.status(pid, uid, rss_kib, anon_kib, swap_kib, pte_kib, caps, nspid))
        self.write(f"proc/{pid}/oom_score_adj", adj)
        self.write(f"proc/{pid}/cgroup", f"0::{cgroup}" if version == 2 else f"4:memory:{cgroup}\n0::/")

    @staticmethod
    def status(
        pid: int,
        uid: int,
        rss_kib: int | None,
        anon_kib: int | None = None,
        swap_kib: int = 0,
        pte_kib: int = 40,
        caps: int = 0,
        nspid: str | None = None,
    ) -> str:
        """/proc/PID/status, without Name, which nobody should read there."""
        lines = [f"Umask:\t0022\nPPid:\t1\nUid:\t0\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\nNSpid:\t{nspid or pid}"]
        if rss_kib is not None:
            anon = rss_kib if anon_kib is None else anon_kib
            lines.append(f"VmRSS:\t{rss_kib:8} kB\nRssAnon:\t{anon:8} kB\nRssFile:\t{rss_kib - anon:8} kB")
            lines.append(f"VmPTE:\t{pte_kib:8} kB\nVmSwap:\t{swap_kib:8} kB")
        lines.append(f"CapEff:\t{caps:016x}\nCapBnd:\t{caps:016x}")
        return "\n".join(lines)

    def memcg1(self, path: str, usage: int, limit: int = 9223372036854771712, **files: int | str) -> None:
        """A v1 memory cgroup; amounts in bytes; more files by name (`memory_stat="..."`)."""
        self._memcg(f"sys/fs/cgroup/memory{path}", usage_in_bytes=usage, limit_in_bytes=limit, **files)

    def memcg2(self, path: str, usage: int, limit: int | str = "max", **files: int | str) -> None:
        """A v2 memory cgroup; amounts in bytes."""
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids")
        self._memcg(f"sys/fs/cgroup{path}", current=usage, max=limit, **files)

    def _memcg(self, directory: str, **files: int | str) -> None:
        self.write(f"{directory}/cgroup.procs", "")
        for name, value in files.items():
            self.write(f"{directory}/memory.{name}", value)
