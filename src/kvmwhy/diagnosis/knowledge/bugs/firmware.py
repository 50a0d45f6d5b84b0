"""Bugs of SeaBIOS, OVMF and option ROMs."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.predicate import Shape

BUGS: Final = (
    Bug(
        id="bug-seabios-endbr",
        title="SeaBIOS was built with ENDBR instructions, which KVM's emulator cannot do",
        origin="guest-firmware",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mode=("real16", "prot16", "prot32"), mnemonic=("endbr32", "endbr64")),
        what=(
            "Compilers of some distributions put ENDBR32 at the start of functions (-fcf-protection). CPUs run it as a"
            " NOP, but Intel CPUs without unrestricted guest have KVM emulate real mode, and its emulator stops there."
            " With Ubuntu 20.04 all guests on such hosts paused at start."
        ),
        fix=Fix(
            guest="Build code for real mode with -fcf-protection=none.",
            vmm="Use a SeaBIOS built with -fcf-protection=none.",
            host="Load kvm_intel with unrestricted_guest=1 and ept=1 if the CPU has them.",
        ),
        references=("https://bugs.launchpad.net/qemu/+bug/1866870",),
        example="suberror 1 at f3 0f 1e fb in big real mode, EIP=00007acf",
        confused_with="emulator-no-handler: other code that runs in real mode only on old CPUs.",
        corpus=("002-seabios-endbr-no-unrestricted-guest",),
    ),
    Bug(
        id="bug-seabios-rsm-igd",
        title="SeaBIOS's SMI handler returned through a damaged save area, with an Intel GPU passed through",
        origin="guest-firmware",
        family="smm",
        shape=Shape("internal-error", 1, mnemonic=("rsm",), smm=False, linear=((0xE_0000, 0xF_FFFF),)),
        what=(
            "GVT-d in legacy mode stopped at the RSM of SeaBIOS's handler with descriptor tables full of nonsense: what"
            " RSM loaded was not what the SMI had saved. Its cause was never found."
        ),
        fix=Fix(vmm="Boot with OVMF, or with SMM off (QEMU: -machine smm=off)."),
        references=("https://github.com/intel/gvt-linux/issues/158",),
        example="suberror 1 at 0f aa, EIP=000fd069, ESP=000a8000, GDT=10387cfe",
        confused_with="smm: RSM in firmware with SMM=1.",
        corpus=("038-gvtd-rsm-in-seabios",),
    ),
    Bug(
        id="bug-edk2-split-lock",
        same="split-lock",
        title="EDK2's exception handler exchanges descriptor-table registers across a cache line",
        origin="guest-firmware",
        family="split-lock",
        shape=Shape("exception-exit", exception=17, mnemonic=("xchg",)),
        what=(
            "SGDT and SIDT store ten bytes, which the handler then exchanged with XCHG, a locked access, at an address"
            " that can straddle a cache line. Where split locks are detected, the handler itself faults."
        ),
        fix=Fix(vmm="Use firmware built from EDK2 of 2020 or later.", host="Boot with split_lock_detect=off."),
        references=(
            "https://bugzilla.tianocore.org/show_bug.cgi?id=2150",
            "https://github.com/projectacrn/acrn-edk2/pull/12",
        ),
        example="KVM: exception 17 exit at xchg [rsp+…] in OVMF's exception handler",
        confused_with="split-lock: other code that does the same.",
    ),
)
