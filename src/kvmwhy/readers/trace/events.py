"""One event of a trace, whatever form the trace had.

Fields have the tracepoint's own names (``events/kvm/*/format``), and are read only when they are asked for: of
millions of events a story needs sixteen.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

Fields = dict[str, int | str]

# Events that are part of a vCPU's story. The others of KVM are of the host's own housekeeping.
STORY: Final = frozenset({
    "handle_mmio_page_fault",
    "kvm_apic",
    "kvm_cpuid",
    "kvm_cr",
    "kvm_emulate_insn",
    "kvm_entry",
    "kvm_exit",
    "kvm_fast_mmio",
    "kvm_guest_enter",  # ppc64: HV's kvm_entry
    "kvm_guest_exit",
    "kvm_guest_fault",  # arm64
    "kvm_hypercall",
    "kvm_inj_exception",
    "kvm_inj_virq",
    "kvm_mmio",
    "kvm_mmio_nisv",  # arm64
    "kvm_mmu_pagetable_walk",
    "kvm_mmu_walker_error",
    "kvm_msr",
    "kvm_nested_intr_vmexit",
    "kvm_nested_vmenter",
    "kvm_nested_vmenter_failed",
    "kvm_nested_vmexit",
    "kvm_nested_vmexit_inject",
    "kvm_nested_vmrun",  # the older name of kvm_nested_vmenter
    "kvm_page_fault",
    "kvm_pio",
    "kvm_s390_intercept_instruction",
    "kvm_s390_intercept_prog",
    "kvm_s390_intercept_validity",
    "kvm_s390_sie_enter",
    "kvm_s390_sie_exit",
    "kvm_smm_transition",
    "kvm_sys_access",  # arm64
    "kvm_track_tsc",  # a vCPU is created: what this thread did before was another's
    "kvm_userspace_exit",
    "kvmppc_run_vcpu_exit",  # ppc64: HV's return to userspace
    "vcpu_match_mmio",
})  # fmt: skip


class Reader(Protocol):
    """Who knows how to read the raw form of an event."""

    def decode(self, raw: Any, /) -> Fields: ...
    def number(self, raw: Any, name: str, /) -> int | None:
        """One field, without the others; None if it is not there or no number."""


class TraceEvent:
    """``raw`` is whatever ``reader`` reads; ``place`` is where it was found, for a report."""

    __slots__ = ("_fields", "cpu", "name", "pid", "place", "raw", "reader", "time", "vcpu")

    def __init__(  # noqa: PLR0917 -- made by the million
        self,
        name: str,
        pid: int,
        raw: Any,
        reader: Reader,
        vcpu: int | None = None,
        cpu: int | None = None,
        time: float | None = None,
        place: int = 0,
    ) -> None:
        self.name = name
        self.pid = pid  # of the thread: what ftrace and the scheduler call a PID
        self.raw = raw
        self.reader = reader
        self.vcpu = vcpu  # where the event itself names it
        self.cpu = cpu
        self.time = time  # seconds on the trace's clock
        self.place = place
        self._fields: Fields | None = None

    @property
    def fields(self) -> Fields:
        if self._fields is None:
            self._fields = self.reader.decode(self.raw)
        return self._fields

    def extend(self, raw: Any) -> None:
        """Take a longer raw form: the line went on."""
        self.raw = raw
        self._fields = None

    def number(self, name: str) -> int | None:
        if self._fields is None:
            return self.reader.number(self.raw, name)
        value = self._fields.get(name)
        return value if isinstance(value, int) else None

    def __repr__(self) -> str:
        return f"<{self.name} pid {self.pid} vcpu {self.vcpu} {self.time} {self.fields}>"
