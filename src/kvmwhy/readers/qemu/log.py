"""QEMU's report of a KVM failure, of any age: the banner, the words, the register dump, the code.

The lines of several vCPU threads may follow each other in any order. Tokens are therefore read in
sequence and put together afterwards; what could belong to two vCPUs is given to one only with a remark.

Formats: qemu accel/kvm/kvm-all.c and target/i386/{kvm/kvm.c,cpu-dump.c} of 2.x … 10.2; the words
were unpadded and without 0x until 6.1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from kvmwhy.abi.internal_error import MAX_NDATA, least_words
from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.anchors.qemu import OLD_DUMPS, OTHER_ARCHES, RARE
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.qemu.banner import ERRNO, ERRNO_NUMBERS, Banner, Heads, errno_of
from kvmwhy.readers.qemu.pairing import pair
from kvmwhy.readers.qemu.registers_strict import CODE, END, SEGMENTS
from kvmwhy.readers.qemu.registers_tolerant import ORDER, Dump, Dumps
from kvmwhy.record import Cpu, Failure, Source

if TYPE_CHECKING:
    from kvmwhy.readers.arch_clues import Clue
    from kvmwhy.readers.qemu.qemu_kvm_dump import OldDump
    from kvmwhy.readers.qemu.registers_other_arch import ArchDump

# What a token is, is the group that matched. The first letters of "error", "emulation" and "extra"
# are left out: they are hex digits, and may be glued to a value. Mail may fold at any space.
_NUMBER: Final = rf"([0-9a-f]{{16}}{END}|[0-9a-f]{{0,15}}(?![0-9a-z]))?"
_TOKEN: Final = re.compile(
    rf"(?P<word>xtra\s+data\s?\[([0-9]{{1,2}})\]:\s*(?:0x)?{_NUMBER})"
    r"|(?<!Sysenter )(?<!:)\b(?P<field>([A-Z][A-Z0-9]{1,3})\s?=(?!\s{0,64}0x)"
    rf"\s{{0,64}}([0-9a-f]{{1,16}}){END}((?:\s{{1,64}}(?:[0-9a-f]{{16}}|[0-9a-f]{{8}}){END}){{0,3}}))"
    rf"|(?P<code>{CODE})"
    # another thread's line may have cut off its beginning
    r"|(?P<suberror>(?:KVM\s+internal\s+e)?rror\.\s*Suberror:\s*)"
    r"|(?P<tail>mulation\s+failure)"
    r"|(?P<entry>KVM:\s+entry\s+failed,\s+hardware\s+error\s*)"
    r"|(?P<unknown>KVM:\s+unknown\s+exit,\s+hardware\s+reason\s*)"
    r"|(?P<other>KVM:\s+unknown\s+exit\s+reason\s*)"
    r"|(?P<exception>KVM:\s+exception\s)"
    r"|(?P<run>kvm\s+run\s+failed\s)"
    r"|(?P<unhandled>kvm:\s+unhandled\s+exit\s+)"
    r"|(?P<returned>kvm_run\s+returned\s+-)"
    r"|(?P<unexpected>unexpected\s+exit\s+reason\s+0x)"
    r"|(?P<restart>: (?:starting up libvirt|shutting down, reason=))"
)
_WORD: Final = _TOKEN.groupindex["word"]
_FIELD: Final = _TOKEN.groupindex["field"]
_CODE: Final = _TOKEN.groupindex["code"]

# Words on lines that follow each other, as nearly always.
_WORDS: Final = re.compile(r"\s?(?:\nextra data\[[0-9]{1,2}\]: 0x[0-9a-f]{16}\b)+")
_WORD_IN_LINE: Final = re.compile(r"\[([0-9]+)\]: 0x([0-9a-f]{16})")

_INDEXES: Final = [str(n) for n in range(MAX_NDATA)]

_HEX: Final = deferred(r"(?:0x)?([0-9a-f]{1,16})(?![0-9a-z])")
_DECIMAL: Final = re.compile(r"([0-9]{1,10})(?![0-9a-z])")
_EXCEPTION: Final = deferred(r"([0-9]{1,3})\s+exit\s+\(error\s+code\s+(?:0x)?([0-9a-f]{1,8})\)")

_TAIL: Final = "emulation failure"
_BEGINNINGS: Final = (
    "KVM internal error. Suberror:",
    *(f"extra data[{n}]:" for n in range(MAX_NDATA)),
    _TAIL,
    "KVM: entry failed, hardware error",
    "KVM: unknown exit, hardware reason",
    "KVM: unknown exit reason",
    "KVM: exception",
    "error: kvm run failed",
    "RAX=",
    "EAX=",
)


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Every failure in the text, in order. A dump without a banner is a failure of kind "other"."""
    body = text.text
    reader = _Reader(body, [])
    reader.run()
    rest = "".join(reader.rest)  # as a rule short: searched instead of all that was read
    other_arches, rare, old = _seldom(rest) if len(rest) < _SHORT else _find_seldom(rest)
    others = _of_other_arches(body) if other_arches else []
    if others:
        reader = _Reader(body, others)
        reader.run()
    heads, dumps = reader.heads.found, reader.dumps.found
    heads += _rare_banners(body) if rare else ()
    dumps += _old_dumps(body, others) if old else ()
    host = host_of(rest)
    failures = []
    line, counted = first_line, 0
    for banner, dump, shared in pair(body, rest, heads, dumps, reader.restarts):
        line += body.count("\n", counted, banner.at)
        counted = banner.at
        outcome = banner.outcome()
        seen = outcome.pop("cpu", None)
        lost = _lost_words(outcome, host.kernel)
        arch, arch_from = _arch(body, banner, dump)
        failures.append(
            Failure(
                arch=arch,
                arch_from=arch_from,
                source=Source(path=path, line=line, vmm="qemu", vcpu=_vcpu(banner, dump)),
                cpu=dump.cpu() if dump else seen,
                cpu_shared=shared,
                code=dump.code if dump else None,
                host=host,
                repairs=text.repairs,
                damage=(*banner.damage, *lost, *(dump.damage if dump else ())),
                **outcome,
            )
        )
    damage = _torn_end(body)
    if damage and failures:
        failures[-1] = replace(failures[-1], damage=(*failures[-1].damage, *damage))
    return Evidence(tuple(failures), damage, format="QEMU log" if failures or damage else None)


