"""Signs from the code that KVM was asked to emulate, could not fetch, or whose event it could not deliver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvmwhy.diagnosis.knowledge.sign import EMULATION, Answer, Sign, Test, weights
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At

_FETCH: Final = ("fetch-not-ram",)
_DELIVERY: Final = ("event-delivery",)
_FIRMWARE: Final = ("bios", "option-rom", "flash", "reset-vector")
_VGA: Final = range(0xA_0000, 0xC_0000)
_SOME: Final = 4  # bytes of zeros that are no code
_EDK2_CODE: Final = 0x38
_EDK2_DATA: Final = 0x30
_MIB: Final = 1 << 20
_4_GIB: Final = 1 << 32
_RISCV_ACCESS_FAULTS: Final = (1, 5, 7)  # scause: of an instruction, a load, a store
_PPC_STORAGE: Final = (0x300, 0x380)  # data storage, data segment
_SAVE_AREAS: Final = ("xsave", "xrstor", "fxsave", "fxrstor", "cmpxchg16b", "cmpxchg8b")
_MEMORY_EXITS: Final = (48, 49, 0x400, 14)  # EPT violation and misconfiguration, nested page fault, page fault
_IVT_WORDS: Final = (0xF000_FF53, 0xFF53_F000, 0xF000_E2C3, 0xF000_FEA5, 0xF000_EF57, 0xF000_E987, 0xF000_F859)


def _in(*places: str) -> Test:
    def test(scene: Scene) -> Answer:
        code = scene.code
        empty = code is not None and len(code) >= _SOME and not any(code)
        return scene.rip_place in places and not empty and At(register="rip")

    return test


def _firmware_tables(scene: Scene) -> Answer:
    """SeaBIOS keeps its descriptor table in the F segment, OVMF's SEC phase in the flash."""
    cpu = scene.failure.cpu
    gdt = cpu.segments.get("gdt") if cpu else None
    if gdt is None or scene.rip_place in _FIRMWARE:
        return None
    return (0xE_0000 <= gdt.base < _MIB or 0xFFC0_0000 <= gdt.base < _4_GIB) and At(register="gdt")


def _edk2(scene: Scene) -> Answer:
    """The descriptor table that edk2's CPU driver loads, with paging on."""
    cpu = scene.failure.cpu
    if cpu is None or scene.mode != "long64" or scene.cpl not in {0, None}:
        return None
    selectors = {name: cpu.segments[name].selector for name in ("cs", "ss", "ds") if name in cpu.segments}
    return (
        selectors.get("cs") == _EDK2_CODE and set(selectors.values()) == {_EDK2_CODE, _EDK2_DATA} and At(register="cs")
    )


def _abort_for_no_ram(scene: Scene) -> Answer:
    """Of other architectures, by the guest's own syndrome register."""
    registers = scene.failure.cpu.registers if scene.failure.cpu else {}
    if "esr_el1" in registers:
        from kvmwhy.abi.arm64 import esr

        return esr.is_external_abort(esr.plain(registers["esr_el1"]))
    return registers.get("vscause") in _RISCV_ACCESS_FAULTS or registers.get("vector") in _PPC_STORAGE


def _fetched_though_readable(scene: Scene) -> Answer:
    """The VMM reads code where KVM a moment before found none: the slot was away."""
    code = scene.code
    if code is None or len(code) < 2 or scene.paging or code[:2] in {b"\0\0", b"\xff\xff"}:
        return None
    below = scene.linear is not None and (scene.linear < 0xA_0000 or 0xC_0000 <= scene.linear < 0xFEC0_0000)
    return below and At(register="rip")


def _ran_there(scene: Scene) -> Answer:
    """The vCPU came to an earlier exit, or KVM emulated, in the page of the instruction that was not fetched.

    A fault at that very instruction is none: so does the walk of the page tables fault that fetches it for the first time.
    """
    trace, rip, linear = scene.failure.trace, scene.rip, scene.linear
    if rip is None or linear is None or scene.failure.emulation is None:
        return None
    exits = [index for index, event in enumerate(trace) if event.name == "kvm_exit"]
    before = trace[: exits[-1]] if exits else trace[:-2]
    for index in range(len(before) - 1, -1, -1):
        fields = before[index].fields
        at = _linear(fields, rip, linear)
        ran = before[index].name == "kvm_exit" or (before[index].name == "kvm_emulate_insn" and fields.get("insn"))
        if at == linear and fields.get("exit_reason") in _MEMORY_EXITS:
            continue
        if ran and at is not None and at >> 12 == linear >> 12 and not fields.get("failed"):
            return At(event=index)
    return None


