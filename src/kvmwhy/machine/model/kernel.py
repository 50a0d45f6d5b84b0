"""What the chosen kernel release does: its decisions and the layout of its records.

Versions are mainline ones. Stable kernels carry later changes back: 6.12.117 has some of 7.x.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from kvmwhy.abi.encode_page import ExitInfo, emulation_failure_words
from kvmwhy.abi.internal_error import FLAG_INSTRUCTION_BYTES, instruction_words
from kvmwhy.abi.uname import series_of
from kvmwhy.machine.errors import MachineError

Vendor = Literal["vmx", "svm", "pvm"]
Bench = Literal["silicon", "tcg", "bochs"]

OLDEST, NEWEST = (5, 4), (7, 3)
INVALID_GPA: Final = 0xFFFF_FFFF_FFFF_FFFF


class UnknownKernelError(MachineError, ValueError):
    """A kernel release that the model does not know."""

    def __init__(self, release: str) -> None:
        first, last = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        super().__init__(f"unknown kernel {release!r}", f"a release from {first} to {last}")
        self.release = release


class Kernel(NamedTuple):
    """A release, as what it does differently from others."""

    release: str
    version: tuple[int, int]

    @property
    def has_exit_capability(self) -> bool:
        """KVM_CAP_EXIT_ON_EMULATION_FAILURE: 5.14, 19238e75bd8e ("kvm: x86: Allow userspace to handle …")."""
        return self.version >= (5, 14)

    @property
    def conveys_exit(self) -> bool:
        """5.16: e615e355894e ("KVM: x86: On emulation failure, convey the exit reason, etc. …")."""
        return self.version >= (5, 16)

    @property
    def checks_cr0(self) -> bool:
        """6.5, and back in stable 6.1: 26a0652cb453, KVM_SET_SREGS looks at CR0. Debian's 5.10 does not."""
        return self.version >= (6, 1)

    @property
    def checks_efer(self) -> bool:
        """KVM_SET_SREGS looks at EFER: measured on 6.12 and 7.3, and not on 6.1."""
        return self.version >= (6, 12)

    @property
    def has_dummy_root(self) -> bool:
        """6.7: 0e3223d8d00a ("KVM: x86/mmu: Use dummy root, backed by zero page, for !visible guest roots")."""
        return self.version >= (6, 7)

    @property
    def checks_selector_first(self) -> bool:
        """5.18: a far RET looks the new CS up before it says that it cannot leave for an outer CPL."""
        return self.version >= (5, 18)

    @property
    def refuses_while_vectoring(self) -> bool:
        """6.14: 47ef3ef843c0 and 7bd7ff99110a, emulation during event delivery is suberror 3."""
        return self.version >= (6, 14)

    def loops_while_vectoring(self, vendor: Vendor) -> bool:
        """The check above, made before the emulator is entered: a known MMIO page is tried again for ever.

        VMX since 6.14 (handle_ept_misconfig), SVM since 7.0 (npf_interception). Measured on 6.18 and 7.3.
        """
        return self.version >= ((6, 14) if vendor == "vmx" else (7, 0))

    @property
    def stale_qualification(self) -> bool:
        """Before 6.9 (d7f0a00e438d) suberror 3 has the qualification of the last EPT violation."""
        return self.version < (6, 9)

    @property
    def wide_svm_codes(self) -> bool:
        """7.0: d7507a94a072, the exit code of SVM is taken as 64 bits."""
        return self.version >= (7, 0)


def kernel(release: str) -> Kernel:
    """Raises UnknownKernelError."""
    version = series_of(release)
    if version is None or not OLDEST <= version <= NEWEST:
        raise UnknownKernelError(release)
    return Kernel(release, version)


class Decision(NamedTuple):
    """``exits``: to userspace, with suberror 1. ``queues_ud``: #UD waits for the next entry."""

    exits: bool
    queues_ud: bool


def on_failure(*, enabled: bool, skip: bool, cpl: int, l2: bool = False, vendor: Vendor = "vmx") -> Decision:
    """handle_emulation_failure in arch/x86/kvm/x86.c, in its order.

    ``enabled`` is the VM's KVM_CAP_EXIT_ON_EMULATION_FAILURE. kvm_pvm exits at CPL 3 as well, measured
    on 6.18: its guests run at the host's CPL 3 anyway.
    """
    if enabled or skip:
        return Decision(exits=True, queues_ud=False)
    return Decision(exits=(cpl == 0 or vendor == "pvm") and not l2, queues_ud=True)


def failure_words(release: Kernel, info: ExitInfo, insn: bytes, *, by_request: bool) -> tuple[int, ...]:
    """The words of suberror 1. ``by_request``: the exit is due to the capability, or to SKIP."""
    if release.conveys_exit:
        return emulation_failure_words(info, insn=insn)
    if release.has_exit_capability and by_request and insn:
        return (FLAG_INSTRUCTION_BYTES, *instruction_words(insn))
    return ()


def delivery_words(release: Kernel, info: ExitInfo, gpa: int, stale: int) -> tuple[int, ...]:
    """The words of suberror 3.

    6.14 on: kvm_prepare_event_vectoring_exit (info2, reason, info1, GPA, CPU). Before, only VMX has it:
    IDT-vectoring info, reason, qualification, GPA for reason 49, and the CPU since 5.9.
    """
    if release.refuses_while_vectoring:
        return (info.info2, info.reason, info.info1, gpa, 0)
    qualification = stale if release.stale_qualification else info.info1
    known_page = (gpa,) if info.reason == 49 else ()
    cpu = (0,) if release.version >= (5, 9) else ()
    return (info.info2, info.reason, qualification, *known_page, *cpu)


def simultaneous_words(release: Kernel, info: ExitInfo) -> tuple[int, ...]:
    """The words of suberror 2, of VMX alone: IDT-vectoring info, exit interruption info, error code, CPU."""
    cpu = (0,) if release.version >= (5, 9) else ()
    return (info.info2, info.intr_info, info.error_code, *cpu)
