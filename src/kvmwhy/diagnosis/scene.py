"""What the signs of an origin ask about: one failure's facts, and what stands around it, by short names.

All of it is read off ``Facts`` and ``Host``; nothing is concluded here but what a name states. Where a fact was
not shown the value is ``None``, or the set lacks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from kvmwhy.arch.x86.physical_map import what_lives_at
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.knowledge.kernel_version import Release, release_of
from kvmwhy.diagnosis.knowledge.predicate import basic_reason, is_about_attributes
from kvmwhy.diagnosis.phrasing import logs_the_guest
from kvmwhy.record import Failure, HostEvent

if TYPE_CHECKING:
    from kvmwhy.emulator.verdict import Verdict

# VMMs without firmware that fill the vCPU's first state themselves, and few hosts have seen.
_YOUNG: Final = frozenset(
    (
        *("km", "uhyve", "hermit", "ukvm", "solo5", "gokvm", "hyperlight", "enarx"),
        *("nanvix", "libkrun", "gvisor", "stratovirt", "dragonball", "openvmm"),
    )
)
_EFER_LME: Final = 1 << 8
_MEMORY_FAULT: Final = 39  # KVM_EXIT_MEMORY_FAULT
_MOVES: Final = frozenset({"kvm_entry", "kvm_exit", "kvm_emulate_insn"})  # after which RIP may be another
_DEVICES: Final = (  # a slug, and what a driver's or an object's name holds
    ("vfio", ("vfio", "hostdev")),
    ("cxl", ("cxl",)),
    ("gpu-blob", ("blob", "venus", "virtio-gpu-rutabaga")),
    ("virtio-gpu", ("virtio-gpu", "virtio-vga")),
    ("virtiofs", ("vhost-user-fs", "virtiofs", "virtio-fs")),
    ("numa-bound", ("numa-bound",)),
    ("cpu-pm", ("cpu-pm",)),
    ("dev-shm", ("/dev/shm", "memory-backend-shm")),  # noqa: S108  a name, not a file that is opened
    ("hugetlb", ("hugetlb", "hugepages", "/dev/huge", "mem-prealloc")),
    ("memory-file", ("memory-backend-file",)),
    ("balloon", ("balloon",)),
    ("free-page-reporting", ("balloon-report",)),
)
_MACHINES: Final = (  # DMI's vendor and product, and whose they are
    ("VMware", "VMware"),
    ("Microsoft Corporation Virtual", "Hyper-V"),
    ("VirtualBox", "VirtualBox"),
    ("innotek", "VirtualBox"),
    ("QEMU", "QEMU"),
    ("Cloud Hypervisor", "Cloud Hypervisor"),
    ("Google Compute Engine", "Google Compute Engine"),
    ("Amazon EC2", "Amazon EC2"),
    ("dummy-virt", "QEMU"),
    ("Xen", "Xen"),
    ("Parallels", "Parallels"),
    ("OpenStack", "OpenStack"),
)
_EVENT_DEVICES: Final = (("vfio", "vfio"), ("vfio", "device-reset"))


class Scene(Struct, frozen=True):
    """See the module."""

    mechanism: str
    facts: Facts
    failure: Failure
    arch: str | None
    vendor: str | None
    errno: str | None
    # a refused set-up
    call: str | None
    msr: int | None
    value: int | None
    register: str | None
    firmware_error: int | None
    status: int | None
    detail: str | None
    # around the failure
    events: tuple[HostEvent, ...]
    speaker: str | None
    kernel: str | None
    release: Release | None
    outer: str | None
    dmi: str | None
    is_physical: bool  # the host said so
    rivals: tuple[str, ...]
    devices: frozenset[str]
    confidential: str | None
    ram: int | None
    # the vCPU
    state: str | None
    rip: int | None
    linear: int | None
    rip_place: str | None
    paging: bool | None
    mode: str | None
    cpl: int | None
    smm: bool | None
    # the words and the code
    exit_reason: int | None
    vectoring: int | None
    gpa: int | None
    mnemonic: str | None
    encoding: str | None
    memory_operand: bool
    verdict: Verdict | None
    broken: tuple[str, ...]
    kept: int
    undecided: int

    def event(self, *kinds: str) -> HostEvent | None:
        """The first event of one of these kinds."""
        for event in self.events:  # asked by many signs of records that mostly have none
            if event.kind in kinds:
                return event
        return None

    @property
    def started_at(self) -> str | None:
        """The page that a start-up IPI named, if the processor has executed nothing since."""
        at = self.linear
        if at is None or self.rip != 0 or self.mode != "real16" or at & 0xFFF or not 0 < at < 1 << 20:
            return None
        if self.failure.trace:
            return hex(at) if self._placed_from_outside else None
        return hex(at) if self.state in {"startup", "half-reset", None} else None

    @property
    def _placed_from_outside(self) -> bool:
        """In the trace the vCPU is entered with IP 0, where it had not left, and KVM had emulated no jump."""
        events = [event for event in self.failure.trace if event.name in _MOVES]
        for index in range(len(events) - 1, -1, -1):
            if events[index].name == "kvm_entry" and events[index].fields.get("rip") == 0:
                before = events[index - 1] if index else None
                return before is None or (before.name == "kvm_exit" and before.fields.get("guest_rip") != 0)
        return False

    @property
    def logs_the_guest(self) -> bool:
        return logs_the_guest(self.failure)

    @property
    def is_plain_memory_fault(self) -> bool:
        """KVM_EXIT_MEMORY_FAULT without any flag, of a guest of which nothing shows that it is confidential."""
        is_fault = self.failure.exit_reason == _MEMORY_FAULT and self.failure.kind == "other"
        return is_fault and self.failure.exit_fields.get("flags") == 0 and not is_about_attributes(self.failure)

    @property
    def spoken(self) -> str:
        """What another hypervisor said of itself."""
        return " ".join(map(str, self.failure.speaker.fields.values())) if self.failure.speaker else ""

    @property
    def young_vmm(self) -> str | None:
        if self.speaker in _YOUNG:
            return self.speaker
        # QEMU prints no registers of a guest that shut down: a program of its own does. A trace's are the kernel's.
        failure = self.failure
        alone = self.speaker is None and failure.kind == "shutdown" and failure.cpu is not None and not failure.trace
        return "this VMM" if alone else None

    @property
    def code(self) -> bytes | None:
        """What the VMM read at RIP, after the failure."""
        code = self.failure.code
        return None if code is None or code.rip_at is None else code.at_rip()

    @property
    def reported_bytes(self) -> bytes:
        """What KVM itself had fetched."""
        return (self.facts.reading.failure.insn if self.facts.reading else None) or b""

    @property
    def all_rules_kept(self) -> bool:
        return self.kept >= _MANY_RULES and not self.broken

    @property
    def shadow_shown(self) -> str | None:
        """An interrupt shadow in a dump of the control block of a refused entry."""
        control = self.failure.control
        if control is None or self.failure.kind != "entry-failure":
            return None
        value = next((control.fields[name] for name in _INTERRUPTIBILITY if name in control.fields), 0)
        return f"interruptibility {value:#x}" if value & 3 else None

    @property
    def hidden_state(self) -> bool:
        """Tracked registers are alive, and what the control block keeps reads as zero: an encrypted guest."""
        return self.state == "hidden"

    @property
    def left_over(self) -> str | None:
        """A control register that keeps bits although the rest is as after a reset."""
        reset = self.facts.reset
        if self.state != "half-reset" or reset is None:
            return None
        return next(
            (name.upper() for name in ("cr4", "cr3", "efer", "cr0") if name in reset.differ), "a control register"
        )

    @property
    def runs_as_vm86(self) -> bool:
        """Segments as virtual-8086 mode wants them: KVM has no unrestricted guest to use."""
        return bool(self.facts.reset and self.facts.reset.loaded == "vm86")

    @property
    def vcpus(self) -> int:
        """How many vCPUs failed alike in this evidence, as far as it says."""
        return max(self.failure.source.alike, self.failure.source.count)

    @property
    def cpu_number(self) -> int | None:
        """The number that OVMF's start-up code keeps in RCX, if it passes what an xAPIC can name."""
        cpu = self.failure.cpu
        count = cpu.get("rcx") if cpu else None
        return count if count is not None and 0x100 <= count < 0x400 and self.rip_place == "vga-mono" else None

    @property
    def walk_reserved(self) -> bool:
        """KVM's own walk of the guest's page tables ended in present and reserved."""
        return self.facts.walk_error is not None and self.facts.walk_error & 9 == 9

    @property
    def migrated(self) -> bool:
        return "state-from-elsewhere" in self.failure.host.remarks

    @property
    def guest_restarts(self) -> bool:
        return "guest-restarts" in self.failure.host.remarks

    @property
    def mmio_at_top(self) -> bool:
        """The VMM logged an access in the last page below 4 GiB: a stack that began at address 0."""
        return "mmio-below-4-gib" in self.failure.host.remarks

    @property
    def old_format(self) -> bool:
        return self.failure.source.vmm == "qemu-kvm" or self.speaker == "qemu-kvm"