def _linear(fields: Mapping[str, int | str], rip: int, linear: int) -> int | None:
    """Where an event of the trace was: kvm_emulate_insn has CS's base, kvm_exit has not, and is then of base 0."""
    base, ip = fields.get("csbase"), fields.get("guest_rip", fields.get("rip"))
    if not isinstance(ip, int):
        return None
    if isinstance(base, int):
        return base + ip
    return ip if rip == linear else None


def _vga(scene: Scene) -> Answer:
    linear = scene.linear if scene.linear is not None else scene.rip
    return scene.started_at is None and (linear in _VGA or scene.gpa in _VGA) and At(register="rip")


def _zeros_in_a_hole(scene: Scene) -> Answer:
    code = scene.code
    empty = code is None or not any(code)
    return scene.paging is False and scene.linear is not None and scene.linear > _MIB and empty and At(register="rip")


def _jump_under_paging(scene: Scene) -> Answer:
    return (
        scene.paging is True
        and scene.mode in {"long64", "prot32", "compat32"}
        and _linear_high(scene)
        and At(register="rip")
    )


def _linear_high(scene: Scene) -> bool:
    return scene.linear is None or not _MIB > scene.linear >= 0xA_0000


def _low_flat(scene: Scene) -> Answer:
    low = scene.linear is not None and 0x500 <= scene.linear < 0xA_0000
    return low and scene.mode in {"prot32", "real16"} and At(register="rip")


def _simd(scene: Scene, cpl: int) -> Answer:
    name, encoding = scene.mnemonic, scene.encoding
    if name is None or scene.cpl != cpl or not scene.memory_operand:
        return None
    return name if encoding in {"vex", "evex"} or name.startswith(_SIMD) else None


_SIMD: Final = ("movap", "movup", "movdq", "movnt", "movss", "movlp", "movhp", "movq", "paddd", "pxor", "maskmov")


def _save_area(scene: Scene) -> Answer:
    """What a kernel does to its own data, where that may be: not on a device of the PC, nor at a low linear address."""
    name, access = scene.mnemonic, scene.facts.access
    wide = scene.mode in {"long64", None} and scene.cpl in {0, None}
    low = access is not None and access.gva is not None and access.gva < _4_GIB
    fixed = scene.gpa is not None and (scene.gpa < _MIB or 0xC000_0000 <= scene.gpa < _4_GIB)
    return name if name and name.startswith(_SAVE_AREAS) and wide and not (low or fixed) else None


def _bytes_differ(scene: Scene) -> Answer:
    """KVM's bytes are not those that the VMM read at RIP."""
    return scene.facts.foreign_bytes is True and At(register="rip")


def _vectoring_elsewhere(scene: Scene) -> Answer:
    """An event in delivery, and an exit that no delivery can cause."""
    reason = scene.exit_reason
    return reason is not None and reason not in _MEMORY_EXITS and scene.vectoring is not None and At(word=1)


def _past_small_ram(scene: Scene) -> Answer:
    """An address of the first 128 MiB, where every VM of common size has RAM."""
    if scene.gpa is None or scene.paging is not False:
        return None
    return _MIB <= scene.gpa < 128 * _MIB and At(word=3)


def _past_known_ram(scene: Scene) -> Answer:
    return scene.gpa is not None and scene.ram is not None and scene.ram <= scene.gpa < 0xC000_0000 and At(word=3)


