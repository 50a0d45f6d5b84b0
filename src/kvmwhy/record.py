"""The one shape that crosses from package to package: a failure, as some evidence showed it.

A reader makes it, everyone else reads it. It holds what was *seen*, never what was concluded: an
absent value is ``None``, a torn one is absent and named under ``damage``. All addresses and
register values are unsigned integers.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from kvmwhy.abi.uname import Arch as Arch  # noqa: PLC0414 -- a part of the record as well

Kind = Literal[
    "internal-error",  # KVM_EXIT_INTERNAL_ERROR
    "entry-failure",  # KVM_EXIT_FAIL_ENTRY
    "unknown-exit",  # KVM_EXIT_UNKNOWN: the hardware's reason, unhandled
    "run-error",  # ioctl(KVM_RUN) itself failed
    "shutdown",  # KVM_EXIT_SHUTDOWN: triple fault
    "exception-exit",  # KVM_EXIT_EXCEPTION
    "other",  # a valid exit that the VMM does not handle: ``exit_reason`` says which; or a dump without its line
    "setup-refused",  # an ioctl other than KVM_RUN was refused, or KVM itself could not be had
    "undef-injected",  # KVM refused a register or an instruction, put an exception into the guest and went on
    "symptom",  # what a person sees of a failure whose record is elsewhere
    "host-trouble",  # only the host's own trouble is shown
    "not-kvm",  # a failure of another hypervisor, or of an emulator
    "healthy",  # a trace, or a dump made on purpose, in which nothing fails
    "unread",  # somebody's line about a failure, in a form that no reader knows
]


SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")
TABLE_NAMES = ("gdt", "idt")


class At(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a fact was seen: a line of the input, a word of ``data``, a register, an event of the trace."""

    line: int | None = None  # of the input, from 1
    word: int | None = None  # index in ``data``
    register: str | None = None
    event: int | None = None  # index in ``trace``


class Segment(msgspec.Struct, frozen=True, gc=False):
    """A segment register with its hidden part, or a descriptor table (selector and attributes 0).

    ``attributes`` is the descriptor's second doubleword as QEMU prints it: type in bits 11:8, S 12,
    DPL 14:13, P 15, AVL 20, L 21, D/B 22, G 23 (SDM vol. 3A, 3.4.5).
    """

    selector: int
    base: int
    limit: int
    attributes: int

    @property
    def type(self) -> int:
        return self.attributes >> 8 & 0xF

    @property
    def is_system(self) -> bool:
        return not self.attributes >> 12 & 1

    @property
    def dpl(self) -> int:
        return self.attributes >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.attributes >> 15 & 1)

    @property
    def long(self) -> bool:
        """The L bit: 64-bit code, but only while EFER.LMA is set."""
        return bool(self.attributes >> 21 & 1)

    @property
    def big(self) -> bool:
        """The D/B bit: 32-bit default size."""
        return bool(self.attributes >> 22 & 1)

    @property
    def granular(self) -> bool:
        return bool(self.attributes >> 23 & 1)


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """What the VMM printed of a vCPU. Only what was printed: a missing key was not seen.

    ``registers`` has 64-bit names whatever the dump used: rax … r15, rip, rflags, cr0, cr2, cr3,
    cr4, efer, dr0 … dr7. ``segments`` has es cs ss ds fs gs ldt tr gdt idt.
    """

    registers: dict[str, int] = {}
    segments: dict[str, Segment] = {}
    wide: bool | None = None  # printed as 64-bit code's registers: QEMU does so iff CS is 64-bit
    cpl: int | None = None
    smm: bool | None = None
    halted: bool | None = None

    def get(self, name: str) -> int | None:
        return self.registers.get(name)

    @property
    def is_dump(self) -> bool:
        """More than where the vCPU was."""
        return not self.registers.keys() <= {"rip", "pc", "nip"}


