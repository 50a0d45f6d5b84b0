"""The JSON of one explained failure, typed: what is written, what is read back, and what is published as a schema.

Members are only ever added within a schema; a change of meaning takes a new number. Every number that can need 64 bits
is a ``0x`` string. Members marked *seen* make up the record and are read back; the others are worked out anew.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from kvmwhy.record import Arch, At, Kind

SCHEMA: Final = 2
READ: Final = frozenset({1, 2})  # schema 1 had no mechanism, no origins and no architecture
ID: Final = "urn:kvmwhy:schema:explanation:2"

Hex = Annotated[str, Meta(pattern="^-?0x[0-9a-f]{1,16}$", description="A number of up to 64 bits.")]
Vendor = Literal["vmx", "svm", "tdx", "pvm"]


class _Part(msgspec.Struct):
    pass


class SourcePart(_Part, kw_only=True):
    """Where it was seen."""

    path: Annotated[str | None, Meta(description="The file, or the process.")] = None
    line: int | None = None
    vmm: Annotated[str | None, Meta(description="The program that ran the vCPU.")] = None
    guest: Annotated[str | None, Meta(description="The VMM's own name for the guest, or libvirt's.")] = None
    vcpu: Annotated[int | None, Meta(description="Its index in its VM.")] = None
    count: Annotated[int, Meta(ge=1, description="How many equal failures this stands for.")] = 1
    alike: Annotated[int, Meta(ge=1, description="How many vCPUs stopped alike in one moment, this one included.")] = 1
    last_line: int | None = None
    time: Annotated[str | None, Meta(description="As the log printed it; ISO 8601 from kvmwhy watch.")] = None
    last_time: str | None = None
    writer: Annotated[str | None, Meta(description="Who wrote the line, or which thread failed.")] = None


class ProofPart(_Part, kw_only=True):
    """One fact for or against an answer, and where it was seen."""

    text: str
    at: At | None = None


class MechanismPart(_Part, kw_only=True):
    """What happened: exactly one answer."""

    id: Annotated[str, Meta(description="A slug; see `kvmwhy cause ID`.")]
    text: str
    certainty: Literal["certain", "likely", "possible"]
    for_: list[ProofPart] = msgspec.field(name="for", default_factory=list)
    against: list[ProofPart] = msgspec.field(default_factory=list)


class OriginPart(_Part, kw_only=True):
    """Whose doing it may have been. Shares sum to 1."""

    id: Annotated[str, Meta(description="A slug; see `kvmwhy cause ID`.")]
    share: Annotated[float, Meta(ge=0, le=1)]
    reports: Annotated[int, Meta(ge=0, description="Labelled public reports of this mechanism and origin.")] = 0
    for_: list[ProofPart] = msgspec.field(name="for", default_factory=list)
    against: list[ProofPart] = msgspec.field(default_factory=list)


class FixPart(_Part, kw_only=True, omit_defaults=True):
    """What each of the three can do."""

    guest: str | None = None
    vmm: str | None = None
    host: str | None = None


class CausePart(_Part, kw_only=True):
    """A page of the catalogue that applies."""

    id: str
    family: str
    confidence: Literal["certain", "likely", "possible"]
    title: str
    for_: list[str] = msgspec.field(name="for", default_factory=list)
    against: list[str] = msgspec.field(default_factory=list)
    fix: FixPart = msgspec.field(default_factory=FixPart)
    references: list[str] = msgspec.field(default_factory=list)


class AnsweredBy(_Part, kw_only=True):
    """The program and the knowledge that answered."""

    version: str
    knowledge: Annotated[str, Meta(description="The edition of the causes, bugs, weights and priors: a date.")]


class ExitPart(_Part, kw_only=True):
    """The VM-exit: its words, and what they say."""

    reason: Hex | None = None
    name: str | None = None
    info1: Hex | None = None
    info2: Hex | None = None
    intr_info: Hex | None = None
    error_code: Hex | None = None
    words: list[str] = msgspec.field(default_factory=list)


class ExitSeenPart(_Part, kw_only=True):
    """The words of the exit where a trace or a kernel log gave them by name."""

    reason: Hex | None = None
    info1: Hex | None = None
    info2: Hex | None = None
    intr_info: Hex | None = None
    error_code: Hex | None = None
    isa: Literal["vmx", "svm"] | None = None


class CodePart(_Part, kw_only=True):
    """The VMM's window of code."""

    window: Annotated[str, Meta(description="Bytes in hex; ?? where it could not be read.")]
    rip_at: Annotated[int | None, Meta(description="The index of the byte at RIP.")] = None


