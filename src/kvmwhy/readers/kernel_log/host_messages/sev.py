"""SEV, SEV-ES and SEV-SNP: kvm-amd.ko (svm/sev.c), ccp.ko (drivers/crypto/ccp), the RMP (arch/x86/virt/svm/sev.c)."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    message(
        "vmgexit-refused",
        "guest",
        form("vmgexit: exit code %#llx is not valid", "exit_code", why="exit code"),
        form("vmgexit: exit code %#llx input is not valid", "exit_code", why="input"),
        form("vmgexit: exit code %#llx is SNP-only", "exit_code", why="not SNP"),
        form("vmgexit: ghcb usage %#x is not valid", "usage", why="usage"),
        form("vmgexit: unsupported event - exit_info_1=%#llx, exit_info_2=%#llx", "info1 info2", why="event"),
        form("svm: vmgexit: unsupported AP jump table request - exit_info_1=%#llx", "info1", why="AP jump table"),
        form("vmgexit: GHCB gpa is not set", why="GHCB not set"),
        form("vmgexit: error mapping GHCB [%#llx] from guest", "gpa", why="GHCB not mapped"),
        form("vmgexit: GHCB GPA [%#llx] is not registered.", "gpa", why="GHCB not registered"),
        form("vmgexit: scratch gpa not provided", why="scratch area"),
        form("vmgexit: scratch length (%#llx) not valid for scratch address (%#llx)", "length gpa", why="scratch area"),
        form(
            "vmgexit: scratch area is outside of GHCB shared buffer area (%#llx - %#llx)",
            "start end",
            why="scratch area",
        ),
        form(
            "vmgexit: scratch area exceeds KVM limits (%#llx requested, %#llx limit)",
            "length limit",
            why="scratch area",
        ),
        form("vmgexit: kvm_read_guest for scratch area failed", why="scratch area"),
        form("vmgexit: invalid AP APIC ID [%#x] from guest", "apic_id", why="AP creation"),
        form("vmgexit: invalid AP VMSA address [%#llx] from guest", "gpa", why="AP creation"),
        form("vmgexit: AP VMSA address [%llx] from guest is unsafe as it is 2M aligned", "gpa", why="AP creation"),
        form("vmgexit: invalid AP creation request [%#x] from guest", "request", why="AP creation"),
        form("vmgexit: invalid AP injection mode [%#lx] from guest", "mode", why="AP creation"),
        form(
            "vmgexit: mismatched AP sev_features [%#lx] != [%#llx] from guest", "features expected", why="AP creation"
        ),
    ),
    message("ghcb-dump", "note", form("GHCB (GPA=%016llx) snapshot:", "gpa"), form("GHCB (GPA=%016llx):", "gpa")),
    message(
        "sev-termination",
        "guest",
        form("SEV-ES guest requested termination: reason %#llx info %#llx", "set code"),
        form("SEV-ES guest requested termination: %#llx:%#llx", "set code"),
    ),
    message(
        "rmp-fault",
        "fault",
        form("SEV: Unexpected RMP fault for non-private GPA 0x%llx", "gpa"),
        form("SEV: Unexpected RMP fault, non-private slot for GPA 0x%llx", "gpa"),
        form("SEV: Unexpected RMP fault, no backing page for private GPA 0x%llx", "gpa"),
        form(
            "SEV: Unexpected RMP fault, no assigned RMP entry found for GPA 0x%llx PFN 0x%llx error %d", "gpa pfn error"
        ),
    ),
    message(
        "rmp-update-failed",
        "fault",
        form("RMPUPDATE failed for PFN %llx, pg_level: %d, ret: %d", "pfn level error"),  # 6.9 on
        form("RMPUPDATE failed for PFN %llx, ret: %d", "pfn error"),  # while it was out of tree
        form("rmpupdate failed, ret: %d, pfn: %llx, npages: %d, level: %d", "error pfn pages level"),  # out of tree
        form("SEV: Failed to update RMP entry: GFN %llx PFN %llx level %d error %d", "gfn pfn level error"),
        form("SEV: Failed to update RMP entry for PFN 0x%llx error %d", "pfn error"),
        form("SEV: Failed to PSMASH RMP entry for PFN 0x%llx error %d", "pfn error"),
        form("SEV: Unable to split RMP entry for GPA 0x%llx PFN 0x%llx ret %d", "gpa pfn error"),
        form("SEV: Failed to look up RMP entry: GFN %llx PFN %llx error %d", "gfn pfn error"),
        form(
            "SEV: Failed to retrieve RMP entry: PFN 0x%llx GFN start 0x%llx GFN end 0x%llx RMP level %d error %d",
            "pfn start end level error",
        ),
        form("%s: overlap detected, PFN 0x%llx start 0x%llx end 0x%llx RMP level %d", "_ pfn start end level"),
        form(
            "%s: Failed to ensure GFN 0x%llx RMP entry is initial shared state, ret: %d assigned: %d",
            "_ gfn error assigned",
        ),
        form("Failed to reclaim PFN %llx, rc %d fw_err %d", "pfn error firmware_error"),
        form("Failed to release guest context, ret %d", "error"),
        form("Leaking PFN range 0x%llx-0x%llx", "start end"),
        form("Failed to split direct map for PFN 0x%llx, ret: %d", "pfn error"),
        form("SEV-SNP: PSC: %s", "what"),
    ),
    message(
        "rmp-entry",
        "note",
        form("PFN 0x%llx, RMP entry: [0x%016llx - 0x%016llx]", "pfn high low"),
        form("PFN 0x%llx unassigned, dumping non-zero entries in 2M PFN region: [0x%llx - 0x%llx]", "pfn start end"),
        form("PFN: 0x%llx, [0x%016llx - 0x%016llx]", "pfn low high"),
        form("Failed to read RMP entry for PFN 0x%llx, error %d", "pfn error"),
        form("Can't dump RMP entry for HVA %lx: no PTE/PFN found", "hva"),
        form("%s: GFN start 0x%llx length 0x%llx type %d flags %d", "_ start length type flags"),
        form("%s: PFN start 0x%llx PFN end 0x%llx", "_ start end"),
        form("%s: updated: gfn %llx pfn %llx pfn_aligned %llx max_order %d level %d", "_ gfn pfn"),
        form("%s: updated: gfn %llx pfn %llx pfn_aligned %llx nr_pages %llx level %d", "_ gfn pfn"),
        form("%s: already assigned: gfn %llx pfn %llx max_order %d level %d", "_ gfn pfn"),
        form("%s: already assigned: gfn %llx pfn %llx nr_pages %llx level %d", "_ gfn pfn"),
    ),
    message(
        "rmp-table",
        "note",
        form("RMP table physical range [0x%016llx - 0x%016llx]", "start end"),
        form("RMP table physical address [0x%016llx - 0x%016llx]", "start end"),
        form("RMP table physical address 0x%016llx - 0x%016llx", "start end"),
        form("Segmented RMP base table physical range [0x%016llx - 0x%016llx]", "start end"),
        form("Reserving start/end of RMP table on a 2MB boundary [0x%016llx]", "address"),
    ),
    message(
        "snp-not-enabled",
        "refusal",
        form("Memory for the RMP table has not been reserved by BIOS"),
        form(
            "Memory reserved for the RMP table does not cover full system RAM (expected 0x%llx got 0x%llx)",
            "expected got",
        ),
        form("RMP configuration not valid: base=%#llx, end=%#llx", "start end"),
        form("SNP init failed: not all CPUs online."),
        form("Failed to map RMP bookkeeping area"),
        form("SNP IOMMU shutdown failed"),
        form("SEV-SNP support requires firmware version >= %d:%d", "major minor"),
    ),
    message(
        "sev-launch-failed",
        "refusal",
        form("%s: SEV_CMD_SNP_LAUNCH_START firmware command failed, rc %d", "_ error", command="SNP_LAUNCH_START"),
        form("%s: Failed to bind ASID to SEV-SNP context, rc %d", "_ error", command="SNP_ACTIVATE"),
        form("Failed to create SEV-SNP context, rc %d fw_error %d", "error firmware_error", command="SNP_GCTX_CREATE"),
        form(
            "%s: kvm_gmem_populate failed, ret %ld (fw_error %d)", "_ error firmware_error", command="SNP_LAUNCH_UPDATE"
        ),
        form(
            "%s: error updating GFN %llx, return code %d (fw_error %d)",
            "_ gfn error firmware_error",
            command="SNP_LAUNCH_UPDATE",
        ),
        form(
            "%s: exiting with error ret %d (fw_error %d), restoring %d gmem PFNs to shared.",
            "_ error firmware_error",
            command="SNP_LAUNCH_UPDATE",
        ),
        form("Failed to write CPUID page back to userspace", command="SNP_LAUNCH_UPDATE"),
    ),
    message(
        "sev-memory-lock",
        "refusal",
        form("SEV: %lu locked pages exceed the lock limit of %lu.", "pages limit"),
        form("SEV: %lu total pages would exceed the lock limit of %lu.", "pages limit"),
        form("SEV: Failure locking %lu pages.", "pages"),
        form("SEV: Failure locking %u pages.", "pages"),
    ),
    message(
        "sev-init-failed",
        "refusal",
        form("SEV: failed to INIT error %#x, rc %d", "firmware_error error", command="INIT"),  # 5.18 to 6.8
        form("SEV: failed to INIT error %#x", "firmware_error", command="INIT"),  # until 5.17
        form("SEV: failed to %s error %#x, rc %d", "command firmware_error error"),
        form("SEV: %s failed %#x, rc %d", "command firmware_error error"),  # 6.9 on
        form("SEV-SNP: failed to INIT rc %d, error %#x", "error firmware_error", command="SNP_INIT"),
        form("SEV-SNP: failed to INIT error %#x", "firmware_error", command="SNP_INIT"),  # before it was merged
        form("SEV-SNP: %s failed rc %d, error %#x", "command error firmware_error"),
        form("SEV: failed to get status. Error: %#x", "firmware_error", command="PLATFORM_STATUS"),
        form("SEV: DF_FLUSH failed, ret=%d, error=%#x", "error firmware_error", command="DF_FLUSH"),
        form("SEV%s: DF_FLUSH failed, ret=%d, error=%#x", "_ error firmware_error", command="DF_FLUSH"),
        form("SEV: DF_FLUSH failed %#x, rc %d", "firmware_error error", command="DF_FLUSH"),
        form("SEV-SNP DF_FLUSH failed, ret = %d, error = %#x", "error firmware_error", command="DF_FLUSH"),
        form("SEV-SNP firmware shutdown failed, rc %d, error %#x", "error firmware_error", command="SNP_SHUTDOWN"),
        form("SNP %s command failed, ret = %d, error = %#x", "command error firmware_error"),
        form(
            "SNP_VERIFY_MITIGATION command failed, ret = %d, error = %#x",
            "error firmware_error",
            command="SNP_VERIFY_MITIGATION",
        ),
        form("SEV: memory encryption not enabled by BIOS", command="INIT"),
        form("SEV: TMR allocation failed, SEV-ES support unavailable", command="INIT"),
        form("SEV: INIT_EX NV memory allocation failed", command="INIT_EX"),
        form("SEV: INIT_EX NV memory page state change failed.", command="INIT_EX"),
        form("SEV: SNP_INIT_EX range list memory allocation failed", command="SNP_INIT_EX"),
        form("SEV: SNP_INIT_EX walk_iomem_res_desc failed rc = %d", "error", command="SNP_INIT_EX"),
        form("psp does not support SEV", command="INIT"),
        form("sev initialization failed", command="INIT"),
        form("psp initialization failed", command="INIT"),
        form("unable to access the device: you might be running a broken BIOS.", command="INIT"),
        form("psp: unable to access the device: you might be running a broken BIOS.", command="INIT"),
        form("ccp: unable to access the device: you might be running a broken BIOS.", command="INIT"),
    ),
    message(
        "sev-command-failed",
        "refusal",
        form("sev command %#x failed (%#010lx)", "command firmware_error"),
        form("sev command %#x timed out, disabling PSP", "command"),
        form("SEV: failed to prepare buffer for legacy command 0x%x. Error: %d", "command error"),
        form("SEV: failed to reclaim buffer for legacy command %#x. Error: %d", "command error"),
        form("SEV: too many firmware commands in progress, no command buffers available."),
        form("SEV: too many firmware commands are in-progress, no command buffers available."),
        form(
            "SEV: SNP_PLATFORM_STATUS failed ret=%d, fw_error=%d (%#x)",
            "error _ firmware_error",
            command="SNP_PLATFORM_STATUS",
        ),
        form(
            "SEV: SNP_DBG_DECRYPT failed ret=%d, fw_error=%d (%#x)", "error _ firmware_error", command="SNP_DBG_DECRYPT"
        ),
        form(
            "SEV: SEV_CMD_DBG_DECRYPT failed ret=%d, fw_error=%d (0x%x)",
            "error _ firmware_error",
            command="DBG_DECRYPT",
        ),
        form("Error moving pages to firmware-owned state for SEV legacy command."),
        form("Failed to allocate bounce buffer for SEV legacy command."),
        form("Failed to reclaim firmware-owned pages while issuing SEV legacy command."),
    ),
    message(
        "sev-firmware-update",
        "note",
        form("Failed to update SEV firmware: %#x", "firmware_error"),
        form("SEV firmware update successful"),
        form("SEV firmware updated from %d.%d.%d to %d.%d.%d"),
    ),
    message(
        "sev-api",
        "note",
        form("SEV API:%d.%d build:%d", "major minor build"),
        form("SEV-SNP API:%d.%d build:%d", "major minor build"),
    ),
    message(
        "sev-nonvolatile-file",
        "refusal",
        form("SEV: could not open %s for read, error %d", "path error"),
        form("SEV: could not open file for write, error %d", "error"),
        form("SEV: could not read %u bytes to non volatile memory area, ret %ld", "size error"),
        form("SEV: failed to write %u bytes to non volatile memory area, ret %ld", "size error"),
    ),
    message(
        "sev-enabled",
        "note",
        form("SEV %s (ASIDs %u - %u)", "state first last", feature="SEV"),  # 6.1 on
        form("SEV-ES %s (ASIDs %u - %u)", "state first last", feature="SEV-ES"),
        form("SEV-SNP %s (ASIDs %u - %u)", "state first last", feature="SEV-SNP"),
        form("SEV supported: %u ASIDs", "last", state="enabled", feature="SEV"),  # 5.11 to 6.0
        form("SEV-ES supported: %u ASIDs", "last", state="enabled", feature="SEV-ES"),
        form("SEV-ES and SEV-SNP supported: %u ASIDs", "last", state="enabled", feature="SEV-SNP"),
        form("SEV supported", state="enabled", feature="SEV"),
        form("SEV-SNP ciphertext hiding enabled", feature="ciphertext hiding", state="enabled"),
    ),
    message("sev-debug-refused", "refusal", form("KVM_SET_GUEST_DEBUG for SEV-ES guest is not supported")),
)
