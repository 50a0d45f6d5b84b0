"""riscv64: SCAUSE tells why KVM_RUN failed; KVM prints it beside the error (vcpu_exit.c: kvm_riscv_vcpu_exit).

kvm_riscv_vcpu_mmio_load and _store know loads and stores of integers. The rest, and until 7.0 a fetch, is EOPNOTSUPP;
an address that is not a multiple of the access's size is EIO; memory that the host does not give is EFAULT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from kvmwhy.abi.error_numbers import NAMES
from kvmwhy.abi.riscv64.causes import GUEST_FETCH, GUEST_LOAD, GUEST_STORE, cause, guest_address
from kvmwhy.diagnosis.answer import Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.mechanism.run_errno import instruction

if TYPE_CHECKING:
    from kvmwhy.record import At

_EOPNOTSUPP: Final = 95
_LOWEST_RAM: Final = 1 << 31  # where every VMM puts the RAM of a riscv64 guest (QEMU's virt, kvmtool, crosvm)
_NUMBERS: Final = {name: number for number, name in NAMES.items()}


class _Cause(NamedTuple):
    """An exit of which KVM made an error, as the kernel's log or a trace has it."""

    scause: int
    stval: int | None
    htval: int | None
    at: At | None

    @property
    def address(self) -> str:
        if self.stval is None or self.htval is None:
            return ""
        return f" at guest physical address {guest_address(self.stval, self.htval):#x}"


def by_cause(facts: Facts) -> Mechanism | None:
    """The answer where SCAUSE or the instruction is shown."""
    error = _error(facts)
    for seen in _causes(facts):
        proof = Proof(f"SCAUSE is {seen.scause}, {cause(seen.scause)}{seen.address}", seen.at)
        if seen.scause == GUEST_FETCH and error in {_EOPNOTSUPP, None}:
            text = f"The guest fetched an instruction{seen.address} where no RAM is, and KVM cannot emulate a fetch."
            return Mechanism("fetch-not-ram", text, "certain", (proof,))
        if seen.scause in {GUEST_LOAD, GUEST_STORE} and error == _EOPNOTSUPP:
            text = "KVM has no handler for the load or store by which the guest touched an address without RAM"
            return Mechanism("emulation-no-handler", f"{text}{seen.address}.", "certain", (proof,))
        if error is not None or _logged(facts):
            return Mechanism("run-errno", _failed(seen, error), "certain" if error else "likely", (proof,))
    return _by_instruction(facts) if error == _EOPNOTSUPP else None


def _failed(seen: _Cause, error: int | None) -> str:
    what = f"{cause(seen.scause)}{seen.address}"
    match error:
        case 5 if seen.scause in {GUEST_LOAD, GUEST_STORE}:
            return (
                f"KVM_RUN itself failed with EIO: a {what} that is not a multiple of the access's size, or a dead VM."
            )
        case 14:
            return f"KVM_RUN itself failed with EFAULT: the host could not give the page for the guest's {what}."
        case None:
            return f"KVM_RUN itself failed, with an error that is not shown, on the guest's {what}."
    return f"KVM_RUN itself failed with {NAMES.get(error, f'error {error}')} on the guest's {what}."


def _logged(facts: Facts) -> bool:
    return bool(facts.events("riscv-exit-error", "riscv-exit-state"))


def _causes(facts: Facts) -> Iterator[_Cause]:
    """As the kernel's log has it, then as a trace has it of the exit."""
    for event in facts.events("riscv-exit-error", "riscv-exit-state"):
        scause, stval, htval = (event.fields.get(name) for name in ("scause", "stval", "htval"))
        if isinstance(scause, int):
            yield _Cause(
                scause, stval if isinstance(stval, int) else None, htval if isinstance(htval, int) else None, event.at
            )
    if facts.failure.arch == "riscv64" and (exit_ := facts.failure.exit) is not None:
        yield _Cause(exit_.reason, None, None, facts.at("exit"))


def _error(facts: Facts) -> int | None:
    if facts.failure.errno is not None:
        return _NUMBERS.get(facts.failure.errno)
    for event in facts.events("riscv-exit-error", "riscv-exit-state"):
        if isinstance(error := event.fields.get("error"), int):
            return -error
    return None


def _by_instruction(facts: Facts) -> Mechanism | None:
    """Without SCAUSE: by the instruction, if it is shown, or by a program counter where no RAM of a guest is."""
    failure = facts.failure
    if failure.arch != "riscv64":
        return None
    code = failure.code.at_rip() if failure.code else b""
    if len(code) in {2, 4}:
        from kvmwhy.arch.riscv64.instruction import has_mmio_handler, kind_of

        word = int.from_bytes(code, "little")
        kind = kind_of(word)
        proof = Proof(f"the instruction is shown: {kind}", facts.at("code"))
        if has_mmio_handler(word) is False:
            text = (
                f"The guest touched an address without RAM ({kind}){instruction(facts)}, for which KVM has no handler."
            )
            return Mechanism("emulation-no-handler", text, "certain", (proof,))
        if kind == "jump":
            text = "The guest jumped to where no RAM is, and KVM cannot emulate a fetch."
            return Mechanism("fetch-not-ram", text, "likely", (proof,))
    pc = failure.cpu.get("pc") if failure.cpu else None
    if pc is not None and pc < _LOWEST_RAM:
        text = "The guest fetched an instruction from where no RAM is, and KVM cannot emulate a fetch."
        against = Proof("SCAUSE, which is not shown, would tell this from a load of a program at a low virtual address")
        proof = Proof(f"PC is {pc:#x}, and a guest's RAM begins at {_LOWEST_RAM:#x}", facts.at("pc"))
        return Mechanism("fetch-not-ram", text, "likely", (proof,), (against,))
    return None