class OperandPart(_Part, kw_only=True):
    """A memory operand, computed."""

    segment: str | None = None
    effective: Hex | None = None
    linear: Hex | None = None
    size: int | None = None
    access: str | None = None


class EmulatorPart(_Part, kw_only=True):
    """What KVM's emulator does with the instruction."""

    outcome: str
    since: str | None = None
    never: bool = False
    slot: str | None = None


class InstructionPart(_Part, kw_only=True):
    """What was to be emulated."""

    address: Hex | None = None
    bytes: str = ""
    text: str | None = None
    complete: bool = True
    source: Annotated[str | None, Meta(description="report: KVM's own bytes; code: the VMM's window.")] = None
    operands: list[OperandPart] = msgspec.field(default_factory=list)
    emulator: EmulatorPart | None = None


class AccessPart(_Part, kw_only=True):
    """The access that failed."""

    kind: Annotated[str, Meta(description="fetch, read, write, event-delivery or page-walk.")]
    gva: Hex | None = None
    gpa: Hex | None = None
    what: str | None = None


class HostEventPart(_Part, kw_only=True):
    """A line of the host's kernel."""

    kind: str
    at: At = At()
    time: float | None = None
    numbers: dict[str, Hex] = msgspec.field(default_factory=dict)
    texts: dict[str, str] = msgspec.field(default_factory=dict)


class HostPart(_Part, kw_only=True):
    """What the same evidence says of the host and of the VM."""

    kernel: str | None = None
    qemu: str | None = None
    ram_bytes: Hex | None = None
    vendor: Vendor | None = None
    vendor_from: str | None = None
    hypervisor: Annotated[str | None, Meta(description="The host is itself a virtual machine, of this.")] = None
    is_physical: Annotated[bool, Meta(description="The host said that it is no virtual machine.")] = False
    rivals: Annotated[list[str], Meta(description="Other hypervisors' modules.")] = msgspec.field(default_factory=list)
    unrestricted_guest_hint: bool = False
    events: list[HostEventPart] = msgspec.field(default_factory=list)
    cpu_name: str | None = None
    dmi: str | None = None
    parameters: Annotated[dict[str, str], Meta(description="Of modules, by name.")] = msgspec.field(
        default_factory=dict
    )
    machine: str | None = None
    cpu_model: str | None = None
    devices: list[str] = msgspec.field(default_factory=list)
    confidential: Literal["sev", "sev-es", "snp", "tdx", "pkvm"] | None = None
    remarks: Annotated[list[str], Meta(description="Slugs of what VMM, guest and people say beside it.")] = (
        msgspec.field(default_factory=list)
    )


class SetupPart(_Part, kw_only=True):
    """What was refused before, or beside, KVM_RUN."""

    call: str
    msr: Hex | None = None
    value: Hex | None = None
    register: str | None = None
    firmware_error: Hex | None = None
    status: Hex | None = None
    detail: str | None = None
    numbers: dict[str, Hex] = msgspec.field(default_factory=dict)
    texts: dict[str, str] = msgspec.field(default_factory=dict)


class SymptomPart(_Part, kw_only=True):
    """What a person saw of a failure whose record is elsewhere."""

    kind: str
    numbers: dict[str, Hex] = msgspec.field(default_factory=dict)
    texts: dict[str, str] = msgspec.field(default_factory=dict)


class SpeakerPart(_Part, kw_only=True):
    """Who printed this, if it was not KVM."""

    name: str
    numbers: dict[str, Hex] = msgspec.field(default_factory=dict)
    texts: dict[str, str] = msgspec.field(default_factory=dict)