_MANY_RULES: Final = 20
_INTERRUPTIBILITY: Final = ("guest_interruptibility", "interruptibility")


def scene_of(facts: Facts, mechanism: str) -> Scene:
    """Lay out what the signs ask. Pure; never raises on any record."""
    failure, host = facts.failure, facts.failure.host
    setup, cpu = failure.setup, failure.cpu
    alone = mechanism in {"host-trouble", "not-shown"}
    events = tuple(event for event in host.events if alone or "owner" not in event.fields)
    hardware = host.dmi or _field(events, "hardware")
    kernel = host.kernel or _field(events, "kernel")
    checked = facts.checked
    gpa = facts.access.gpa if facts.access else None
    if gpa is None and facts.word_access:
        gpa = facts.word_access.gpa
    return Scene(
        mechanism=mechanism,
        facts=facts,
        failure=failure,
        arch=facts.arch or ("x86" if facts.vendor.vendor or facts.rip is not None else None),
        vendor=facts.vendor.vendor,
        errno=failure.errno,
        call=setup.call if setup else None,
        msr=setup.msr if setup else None,
        value=setup.value if setup else None,
        register=setup.register if setup else None,
        firmware_error=setup.firmware_error if setup else None,
        status=setup.status if setup and setup.status is not None else _status(failure, events),
        detail=setup.detail if setup else None,
        events=events,
        speaker=_speaker(failure),
        kernel=kernel,
        release=release_of(kernel),
        outer=host.hypervisor or _field(events, "hypervisor") or _machine(hardware),
        dmi=hardware,
        is_physical=host.is_physical,
        rivals=host.rivals,
        devices=_devices(host.devices, events),
        confidential=host.confidential
        or _confidential(failure, facts.vendor.vendor, hidden=bool(facts.reset and facts.reset.state == "hidden")),
        ram=host.ram_bytes,
        state=facts.reset.state if facts.reset else None,
        rip=facts.rip,
        linear=facts.linear_rip,
        rip_place=_place(facts),
        paging=facts.paging,
        mode=facts.mode.name if facts.mode else None,
        cpl=facts.cpl,
        smm=cpu.smm if cpu else None,
        exit_reason=basic_reason(facts),
        vectoring=facts.vectoring,
        gpa=gpa,
        mnemonic=facts.instruction.mnemonic if facts.instruction else None,
        encoding=facts.instruction.encoding if facts.instruction else None,
        memory_operand=bool(facts.instruction and facts.instruction.memory),
        verdict=facts.verdict,
        broken=tuple(violation.rule.id for violation in checked.violations) if checked else (),
        kept=len(checked.passed) if checked else 0,
        undecided=len(checked.unknown) if checked else 0,
    )


