"""The JSON of the commands other than explain, typed. Their schemas are written from these types.

As in ``contract``: members are only ever added within a schema, and every number that can need 64 bits is a ``0x``
string. Every member is always written; what is not known is null.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kvmwhy.contract import Hex

Mode = Literal["real16", "prot16", "prot32", "long64"]
Isa = Literal["vmx", "svm"]


class _Part(msgspec.Struct):
    pass


# -- atlas and probe -------------------------------------------------------------------------------


class VerdictPart(_Part, kw_only=True):
    """What came of one form when KVM had to emulate it."""

    verdict: Annotated[str, Meta(description="emulated, fails, or what else came of it.")]
    code: Annotated[int, Meta(description="The exit reason, or the exception's vector.")]
    ndata: Annotated[int, Meta(description="Words of the internal error.")]
    accesses: Annotated[str, Meta(description="Those that userspace saw, in order: r8r8w4; i and o are ports.")]
    compared: Annotated[str, Meta(description="Whether the result was held against that of a CPU.")]
    wrong: Annotated[list[str], Meta(description="What of the result a CPU does otherwise.")]
    says: Annotated[str, Meta(description="The same as a sentence.")]


class MeasuredPart(VerdictPart, kw_only=True):
    """A verdict, and on which kernel."""

    vendor: str
    release: str
    module_args: str


class AtlasForm(_Part, kw_only=True):
    """kvmwhy atlas INSTRUCTION --json: one form of the instruction."""

    mode: Mode
    text: str
    measured: Annotated[str, Meta(description="The bytes of the form that was run, in hex.")]
    exact: Annotated[bool, Meta(description="They are the very bytes that were asked about.")]
    ignored: Annotated[str, Meta(description="What of the question the form leaves out.")]
    technique: str
    defined: Annotated[bool, Meta(description="CPUs define this encoding.")]
    since: str
    fault: Annotated[str | None, Meta(description="The id of the fault, where KVM carries it out wrongly.")] = None
    kernels: list[MeasuredPart]


class EmulatorFault(_Part, kw_only=True):
    """kvmwhy atlas --faults --json: what KVM carries out wrongly for one reason."""

    id: Annotated[str, Meta(description="It never changes its meaning.")]
    arch: Literal["x86", "riscv64"]
    title: str
    manual: Annotated[str, Meta(description="What happens on a CPU.")]
    does: Annotated[str, Meta(description="What KVM does instead.")]
    place: Annotated[str, Meta(description="File and function of Linux 7.3.")]
    why: str
    since: Annotated[str, Meta(description="The kernels on which it was measured.")]
    harm: Annotated[str, Meta(description="Who meets it.")]
    known: Annotated[str, Meta(description="Earlier reports and fixes.")]
    suggestion: str
    never_ends: Annotated[bool, Meta(description="KVM_RUN does not return, or the same exit comes for ever.")]
    forms: Annotated[list[str], Meta(description="Mode and bytes of each form, as the atlas has them.")]


class AtlasDifference(_Part, kw_only=True):
    """kvmwhy atlas --diff OLD NEW --json: one form whose outcome differs."""

    mode: Mode
    text: str
    measured: str
    from_: VerdictPart = msgspec.field(name="from")
    to: VerdictPart


class TrapPart(_Part, kw_only=True):
    """What came of one access where there is no memory, on arm64 or riscv64."""

    verdict: Annotated[
        str, Meta(description="mmio, done, error, nisv, exception, undefined, exit, timeout or endless.")
    ]
    accesses: Annotated[str, Meta(description="Those that userspace saw, in order: r8, w4w4.")]
    code: Annotated[int, Meta(description="The errno, esr_iss, ESR_EL1 or scause of the guest, or exit reason.")]
    offset: Annotated[int | None, Meta(description="Of the address that was reported from the operand's.")]
    says: Annotated[str, Meta(description="The same as a sentence.")]


class MeasuredTrap(TrapPart, kw_only=True):
    """An outcome, and on which kernel, under which emulator, in which setup."""

    release: str
    bench: str
    setup: str


class TrappedForm(_Part, kw_only=True):
    """kvmwhy atlas --arch arm64 or riscv64 INSTRUCTION --json: one form of the instruction."""

    arch: Literal["arm64", "riscv64"]
    instruction: Annotated[str, Meta(description="What was asked about.")]
    form: Annotated[str | None, Meta(description="arm64: its name in the Arm ARM; undefined: it is none.")]
    syndrome: Annotated[bool | None, Meta(description="arm64: whether the CPU describes the access, by the manual.")]
    text: Annotated[str | None, Meta(description="The form that was run; null: none was.")]
    measured: Annotated[str | None, Meta(description="Its word, in hex.")]
    exact: Annotated[bool, Meta(description="It is the very word that was asked about.")]
    fault: Annotated[str | None, Meta(description="The id of the fault, where KVM does not carry it out.")] = None
    kernels: list[MeasuredTrap]


class TrapDifference(_Part, kw_only=True):
    """kvmwhy atlas --arch arm64 or riscv64 --diff OLD NEW --json: one form in one setup whose outcome differs."""

    text: str
    measured: str
    setup: str
    from_: TrapPart = msgspec.field(name="from")
    to: TrapPart


class ProbedForm(_Part, kw_only=True):
    """kvmwhy probe --json: one form, run on this host."""

    mode: Mode
    text: str
    bytes: str
    verdict: Annotated[str | None, Meta(description="null: there is no way to ask here.")]
    code: int | msgspec.UnsetType = msgspec.UNSET
    ndata: int | msgspec.UnsetType = msgspec.UNSET
    accesses: str | msgspec.UnsetType = msgspec.UNSET
    compared: str | msgspec.UnsetType = msgspec.UNSET
    wrong: list[str] | msgspec.UnsetType = msgspec.UNSET
    says: str | msgspec.UnsetType = msgspec.UNSET
    differs_from_atlas: bool


class AccessVerdict(_Part, kw_only=True):
    """What became of one access, for a VMM of one kind."""

    kind: Annotated[str, Meta(description="mmio, nisv, an errno's name, trap, done, loops, or the exit's name.")]
    says: Annotated[str, Meta(description="The same as a sentence.")]


class ProbedAccess(_Part, kw_only=True):
    """kvmwhy probe --json on arm64 and riscv64: one form that accessed where there is no memory, on this host."""

    arch: Literal["arm64", "riscv64"]
    kernel: str
    class_: Annotated[str, Meta(description="Of accesses that KVM tells apart.")] = msgspec.field(name="class")
    text: str
    bytes: Annotated[str, Meta(description="As they lie in memory, in hex.")]
    verdicts: Annotated[
        dict[str, AccessVerdict],
        Meta(
            description="By the VMM: plain, nisv (it has KVM_CAP_ARM_NISV_TO_USER), abort (it then injects an abort)."
        ),
    ]
    expected: Annotated[list[str], Meta(description="Kinds that the kernel's source says; empty: it was not read.")]
    undefined: Annotated[bool, Meta(description="This CPU does not have it: that is no difference.")]
    differs: Annotated[bool, Meta(description="The verdict of plain is none of those expected.")]
    atlas: Annotated[
        dict[str, list[str]], Meta(description="The same by the atlas; several kinds where its machines disagree.")
    ]
    differs_from_atlas: bool


# -- doctor ----------------------------------------------------------------------------------------


class HostCpu(_Part, kw_only=True):
    """The first CPU of /proc/cpuinfo."""

    vendor_id: str | None
    model: str | None
    signature: Annotated[str | None, Meta(description="Family, model and stepping, in decimal.")]
    microcode: str | None
    hypervisor: Annotated[bool, Meta(description="This host is itself a virtual machine.")]


class HostModule(_Part, kw_only=True):
    """One of KVM's modules."""

    version: str | None
    parameters: Annotated[dict[str, str | None], Meta(description="null: not permitted to read it.")]


