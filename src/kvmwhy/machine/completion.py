"""What the VMM writes into the ``kvm_run`` page to answer an exit, before it runs the vCPU again.

KVM picks the answer up at the start of the next KVM_RUN (``complete_userspace_io``). Pure.
"""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.abi.kvm_run import EXITS, exit_name
from kvmwhy.machine.errors import CompletionError
from kvmwhy.machine.exits import EXIT_REASON, Page


def _offset(number: int, name: str) -> int:
    return next(f.offset for f in EXITS[number].fields if f.name == name)


_IO, _MMIO, _RDMSR, _WRMSR = 2, 6, 29, 30
_MMIO_DATA: Final = _offset(_MMIO, "data")
# The commonest exit: its reason, len and is_write at one go.
_MMIO_HEAD: Final = struct.Struct(f"<8xI{_offset(_MMIO, 'len') - 12}xIB").unpack_from
_IO_DIRECTION: Final = _offset(_IO, "direction")
_IO_SIZE: Final = _offset(_IO, "size")
_IO_COUNT: Final = _offset(_IO, "count")
_IO_DATA_OFFSET: Final = _offset(_IO, "data_offset")
_MSR_ERROR: Final = _offset(_RDMSR, "error")
# The exits that take one u64.
_U64: Final = {
    3: _offset(3, "ret"),
    _RDMSR: _offset(_RDMSR, "data"),
    34: _offset(34, "result"),
    40: _offset(40, "ret"),
    43: _offset(43, "ret"),
}


def answer(page: Page, data: bytes) -> int:
    """The offset in the page where ``data`` belongs. Raises CompletionError if this exit does not take it."""
    reason, length, is_write = _MMIO_HEAD(page)
    if reason == _MMIO and not is_write:
        size, offset = length, _MMIO_DATA
    elif reason == _IO and not page[_IO_DIRECTION]:
        size = page[_IO_SIZE] * int.from_bytes(page[_IO_COUNT : _IO_COUNT + 4], "little")
        offset = int.from_bytes(page[_IO_DATA_OFFSET : _IO_DATA_OFFSET + 8], "little")
    elif reason in _U64:
        size, offset = 8, _U64[reason]
    else:
        raise CompletionError(f"{exit_name(reason)} asks for nothing", "a write, or no access at all: just run() again")
    if len(data) != size:
        raise CompletionError(f"{exit_name(reason)} asks for {size} bytes, here are {len(data)}")
    return offset


def refusal(page: Page) -> int:
    """The offset of the byte that says 1 for an MSR access that is refused. Raises CompletionError if it was none."""
    reason = EXIT_REASON.unpack_from(page)[0]
    if reason not in {_RDMSR, _WRMSR}:
        raise CompletionError(f"{exit_name(reason)} cannot be refused", "only an MSR access can")
    return _MSR_ERROR
