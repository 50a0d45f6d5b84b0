"""Messages of kvm-intel.ko, but for the dumps: arch/x86/kvm/vmx (vmx.c, vmx_ops.h, nested.c, hyperv*.c,
posted_intr.c).
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    # pKVM on x86, out of tree: arch/x86/kvm/vmx/pkvm/hyp, handle_exception
    message(
        "pkvm-exception",
        "fault",
        form("pkvm: exception %d on CPU%d @ip %pS (0x%px), err code 0x%lx", "vector _ function _ error"),
        form("pkvm: exception %d on CPU%d @ip %pS (0x%px), no err code", "vector _ function"),
    ),
    message(
        "vmread-failed",
        "fault",
        form("vmread failed: field=%lx", "field"),  # 5.3 on
        form("vmread error: reg %lx", "field"),
        form("vmread faulted: field=%lx", "field"),
    ),
    message(
        "vmwrite-failed",
        "fault",
        form("vmwrite failed: field=%lx val=%lx err=%u", "field value error"),  # 5.3 on
        form("vmwrite error: reg %lx value %lx (err %d)", "field value error"),  # until 5.2
    ),
    message(
        "vmclear-failed",
        "fault",
        form("vmclear failed: %p/%llx err=%u", "_ address error"),  # 5.16 on
        form("vmclear failed: %p/%llx", "_ address"),  # 5.3 to 5.15
        form("vmclear fail: %p/%llx", "_ address"),  # until 5.2
    ),
    message(
        "vmptrld-failed",
        "fault",
        form("vmptrld failed: %p/%llx err=%u", "_ address error"),  # 5.16 on
        form("vmptrld failed: %p/%llx", "_ address"),  # 5.3 to 5.15
        form("vmptrld %p/%llx failed", "_ address"),  # until 5.2
        form("%s: enlightened vmptrld failed"),
    ),
    message("invvpid-failed", "fault", form("invvpid failed: ext=0x%lx vpid=%u gva=0x%lx", "type vpid gva")),
    message(
        "invept-failed",
        "fault",
        form("invept failed: ext=0x%lx eptp=%llx gpa=0x%llx", "type eptp gpa"),
        form("invept failed: ext=0x%lx eptp=%llx", "type eptp"),
    ),
    message("vmxon-failed", "fault", form("VMXON faulted, MSR_IA32_FEAT_CTL (0x3a) = 0x%llx", "feature_control")),
    message(
        "evmcs-field",
        "fault",
        form("KVM: accessing unsupported EVMCS field %lx", "field"),  # until 6.2
        form("accessing unsupported EVMCS field %lx", "field"),
    ),
    message("evmcs-control", "note", form("%s unsupported with eVMCS: 0x%llx", "control bits")),
    message(
        "evmcs-used",
        "note",
        form("KVM: vmx: using Hyper-V Enlightened VMCS"),
        form("vmx: using Hyper-V Enlightened VMCS"),
        form("Using Hyper-V Enlightened VMCS"),
    ),
    message("vmcs-dump-off", "note", form("set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.")),
    message(
        "nested-vmx-abort",
        "fault",
        form("nested vmx abort, indicator %d", "indicator"),
        form("nested vmx abort, indicator %u", "indicator"),
    ),
    message(
        "nested-msr-list",
        "guest",
        form("%s cannot read MSR entry (%u, 0x%08llx)", "_ index address"),
        form("%s check failed (%u, 0x%x, 0x%x)", "_ index msr reserved"),
        form("%s cannot read MSR (0x%x)", "_ msr"),
        form("%s cannot write MSR (%u, 0x%x, 0x%llx)", "_ index msr value"),
        form("%s WRMSR failed (%u, 0x%x, 0x%llx)", "_ index msr value"),
        form("%s read MSR index failed (%u, 0x%08llx)", "_ index address"),
        form("%s read MSR failed (%u, 0x%08llx)", "_ index address"),
    ),
    message(
        "nested-apic-page",
        "guest",
        form("%s: no backing 'struct page' for APIC-access address in vmcs12"),
        form("%s: no backing for APIC-access address in vmcs12"),
    ),
    message(
        "nested-shadow-field",
        "fault",
        form("Missing field from shadow_read_write_field %x", "field"),
        form("Missing field from shadow_read_only_field %x", "field"),
    ),
    message(
        "msr-list-full",
        "fault",
        form("Not enough msr switch entries. Can't add msr %x", "msr"),
        form("Not enough msr entries in msr_autostore.  Can't add msr %x", "msr"),
        form("Not enough mst switch entries. Can't add msr %x", "msr"),
    ),
    message(
        "msr-not-passed-through", "fault", form("Invalid MSR %x, please adapt vmx_possible_passthrough_msrs[]", "msr")
    ),
    message(
        "nmi-blocked", "guest", form("%s: Breaking out of NMI-blocked state on VCPU %d after 1 s timeout", "_ vcpu")
    ),
    message("tss-fixed", "note", form("%s: tss fixup for long mode.")),
    message(
        "segment-base-odd",
        "note",
        form("segment base is not paragraph aligned when entering protected mode (seg=%d)", "segment"),
    ),
    message("tss-address-missing", "fault", form("KVM_SET_TSS_ADDR need to be called before entering vcpu")),
    message("guest-cr0-ts", "fault", form("Guest always owns CR0.TS"), form("Guest should always own CR0.TS")),
    message("apic-state-invalid", "fault", form("Invalid local APIC state")),
    message("virtualization-exception", "fault", form("Unexpected #VE on VM-Exit reason 0x%x", "reason")),
    message("virtualization-exception-walk", "note", form("VM-Enter %llx, spte[%d] = 0x%llx", "gpa level spte")),
    message(
        "virtualization-exception-info",
        "note",
        form(
            "ve_info: 0x%08x 0x%08x 0x%016llx 0x%016llx 0x%016llx 0x%04x", "reason _ qualification gva gpa eptp_index"
        ),
    ),
    message(
        "exit-interrupt-odd",
        "fault",
        form("KVM: unexpected VM-Exit interrupt info: 0x%x", "intr_info"),
        form("unexpected VM-Exit interrupt info: 0x%x", "intr_info"),
    ),
    message(
        "posted-interrupt",
        "fault",
        form("Wakeup handler not enabled while the VCPU is blocked"),
        form("Warning: SN field of posted-interrupts is set before blocking"),
        form("PI descriptor SN field set before blocking"),
        form("%s: failed to update PI IRTE"),
    ),
    message("guest-irq-without-route", "note", form("no route for guest_irq %u/%u (broken user space?)", "irq size")),
    message("lbr-not-passed-through", "note", form("vcpu-%d: fail to passthrough LBR.", "vcpu")),
    message(
        "global-control-broken",
        "note",
        form("VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL does not work properly. Using workaround"),
    ),
    message(
        "sgx-provision-key",
        "note",
        form("KVM: SGX PROVISIONKEY advertised but not allowed"),
        form("SGX PROVISIONKEY advertised but not allowed"),
    ),
    message(
        "virtualization-off",
        "refusal",
        form("VMX is disabled on CPU %d", "cpu"),  # 5.6 to 6.2
        form("VMX not enabled (by BIOS) in MSR_IA32_FEAT_CTL on CPU %d", "cpu"),  # 6.3 on
        form("VMX not fully enabled on CPU %d.  Check kernel logs and/or BIOS", "cpu"),  # 7.x
    ),
    message(
        "no-virtualization",
        "refusal",
        form("VMX not supported by CPU %d", "cpu"),
        form("VMX not supported by CPU%d", "cpu"),
    ),
    message("nx-missing", "refusal", form("NX (Execute Disable) not supported")),
    message(
        "vmx-capability",
        "refusal",
        form("CPU %d feature inconsistency!", "cpu"),
        form("Failed to setup VMCS config on CPU %d", "cpu"),
        form("Inconsistent VMCS config on CPU %d", "cpu"),
        form("VMCS config on CPU %d doesn't match reference config:", "cpu"),
        form("Inconsistent VM-Entry/VM-Exit pair, entry = %llx (%llx), exit = %llx (%llx)", "entry _ exit"),
        form("Inconsistent VM-Entry/VM-Exit pair, entry = %x, exit = %x", "entry exit"),
        form("EPT CAP should not exist if not support 1-setting enable EPT VM-execution control"),
        form("VPID CAP should not exist if not support 1-setting enable VPID VM-execution control"),
        form("BNDCFGS in host will be lost"),
        form("KVM: BNDCFGS in host will be lost"),
        form("%pGg allocation from offline node %d"),
    ),
    message(
        "enclave-exit",
        "fault",
        form("KVM: unexpected exit on ENCLS[%u]", "leaf"),
        form("unexpected exit on ENCLS[%u]", "leaf"),
        form("KVM: skipping instruction after SGX enclave VM-Exit"),
        form("skipping instruction after SGX enclave VM-Exit"),
    ),
)
