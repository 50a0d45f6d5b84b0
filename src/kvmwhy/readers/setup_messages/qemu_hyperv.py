"""QEMU's messages of Hyper-V flags that KVM does not give: target/i386/kvm/kvm.c of 2.9 to 10.2."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.setup_messages.form import Form, form, forms

_VCPU: Final = "target/i386/kvm/kvm.c: hyperv_init_vcpu"

FORMS: Final[tuple[Form, ...]] = (
    form(
        "KVM_GET_SUPPORTED_HV_CPUID",
        "hyperv",
        r"Hyper-V [^\n]{2,60}? (?:\(requested by '(?P<register>hv-[a-z0-9-]{2,30})' cpu flag\) )?is not supported"
        r" by kernel",
        "is not supported by kernel",
        source="target/i386/kvm/kvm.c: hv_cpuid_check_and_set, kvm_hyperv_expand_features, hyperv_init_vcpu",
        vmm="qemu",
    ),
    form(
        "KVM_ENABLE_CAP",
        "evmcs",
        r"eVMCS version range \[[0-9]{1,3}\.\.[0-9]{1,3}\] is not supported by kernel"
        r" \(supported: \[[0-9]{1,3}\.\.[0-9]{1,3}\]\)",
        "eVMCS version range",
        source=_VCPU,
        vmm="qemu",
        errno="EOPNOTSUPP",
    ),
    form(
        "KVM_CHECK_EXTENSION",
        "missing-capability",
        r"kernel doesn't allow setting (?P<capability>HyperV VP_INDEX)",
        "setting HyperV VP_INDEX",
        source="hw/i386/x86-common.c: x86_cpu_pre_plug (hw/i386/pc.c: pc_cpu_pre_plug)",
        vmm="qemu",
    ),
    form(
        "KVM_GET_MSRS",
        "hyperv",
        r"kernel's vp_index != QEMU's vp_index",
        "kernel's vp_index",
        source=_VCPU,
        vmm="qemu",
        errno="ENXIO",
    ),
    form(
        "KVM_ENABLE_CAP",
        "hyperv",
        r"failed to (?:turn on|create) HyperV SynIC",
        "HyperV SynIC",
        source=_VCPU,
        vmm="qemu",
    ),
    form(
        "KVM_ENABLE_CAP",
        "hyperv",
        r"failed to enable KVM_CAP_HYPERV_ENFORCE_CPUID",
        "HYPERV_ENFORCE_CPUID",
        source=_VCPU,
        vmm="qemu",
    ),
    *forms(
        "KVM_GET_SUPPORTED_HV_CPUID",
        "hyperv",
        (r"Hyper-V [^\n]{2,80}? requires Hyper-V [^\n]{2,80}", "requires Hyper-V"),
        (r"VMBus requires usable Hyper-V SynIC", "usable Hyper-V SynIC"),
        source="target/i386/kvm/kvm.c: hv_feature_check_deps; hw/hyperv/vmbus.c",
        vmm="qemu",
        arch="x86",
    ),
)
