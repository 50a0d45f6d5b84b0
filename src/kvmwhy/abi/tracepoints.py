"""The tracepoints between which a vCPU is in the guest, in KVM or in its VMM, on every architecture.

arch/*/kvm/trace*.h; include/trace/events/kvm.h: kvm_userspace_exit. ppc64's are kvm_guest_enter and kvm_guest_exit,
s390x's kvm_s390_sie_enter and kvm_s390_sie_exit.
"""

from __future__ import annotations

from typing import Final

ENTRIES: Final = frozenset({"kvm_entry", "kvm_guest_enter", "kvm_s390_sie_enter"})
EXITS: Final = frozenset({"kvm_exit", "kvm_guest_exit", "kvm_s390_sie_exit"})
RETURNS: Final = frozenset({"kvm_userspace_exit", "kvmppc_run_vcpu_exit"})