class ControlPart(_Part, kw_only=True):
    """A VMCS or VMCB that the kernel's log dumped."""

    kind: Literal["vmcs", "vmcb"]
    fields: dict[str, Hex]


class EmulationPart(_Part, kw_only=True):
    """What kvm_emulate_insn said."""

    rip: Hex
    cs_base: Hex
    insn: Annotated[str, Meta(description="The fetch window, bytes in hex.")]
    mode: Literal["real16", "vm86", "prot16", "prot32", "long64"] | None = None


class FaultPart(_Part, kw_only=True):
    """An exception on the way to a triple fault."""

    vector: Annotated[int, Meta(ge=0, le=255)]
    error_code: Hex | None = None
    cr2: Hex | None = None
    rip: Hex | None = None
    by: Annotated[
        Literal["log", "trace", "tables"],
        Meta(description="A log or a trace shows it, or the CPU's tables say that it must have come."),
    ] = "log"
    broken: Annotated[str | None, Meta(description="A slug: why it could not be delivered.")] = None
    at: Annotated[Hex | None, Meta(description="The address or the selector of that structure.")] = None
    value: Annotated[Hex | None, Meta(description="What it holds, or its limit.")] = None


class EventPart(_Part, kw_only=True):
    """One event before the failure, on this vCPU."""

    name: str
    time: Annotated[int | None, Meta(description="Nanoseconds on the trace's clock.")] = None
    numbers: dict[str, Hex] = msgspec.field(default_factory=dict)
    texts: dict[str, str] = msgspec.field(default_factory=dict)


class StoredPart(_Part, kw_only=True):
    """How a record that was read back had been answered."""

    schema: int
    version: str | None = None
    knowledge: str | None = None
    answer: str | None = None
    mechanism: str | None = None
    origin: str | None = None
    same: Annotated[bool | None, Meta(description="Today's mechanism and likeliest origin are the same.")] = None


class LivePart(_Part, kw_only=True):
    """kvmwhy attach and exec only: the process, and whether its guest runs."""

    pid: int | None = None
    domain: Annotated[str | None, Meta(description="libvirt's name of the guest.")] = None
    vcpu: int | None = None
    state: Annotated[
        str | None, Meta(description="stopped, repeating or unclear; of exec: ended, stopped or went on.")
    ] = None
    why: str | None = None
    registers_from: Annotated[str | None, Meta(description="Who showed the registers: a monitor, or which log.")] = None
    guest: Annotated[
        dict[str, Any] | None, Meta(description="What QEMU's monitor shows: status, places, walks; of exec: memory.")
    ] = None


class LocatedPart(_Part, kw_only=True):
    """An address in the guest's code."""

    address: Hex
    at: Annotated[Hex | None, Meta(description="Where on the stack it was.")] = None
    function: str
    offset: Hex
    file: str | None = None
    line: int | None = None


class SymbolsPart(_Part, kw_only=True):
    """What an ELF given by --symbols says."""

    file: str
    offset: Annotated[Hex | None, Meta(description="Between where it runs and where it is linked to.")] = None
    why: Annotated[str, Meta(description="How the offset is known, or why it is not.")]
    rip: LocatedPart | None = None
    stack: list[LocatedPart] = msgspec.field(default_factory=list)


class MachinePart(_Part, kw_only=True):
    """kvmwhy run only: what ran the guest."""

    on: Annotated[str, Meta(description="kvm: this host's KVM; model: a model of KVM, whose words are the model's.")]
    kernel: Annotated[str | None, Meta(description="The host's, or the one that is modelled.")] = None
    vendor: Annotated[str | None, Meta(description="That is modelled.")] = None
    why: Annotated[str | None, Meta(description="Why the model was taken without being asked for.")] = None


class CatalogueEntry(_Part, kw_only=True):
    """kvmwhy cause --json: a page of the catalogue."""

    id: Annotated[str, Meta(description="It never changes its meaning.")]
    kind: Literal["mechanism", "origin", "number", "cause", "bug", "fault"]
    title: str
    family: str | None = None
    origin: Annotated[str | None, Meta(description="Whose bug it is.")] = None
    what: str
    recognise: str
    fix: FixPart = msgspec.field(default_factory=FixPart)
    see: Annotated[list[str], Meta(description="Other entries, and sources.")] = msgspec.field(default_factory=list)
    references: list[str] = msgspec.field(default_factory=list)


