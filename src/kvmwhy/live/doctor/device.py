"""/dev/kvm: whether it may be opened, and what it says that KVM can do."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from fcntl import ioctl
from typing import Final, NamedTuple

from kvmwhy.abi.capabilities import capabilities_of
from kvmwhy.abi.ioctl import API_VERSION, Ioctl
from kvmwhy.abi.kvm_device import TO_HAVE_KVM
from kvmwhy.abi.uname import Arch
from kvmwhy.live.doctor.finding import Finding

_DEVICE: Final = "/dev/kvm"


class Device(NamedTuple):
    """What /dev/kvm answered. ``problem``: why it could not be asked."""

    problem: str | None = None
    fix: str | None = None
    permitted: bool = True
    api_version: int | None = None
    capabilities: dict[str, int] = {}  # noqa: RUF012 -- a NamedTuple's default, never changed


def ask_device(path: str = _DEVICE, *, arch: Arch | None = "x86") -> Device:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, PermissionError):
            return Device(f"not permitted to open {path}{_owner(path)}", _opening(path, error), permitted=False)
        words = (error.strerror or str(error)).lower()
        needed = TO_HAVE_KVM.get(arch)
        return Device(f"{path}: {words}", needed.all if needed else None)
    try:
        version = ioctl(fd, Ioctl.KVM_GET_API_VERSION, 0)
        answers = {}
        for name, info in capabilities_of(arch or "x86").items():
            try:
                answers[name] = ioctl(fd, Ioctl.KVM_CHECK_EXTENSION, info.number)
            except OSError:
                continue
    except OSError as error:
        return Device(f"{path} does not answer as KVM does: {error.strerror}")
    finally:
        os.close(fd)
    return Device(api_version=version, capabilities=answers)


def _owner(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return ""
    return f" ({stat.filemode(info.st_mode)}, user {info.st_uid}, group {info.st_gid})"


def _opening(path: str, error: OSError) -> str:
    """What would let this user open it: the file's mode says whether a group can."""
    if error.errno == errno.EPERM:
        return "the container's device rules forbid it: start the container with --device /dev/kvm"
    try:
        info = os.stat(path)
    except OSError:
        return "ask root for access to it"
    if info.st_mode & 0o060 == 0o060:
        name = _group(info.st_gid)
        if info.st_gid in os.getgroups():
            return "an access list (getfacl) takes back what the group may do"
        return f"join the group that owns it: usermod -aG {name} {_user()}, then log in again"
    return (
        "no group may open it, so joining one does not help: as root, chgrp kvm /dev/kvm && chmod 660 /dev/kvm; "
        'and, for the next boot, a udev rule KERNEL=="kvm", GROUP="kvm", MODE="0660"'
    )


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def of_device(device: Device) -> Iterator[Finding]:
    if device.problem:
        yield Finding("kvm", "bad", device.problem, device.fix)
    elif device.api_version != API_VERSION:
        yield Finding("kvm", "bad", f"KVM's API has version {device.api_version}, not {API_VERSION}")
    else:
        yield Finding("kvm", "good", f"{_DEVICE} may be used, API version {device.api_version}")


def of_capabilities(device: Device) -> Iterator[Finding]:
    if not device.capabilities:
        return
    if not device.capabilities.get("KVM_CAP_INTERNAL_ERROR_DATA"):
        yield Finding("capabilities", "bad", "this KVM reports no words with an internal error")
    if not device.capabilities.get("KVM_CAP_EXIT_ON_EMULATION_FAILURE"):
        yield Finding(
            "capabilities",
            "note",
            "no KVM_CAP_EXIT_ON_EMULATION_FAILURE (Linux 5.14): failed emulations report no instruction bytes, and in "
            "user mode they stay silent #UD",
            "a newer kernel",
        )
    else:
        yield Finding("capabilities", "good", "failed emulations report their instruction bytes (Linux 5.14 and later)")
