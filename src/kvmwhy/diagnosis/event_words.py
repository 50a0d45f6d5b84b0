"""What a line of another architecture's KVM says beyond its kind: registers by name, syndromes and codes in words."""

from __future__ import annotations

from kvmwhy.record import HostEvent

_EL2 = frozenset({8, 9})  # PSTATE.M: the guest runs a hypervisor of its own
_MODE = 0xF


def detail(event: HostEvent) -> str:
    """A clause to stand in brackets or after a comma; empty: nothing more can be said."""
    numbers = {name: value for name, value in event.fields.items() if isinstance(value, int)}
    match event.kind:
        case "sysreg-refused":
            return _sysreg(event, numbers)
        case "exception-class-unknown" | "abort-not-handled" | "hyp-panic" if "esr" in numbers:
            return _syndrome(event.kind, numbers)
        case "loongarch-exception-unknown" if "code" in numbers:
            from kvmwhy.abi.loongarch import exceptions

            return ", ".join((exceptions.exception(numbers["code"]), *_instruction("loongarch", numbers)))
        case "loongarch-csr-refused" if "register" in numbers:
            from kvmwhy.abi.loongarch import exceptions

            return f"{exceptions.csr(numbers['register'])}, {event.fields.get('access', 'access')}"
        case "mips-exception-unknown" if "code" in numbers:
            from kvmwhy.abi.mips.exceptions import exception

            return ", ".join((exception(numbers["code"]), *_instruction("mips", numbers)))
        case "ppc-unknown-trap" | "ppc-trap-in-host" if "trap" in numbers:
            from kvmwhy.abi.ppc64.traps import trap

            at = f", at {numbers['pc']:#x}" if "pc" in numbers else ""
            return f"{trap(numbers['trap']) or format(numbers['trap'], '#x')}{at}"
        case "ppc-emulation-failed":
            return ", ".join(_instruction("ppc64", numbers))
        case "loongarch-access-refused":
            return ", ".join(_instruction("loongarch", numbers))
        case "mips-access-refused" | "mips-instruction-refused":
            return ", ".join(_instruction("mips", numbers))
        case "s390-validity" if "code" in numbers:
            from kvmwhy.abi.s390x.intercepts import validity

            return f"reason {numbers['code']:#x}: {validity(numbers['code'])}"
    return ""


def _sysreg(event: HostEvent, numbers: dict[str, int]) -> str:
    from kvmwhy.abi.arm64.sysreg import SysReg

    parts = []
    if {"op0", "op1", "crn", "crm", "op2"} <= numbers.keys():
        parts.append(str(SysReg(*(numbers[name] for name in ("op0", "op1", "crn", "crm", "op2")))))
    elif {"op1", "crn", "crm", "op2"} <= numbers.keys():
        parts.append(f"AArch32 c{numbers['crn']}, {numbers['op1']}, c{numbers['crm']}, {numbers['op2']}")
    if access := event.fields.get("access"):
        parts.append(str(access))
    if numbers.get("pstate", 0) & _MODE in _EL2:
        parts.append("by a hypervisor in the guest")
    return ", ".join(parts)


def _syndrome(kind: str, numbers: dict[str, int]) -> str:
    from kvmwhy.abi.arm64 import esr

    number = numbers["esr"]
    if kind != "hyp-panic":
        return f"ESR_EL2 {number:#x}: {esr.describe(esr.plain(number))}"
    what = esr.taken(number)
    if esr.exception_class(number) == 0x21 and numbers.get("far") == numbers.get("pc"):
        what += "; EL2 jumped to code that is not mapped there"
    running = numbers.get("running_vcpu")
    who = (
        ""
        if running is None
        else ", while a guest's vCPU ran"
        if running
        else ", while no vCPU ran: the host itself trapped"
    )
    return f"ESR {number:#x}: {what}{who}"


def _instruction(arch: str, numbers: dict[str, int]) -> tuple[str, ...]:
    """The instruction's text, or its word; zero is a word like any other."""
    word = numbers.get("instruction")
    if word is None:
        return ()
    from kvmwhy.arch.disassembly import disassemble

    text = disassemble(arch, word.to_bytes(4, "little")) if word < 1 << 32 else None
    return (f"instruction {word:#010x}" + (f" ({text.text})" if text else ""),)
