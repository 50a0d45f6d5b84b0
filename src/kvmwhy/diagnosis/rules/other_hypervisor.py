"""Another hypervisor on this host holds VT-x or SVM."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="other-hypervisor",
    family="other-hypervisor",
    title="Another hypervisor uses this CPU's virtualization",
    what=(
        "VMX and SVM are switched on for a whole CPU. A second hypervisor on the same host, VirtualBox's vboxdrv or VMware's"
        " vmmon, either finds it taken, and KVM_CREATE_VM says so, or takes it over and pulls it from under a running guest."
    ),
    recognise=(
        "KVM_CREATE_VM fails with EBUSY; or a guest that had been running dies with hardware error 0x0, when a VirtualBox or"
        " VMware machine is started or ended."
    ),
    confused_with="outer-hypervisor-entry: there the other hypervisor is outside this host, not beside KVM.",
    fix=Fix(
        host=(
            "Stop the other hypervisor's machines and unload its modules (lsmod | grep -E 'vboxdrv|vmmon'). Since Linux"
            " 6.12 KVM takes the CPU when its module is loaded: load kvm with enable_virt_at_load=0 to share it by turns."
        )
    ),
    references=(
        "virt/kvm/kvm_main.c: enable_virt_at_load (in v6.12)",
        "arch/x86/kvm/vmx/vmx.c: vmx_enable_virtualization_cpu, EBUSY when CR4.VMXE is set",
    ),
    example="ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy",
)


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    rivals = failure.host.rivals
    named = f"modules of another hypervisor are loaded on this host: {', '.join(rivals)}" if rivals else None
    if failure.kind in {"other", "setup-refused"} and failure.errno == "EBUSY":
        for_ = [
            "creating the VM failed with EBUSY: VMX or SVM is already in use on this host",
            *([named] if named else []),
        ]
        return Finding(
            CAUSE,
            "likely",
            "Another hypervisor on this host holds the CPU's virtualization, so KVM cannot create a VM; no guest ran.",
            tuple(for_),
        )
    if failure.kind != "entry-failure" or failure.hardware_error != 0:
        return None
    ran = facts.reset is not None and facts.reset.state == "ran"
    if not (ran or named):
        return None
    for_ = [facts.entry.sentence] if facts.entry else []
    if ran:
        for_.append("the guest had been running: entries had succeeded before, so something took VMX away")
    if named:
        for_.append(named)
    return Finding(
        CAUSE,
        "likely" if ran and named else "possible",
        "Another hypervisor on this host took the CPU's virtualization away from KVM.",
        tuple(for_),
        () if named else ("nothing here shows which modules are loaded (lsmod: vboxdrv, vmmon)",),
    )