class Code(msgspec.Struct, frozen=True):
    """The VMM's own window of code bytes; ``None`` where it printed ``??``.

    ``rip_at`` is the index of the byte at RIP, or ``None`` if the mark was lost.
    """

    window: tuple[int | None, ...]
    rip_at: int | None

    def at_rip(self) -> bytes:
        """The readable bytes from RIP on, up to the first unreadable one."""
        if self.rip_at is None:
            return b""
        behind = self.window[self.rip_at :]
        readable = behind[: behind.index(None)] if None in behind else behind
        return bytes(readable)  # type: ignore[arg-type]  # there is no None in it

    @property
    def unreadable_at_rip(self) -> bool:
        """The VMM tried to read the byte at RIP and could not."""
        return self.rip_at is not None and self.rip_at < len(self.window) and self.window[self.rip_at] is None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a failure was seen. Times are as the log printed them."""

    path: str | None = None
    line: int | None = None
    vmm: str | None = None
    guest: str | None = None  # the VMM's own name for it, or libvirt's
    vcpu: int | None = None
    count: int = 1
    alike: int = 1  # vCPUs that stopped alike in the same moment, this one included
    last_line: int | None = None  # of the last of ``count`` equal failures
    time: str | None = None
    last_time: str | None = None
    writer: str | None = None  # who wrote the line, where the log says: "QEMU[2043] on pve1"


class HostEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the host's kernel, typed: ``kind`` is a slug of ``readers.kernel_log.host_messages``."""

    kind: str
    at: At = At()
    time: float | None = None  # seconds on the log's clock
    fields: dict[str, int | str] = {}


# Kinds of HostEvent: what the host's secure processor or TDX module refused it at the start, whatever the guest.
REFUSED_AT_START: Final = frozenset({"sev-init-failed", "sev-command-failed", "snp-not-enabled", "tdx-not-enabled"})


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What was refused before, or beside, KVM_RUN. The errno is the failure's own."""

    call: str  # KVM_CREATE_VM, KVM_SET_MSRS …; "open" of /dev/kvm; "module"; SEV_LAUNCH_START; TDH_MNG_CREATE …
    msr: int | None = None
    value: int | None = None
    register: str | None = None  # the register or capability that was refused, by name
    firmware_error: int | None = None  # of the SEV firmware
    status: int | None = None  # of a SEAMCALL, or another firmware's
    detail: str | None = None  # a slug of readers.setup_messages: which form of the message it was
    fields: dict[str, int | str] = {}


class Symptom(msgspec.Struct, frozen=True, kw_only=True):
    """What a person saw of a failure whose record is elsewhere; ``kind`` is a slug of ``readers.symptom``."""

    kind: str
    fields: dict[str, int | str] = {}


