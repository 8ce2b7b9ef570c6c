"""What several VM tests do: programs to pin, configurations, and waiting for both."""

from tests.vm.image import MODULES
from tests.vm.machine import COMMAND_TIMEOUT_S, Machine

GUARDED = "/usr/local/bin/guarded"
GUARD = f"""
[[rule]]
name = "guarded"
exe = "{GUARDED}"
oom_score_adj = -1000
user = "root"
"""


def provide(machine: Machine, path: str, program: str = "/usr/bin/sleep") -> None:
    """Install a copy of a program under a path of its own, so that a rule can tell it apart."""
    machine.succeed(f"install -D -m 755 {program} {path}")


def configure(machine: Machine, rules: str) -> None:
    """Replace /etc/oomwatchd.toml and reload. Raises CommandFailed when the daemon refuses it."""
    machine.write("/etc/oomwatchd.toml", rules)
    machine.succeed("systemctl reload oomwatchd")


def start(machine: Machine, unit: str, command: str, properties: str = "") -> int:
    """Run a command as a transient service. Returns the PID of its main process."""
    machine.succeed(
        f"systemctl reset-failed {unit} 2>/dev/null; systemd-run -q --unit={unit} {properties} -- {command}"
    )
    return machine.main_pid(unit)


def wait_for_value(machine: Machine, pid: int, value: int, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    """Wait until a process shows an oom_score_adj."""
    seen: list[int] = []

    def shows() -> bool:
        seen.append(machine.oom_score_adj(pid))
        return seen[-1] == value

    machine.wait(f"oom_score_adj of {pid} is {value} (seen {seen})", shows, timeout_s)


def load_modules(machine: Machine) -> None:
    """Load the kernel's modules that the image has, by finit_module(2): it has no modprobe(8)."""
    load = """
my $parameters = "";
for (@ARGV) {
    open(my $file, "<", "/usr/local/lib/modules/$_.ko") or die "$_: $!";
    syscall(313, fileno($file), $parameters, 0) == 0 or die "$_: $!";
}
"""
    machine.succeed(f"perl -e '{load}' {' '.join(MODULES)}")


def running(machine: Machine, pid: int) -> bool:
    """Whether a process is there and no zombie."""
    return machine.run(f"grep -q '^State:.[^ZX]' /proc/{pid}/status").status == 0
