"""What only Linux gives a program that drives /dev/kvm. The model of KVM runs elsewhere too, so this imports there."""

from __future__ import annotations

import errno
import os
import platform
import signal
from typing import Any, Final

from kvmwhy.machine.errors import NoKvmError

try:
    from fcntl import ioctl
except ImportError:  # Windows

    def _none(*_arguments: Any) -> Any:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    ioctl = _none

__all__ = ["KICK", "ioctl", "open_device", "require_linux"]


# glibc keeps the first two for itself and hides them. macOS and Windows have no such signals.
KICK: Final[int] = getattr(signal, "SIGRTMIN", 0) + 4
_CLOSE_ON_EXEC: Final = getattr(os, "O_CLOEXEC", 0)


def require_linux() -> None:
    """Raises NoKvmError on another system: whatever its processor is, there is no KVM."""
    system = platform.system()
    if system != "Linux":
        fact = f"KVM is a part of Linux, and this is {system or 'another system'}"
        raise NoKvmError("open", errno.ENODEV, "run on the model", fact)


def open_device(path: str) -> int:
    """The descriptor of /dev/kvm. Raises OSError, and NoKvmError where there can be none."""
    require_linux()
    return os.open(path, os.O_RDWR | _CLOSE_ON_EXEC)
