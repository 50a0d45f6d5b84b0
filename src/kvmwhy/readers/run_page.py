"""A ``kvm_run`` page: 2352 bytes as the struct is, or whole pages as the vCPU mapping is."""

from __future__ import annotations

from collections.abc import Mapping

from kvmwhy.abi import exit_words, kvm_run
from kvmwhy.abi.internal_error import MAX_NDATA
from kvmwhy.readers import Evidence
from kvmwhy.record import Cpu, Failure, Kind, Segment, Source

_VALID_REGS = slice(kvm_run.UNION + kvm_run.UNION_SIZE, kvm_run.UNION + kvm_run.UNION_SIZE + 8)
_SIZES = {kvm_run.RUN_SIZE, kvm_run.PAGE_SIZE, 2 * kvm_run.PAGE_SIZE, 3 * kvm_run.PAGE_SIZE}
_KINDS: dict[int, Kind] = {
    kvm_run.EXIT_UNKNOWN: "unknown-exit",
    kvm_run.EXIT_EXCEPTION: "exception-exit",
    kvm_run.EXIT_SHUTDOWN: "shutdown",
    kvm_run.EXIT_FAIL_ENTRY: "entry-failure",
    kvm_run.EXIT_INTERNAL_ERROR: "internal-error",
}


def detect(data: bytes) -> bool:
    """The size of the struct or of whole pages, and a head such as KVM leaves: no text has it."""
    if len(data) not in _SIZES:
        return False
    # request_interrupt_window, immediate_exit: 0 or 1; then padding; exit_reason is a small number.
    return data[0] <= 1 and data[1] <= 1 and not any(data[2:8]) and not any(data[10:12])


def read(data: bytes, *, path: str | None = None) -> Evidence:
    return Evidence((failure_of(data, path),), format="kvm_run page")


def failure_of(data: bytes, path: str | None) -> Failure:
    """What the page says. An exit of one architecture only names it."""
    run = kvm_run.decode_page(data)
    payload = run.payload
    kind = _KINDS.get(run.exit_reason, "other")
    fields: dict[str, object] = {}
    damage: tuple[str, ...] = ()
    if kind == "internal-error":
        ndata, words = payload["ndata"], payload["data"]
        assert isinstance(ndata, int)  # noqa: S101 -- u32 and u64[16] by the layout table
        assert isinstance(words, tuple)  # noqa: S101
        fields = {"suberror": payload["suberror"], "ndata": ndata, "data": words[: min(ndata, MAX_NDATA)]}
        if ndata > MAX_NDATA:
            damage = (f"ndata is {ndata}, but the page holds {MAX_NDATA} words: KVM did not write this count",)
    elif kind == "entry-failure":
        fields = {"hardware_error": payload["hardware_entry_failure_reason"]}
    elif kind == "unknown-exit" and not payload["hardware_exit_reason"]:
        kind = "other"  # KVM stores 0 whenever it begins KVM_RUN: the vCPU is in there, or never was
    elif kind == "unknown-exit":
        fields = {"hardware_reason": payload["hardware_exit_reason"]}
    elif kind == "exception-exit":
        fields = {"exception": payload["exception"], "exception_error_code": payload["error_code"]}
    if kind == "other":
        fields["exit_fields"] = _fields_of(payload)
    arch = exit_words.owner(run.exit_reason)
    return Failure(
        kind=kind,
        arch=arch,
        arch_from=f"{run.name} is an exit of this architecture only" if arch else None,
        source=Source(path=path),
        exit_reason=run.exit_reason,
        cpu=_cpu(data),
        damage=damage,
        **fields,  # type: ignore[arg-type]  # the payload's values are ints, by the layout table
    )


def _cpu(data: bytes) -> Cpu | None:
    """The registers, if the VMM lets KVM write them into the page."""
    if not any(data[_VALID_REGS]):
        return None
    from kvmwhy.abi.x86.sync_regs import sync_regs

    seen = sync_regs(data)
    if seen is None:
        return None
    segments = {name: Segment(*hidden) for name, hidden in seen.segments.items()}
    return Cpu(registers=seen.registers, segments=segments, cpl=seen.cpl)


def _fields_of(payload: Mapping[str, object]) -> dict[str, int]:
    """The numbers of the union's member, and of an array as many as its ``ndata`` says."""
    fields = {name: value for name, value in payload.items() if isinstance(value, int)}
    words = payload.get("data")
    if isinstance(words, tuple):
        fields |= {
            f"data[{n}]": word for n, word in enumerate(words[: fields.get("ndata", 0)]) if isinstance(word, int)
        }
    return fields