def _find_seldom(text: str) -> list[bool]:
    """Whether dumps of other architectures, rare announcements and dumps of qemu-kvm may be there."""
    return [any(anchor in text for anchor in anchors) for anchors in (OTHER_ARCHES, RARE, OLD_DUMPS)]


_SHORT: Final = 512
_seldom = lru_cache(maxsize=256)(_find_seldom)  # what stands around the registers of one failure stands around many


# What few logs hold is imported for those.


def _of_other_arches(text: str) -> list[ArchDump]:
    from kvmwhy.readers.qemu.registers_other_arch import find_arch_dumps

    return find_arch_dumps(text)


def _rare_banners(text: str) -> Iterator[Banner]:
    from kvmwhy.readers.qemu.rare_banners import find_rare_banners

    return find_rare_banners(text)


def _old_dumps(text: str, others: list[ArchDump]) -> Iterator[Dump]:
    from kvmwhy.readers.qemu.qemu_kvm_dump import find_old_dumps

    return map(_adopted, _outside(find_old_dumps(text), others))


def _arch(text: str, banner: Banner, dump: Dump | None) -> Clue:
    if dump is not None and (dump.values or dump.whole):
        return dump.arch, "register names"
    if banner.arch is not None:
        return banner.arch, "the announcement"
    if banner.kind in {"internal-error", "entry-failure", "exception-exit"}:
        return "x86", "the announcement"
    from kvmwhy.readers.arch_clues import arch_of

    return arch_of(text, banner.at, banner.fields.get("errno"))


def _vcpu(banner: Banner, dump: Dump | None) -> int | None:
    return dump.vcpu if banner.vcpu is None and dump else banner.vcpu


def _lost_words(outcome: dict[str, Any], kernel: str | None) -> tuple[str, ...]:
    """Nothing else tells that the last line of the words is missing; then their number is not known either."""
    if not kernel or outcome.get("ndata") is None or outcome.get("suberror") is None:
        return ()
    least = least_words(outcome["suberror"], kernel)
    if not 0 < outcome["ndata"] < least:
        return ()
    there, outcome["ndata"] = outcome["ndata"], None
    return (f"Linux {kernel} writes at least {least} words, and {there} are shown: the last are missing",)