def _place(facts: Facts) -> str | None:
    """What lives at RIP: physical without paging; firmware maps itself one to one with it."""
    linear = facts.linear_rip
    if linear is None:
        return None
    place = what_lives_at(linear, ram_bytes=facts.failure.host.ram_bytes)
    if place is None:
        return None
    identity = facts.paging is not True or (_is_firmwares(facts) and linear < 1 << 32)
    return place.name if identity else None


def _is_firmwares(facts: Facts) -> bool:
    """OVMF maps all memory one to one, and has its descriptor table below 4 GiB; no operating system does both."""
    cpu = facts.failure.cpu
    gdt = cpu.segments.get("gdt") if cpu else None
    tables = cpu.get("cr3") if cpu else None
    low = gdt is None or gdt.base < 1 << 32
    return facts.cpl == 0 and low and (tables is None or tables < 1 << 32) and facts.rip == facts.linear_rip


def _speaker(failure: Failure) -> str | None:
    name = failure.speaker.name if failure.speaker else failure.source.vmm
    return name.lower().replace(" ", "-") if name else None


def _devices(named: tuple[str, ...], events: tuple[HostEvent, ...]) -> frozenset[str]:
    if not named and not events:
        return frozenset()
    slugs = {slug for slug, marks in _DEVICES for name in named if any(mark in name for mark in marks)}
    slugs |= {slug for slug, mark in _EVENT_DEVICES for event in events if mark in event.kind}
    return frozenset(slugs)


def _field(events: tuple[HostEvent, ...], name: str) -> str | None:
    return next((str(event.fields[name]) for event in events if name in event.fields), None)


def _machine(hardware: str | None) -> str | None:
    """The hypervisor whose virtual machine the DMI strings name."""
    return next((name for mark, name in _MACHINES if hardware and mark in hardware), None)


def _confidential(failure: Failure, vendor: str | None, *, hidden: bool) -> str | None:
    """The kind of confidential guest, where the call or the numbers are such a guest's."""
    call = failure.setup.call if failure.setup else ""
    if vendor == "tdx" or call.startswith(("TDX", "KVM_TDX", "TDH")):
        return "tdx"
    if hidden:
        return "encrypted"
    if "SNP" in call:
        return "snp"
    return "sev" if call.startswith(("SEV", "KVM_SEV")) else None


def _status(failure: Failure, events: tuple[HostEvent, ...]) -> int | None:
    """Of the TDX module: in KVM's log, or in place of an exit reason."""
    for event in events:
        status = event.fields.get("status") if event.kind in {"seamcall-failed", "tdx-entry-failed"} else None
        if isinstance(status, int):
            return status
    return failure.data[0] if failure.suberror == 4 and failure.data and failure.data[0] >> 63 else None