class Explanation(_Part, kw_only=True):
    """A failure of a KVM vCPU, explained by kvmwhy: one object a line."""

    schema: Annotated[int, Meta(description="The version of this form.")] = SCHEMA
    kind: Kind
    answer: Annotated[str, Meta(description="The whole answer in a sentence or two.")] = ""
    mechanism: MechanismPart | None = None
    origins: Annotated[list[OriginPart], Meta(description="Best first.")] = msgspec.field(default_factory=list)
    collect: Annotated[list[str], Meta(description="What is missing here and would settle it.")] = msgspec.field(
        default_factory=list
    )
    answered_by: AnsweredBy | None = None
    source: SourcePart = msgspec.field(default_factory=SourcePart)
    arch: Annotated[Arch | None, Meta(description="The guest's architecture, if anything shows it.")] = None
    arch_from: str | None = None
    suberror: int | None = None
    suberror_name: str | None = None
    hardware_error: Hex | None = None
    hardware_reason: Hex | None = None
    exception: int | None = None
    exception_error_code: Hex | None = None
    errno: Annotated[str | None, Meta(description="By its name.")] = None
    exit_reason: Annotated[int | None, Meta(description="KVM_EXIT_*.")] = None
    ndata: Annotated[int | None, Meta(description="As in the page; data has at most 16.")] = None
    data: list[Hex] = msgspec.field(default_factory=list)
    data_apart: Annotated[dict[str, Hex], Meta(description="Words behind a gap in data, by index.")] = msgspec.field(
        default_factory=dict
    )
    layout: str | None = None
    layout_also: list[str] = msgspec.field(default_factory=list)
    vendor: Vendor | None = None
    vendor_from: str | None = None
    exit: ExitPart | None = None
    cpu: Annotated[
        dict[str, Any] | None,
        Meta(description="Registers by name, and mode, mode_from, cpl, cpl_printed, smm, halted, wide, segments."),
    ] = None
    code: CodePart | None = None
    instruction: InstructionPart | None = None
    access: AccessPart | None = None
    causes: Annotated[list[CausePart], Meta(description="The catalogue's pages that apply, best first.")] = (
        msgspec.field(default_factory=list)
    )
    host: HostPart = msgspec.field(default_factory=HostPart)
    setup: SetupPart | None = None
    symptom: SymptomPart | None = None
    speaker: SpeakerPart | None = None
    seen_at: Annotated[dict[str, int], Meta(description="The line of the input in which a member was seen.")] = (
        msgspec.field(default_factory=dict)
    )
    cpu_shared: Annotated[bool, Meta(description="The registers may belong to another failure.")] = False
    silent: Annotated[bool, Meta(description="KVM injected #UD and went on: no VMM heard of it.")] = False
    exit_seen: ExitSeenPart | None = None
    exit_fields: Annotated[
        dict[str, str],
        Meta(description="Of an exit that no member above is for: kvm_run's union, by linux/kvm.h's names."),
    ] = msgspec.field(default_factory=dict)
    control: ControlPart | None = None
    emulation: EmulationPart | None = None
    faults: Annotated[list[FaultPart], Meta(description="The exceptions that became a triple fault, oldest first.")] = (
        msgspec.field(default_factory=list)
    )
    triple_fault: Annotated[list[str], Meta(description="The same in sentences.")] = msgspec.field(default_factory=list)
    trace: list[EventPart] = msgspec.field(default_factory=list)
    damage: Annotated[list[str], Meta(description="All that was torn, repaired or does not add up.")] = msgspec.field(
        default_factory=list
    )
    repairs: list[str] = msgspec.field(default_factory=list)
    torn: list[str] = msgspec.field(default_factory=list)
    stored: StoredPart | None = None
    live: LivePart | msgspec.UnsetType = msgspec.UNSET
    machine: MachinePart | msgspec.UnsetType = msgspec.UNSET
    symbols: list[SymbolsPart] | msgspec.UnsetType = msgspec.UNSET
