"""kvmwhy as a library: what ``import kvmwhy`` offers. docs/api.md is made from the docstrings here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from typing import Final, Literal

from msgspec.structs import replace

from kvmwhy.abi.error_numbers import NAMES
from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.pipeline import inputs
from kvmwhy.readers import run_page
from kvmwhy.record import Failure
from kvmwhy.render.json import to_json
from kvmwhy.report import Distinct, stories_of

__all__ = ["Diagnosis", "Failure", "decode_page", "diagnose", "explain", "to_json", "to_text"]

_CHUNK: Final = 1 << 20


def explain(
    *sources: bytes | str | PathLike[str],
    syntax: Syntax = "intel",
    limit: int = 1000,
    remark: Callable[[str], None] | None = None,
) -> list[Diagnosis]:
    """Explain every failure of KVM in ``sources``; the same answers as ``kvmwhy explain``, in the same order.

    A source is the path of a file, or its content as bytes: a log, a trace, a ``kvm_run`` page, a core, an archive of
    them. What several sources say about one failure is put together. Equal failures are counted, not repeated: see
    ``failure.source.count``. At most ``limit`` distinct ones are explained. An empty list means that none was found.

    What could not be read inside of a source is given to ``remark``, a sentence each. Raises OSError where a file
    cannot be opened, and nothing else, whatever is in it.

    >>> import kvmwhy
    >>> [diagnosis] = kvmwhy.explain(b"KVM: entry failed, hardware error 0x80000021")
    >>> diagnosis.mechanism.id
    'entry-refused-guest-state'
    >>> round(sum(origin.share for origin in diagnosis.origins))
    1
    """
    distinct = Distinct(limit)
    complain = remark or _ignore
    for source in sources:
        path = None if isinstance(source, bytes) else str(source)
        for member in inputs(_chunks(source), path, complain):
            distinct.read(member, complain, is_given=len(sources) > 1 and member.path == path)
    if distinct.left_out:
        complain(f"{distinct.left_out} more failures differ from these and are left out")
    stories = stories_of(distinct.failures(several=len(sources) > 1))
    return [diagnose(failure, syntax=syntax) for story in stories for failure in story]


def decode_page(page: bytes, *, error: int = 0, vmm: str | None = None, vcpu: int | None = None) -> Failure:
    """The failure that a vCPU's ``kvm_run`` page holds: what KVM said, word by word, nothing concluded.

    ``page`` is the mapping of the vCPU, or its first 2352 bytes. ``error`` is errno, where ioctl(KVM_RUN) failed. The
    registers are in it if the VMM has KVM write them there (KVM_CAP_SYNC_REGS). Give the result to ``diagnose``.
    Raises ValueError if the bytes end before the page's union does.

    >>> import kvmwhy
    >>> from kvmwhy.testing import delivery_failure_page
    >>> failure = kvmwhy.decode_page(delivery_failure_page(), vmm="my-vmm", vcpu=3)
    >>> failure.suberror, [hex(word) for word in failure.data[:2]]
    (3, ['0x80000b0e', '0x31'])
    """
    (failure,) = run_page.read(bytes(page)).failures
    failure = replace(failure, source=replace(failure.source, vmm=vmm, vcpu=vcpu))
    if not error:
        return failure
    return replace(failure, kind="run-error", errno=NAMES.get(error, str(error)))


def to_text(diagnosis: Diagnosis, *, depth: Literal["screen", "full", "brief"] = "full", width: int = 100) -> str:
    """The explanation as ``kvmwhy explain`` prints it: on one screen, in full, or in a line. No styles, no escapes.

    Whatever bytes a log has, none of them reaches a terminal as a control character.
    """
    from kvmwhy.render.page import to_plain

    if depth == "full":
        from kvmwhy.render.text import explanation

        return to_plain(explanation(diagnosis), width)
    from kvmwhy.render.screen import brief, screen

    return to_plain(screen(diagnosis) if depth == "screen" else brief(diagnosis), width)


def _chunks(source: bytes | str | PathLike[str]) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _ignore(_sentence: str) -> None:
    pass