class HostKvm(_Part, kw_only=True):
    """/dev/kvm."""

    problem: Annotated[str | None, Meta(description="Why it cannot be used.")]
    api_version: int | None
    capabilities: dict[str, int]


class FindingPart(_Part, kw_only=True):
    """One thing that was looked at."""

    grade: Literal["good", "note", "bad"]
    topic: str
    text: str
    fix: str | None


class CheckedHost(_Part, kw_only=True):
    """kvmwhy doctor --json."""

    schema: Literal[1]
    kernel: str
    vendor: str | None
    cpu: HostCpu
    modules: dict[str, HostModule]
    kvm: HostKvm
    findings: list[FindingPart]


# -- reproduce -------------------------------------------------------------------------------------


class ReproducedFailure(_Part, kw_only=True):
    """Which failure of which file it was."""

    kind: str
    suberror: int | None
    data: list[Hex]
    path: str | None
    line: int | None


class WherePart(_Part, kw_only=True):
    """The machine that it ran on."""

    text: str
    kernel: str | None
    vendor: str | None


class ComparedPart(_Part, kw_only=True):
    """One thing that was compared."""

    what: str
    reported: str
    here: str
    same: Annotated[bool | None, Meta(description="null: it cannot be compared; why says why.")]
    why: str


class Reproduction(_Part, kw_only=True):
    """kvmwhy reproduce --json: one failure, run again."""

    schema: Literal[1]
    status: Annotated[str, Meta(description="reproduced, cannot, not-on-this-kernel, differs and others.")]
    answer: str
    exact: Annotated[bool, Meta(description="Every word of the record is the same.")]
    where: WherePart | None
    rows: list[ComparedPart]
    since: Annotated[str | None, Meta(description="What the emulator's table says.")]
    missing: Annotated[list[str], Meta(description="What would have to be in the report.")]
    assumed: list[str]
    guest: Annotated[dict[str, Any] | None, Meta(description="The guest that was made: every number as 0x text.")]
    ended: Annotated[dict[str, Any] | None, Meta(description="How it stopped: every number as 0x text.")]
    failure: ReproducedFailure
    minimised: Annotated[list[str], Meta(description="What was left out of the guest.")]


class SpanPart(_Part, kw_only=True):
    """Neighbouring releases on which the same happened."""

    vendor: Isa
    first: str
    last: str
    reproduced: bool
    what: str
    status: Literal["fails", "works"]


class ReproductionMatrix(_Part, kw_only=True):
    """kvmwhy reproduce --matrix model --json."""

    schema: Literal[1]
    status: Literal["matrix"]
    answer: str
    spans: list[SpanPart]
    failure: ReproducedFailure


# -- run and attach --------------------------------------------------------------------------------


class RunExit(_Part, kw_only=True):
    """kvmwhy run --json: one exit of the guest. Its payload's members stand beside these, named as in linux/kvm.h."""

    exit: Annotated[str, Meta(description="KVM_EXIT_*, or what ended the run.")]
    on: Annotated[Literal["kvm", "model"], Meta(description="This host's KVM, or a model of one.")]


class AttachedVcpu(_Part, kw_only=True):
    """kvmwhy attach --all --json: one vCPU."""

    pid: int
    vmm: str
    guest: str | None
    domain: Annotated[str | None, Meta(description="libvirt's name of the guest.")]
    vcpu: int | None
    exit_reason: int | None
    exit_name: str | None
    failure: Annotated[bool, Meta(description="Its page holds a failure.")]
    state: str
    why: str
    answer: str | None
