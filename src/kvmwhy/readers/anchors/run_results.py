"""What a line of JSON about a call of KVM_RUN, or about what the guest met in it, holds."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

ANCHORS: Final[Declared] = (
    '"nisv_esr_iss"', '"esr_iss"', '"guest_exception"', '"guest_trap_scause"', '"guest_vector"', '_init_errno"',
    '"create_vm_errno"', '"si_code"', '"before_init"', '"run_before_papr"', '"fault_ipa"', '"icptcode"',
    Anchor('"exit_reason"', near=('"errno"', '"words"', '"pc"'), within=400),
    Anchor('"set_reg"', near=('"errno"',), within=200),
    Anchor('"mmio"', near=('"len"',), within=100),
    Anchor('"insn"', near=('"events"',), within=200),
    Anchor('"scenario"', near=('errno"',), within=200),
)  # fmt: skip
