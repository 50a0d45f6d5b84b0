"""VMMs and programs of their kind: what each never prints of a failure, and whether its process lives on.

``never_prints`` names fields of the record. ``lives_on`` decides how to get them: from the process, which is still
there (``attach``), or by watching the next run (``watch``); ``None`` where the program around it decides.
Facts from the VMMs' sources; ``readers.vmm_messages.forms`` has the lines and where they are printed.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Vmm(Struct, frozen=True):
    """A VMM, by the name that ``Source.vmm`` has."""

    name: str
    never_prints: tuple[str, ...] = ()
    lives_on: bool | None = None


_NO_WORDS: Final = ("data", "registers")
_NOTHING: Final = ("suberror", *_NO_WORDS)

VMMS: Final = {
    vmm.name: vmm
    for vmm in (
        Vmm("qemu", (), lives_on=True),  # the VM is paused, unless -action panic or -no-shutdown say otherwise
        Vmm("cloud-hypervisor", _NOTHING, lives_on=False),
        Vmm("crosvm", _NOTHING, lives_on=True),  # it goes on to run a vCPU that KVM gave up on
        Vmm("firecracker", _NOTHING, lives_on=False),  # a fork prints the suberror
        Vmm("libkrun", _NOTHING, lives_on=False),
        Vmm("dragonball", _NOTHING, lives_on=False),
        Vmm("stratovirt", _NOTHING, lives_on=True),  # the vCPU's thread ends, the process does not
        Vmm("openvmm", _NO_WORDS, lives_on=True),  # the partition is halted
        Vmm("hyperlight", _NOTHING),  # a library: the program that called it decides
        Vmm("uhyve", ("suberror", "data"), lives_on=False),
        Vmm("kvmtool", ("suberror", "data"), lives_on=False),
        Vmm("solo5", _NO_WORDS, lives_on=False),
        Vmm("dosemu2", _NO_WORDS, lives_on=False),
        Vmm("gvisor", ("data",), lives_on=False),
        Vmm("km", ("data",), lives_on=False),
        Vmm("gokvm", ("hardware_error", *_NOTHING)),  # the goroutine of the vCPU ends; others may go on
        Vmm("enarx", _NOTHING, lives_on=False),
        Vmm("virtualbox", (), lives_on=True),  # its own interpreter takes over
        Vmm("nanvix", ("suberror", "data"), lives_on=False),
        Vmm("tinykvm", ("suberror", "hardware_error", "data")),  # a library
        Vmm("vmm-reference", _NOTHING, lives_on=False),
        Vmm("gem5", ("data",), lives_on=False),
        Vmm("opendcdiag", ("data",), lives_on=False),
        Vmm("kvm selftests", _NO_WORDS, lives_on=False),
        Vmm("kvm-unit-tests", (), lives_on=None),  # speaks of its own exceptions, from inside
    )
}
