"""The ring buffer that illumos KVM keeps for each vCPU, as mdb prints it: time, CPU, thread, tag, value.

    ffffff2e1f62acc0 11807236249037355   8 ffffff2ca17a5b60 efail-1 fffff80001516ed3

Three entries tell of an instruction that its emulator could not carry out: ``efail-1`` is RIP, ``efail-2`` the
first eight bytes there, little endian (kvm_x86.c of illumos-kvm, KVM_RINGBUF_TAG_EMUFAIL0 to 2). That port is
for Intel only.
"""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.record import Cpu, Emulation, Failure, Host, Source

_LINE: Final = re.compile(
    r"\b([0-9]{4,20}) +[0-9]{1,4} +([0-9a-f]{8,16}) efail-([012]) +([0-9a-f]{1,16})(?![0-9a-z])", re.MULTILINE
)
_HOST: Final = Host(vendor="vmx", vendor_from="illumos KVM runs on Intel's processors only")
_LEGACY: Final = 1 << 32  # a RIP beyond it exists in 64-bit code only
_MOST: Final = 100_000


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One failure for each time that all of RIP and bytes are there, thread by thread."""
    rips: dict[str, tuple[int, int]] = {}
    failures: list[Failure] = []
    line, counted = first_line, 0
    for match in _LINE.finditer(text.text):
        _, thread, tag, digits = match.groups()
        line += text.text.count("\n", counted, match.start())
        counted = match.start()
        value = int(digits, 16)
        if tag == "0":
            rips.pop(thread, None)
        elif tag == "1" and len(rips) < _MOST:
            rips[thread] = (value, line)
        elif tag == "2" and thread in rips and len(failures) < _MOST:
            rip, at = rips.pop(thread)
            failures.append(_failure(rip, value.to_bytes(8, "little"), text, path, at))
    return Evidence(tuple(failures), format="illumos KVM ring buffer" if failures else None)


def _failure(rip: int, insn: bytes, text: Text, path: str | None, line: int) -> Failure:
    mode = "long64" if rip >= _LEGACY else None
    return Failure(
        kind="internal-error",
        source=Source(path=path, line=line, vmm="qemu"),
        suberror=1,
        ndata=0,  # that port never fills in any
        exit_reason=17,
        cpu=Cpu(registers={"rip": rip}, wide=True if mode else None),
        emulation=Emulation(rip=rip, cs_base=0, insn=insn, mode=mode),  # type: ignore[arg-type]  # one of its names
        host=_HOST,
        repairs=text.repairs,
    )