def _adopted(old: OldDump) -> Dump:
    """A dump of qemu-kvm's own form, among the others."""
    dump = Dump(old.at, over=None)
    dump.whole, dump.code, dump.damage = old.cpu, old.code, list(old.damage)
    return dump


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _outside(old_dumps: list[OldDump], others: list[ArchDump]) -> Iterator[OldDump]:
    """Those that are not in a dump of another architecture: loongarch prints r8 to r15 in lower case, too."""
    starts = [other.at for other in others]
    for old in old_dumps:
        before = bisect_right(starts, old.at) - 1
        if before < 0 or others[before].end <= old.at:
            yield old


def _of_other_arch(arch_dump: ArchDump) -> Dump:
    dump = Dump(arch_dump.at, over=None)
    dump.arch, dump.damage, dump.vcpu = arch_dump.arch, list(arch_dump.damage), arch_dump.vcpu
    dump.whole = Cpu(registers=arch_dump.registers)
    return dump


def _torn_end(text: str) -> tuple[str, ...]:
    """A last line that stops inside the words which announce a failure."""
    last = text[text.rfind("\n") + 1 :][:80].strip()
    if last and last != _TAIL and any(head.startswith(last) for head in _BEGINNINGS):
        return (f"the text ends in the middle of a line: {last!r}",)
    return ()


