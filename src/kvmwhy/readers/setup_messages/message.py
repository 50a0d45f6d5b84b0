"""Every message of a refused set-up in a text, in order: those of the tables, then those of other words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

from kvmwhy.ingest.multi_search import present
from kvmwhy.readers.errno_spelled import find_errno, name_of
from kvmwhy.readers.setup_messages import (
    confidential,
    gem5,
    host,
    other_vmms,
    qemu,
    qemu_arches,
    qemu_hyperv,
    qemu_riscv,
    tolerant,
)
from kvmwhy.readers.setup_messages.form import Form
from kvmwhy.record import Arch

FORMS: Final[tuple[Form, ...]] = (
    *qemu.FORMS, *qemu_hyperv.FORMS, *qemu_riscv.FORMS, *qemu_arches.FORMS, *confidential.FORMS,
    *other_vmms.FORMS, *gem5.FORMS, *host.FORMS,
)  # fmt: skip
MOST: Final = 20_000
_BESIDE: Final = 300
# A line of the tables' own source, or of a patch: printf's conversions stand where the values should.
_CODE: Final = re.compile(
    r"%(?:s|d|[0-9]*l{0,2}[xud])\b|PRI[xud][0-9A-Z]{1,4}|\berrp?,|^[ \t]*//|error_(?:report|setg)|fprintf\("
    r"|pr_(?:err|warn|info)|#\[(?:error|source)|\bbail!|\becho\b|\bgrep\b|\be\.into\(\)|\{[0-9a-z_]{0,12}(?::[#x?]{1,3})?\}",
    re.MULTILINE,
)
_NUMBER: Final = re.compile(r"-?(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,20})")
_WIDEST: Final = 1 << 64


class Message(NamedTuple):
    """One line about a refusal."""

    at: int
    end: int
    call: str
    detail: str
    errno: str | None
    follows: bool
    vmm: str | None
    arch: Arch | None
    fields: dict[str, int | str]


def messages(text: str) -> list[Message]:
    """In the order of the text; no two of one place."""
    exact = _exact(text)
    taken = sorted((message.at, message.end) for message in exact)
    in_order = [*exact, *_tolerant(text, taken)]
    in_order.sort(key=lambda message: message.at)
    return in_order[:MOST]


def _exact(text: str) -> list[Message]:
    matches = []
    for order in sorted(_forms_in(text)):
        form = FORMS[order]
        matches += [(m.start(), order, form, m) for m in islice(form.pattern.finditer(text), MOST)]
    matches.sort(key=lambda item: item[:2])
    apart: list[tuple[Form, re.Match[str]]] = []
    for start, _, form, match in matches:
        if not apart or start >= apart[-1][1].end():
            apart.append((form, match))
    exact: list[Message] = []
    for n, (form, match) in enumerate(apart):
        until = apart[n + 1][1].start() if n + 1 < len(apart) else len(text)
        if not _is_source(text, match):
            exact.append(_of_form(text, form, match, until))
    return exact


def _is_source(text: str, match: re.Match[str]) -> bool:
    """Printf's conversions, or a comment's mark, stand before or behind it on its line."""
    start, end = match.span()
    begin = max(text.rfind("\n", max(0, start - _BESIDE), start) + 1, start - _BESIDE, 0)
    stop = min(_line_end(text, end), end + _BESIDE)
    return _CODE.search(text, begin, start) is not None or _CODE.search(text, end, stop) is not None


def _forms_in(text: str) -> set[int]:
    """The forms, by number, of which the text holds an anchor, be it folded onto the next line."""
    find, owners = _search()
    return {owners[which] for which in find(unfolded(text).encode("utf-8", "replace"))}


def unfolded(text: str) -> str:
    """The words of a text with one blank between them."""
    return " ".join(text.split())


@cache
def _search() -> tuple[Callable[[bytes], set[int]], tuple[int, ...]]:
    each = [(anchor.encode(), order) for order, form in enumerate(FORMS) for anchor in form.anchors]
    return present([anchor for anchor, _ in each]), tuple(order for _, order in each)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at, at + 4096)
    return min(len(text), at + 4096) if end < 0 else end


def _of_form(text: str, form: Form, match: re.Match[str], until: int) -> Message:
    groups = {name: value for name, value in match.groupdict().items() if value is not None}
    fields = {name: value for name, raw in groups.items() if (value := _value(name, raw)) is not None}
    call = _call(form, groups)
    return Message(
        match.start(), match.end(), call, form.detail, _errno(text, form, match, groups, until), form.follows, form.vmm,
        _arch(form, call), fields,
    )  # fmt: skip


def _value(name: str, raw: str) -> int | str | None:
    if name in {"capability", "missing", "module", "command", "what", "variant"} or (
        name == "register" and not _NUMBER.fullmatch(raw)
    ):
        return " ".join(raw.split()).strip(" ,.")
    if name in {"call", "verb", "snp"} or not _NUMBER.fullmatch(raw):
        return None
    number = int(raw, 16 if "x" in raw or name == "fwx" else 10)
    return number if -_WIDEST < number < _WIDEST else None


def _call(form: Form, groups: dict[str, str]) -> str:
    named = groups.get("call")
    if named is not None:
        named = named.removeprefix("KVM_") if "SEV" in named else named
        return named if named.startswith(("KVM_", "SEV_", "SNP_")) else f"SEV_{named}"
    if "variant" in groups:
        return _of_variant(groups["variant"])
    if groups.get("verb") == "GET":
        return form.call.replace("SET", "GET")
    if "snp" in groups and form.call == "SEV_INIT":
        return "SNP_INIT"
    return form.call


def _of_variant(name: str) -> str:
    """SNP_LAUNCH_START of SnpLaunchStart, KVM_TDX_INIT_VM of TdxInitVm."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper().removeprefix("SEV_SNP").lstrip("_")
    if words.startswith(("TDX", "INITIALIZE_TDX", "FINALIZE_TDX")):
        return "KVM_" + {"INITIALIZE_TDX": "TDX_INIT_VM", "FINALIZE_TDX": "TDX_FINALIZE_VM"}.get(words, words)
    if words.startswith(("SNP_", "SEV_")):
        return words
    return "SNP_INIT" if "INIT" in words else f"SNP_{words}"


