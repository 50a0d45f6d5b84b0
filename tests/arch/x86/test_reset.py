"""Reset state as the SDM's table "processor states following power-up, reset or INIT" has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.x86.mode import cpu_cpl, cpu_mode, linear_rip
from kvmwhy.arch.x86.reset_state import Loaded, Place, State, Tracked, cpu_signature_vendor, is_reset_state
from kvmwhy.record import Cpu, Segment

GENERAL = ("rax", "rbx", "rcx", "rsi", "rdi", "rbp", "rsp")
RESET = {
    **dict.fromkeys(GENERAL, 0),
    "rdx": 0x806EA,
    "rip": 0xFFF0,
    "rflags": 2,
    "cr0": 0x6000_0010,
    "cr3": 0,
    "cr4": 0,
    "efer": 0,
}
RESET_CS = Segment(0xF000, 0xFFFF_0000, 0xFFFF, 0x9B00)


def machine(cs: Segment = RESET_CS, **changed: int) -> Cpu:
    return Cpu(registers={**RESET, **changed}, segments={"cs": cs})


def test_reset_vector() -> None:
    """RIP, CS, GPRs, RFLAGS, CR0 and EFER at reset values: the guest has executed nothing."""
    found = is_reset_state(machine())
    assert found.pristine
    assert found.state == "reset"
    assert not found.differ


def test_edx_does_not_count() -> None:
    """EDX holds the CPU's signature after a reset, not 0."""
    assert is_reset_state(machine(rdx=0x663)).pristine


def test_running_firmware_is_not_pristine() -> None:
    """SeaBIOS in f000:xxxx with a loaded CS has run."""
    found = is_reset_state(machine(Segment(0xF000, 0xF_0000, 0xFFFF, 0x9B00), rip=0xE05B, rsp=0x7000))
    assert (found.pristine, found.state) == (False, "ran")
    assert {"rip", "cs", "gprs"} <= set(found.differ)


def test_firmware_still_in_the_reset_segment() -> None:
    """OVMF runs its first instructions in the reset segment: no mixture, and no guest that has been running."""
    assert is_reset_state(machine(rip=0xFF00)).state == State.FIRST


def test_seabios_after_its_first_jump() -> None:
    """`ea 5b e0 00 f0` at the reset vector leads to f000:e05b, with nothing else changed."""
    first = Segment(0xF000, 0xF_0000, 0xFFFF, 0x9B00)
    assert is_reset_state(machine(first, rip=0xE05B)).state == State.FIRST


@pytest.mark.parametrize("rights", [0x9B00, 0xF300])
def test_reset_in_the_old_form(rights: int) -> None:
    """KVM before 3.10 reset CS to base 000f0000 (vmx_vcpu_reset), and shows DPL 3 where it uses virtual-8086 mode."""
    old = is_reset_state(machine(Segment(0xF000, 0xF_0000, 0xFFFF, rights), rdx=0x623))
    assert (old.state, old.place) == (State.RESET, Place.OLD_RESET)
    assert old.pristine
    assert (old.loaded == Loaded.VM86) is (rights == 0xF300)


def test_rf_makes_no_difference() -> None:
    """The CPU sets RFLAGS.RF around faults by itself (SDM vol. 3B, 18.3.1.1)."""
    assert is_reset_state(machine(rflags=0x10002)).pristine


@pytest.mark.parametrize("left", [{"cr4": 0x3726F8}, {"cr2": 0xFFF0}, {"cr3": 0x7F00_0000}, {"efer": 0xD01}])
def test_half_reset(left: dict[str, int]) -> None:
    """INIT and RESET clear CR2, CR3, CR4 and EFER (SDM vol. 3A, table 10-1): what is left was loaded by somebody."""
    found = is_reset_state(machine(RESET_CS, **left))
    assert (found.state, found.tracked) == (State.HALF_RESET, Tracked.LEFT)
    assert found.never_ran
    startup = Segment(0x9F00, 0x9_F000, 0xFFFF, 0x9B00)
    assert is_reset_state(machine(startup, rip=0, **left)).state == State.HALF_RESET


