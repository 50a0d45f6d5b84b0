"""One text with lines of several writers: what holds for their host holds for all of them."""

from __future__ import annotations

from kvmwhy.readers import read

POST = (
    "Kernel: 7.1.5-400.fc44.aarch64+16k\n"
    "`[ERROR krun_vmm::linux::vstate] Failure during vcpu run: Bad address (os error 14)`\n"
    "\n"
    "start.sh[244]: Running on fedora 44\n"
    "setup.sh[329]: Updating the runtime environment...\n"
    "[ERROR krun_vmm::linux::vstate] Failure during vcpu run: Bad address (os error 14)\n"
)


def test_the_architecture_is_the_hosts() -> None:
    """The kernel's name stands among one writer's lines, the failure among another's as well."""
    failures = read(POST.encode()).failures
    assert {failure.arch for failure in failures} == {"arm64"}
    assert {failure.errno for failure in failures} == {"EFAULT"}
