"""From messages to failures: what several lines say of one is joined, and registers go to the nearest."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.vmm_messages.message import Message
from kvmwhy.readers.vmm_messages.own_words import with_words
from kvmwhy.readers.vmm_registers import Registers, find_registers
from kvmwhy.record import Arch, Code, Cpu, Failure, Source, Symptom

_NEAR: Final = 6  # lines between two lines about one failure
_MOST_BESIDE: Final = 40  # messages on either side of registers that may own them
_FAR: Final = 60  # lines between a line and its registers
_FACTS: Final = (
    "exit_reason",
    "suberror",
    "ndata",
    "data",
    "hardware_error",
    "hardware_reason",
    "exception",
    "exception_error_code",
    "errno",
    "rip",
    "pc",
    "vcpu",
    "vmm",
    "details",
)
_FROM_NAMES: Final = "the names of the registers"
_SHOWN: Final = ("suberror", "hardware_error", "hardware_reason", "errno", "exit_reason", "exception")


class _Lines:
    """Line numbers of rising offsets, counted once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.number = 0

    def of(self, offset: int) -> int:
        if offset < self.at:
            return self.text.count("\n", 0, offset)
        self.number += self.text.count("\n", self.at, offset)
        self.at = offset
        return self.number


def failures_of(text: Text, messages: list[Message], *, path: str | None, first_line: int) -> tuple[Failure, ...]:
    """The failures that the messages of a text speak of, in order."""
    dumps = find_registers(text.text, ((message.start, message.stop) for message in messages))
    lines = _Lines(text.text)
    numbers = [lines.of(message.start) for message in messages]
    merged = _merged(text.text, messages, numbers, dumps)
    owners = _owners(text.text, [message for message, _ in merged], dumps)
    host = host_of(text.text)
    out = []
    for index, (message_read, number) in enumerate(merged):
        until = merged[index + 1][0].start if index + 1 < len(merged) else len(text.text)
        message, apart, torn = with_words(text.text, message_read, until)
        dump = owners.get(index)
        vcpu = message.vcpu if message.vcpu is not None or dump is None else dump.vcpu
        cpu, code = _cpu(message, dump)
        arch = dump.arch if dump else _arch_of(message)
        out.append(
            Failure(
                kind=message.kind,
                arch=arch,
                arch_from=_FROM_NAMES if arch else None,
                source=Source(path=path, line=first_line + number, vmm=message.vmm, vcpu=vcpu),
                suberror=message.suberror,
                ndata=message.ndata,
                data=message.data,
                data_apart=apart,
                hardware_error=message.hardware_error,
                hardware_reason=message.hardware_reason,
                exception=message.exception,
                exception_error_code=message.exception_error_code,
                errno=message.errno,
                exit_reason=message.exit_reason,
                cpu=cpu,
                code=code,
                exit_fields=dict(message.details),
                symptom=Symptom(kind="guest-exception") if message.kind == "symptom" else None,
                seen_at={name: first_line + number for name in _SHOWN if getattr(message, name) is not None},
                host=host,
                repairs=text.repairs,
                damage=(*torn, *(dump.damage if dump else ())),
            )
        )
    return tuple(out)


def _arch_of(message: Message) -> Arch | None:
    """RIP is x86's; Solo5's form with ``pc=`` is that of its only other architecture."""
    if message.rip is not None:
        return "x86"
    return "arm64" if message.pc is not None else None


def _cpu(message: Message, dump: Registers | None) -> tuple[Cpu | None, Code | None]:
    """The registers of a dump, or the one that the message itself shows."""
    own = {name: value for name in ("rip", "pc") if (value := getattr(message, name)) is not None}
    code = Code(tuple(message.code), 0) if message.code else None
    if dump is None:
        return (Cpu(registers=own) if own else None), code
    if own and not own.keys() & dump.cpu.registers.keys():
        return Cpu(registers=dump.cpu.registers | own, segments=dump.cpu.segments), code or dump.code
    return dump.cpu, code or dump.code


def _merged(
    text: str, messages: list[Message], numbers: list[int], dumps: list[Registers]
) -> list[tuple[Message, int]]:
    """Messages without those that say again what one before them said: the error, then what caused it."""
    out: list[tuple[Message, int]] = []
    last_line = -1
    for message, number in zip(messages, numbers, strict=True):
        if message.second is not None:  # kvmtool's second line
            _take_code(out, message, number, last_line)
            continue
        if out and _is_same(text, out[-1][0], message, near=number - last_line <= _NEAR, dumps=dumps):
            out[-1] = (_joined(out[-1][0], message), out[-1][1])
        else:
            out.append((message, number))
        last_line = number
    return out


def _take_code(out: list[tuple[Message, int]], message: Message, number: int, last_line: int) -> None:
    """``KVM exit code``: union.hw of kvm_run, which only KVM_EXIT_UNKNOWN fills, and fail_entry lies at its place."""
    if not out or number - last_line > _NEAR:
        return
    head = out[-1][0]
    if head.exit_reason == 0 and head.hardware_reason is None:
        out[-1] = (head._replace(hardware_reason=message.second), out[-1][1])
    elif head.exit_reason == 9 and head.hardware_error is None:
        out[-1] = (head._replace(hardware_error=message.second), out[-1][1])


def _is_same(text: str, before: Message, after: Message, *, near: bool, dumps: list[Registers]) -> bool:
    """Two messages about one failure: nothing in them differs, and only a dump, or a few lines, lie between."""
    if before.kind != after.kind and not (before.weak or after.weak):
        return False
    for name in _FACTS:
        value, value_after = getattr(before, name), getattr(after, name)
        if value != value_after and _shown(value) and _shown(value_after):
            return False
    between = text[before.stop : after.start]
    dumped = any(before.stop <= dump.start and dump.stop <= after.start for dump in dumps)
    if not (near or (dumped and between.count("\n") <= _FAR)):
        return False
    # The same words again are another failure, or the same one again: both are counted.
    return before.template != after.template or "Caused by" in between


def _shown(value: object) -> bool:
    return value is not None and value != ()


def _joined(before: Message, after: Message) -> Message:
    kept = {name: value for name in _FACTS if _shown(value := getattr(before, name))}
    kind = after.kind if before.weak else before.kind
    more = {name: value for name in _FACTS if _shown(value := getattr(after, name))}
    return before._replace(
        stop=after.stop, template=after.template, kind=kind, weak=before.weak and after.weak, **(more | kept)
    )


def _owners(text: str, messages: list[Message], dumps: list[Registers]) -> dict[int, Registers]:
    """The dump of each message: inside of it, behind it, or before it, the nearest."""
    owners: dict[int, Registers] = {}
    starts = [message.start for message in messages]
    for dump in dumps:
        choices: list[tuple[int, int]] = []
        place = bisect_left(starts, dump.start)
        for index in range(max(0, place - _MOST_BESIDE), min(len(messages), place + _MOST_BESIDE)):
            message = messages[index]
            if index in owners or _vcpus_differ(message, dump):
                continue
            if message.start <= dump.start <= message.stop:
                choices.append((-1, index))
                continue
            first, second = (message.stop, dump.start) if message.stop <= dump.start else (dump.stop, message.start)
            # Other messages between are nearer to it.
            lines = text.count("\n", first, second) if second - first < _FAR * 200 else _FAR + 1
            if lines <= _FAR:
                choices.append((2 * lines + (message.start >= dump.stop), index))
        if choices:
            owners[min(choices)[1]] = dump
    return owners


def _vcpus_differ(message: Message, dump: Registers) -> bool:
    return None not in {message.vcpu, dump.vcpu} and message.vcpu != dump.vcpu