class Speaker(msgspec.Struct, frozen=True, kw_only=True):
    """Who printed this, if it was not KVM: xen, haxm, bhyve, whpx, hvf, virtualbox, vmware, hyper-v, tcg …"""

    name: str
    fields: dict[str, int | str] = {}


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the same evidence says about the host and the VM, besides the failure itself."""

    kernel: str | None = None
    qemu: str | None = None
    ram_bytes: int | None = None  # guest RAM: -m, where a command line shows it
    vendor: Literal["vmx", "svm", "tdx", "pvm"] | None = None  # named by the text, not by numbers
    vendor_from: str | None = None
    hypervisor: str | None = None  # the host is itself a virtual machine, of this hypervisor
    is_physical: bool = False  # the host said that it is no virtual machine
    rivals: tuple[str, ...] = ()  # other hypervisors' modules on this host: vboxdrv, vmmon
    unrestricted_guest_hint: bool = False  # QEMU printed its "without unrestricted mode" advice
    events: tuple[HostEvent, ...] = ()  # lines of the host's kernel near the failure
    cpu_name: str | None = None  # the host's CPU, by its marketing name
    dmi: str | None = None  # the host's system vendor and product
    parameters: dict[str, str] = {}  # of modules: "kvm_intel.nested" → "Y"
    machine: str | None = None  # -machine, without its options
    cpu_model: str | None = None  # -cpu, with its options
    devices: tuple[str, ...] = ()  # -device drivers and what else a command line shows of hardware
    confidential: Literal["sev", "sev-es", "snp", "tdx", "pkvm"] | None = None
    # What is said beside it by VMM, guest and people: slugs of readers.vm_context and readers.circumstances.
    remarks: tuple[str, ...] = ()


class ControlBlock(msgspec.Struct, frozen=True):
    """A VMCS or VMCB as a kernel log dumped it: what ``Cpu`` has no place for.

    ``fields`` has the kernel's names in lower case with underscores (``pin_based_controls``,
    ``vm_entry_interruption_info``, ``intercept_cr``…); guest registers and segments are in ``Cpu``.
    """

    kind: Literal["vmcs", "vmcb"]
    fields: dict[str, int]


class Emulation(msgspec.Struct, frozen=True, kw_only=True):
    """What the tracepoint ``kvm_emulate_insn`` said of an instruction that KVM could not carry out."""

    rip: int  # not linear: add ``cs_base``
    cs_base: int
    insn: bytes  # the fetch window, at most 15 bytes
    mode: Literal["real16", "vm86", "prot16", "prot32", "long64"] | None = None


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """The words of a VM-exit where the text gave them by name: a trace, a kernel log, a VMCS dump.

    Of other architectures: ``reason`` is arm64's exception class, riscv64's SCAUSE, s390x' intercept code; ``info1``
    is ESR_EL2 or STVAL; ``info2`` is the guest's physical address.
    """

    reason: int
    info1: int | None = None
    info2: int | None = None
    intr_info: int | None = None
    error_code: int | None = None
    isa: Literal["vmx", "svm"] | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a trace, of the vCPU that failed: ``fields`` by the tracepoint's own names."""

    name: str
    time: float | None = None  # seconds on the trace's clock
    fields: dict[str, int | str] = {}


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """How a record that was read back had been answered, and by what."""

    schema: int
    version: str | None = None
    knowledge: str | None = None
    answer: str | None = None
    mechanism: str | None = None
    origin: str | None = None  # the likeliest


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An exception of the guest on its way to a triple fault, in the order in which they came.

    ``by``: a VMM's log or a trace shows it, or the CPU's own tables say that it must have come. ``broken`` is a slug of
    ``arch.x86.exception_delivery``: why this one could not be delivered; ``at`` and ``value`` are that structure's.
    """

    vector: int
    error_code: int | None = None
    cr2: int | None = None
    rip: int | None = None
    by: Literal["log", "trace", "tables"] = "log"
    broken: str | None = None
    at: int | None = None
    value: int | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failure of one vCPU, as seen."""

    kind: Kind
    arch: Arch | None = None  # ``None``: nothing shows it
    arch_from: str | None = None
    source: Source = Source()
    suberror: int | None = None
    ndata: int | None = None  # as declared by the page or counted in the text
    data: tuple[int, ...] = ()
    data_apart: dict[int, int] = {}  # words behind a gap in ``data``, by index: those before them are lost
    hardware_error: int | None = None  # KVM_EXIT_FAIL_ENTRY
    hardware_reason: int | None = None  # KVM_EXIT_UNKNOWN
    exception: int | None = None  # KVM_EXIT_EXCEPTION: vector
    exception_error_code: int | None = None
    errno: str | None = None
    exit_reason: int | None = None  # KVM_EXIT_*, where it was seen
    cpu: Cpu | None = None
    cpu_shared: bool = False  # the registers may belong to another vCPU's failure
    code: Code | None = None
    control: ControlBlock | None = None
    emulation: Emulation | None = None
    exit: Exit | None = None
    exit_fields: dict[str, int] = {}  # of kvm_run's union, by the header's names, where no member above has them
    setup: Setup | None = None  # kind "setup-refused"
    symptom: Symptom | None = None
    speaker: Speaker | None = None
    seen_at: dict[str, int] = {}  # field → line of the input: "suberror", "data[2]", "rip", "code"
    silent: bool = False  # KVM injected #UD and went on: no VMM ever heard of it
    faults: tuple[Fault, ...] = ()  # the exceptions that became a triple fault, oldest first
    trace: tuple[Event, ...] = ()  # what happened on this vCPU before, oldest first
    host: Host = Host()
    stored: Stored | None = None
    repairs: tuple[str, ...] = ()  # undone without loss: encodings, quoting
    damage: tuple[str, ...] = ()  # torn, lost or guessed