SIGNS: Final = (
    Sign(
        "code-in-firmware",
        (*EMULATION, "fetch-not-ram", "exception-exit", "guest-loops", "event-delivery"),
        _in(*_FIRMWARE),
        "the code at RIP lies in the firmware",
        weights(guest_firmware=1.5, guest_code=-0.5),
        "0xc0000 to 0xfffff and the flash below 4 GiB hold SeaBIOS, OVMF and option ROMs.",
    ),
    Sign(
        "firmware-tables",
        (*EMULATION, "fetch-not-ram", "exception-exit", "event-delivery"),
        _firmware_tables,
        "the descriptor table is the firmware's: no operating system had started",
        weights(guest_firmware=0.5, outer_hypervisor=0.5, guest_code=-0.5),
        "SeaBIOS: GDT in the F segment; OVMF: in the flash.",
    ),
    Sign(
        "edk2-selectors",
        (*EMULATION, "fetch-not-ram", "event-delivery", "triple-fault"),
        _edk2,
        "the segments are those of UEFI firmware: it was running, or a loader that it had started",
        weights(guest_firmware=1.5),
        "edk2 UefiCpuPkg/CpuDxe/CpuGdt.c: code segment 0x38, data segments 0x30, a table of nine descriptors.",
    ),
    Sign(
        "real-mode-emulated",
        EMULATION,
        lambda scene: scene.mode == "real16" and not scene.smm and At(register="rip"),
        "KVM emulates real mode here: unrestricted guest is switched off, or the CPU or its hypervisor lacks it",
        weights(guest_firmware=1, cpu=0.5, outer_hypervisor=1, host_setup=0.5),
        "arch/x86/kvm/vmx/vmx.c: emulation_required; with unrestricted guest real mode runs by itself.",
    ),
    Sign(
        "save-area-in-emulated-memory",
        EMULATION,
        _save_area,
        "`{}` is what a kernel does to its data in RAM, and this memory is emulated access by access",
        weights(vmm=1.5, vm_configuration=1, guest_code=0.5),
        "FPU save areas and slab objects lie in what was onlined as RAM: CXL windows and such that QEMU models as a device.",
    ),
    Sign(
        "cxl-memory",
        None,
        lambda scene: "cxl" in scene.devices,
        "the VM has CXL memory, which QEMU emulates access by access",
        weights(vmm=2, vm_configuration=0.5),
        "hw/cxl: a fixed memory window is an I/O region; as system RAM it cannot run under KVM.",
    ),
    Sign(
        "user-simd",
        EMULATION,
        lambda scene: _simd(scene, 3),
        "a program of the guest uses `{}` on device memory",
        weights(guest_code=1, host_kernel=1),
        "memcpy and memset of C libraries on a mapped BAR.",
    ),
    Sign(
        "kernel-simd",
        EMULATION,
        lambda scene: _simd(scene, 0),
        "the guest's kernel uses `{}` on device memory",
        weights(guest_code=0.5, host_kernel=0.5),
        "Windows display drivers and boot loaders copy to video memory so.",
    ),
    Sign(
        "handler-came-later",
        EMULATION,
        lambda scene: (
            scene.verdict.since
            if scene.verdict and scene.verdict.since and scene.mechanism != "emulation-gives-up"
            else None
        ),
        "KVM emulates this instruction since {} only",
        weights(host_kernel=1.5),
        "arch/x86/kvm/emulate.c, dated by release.",
    ),
    Sign(
        "handler-exists",
        EMULATION,
        lambda scene: (
            bool(scene.verdict and scene.verdict.outcome == "handler" and not scene.verdict.since)
            and At(register="rip")
        ),
        "KVM's emulator has a handler for this instruction",
        weights(host_kernel=1, outer_hypervisor=0.5),
        "A handler as old as KVM's emulator that fails on a plain instruction did so for its surroundings.",
    ),
    Sign(
        "program-on-what-is-no-ram",
        ("undef-injected",),
        lambda scene: bool(
            scene.failure.silent
            and scene.memory_operand
            and scene.verdict
            and scene.verdict.outcome in {"no-handler", "gives-up"}
        ),
        "a program of the guest uses, on what is no RAM, an instruction that KVM's emulator cannot carry out",
        weights(guest_code=2.5, vmm=1, host_kernel=-0.5),
        "arch/x86/kvm/x86.c: handle_emulation_failure gives #UD to code outside ring 0, and tells nobody.",
    ),
    Sign(
        "exception-for-what-is-no-ram",
        ("undef-injected",),
        _abort_for_no_ram,
        "the exception stands for an access where no RAM is",
        weights(guest_code=2.5, vm_configuration=1, host_kernel=-1.5),
        "arch/arm64/kvm/mmu.c and mmio.c: kvm_inject_sea; arch/riscv/kvm/vcpu_insn.c; arch/powerpc/kvm: the guest is told, and"
        " who sent it there is the guest, or who left the place empty.",
    ),
    Sign(
        "handler-never",
        ("emulation-no-handler",),
        lambda scene: bool(scene.verdict and scene.verdict.never) and At(register="rip"),
        "no kernel emulates this instruction",
        weights(guest_code=0.5, vmm=0.5, host_kernel=-0.5),
        "Then whoever let the guest touch that address, or the guest, is to be mended.",
    ),
    Sign(
        "rsm",
        EMULATION,
        lambda scene: scene.mnemonic == "rsm" and At(register="rip"),
        "the return from system-management mode failed: what it loads is not what was saved",
        weights(guest_firmware=0.5, host_kernel=0.5, guest_code=0.5),
        "arch/x86/kvm/smm.c: emulator_leave_smm refuses a damaged save area.",
    ),
    Sign(
        "walk-meets-reserved-bits",
        EMULATION,
        lambda scene: scene.walk_reserved,
        "KVM's own walk of the guest's page tables meets a reserved bit, though the CPU walked them",
        weights(vm_configuration=1, guest_code=1),
        "The CPUID that the VMM gives decides which bits are reserved: 1 GiB pages, physical width.",
    ),
    Sign(
        "bytes-differ",
        EMULATION,
        _bytes_differ,
        "KVM read other bytes at RIP than the VMM",
        weights(outer_hypervisor=1.5, host_kernel=0.5),
        "A hypervisor below that hands on stale bytes or another address; a slot that changed in between.",
    ),
    Sign(
        "arm-no-syndrome",
        EMULATION,
        lambda scene: scene.arch == "arm64" or scene.errno == "ENOSYS" or scene.event("access-without-syndrome"),
        "Arm gives KVM no instruction to emulate for such an access",
        weights(guest_code=1.5, vmm=0.5),
        "arch/arm64/kvm/mmio.c: loads and stores with write-back, pairs and SIMD have no syndrome.",
    ),
    Sign(
        "arm-device-memory-not-mapped",
        EMULATION,
        lambda scene: scene.speaker not in {None, "qemu"} and (scene.arch == "arm64" or scene.errno == "ENOSYS"),
        "the VMM may leave parts of a device's memory without a slot",
        weights(vmm=1),
        "QEMU maps BARs that other VMMs leave to exits.",
    ),
    Sign(
        "fetch-though-readable",
        _FETCH,
        _fetched_though_readable,
        "the VMM reads ordinary code where KVM found no memory a moment before: the slot had been taken away",
        weights(vmm_race=3, vmm=0.5),
        "KVM_SET_USER_MEMORY_REGION deletes before it adds; firmware's changes to the BIOS area make such gaps.",
    ),
    Sign(
        "code-in-vga-window",
        _FETCH,
        _vga,
        "no code can run in the legacy VGA window: the guest jumped, or fell, out of its own",
        weights(guest_firmware=1, guest_code=1),
        "Application processors start below 640 KiB; what falls out of their code ends at 0xa0000 or 0xb0000.",
    ),
    Sign(
        "ran-there-before",
        _FETCH,
        _ran_there,
        "the trace has the vCPU running in that very page a moment before: the memory under it went away",
        weights(vmm_race=3, host_kernel=0.5, guest_code=-1, guest_firmware=-1),
        "A jump into a hole fails at the first instruction there. virt/kvm/kvm_main.c: kvm_set_memslot.",
    ),
    Sign(
        "start-up-vector-astray",
        _FETCH,
        lambda scene: scene.started_at,
        "a start-up IPI sent the processor to {}, where no RAM is",
        weights(guest_firmware=1.5, guest_code=1.5, host_kernel=-0.5),
        "The vector of the IPI is the number of the page; who sends it chooses it (SDM vol. 3A, 11.4.4).",
    ),
    Sign(
        "several-vcpus-one-fetch",
        _FETCH,
        lambda scene: scene.vcpus > 1,
        "several vCPUs failed in the same place",
        weights(host_kernel=1, vmm_race=1, guest_firmware=0.5),
        "One wild jump is one vCPU's; the same on several is memory that went away, or their common start-up code.",
    ),
    Sign(
        "more-than-255-vcpus",
        _FETCH,
        lambda scene: str(scene.cpu_number) if scene.mode == "long64" and scene.cpu_number is not None else None,
        "processor {} of the guest is meant",
        weights(guest_firmware=1.5, vm_configuration=0.5),
        "OVMF's start-up code counts processors; more than 255 need x2APIC everywhere.",
    ),
    Sign(
        "jump-into-a-hole",
        _FETCH,
        _zeros_in_a_hole,
        "without paging the guest jumped where there is no RAM",
        weights(guest_code=1),
        "Boot loaders and small kernels that call through a wrong pointer.",
    ),
    Sign(
        "interrupt-vector-as-address",
        _FETCH,
        lambda scene: scene.rip in _IVT_WORDS and At(register="rip"),
        "RIP is an entry of the real-mode interrupt table, used as a flat address",
        weights(guest_code=1, guest_firmware=0.5),
        "f000:ff53 is the BIOS's dummy handler.",
    ),
    Sign(
        "jump-under-paging",
        _FETCH,
        _jump_under_paging,
        "the guest's own page tables lead there",
        weights(guest_code=1),
        "With paging on, an operating system was running: its jump or its tables are wrong.",
    ),
    Sign(
        "low-flat-code",
        _FETCH,
        _low_flat,
        "RIP lies in conventional memory, which every PC has",
        weights(guest_code=0.5, host_kernel=0.5, vmm_race=0.5),
        "Either the slot is missing for a moment, or RIP is not what it seems.",
    ),
    Sign(
        "event-with-a-foreign-exit",
        _DELIVERY,
        _vectoring_elsewhere,
        "an event was still marked as being delivered on an exit that no delivery can cause",
        weights(cpu=2.5, outer_hypervisor=0.5),
        "SDM vol. 3C, 28.2.4: IDT-vectoring information is valid only for exits during the delivery.",
    ),
    Sign(
        "tables-above-4-gib",
        _DELIVERY,
        lambda scene: scene.gpa is not None and scene.gpa >= _4_GIB and At(word=3),
        "the address lies above 4 GiB, in memory that is emulated or missing",
        weights(vmm=1.5, vm_configuration=0.5, guest_code=0.5),
        "Hot-plugged and CXL memory that a kernel took for RAM.",
    ),
    Sign(
        "beyond-small-ram",
        _DELIVERY,
        _past_small_ram,
        "the stack or table lies in the first 128 MiB, yet there is no RAM: the VM has very little",
        weights(vm_configuration=2.5),
        "QEMU's -m counts MiB when no unit is given.",
    ),
    Sign(
        "beyond-known-ram",
        (*_DELIVERY, "fetch-not-ram", "not-this"),
        _past_known_ram,
        "the address lies past the end of the VM's RAM",
        weights(vm_configuration=2, guest_code=0.5),
        "The command line gives the size.",
    ),
    Sign(
        "guest-points-there",
        _DELIVERY,
        lambda scene: (
            scene.facts.delivery.structure
            if scene.facts.delivery and scene.facts.delivery.gva == scene.gpa and scene.state == "ran"
            else None
        ),
        "the registers that the guest itself loaded put the {} at that very address",
        weights(guest_code=1, guest_firmware=0.5),
        "LIDT, LGDT, LTR and RSP are the guest's; the VMM and the host have no part in where they lead.",
    ),
    Sign(
        "stack-in-the-hole",
        _DELIVERY,
        lambda scene: scene.gpa is not None and 0xA_0000 <= scene.gpa < _MIB and At(word=3),
        "the stack or table lies between 640 KiB and 1 MiB, where no operating system may put it",
        weights(guest_code=2),
        "The PC's legacy hole.",
    ),
    Sign(
        "table-in-low-ram",
        _DELIVERY,
        lambda scene: scene.gpa is not None and scene.gpa < 0xA_0000 and At(word=3),
        "the address lies in conventional memory, which every PC has",
        weights(host_kernel=0.5, vmm_race=1, vmm=0.5),
        "Then the slot or KVM's table for it is at fault, for a moment or for good.",
    ),
)