class _Reader:
    """One pass over the tokens of a text."""

    def __init__(self, text: str, others: list[ArchDump]) -> None:
        self.text = text
        self.others = others[::-1]  # the next one last
        self.heads = Heads()
        self.dumps = Dumps()
        self.restarts: list[int] = []
        self.rest: list[str] = []  # what is no intact dump, and no words

    def run(self) -> None:
        text, heads, dumps = self.text, self.heads, self.dumps
        at, rest, begun, search = 0, 0, 0, _TOKEN.search
        while token := search(text, at):
            start, at = token.span()
            if self.others and self.others[-1].at <= start:
                at = self._other_arch(self.others.pop())
                begun = len(dumps.found)
                continue
            kind = token.lastindex
            if kind == _WORD:
                self._word(start, at, *token.group(_WORD + 1, _WORD + 2))
            elif kind == _FIELD:
                name, first, more = token.group(_FIELD + 1, _FIELD + 2, _FIELD + 3)
                if name in {"RAX", "EAX"} and (end := dumps.whole(text, start)):
                    self.rest.append(text[rest:start])
                    at = rest = end
                elif name == "CR0" and len(first) == 16:
                    at = _end_of_line(text, at)  # host state of a VMCS dump: QEMU prints eight digits
                elif name in SEGMENTS and not more and token[_FIELD][len(name)] == "=":
                    pass  # likewise: QEMU pads the name, and prints more than the selector
                elif name in ORDER:
                    dumps.field(start, name, [first, *more.split()] if more else [first], last=at == len(text))
            elif kind == _CODE:
                dumps.code(start, token[_CODE + 1])
            elif token.lastgroup == "suberror":
                words, at = self._suberror(start, at)
                if at > words:
                    self.rest.append(text[rest:words])
                    rest = at
            else:
                self._head(start, str(token.lastgroup), at)
            if len(dumps.found) > begun:
                begun = len(dumps.found)
                heads.dump()
        while self.others:
            self._other_arch(self.others.pop())
        self.rest.append(text[rest:])
        heads.end()
        dumps.end()

    def _other_arch(self, arch_dump: ArchDump) -> int:
        """Take a dump of another architecture; return where it ends: R12= is a register of two architectures."""
        self.dumps.end()
        self.dumps.found.append(_of_other_arch(arch_dump))
        self.heads.dump()
        return arch_dump.end

    def _word(self, start: int, end: int, index: str, digits: str | None) -> None:
        # Until 6.1 the words had no fixed width: at the very end of a text one may be cut.
        cut = not digits or (end == len(self.text) and len(digits) < 16)
        self.heads.word(start, int(index), None if cut or digits is None else int(digits, 16), digits or "")

    def _suberror(self, at: int, end: int) -> tuple[int, int]:
        """Take the banner, and the words if no other failure waits for any; return where these begin and end."""
        number = _DECIMAL.match(self.text, end)
        if number is None:
            if self.text.startswith("KVM", at):
                banner = self.heads.add(Banner(at, "internal-error", suberror=None))
                banner.damage.append("the number of the suberror is cut")
            return end, end
        alone = not self.heads.open
        banner = self.heads.add(Banner(at, "internal-error", suberror=int(number[1])))
        end = number.end()
        if alone and (block := _WORDS.match(self.text, end)):
            words = _WORD_IN_LINE.findall(block[0])
            if [index for index, _ in words] == _INDEXES[: len(words)]:
                banner.data = [int(digits, 16) for _, digits in words]
                return end, block.end()
        return end, end

    def _head(self, at: int, what: str, end: int) -> None:
        heads = self.heads
        match what:
            case "tail":
                heads.tail()
            case "entry":
                self._entry(at, end)
            case "unknown":
                self._numbered(at, "unknown-exit", "hardware_reason", self._hex(end), exit_reason=0)
            case "other":
                # Printed in decimal: a KVM_EXIT_* that this QEMU does not know.
                number = _DECIMAL.match(self.text, end)
                whole = number is not None and number.end() < len(self.text)
                self._numbered(at, "other", "exit_reason", int(number[1]) if number and whole else None)
            case "exception":
                self._exception(at, end)
            case "run":
                self._run_error(at, end)
            case "unhandled":
                self._unhandled(at, end)
            case "returned":
                self._returned(at, end)
            case "unexpected":
                self._unexpected(end)
            case "restart":
                self.restarts.append(at)
                heads.forget()
                self.dumps.end()

    def _hex(self, end: int) -> int | None:
        """The number, unless the text ends with it: it has no fixed width and may be cut."""
        number = _HEX.match(self.text, end)
        return int(number[1], 16) if number and number.end() < len(self.text) else None

    def _numbered(self, at: int, kind: str, name: str, value: int | None, **more: int) -> None:
        banner = self.heads.add(Banner(at, kind, **{name: value}, **more))
        if value is None:
            banner.damage.append("the number in this line is cut")

    def _entry(self, at: int, end: int) -> None:
        number = _HEX.match(self.text, end)
        value = int(number[1], 16) if number else None
        if number and number.end() == len(self.text):
            # 0x80 may be the beginning of 0x80000021; 0x7 or 0x0 is nothing's beginning.
            value = None if number[1][0] in "89abcdef" and len(number[1]) < 8 else value
            value = value if number[0].startswith("0x") else None
        self._numbered(at, "entry-failure", "hardware_error", value, exit_reason=9)

    def _exception(self, at: int, end: int) -> None:
        if match := _EXCEPTION.match(self.text, end):
            vector, code = int(match[1]), int(match[2], 16)
            self.heads.add(Banner(at, "exception-exit", exception=vector, exception_error_code=code, exit_reason=1))
        elif self.text.find("\n", end) < 0 and self.text[end : end + 1].isdecimal():
            self.heads.add(Banner(at, "exception-exit", exit_reason=1)).damage.append("the line is cut")

    def _unhandled(self, at: int, end: int) -> None:
        """The old qemu-kvm's line for both kinds; it is told by the bit that marks a failed entry."""
        value = self._hex(end)
        if value is not None and value >> 31 & 1:
            self._numbered(at, "entry-failure", "hardware_error", value, exit_reason=9)
        else:
            self._numbered(at, "unknown-exit", "hardware_reason", value, exit_reason=0)

    def _returned(self, at: int, end: int) -> None:
        """qemu-kvm says this behind each failure, with an errno that is KVM_RUN's only if nothing else is announced."""
        number = _DECIMAL.match(self.text, end)
        if name := ERRNO_NUMBERS.get(int(number[1])) if number else None:
            self.heads.add(Banner(at, "run-error", errno=name)).echo = True

    def _unexpected(self, end: int) -> None:
        last = self.heads.found[-1] if self.heads.found else None
        value = self._hex(end)
        if value is not None and last and last.fields.get("suberror") == 4 and not last.data and not last.closed:
            last.data.append(value)
            last.tear("the exit reason was taken from the kernel's message beside the banner")

    def _run_error(self, at: int, end: int) -> None:
        message = " ".join(self.text[end : end + 80].split())
        is_line = self.text.endswith("rror: ", 0, at)  # upstream QEMU has "error: "; qemu-kvm and reports may not
        known = errno_of(message)
        if known is None and not is_line:
            return
        errno, words = known or (None, "")
        if len(self.text) - end < 80 and "\n" not in self.text[end:]:
            # "or address" may have been cut off.
            errno = None if any(w.startswith(message) and w != words for w in ERRNO) else errno
        banner = self.heads.add(Banner(at, "run-error", errno=errno))
        banner.quoted = not is_line
        if errno is None:
            line = self.text[end : end + 80].partition("\n")[0].strip()
            banner.damage.append(f"the error {line[:60]!r} is not one that kvmwhy knows")