ALL_ZERO = {name: Segment(0, 0, 0, 0) for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr", "gdt", "idt")}


@pytest.mark.parametrize("cr0", [0x8000_0001, 0x8001_0033])
def test_encrypted_registers_beside_tracked_ones(cr0: int) -> None:
    """SEV-ES: KVM tracks CR0, CR4 and EFER by intercepts, the save area reads as zero (svm_get_segment, sev.c)."""
    registers = {**RESET, "rdx": 0, "rip": 0, "cr0": cr0, "cr4": 0x668, "efer": 0x900}
    found = is_reset_state(Cpu(registers=registers, segments=ALL_ZERO))
    assert found.state == State.HIDDEN
    # A GHCB has put some of the general registers there.
    assert is_reset_state(Cpu(registers={**registers, "rax": 0x1A}, segments=ALL_ZERO)).state == State.HIDDEN


def test_a_trust_domain() -> None:
    """TDX: KVM reads no VMCS of the guest (vt_get_segment, vt_get_rflags in vmx/main.c); QEMU keeps EFER and P."""
    segments = {name: Segment(0, 0, 0, 0x8000) for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")}
    registers = {**dict.fromkeys(RESET, 0), "efer": 0xD01}
    assert is_reset_state(Cpu(registers=registers, segments=segments)).state == State.HIDDEN


def test_rflags_without_bit_1_never_ran() -> None:
    """Bit 1 reads as set on every CPU (SDM vol. 1, 3.4.3): a VMREAD failed, or nothing was ever loaded."""
    kernel = Segment(0x10, 0, 0xFFFF_FFFF, 0x00A0_9B00)
    assert is_reset_state(machine(kernel, rflags=0, rip=0xFFFF_FFFF_8100_0000)).state == State.UNREAD


def test_no_segment_present() -> None:
    """CS is always usable (SDM vol. 3C, 26.3.1.2): with paging on and no segment present, no guest ran so."""
    none = Segment(0x10, 0, 0xFFFF_FFFF, 0x10000)
    cpu = Cpu(
        registers={**RESET, "rip": 0x1000, "rsp": 0x8000, "rflags": 0x202, "cr0": 0x8005_0033},
        segments=dict.fromkeys(("es", "cs", "ss", "ds", "fs", "gs"), none),
    )
    assert is_reset_state(cpu).state == State.IMPOSSIBLE


def test_smi_entry() -> None:
    """SMM starts at SMBASE + 8000 with CS.base = SMBASE (SDM vol. 3C, 31.5.1)."""
    smm = Segment(0x3000, 0x3_0000, 0xFFFF_FFFF, 0x0080_9300)
    cpu = Cpu(registers={**RESET, "rip": 0x8000, "rsp": 0x7000, "cr0": 0x10}, segments={"cs": smm}, smm=True)
    assert is_reset_state(cpu).state == State.SMI_ENTRY


def test_a_dump_cut_behind_rip() -> None:
    """Only the first lines: all general registers zero, a signature in EDX, RIP=fff0. Nothing else looks so."""
    registers = {name: value for name, value in RESET.items() if name not in {"cr0", "cr3", "cr4", "efer"}}
    assert is_reset_state(Cpu(registers=registers)).state == State.RESET


def test_what_is_not_shown_is_unknown() -> None:
    """An unknown state is not "the guest had been running"."""
    assert is_reset_state(Cpu(registers={"rax": 1, "rbx": 2, "rcx": 3})).state == State.UNKNOWN
    assert is_reset_state(Cpu(registers={"cr0": 0x11})).state == State.UNKNOWN


def test_all_zero_is_no_cpu() -> None:
    """All registers and CR0 zero: hidden or never loaded, and certainly not the reset state."""
    cpu = Cpu(registers=dict.fromkeys(RESET, 0), segments={"cs": Segment(0, 0, 0, 0)})
    found = is_reset_state(cpu)
    assert (found.pristine, found.state) == (False, "zero")


def test_mixtures_are_named() -> None:
    """RIP at the reset vector with a kernel's CR3, or CS at reset with RIP beyond 64 KiB, is two states."""
    kept = is_reset_state(machine(cr0=0x8005_0033, cr3=0x7F00_0000))
    assert kept.state == "mixture"
    assert kept.differ == ("cr0", "cr3")
    assert is_reset_state(machine(rip=0xFFFF_FFFF)).state == "mixture"
    kernel = Segment(0x10, 0, 0xFFFF_FFFF, 0x00A0_9B00)
    assert is_reset_state(machine(kernel, cr0=0x8005_0033, efer=0xD01)).state == "mixture"


def test_a_processor_just_started() -> None:
    """After a SIPI with vector 0x9f: CS 9f00, base 9f000, RIP 0, the rest from INIT."""
    assert is_reset_state(machine(Segment(0x9F00, 0x9_F000, 0xFFFF, 0x9B00), rip=0)).state == "startup"


def test_init_keeps_the_cache_bits() -> None:
    """INIT leaves CR0.CD and NW alone, so CR0 may be 0x10."""
    assert is_reset_state(machine(cr0=0x10)).pristine


def test_signature() -> None:
    """Family 6 from Core on is Intel's, extended families 1 and up AMD's; family 15 (kvm64) is nobody's.

    Skylake-SP 50654, EPYC Rome 830f10, EPYC Genoa a10f11, Opteron G3 100f62, qemu32 663, kvm64 f61.
    """
    assert cpu_signature_vendor(0x50654) == "intel"
    assert cpu_signature_vendor(0x6FB) == "intel"
    for amd in (0x830F10, 0xA10F11, 0x100F62):
        assert cpu_signature_vendor(amd) == "amd"
    for nobody in (0, 0x663, 0xF61, 0x300F10):
        assert cpu_signature_vendor(nobody) is None


@given(
    st.dictionaries(
        st.sampled_from([*RESET, "r8"]), st.one_of(st.sampled_from([0, 2, 0xFFF0]), st.integers(0, 2**64 - 1))
    ),
    st.dictionaries(
        st.sampled_from(["cs", "ss"]),
        st.builds(Segment, *(st.integers(0, (1 << bits) - 1) for bits in (16, 64, 32, 24))),
    ),
)
def test_any_part_of_a_cpu(registers: dict[str, int], segments: dict[str, Segment]) -> None:
    """Whatever registers are missing, neither mode, CPL, linear RIP nor the reset verdict raises."""
    cpu = Cpu(registers=registers, segments=segments)
    found = is_reset_state(cpu)
    assert not set(found.parts) & set(found.differ)
    assert found.why
    assert cpu_cpl(cpu) in (None, 0, 1, 2, 3)
    mode = cpu_mode(cpu)
    if mode is not None:
        linear_rip(cpu, mode)
