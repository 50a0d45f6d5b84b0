"""An errno is found however it is spelled, and what is none is not taken for one."""

from __future__ import annotations

import pytest

from kvmwhy.readers.errno_spelled import find_errno


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("EBUSY", "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy"),
        ("EBUSY", "VmFd(Error(16))"),
        ("EBUSY", "Os { code: 16, kind: ResourceBusy }"),
        ("EINVAL", "Failed to set special registers: Invalid argument (os error 22)"),
        ("EINVAL", "SNP_LAUNCH_START ret=-22 fw_error=0"),
        ("EINVAL", "ioctl KVM_ENABLE_CAP failed: -22"),
        ("EIO", "SEV-SNP: failed to INIT rc -5, error 0x3"),
        ("EEXIST", "KVM_CREATE_VCPU failed: -EEXIST"),
        ("EEXIST", "errno = 17"),
        ("EACCES", "open /dev/kvm: permission denied"),
        ("EACCES", "Could not access KVM kernel module: 权限不够"),
        ("EBUSY", "KVM_CREATE_VM: Das Gerät oder die Ressource ist belegt"),
        ("E2BIG", "kvm_init_vcpu failed: Argument list too long"),
    ],
)
def test_an_errno_is_found(name: str, text: str) -> None:
    """C, Rust, Go, strace, and strerror of other languages."""
    found = find_errno(text)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "text", ["ret=-1", "exiting with error 1", "error 0x3", "slot=16", "Efault", "E2E test", "err 500"]
)
def test_other_numbers_are_no_errno(text: str) -> None:
    """-1 is what every failing ioctl returns."""
    assert find_errno(text) is None
