"""What a command of x86 says on a host of another architecture, and the other way round: one sentence, status 2."""

from __future__ import annotations

from collections.abc import Iterable

from kvmwhy.abi.uname import Arch
from kvmwhy.machine.access import BARE, host_arch


def bare_host() -> Arch | None:
    """This host's architecture, if its vCPUs have no segments and its KVM no emulator: arm64, riscv64."""
    arch = host_arch()
    return arch if arch in BARE else None


def refusal(options: Iterable[tuple[str, object]], only: str, host: str) -> str | None:
    """The first option that was given and means nothing here; options by their spelling."""
    for name, value in options:
        if value:
            return f"{name} is for {only}, and this host is {host}"
    return None
