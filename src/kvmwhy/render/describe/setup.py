"""A refused set-up in words: what the MSR is, what the firmware's code means, which rule the registers break."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.msr import describe_msr
from kvmwhy.abi.x86.sev import describe_code
from kvmwhy.abi.x86.tdx import describe_status
from kvmwhy.arch.x86.sregs_check import bits_by_feature, check_sregs
from kvmwhy.record import Failure, Setup

_PAGE: Final = 4096
_MOST_PAGES: Final = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES, virt/kvm/kvm_main.c


def set_up(failure: Failure) -> tuple[str, ...]:
    """What the numbers tell; what call and errno say is the mechanism's own sentence."""
    setup = failure.setup
    if setup is None:
        return ()
    sentences = [*_msr(setup), *_firmware(setup), *_memory(setup, failure.errno), *_registers(failure)]
    return tuple(sentences)


def _msr(setup: Setup) -> list[str]:
    if setup.msr is None:
        return []
    msr = describe_msr(setup.msr)
    if msr is None:
        return [f"MSR {setup.msr:#x} is none that KVM or its VMMs are known to use"]
    value = f", to which {setup.value:#x} was to be written" if setup.value is not None else ""
    sentences = [f"MSR {setup.msr:#x} is {msr.name}: {msr.what}{value}", f"it is offered by {msr.offered_by}"]
    if msr.features:
        hidden = " or ".join(f"-{feature}" for feature in msr.features)
        sentences.append(
            f"a guest without its feature has none of it: add {hidden} to the CPU model (-cpu host,-feature)"
        )
    if "msrs" in setup.fields:
        sentences.append(f"these were refused: {setup.fields['msrs']}")
    return sentences


def _firmware(setup: Setup) -> list[str]:
    sentences = []
    if setup.firmware_error:
        sentences.append(f"the SEV firmware's code {setup.firmware_error:#x} is {describe_code(setup.firmware_error)}")
    elif setup.firmware_error == 0:
        sentences.append("the SEV firmware's code is 0: KVM refused the request itself, the firmware did not")
    if setup.status is not None:
        sentences.append(f"the status {setup.status:#x} is {describe_status(setup.status)}")
    return sentences


def _memory(setup: Setup, errno: str | None) -> list[str]:
    start, size = setup.fields.get("start"), setup.fields.get("size")
    if "MEMORY_REGION" not in setup.call or not isinstance(start, int) or not isinstance(size, int):
        return []
    sentences = []
    if (start | size) & (_PAGE - 1):
        sentences.append("start or size is no multiple of a page")
    if size >> 12 > _MOST_PAGES:
        sentences.append(f"a slot holds at most {_MOST_PAGES} pages, just under 8 TiB; this one has {size >> 12}")
    if start + size > 1 << 52:
        sentences.append("the region ends above the highest physical address that a CPU can have")
    if not sentences and errno == "EINVAL":
        sentences.append(
            "alignment and size are in order: the slot's number, its flags, or its memory in the VMM is not"
        )
    return sentences


def _registers(failure: Failure) -> list[str]:
    if failure.cpu is None:
        return []
    violations = check_sregs(failure.cpu)
    if violations:
        return [f"KVM_SET_SREGS refuses these registers: {violation.text}" for violation in violations]
    bits = bits_by_feature(failure.cpu)
    if not bits:
        return []
    shown = ", ".join(f"{register.upper()}.{bit} ({feature})" for register, bit, feature in bits)
    return [
        f"the registers break no rule by themselves; each of these bits needs a feature in the guest's CPUID: {shown}"
    ]
