"""What a command of x86 says on a host of another architecture, and the other way round: one sentence, status 2."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Final

from kvmwhy.abi.uname import Arch, arch_of

_BARE: Final[frozenset[Arch | None]] = frozenset({"arm64", "riscv64"})


def bare_host() -> Arch | None:
    """This host's architecture, if its vCPUs have no segments and its KVM no emulator: arm64, riscv64."""
    arch = arch_of(platform.machine())
    return arch if arch in _BARE else None


def refusal(options: Iterable[tuple[str, object]], only: str, here: str) -> str | None:
    """The first of these options, by their spelling, that was given where it means nothing: for ``here``."""
    for name, value in options:
        if value:
            return f"{name} is for {only}, and this is {here}"
    return None
