"""Says what the daemon can't do where a capability is missing."""

from collections.abc import Iterable

_LOSSES = {
    "CAP_SYS_RESOURCE": "values can be raised, but not lowered below where they started",
    "CAP_DAC_OVERRIDE": "other users' processes can't be written",
    "CAP_SYS_PTRACE": "the executable of other users' processes isn't known, and rules with exe don't fit them",
    "CAP_NET_ADMIN": "the kernel may refuse process events",
}


def losses(missing: Iterable[str]) -> str:
    """What the daemon can't do without the `missing` capabilities, for people."""
    return "; ".join(_LOSSES[name] for name in missing)