def _errno(text: str, form: Form, match: re.Match[str], groups: dict[str, str], until: int) -> str | None:
    """By ``ret``, else by the words behind the message and before the next one, on its line or folded."""
    ret = groups.get("ret")
    if ret is not None and int(ret) < -1:
        return name_of(int(ret))
    end = _line_end(text, match.end())
    if spelled := find_errno(text, match.start(), min(end, until)):
        return spelled.name
    if not text[match.end() : end].strip(" :\"'`)") and (folded := find_errno(text, end, min(until, end + 60))):
        between = text[end : folded.start].strip()
        return folded.name if not between else form.errno
    return form.errno


_X86: Final = frozenset(
    {
        "msr",
        "special-registers",
        "xsave",
        "xcrs",
        "nested-state",
        "disabled-by-bios",
        "pit",
        "vmxon-failed",
        "enable-failed",
    }
)
_ARM64: Final = frozenset({"vgic", "no-hyp-mode", "pvtime", "pmu", "gic-state"})
_BY_DETAIL: Final[dict[str, Arch]] = {
    **dict.fromkeys(_X86, "x86"), **dict.fromkeys(_ARM64, "arm64"),
    "pgste": "s390x", "protected-virtualization": "s390x", "s390-capability": "s390x", "aia": "riscv64",
    "hash-table": "ppc64", "ppc-capability": "ppc64",
}  # fmt: skip


def _arch(form: Form, call: str) -> Arch | None:
    if call.startswith(("SEV", "SNP", "KVM_TDX")):
        return "x86"
    if call.startswith("KVM_S390_"):
        return "s390x"
    return form.arch or _BY_DETAIL.get(form.detail)


def _tolerant(text: str, taken: list[tuple[int, int]]) -> list[Message]:
    found: list[Message] = []
    n = 0
    for start, end in tolerant.lines_of_interest(text):
        while n < len(taken) and taken[n][1] <= start:
            n += 1
        if n < len(taken) and taken[n][0] < end:
            continue  # a table has this line
        refusal = tolerant.read_line(text, start, end)
        if refusal is not None:
            found.append(
                Message(
                    refusal.at,
                    refusal.end,
                    refusal.call,
                    refusal.detail,
                    refusal.errno,
                    False,
                    None,
                    _BY_DETAIL.get(refusal.detail),
                    {},
                )
            )
            if len(found) >= MOST:
                break
    return found
