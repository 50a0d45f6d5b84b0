"""Messages of SEV, SEV-SNP and TDX launches: QEMU's, and those of the host's ccp and tdx drivers.

QEMU prints both the ioctl's return value and the firmware's own code: ``%s: LAUNCH_START ret=%d fw_error=%d '%s'``.
``ret`` is -1 in some (the platform device returns -1 with errno), and then says nothing.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.setup_messages.form import Form, form

_SEV: Final = "target/i386/sev.c"
_TDX: Final = "target/i386/kvm/tdx.c"
_CCP: Final = "drivers/crypto/ccp/sev-dev.c"
_CODES: Final = (
    r"ret ?= ?(?P<ret>-?[0-9]{1,4}) ?,? ?fw_err(?:or)?"
    r"(?: ?= ?'?(?P<fw>-?[0-9]{1,10})|[=\x20']{0,4}(?!\S))"  # a copy may end before the firmware's code
)

FORMS: Final[tuple[Form, ...]] = (
    form(
        "SEV",
        "sev-launch",
        rf"(?P<call>(?:KVM_SEV_|SEV_)?(?:SNP_)?LAUNCH_[A-Z_]{{4,16}}) {_CODES}",
        "fw_err",
        vmm="qemu",
        source=_SEV,
    ),
    form(
        "SEV_INIT",
        "sev-init",
        rf"sev_(?P<snp>snp_)?[a-z_]{{4,24}}: failed to initialize {_CODES}",
        "fw_err",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init (sev_guest_init, sev_common_kvm_init)",
    ),
    form(
        "SEV_PLATFORM_STATUS",
        "sev-platform",
        rf"failed to get platform status {_CODES}",
        "fw_err",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
    ),
    form(
        "SEV",
        "sev-launch",
        rf"failed to (?P<what>export PDH cert|inject secret|query the attestation report length) {_CODES}",
        "fw_err",
        vmm="qemu",
        source=_SEV,
    ),
    form(
        "open",
        "sev-device",
        r"sev_[a-z_]{4,24}: Failed to open /dev/sev",
        "open /dev/sev",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
    ),
    form("open", "sev-device", r"Failed to open /dev/sev", "open /dev/sev", source=f"{_SEV}: sev_get_capabilities"),
    form(
        "SEV_ES_INIT",
        "sev-es-unavailable",
        r"guest policy requires SEV-ES, but host SEV-ES support unavailable",
        "host SEV-ES support",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
    ),
    form(
        "SEV_INIT",
        "sev-options",
        r"sev_[a-z_]{4,24}: (?:cbitpos|reduced_phys_bits|reduced-phys-bits) check failed",
        "cbitpos check failed",
        "phys_bits check failed",
        "phys-bits check failed",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
    ),
    form(
        "SEV_INIT",
        "sev-irqchip",
        r"SEV-ES guests require in-kernel irqchip support",
        "SEV-ES guests require",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
    ),
    form(
        "SEV_INIT",
        "sev-discard",
        r"sev_[a-z_]{4,24}: cannot disable RAM discard",
        "cannot disable RAM discard",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
    ),
    form(
        "KVM_MEMORY_ENCRYPT_REG_REGION",
        "sev-pin",
        r"sev_ram_block_added: failed to register region \((?P<start>0x[0-9a-f]{1,16})\+(?P<size>0x[0-9a-f]{1,16})\)",
        "sev_ram_block_added",
        vmm="qemu",
        source=f"{_SEV}: sev_ram_block_added",
    ),
    form(
        "SEV",
        "sev-launch",
        r"sev_[a-z_]{4,24}: failed to create encryption context",
        "encryption context",
        vmm="qemu",
        source=f"{_SEV}: sev_kvm_init",
        follows=True,
    ),
    form(
        "SNP_LAUNCH_UPDATE",
        "snp-cpuid",
        r"SEV-SNP: CPUID validation failed for function (?P<value>0x[0-9a-f]{1,8})",
        "SEV-SNP: CPUID validation",
        vmm="qemu",
        source=f"{_SEV}: sev_snp_cpuid_report_mismatches",
        follows=True,
    ),
    form(
        "SNP_LAUNCH_UPDATE",
        "snp-cpuid",
        r"SEV-SNP: failed update CPUID page",
        "SEV-SNP: failed update",
        vmm="qemu",
        source=_SEV,
        follows=True,
    ),
    form(
        "SNP_LAUNCH_UPDATE",
        "snp-metadata",
        r"snp_populate_metadata_pages: Failed to add metadata page",
        "snp_populate_metadata_pages",
        vmm="qemu",
        source=_SEV,
        follows=True,
    ),
    form(
        "KVM_SET_MEMORY_ATTRIBUTES",
        "snp-private-memory",
        r"SEV-SNP: failed to configure initial ?private guest memory",
        "SEV-SNP: failed to configure",
        vmm="qemu",
        source=_SEV,
    ),
    form(
        "SEV",
        "sev-firmware",
        r"pflash\) (?:not )?supported (?:with|by) SEV-SNP|SEV-SNP (?:does not|doesn't) support pflash"
        r"|pflash devices?[^\n]{0,40}not supported[^\n]{0,20}SNP",
        "SEV-SNP",
        vmm="qemu",
        source="hw/i386/pc_sysfw.c",
    ),
    # TDX in QEMU: 10.1 and later `TDX ioctl %s failed, hw_errors: 0x%llx`, Intel's trees `%s failed: %s`.
    form(
        "KVM_TDX",
        "tdx-launch",
        r"TDX ioctl (?P<call>KVM_TDX_[A-Z_]{4,24}) failed, hw_errors?: (?P<status>0x[0-9a-f]{1,16})",
        "TDX ioctl",
        vmm="qemu",
        source=f"{_TDX}: tdx_ioctl_internal",
    ),
    form(
        "KVM_TDX",
        "tdx-launch",
        r"(?P<call>KVM_TDX_[A-Z_]{4,24})(?: ioctl)? failed(?:,? hw_errors?: (?P<status>0x[0-9a-f]{1,16}))?",
        "KVM_TDX_",
        vmm="qemu",
        source=f"{_TDX} of Intel's trees: tdx_kvm_init, tdx_finalize_vm",
    ),
    form(
        "KVM_TDX_INIT_VM",
        "tdx-options",
        r"(?:TDX doesn't support|TDX requires|TDX only supports|Invalid TSC [0-9]{1,9} KHz, must)[^\n]{2,80}",
        "TDX doesn't support",
        "TDX requires",
        "TDX only supports",
        "Invalid TSC ",
        vmm="qemu",
        source=f"{_TDX}: tdx_kvm_init, tdx_pre_create_vcpu",
    ),
    # Cloud Hypervisor, libkrun, enarx and others on kvm-ioctls and the sev crate.
    form(
        "SEV",
        "sev-launch",
        r"(?P<variant>SevSnpLaunchStart|SnpLaunchStart|SevInit|SnpInit|SevLaunch[A-Z][A-Za-z]{2,12}"
        r"|SnpLaunch[A-Z][A-Za-z]{2,12}|InitializeSevSnp)\(",
        "SevInit(",
        "SnpInit(",
        "LaunchStart(",
        "SevLaunch",
        "SnpLaunch",
        "InitializeSevSnp(",
        source="libkrun src/vmm/src/linux/tee/amdsnp.rs; cloud-hypervisor hypervisor/src/vm.rs",
    ),
    form(
        "KVM_TDX",
        "tdx-launch",
        r"(?P<variant>Tdx(?:InitVm|Init|Finalize|InitMemRegion|Capabilities|Vcpu)[A-Za-z]{0,12}"
        r"|InitializeTdx|FinalizeTdx)\(",
        "InitializeTdx(",
        "FinalizeTdx(",
        "TdxInit",
        "TdxFinalize",
        "TdxCapabilities",
        "TdxVcpu",
        source="cloud-hypervisor hypervisor/src/vm.rs",
    ),
    # The host: the firmware's own start.
    form(
        "SNP_INIT",
        "sev-firmware-init",
        r"SEV-SNP: failed to INIT(?: rc (?P<ret>-?[0-9]{1,4}),)? error (?P<fwx>0x[0-9a-f]{1,8})",
        "failed to INIT",
        source=f"{_CCP}: __sev_snp_init_locked, sev_pci_init",
        follows=True,
    ),
    form(
        "SEV_INIT",
        "sev-firmware-init",
        r"SEV: failed to INIT error (?P<fwx>0x[0-9a-f]{1,8})(?:, rc (?P<ret>-?[0-9]{1,4}))?",
        "failed to INIT",
        source=f"{_CCP}: sev_pci_init",
        follows=True,
    ),
    form(
        "SEV_INIT",
        "sev-firmware-init",
        r"ccp [0-9a-f:.]{5,16}: (?:SEV: failed to get status|SEV-SNP: failed to get status"
        r"|sev command (?P<value>0x[0-9a-f]{1,4}) (?:failed|timed out))[^\n]{0,60}",
        "SEV: failed to get status",
        "SEV-SNP: failed to get status",
        ": sev command ",
        source=_CCP,
    ),
    form(
        "SNP_INIT",
        "snp-unavailable",
        r"SEV-SNP: (?:memory for the RMP table has not been reserved by BIOS"
        r"|Memory for the RMP table has not been reserved by BIOS|failed to initialize RMP"
        r"|[^\n]{0,40}not (?:enabled|supported)[^\n]{0,40})",
        "SEV-SNP: ",
        source="arch/x86/virt/svm/sev.c: snp_probe_rmptable_info",
        follows=True,
    ),
    # A QEMU that is too old for the guest's kind of protection, or built without its patches.
    form(
        "SEV",
        "object-unknown",
        r"[Pp]arameter '(?:qom-type|type)' does not accept value '(?P<what>sev-guest|sev-snp-guest|igvm-cfg"
        r"|memory-backend-memfd-private)'|invalid object type: (?:sev-guest|sev-snp-guest|igvm-cfg)"
        r"|(?:SEV|'sev(?:-snp)?'|AMD SEV-SNP|SEV-SNP) launch security is not supported with this QEMU",
        "does not accept value",
        "invalid object type",
        "launch security is not supported",
        source="QEMU qapi/qapi-util.c: qapi_enum_parse; libvirt src/qemu/qemu_validate.c: qemuValidateDomainDef",
    ),
    form(
        "KVM_TDX",
        "object-unknown",
        r"[Pp]arameter '(?:qom-type|type)' does not accept value 'tdx-guest'|invalid object type: tdx-guest"
        r"|(?:'tdx'|(?:INTEL |Intel )?TDX) launch security is not supported with this QEMU",
        "does not accept value",
        "invalid object type",
        "launch security is not supported",
        source="QEMU qapi/qapi-util.c: qapi_enum_parse; libvirt src/qemu/qemu_validate.c: qemuValidateDomainDef",
    ),
    form(
        "KVM_TDX",
        "tdx-disabled",
        r"tdx: not enabled by BIOS|virt/tdx: BIOS not enabled|TDX not enabled by BIOS",
        "not enabled by BIOS",
        "BIOS not enabled",
        source="arch/x86/virt/vmx/tdx/tdx.c: tdx_init",
        follows=True,
    ),
    form(
        "KVM_TDX",
        "tdx-disabled",
        r"virt/tdx: (?:module initialization failed|initialization failed)[^\n]{0,40}|kvm_intel: (?:Cannot enable TDX"
        r"|TDX (?:is )?not supported|tdx: [^\n]{2,60}fail)",
        "initialization failed",
        "kvm_intel: Cannot",
        "kvm_intel: TDX",
        "kvm_intel: tdx",
        source="arch/x86/virt/vmx/tdx/tdx.c: tdx_enable; arch/x86/kvm/vmx/tdx.c: tdx_bringup",
        follows=True,
    ),
    form(
        "SEV_LAUNCH",
        "sev-launch",
        r"(?:SNP|SEV|SEV-ES|SEV-SNP) [Ll]auncher? (?:start|update|finish|measure|policy|secret)[a-z\x20]{0,24} failed",
        "SNP Launch",
        "SNP launch",
        "SEV Launch",
        "SEV launch",
        source="enarx crates/enarx-*/src/backend/{snp,sev}: the sev crate's Launcher",
    ),
    form(
        "SEV_LAUNCH",
        "sev-launch",
        r"SecureVirt(?:Prepare|Attest)\((?:S(?:np|ev)SecVirt(?:Prepare|Attest)\()?(?P<what>[A-Za-z]{3,30})?",
        "SecureVirt",
        vmm="libkrun",
        source="libkrun src/vmm/src/builder.rs, src/vmm/src/linux/tee",
    ),
)
