"""QEMU's messages of a RISC-V vCPU and its interrupt controller: target/riscv/kvm/kvm-cpu.c of 8.0 to 10.2.

What stands for the error changed: the ioctl's -1 until 8.1 (``error %d``), errno's name or number until 9.0
(``error code: %s``, ``error code: %d``), then its words.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.setup_messages.form import Form, form, forms

_FILE: Final = "target/riscv/kvm/kvm-cpu.c"
_AIA: Final = f"{_FILE}: kvm_riscv_aia_create"

FORMS: Final[tuple[Form, ...]] = (
    form(
        "KVM_GET_ONE_REG",
        "one-register",
        r"Unable to (?:read|get|fetch) (?P<register>vlenb|ISA) register(?: from KVM)?",
        "Unable to read vlenb",
        "Unable to fetch ISA",
        source=f"{_FILE}: kvm_riscv_init_misa_ext_mask, kvm_riscv_read_vlenb",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_GET_ONE_REG",
        "one-register",
        r"Unable to (?:read|retrieve|get|fetch) (?:(?:KVM |ISA_EXT |SBI |CSR )?(?:KVM )?reg(?:ister)?"
        r" (?P<register>\w{1,24})|ISA(?:_EXT| extension)|multi-letter|KVM (?:ISA|SBI|CSR|_REG)|KVM_REG)[^\n]{0,60}",
        *(f"Unable to {verb} {what}" for verb in ("read", "get", "fetch") for what in ("KVM", "ISA")),
        source=f"{_FILE}: kvm_riscv_read_cbomz_blksize, kvm_riscv_read_multiext_legacy",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_GET_ONE_REG",
        "one-register",
        r"Unable to retrieve (?P<register>mvendorid|marchid|mimpid) from host",
        *(f"Unable to retrieve {name}" for name in ("mvendorid", "marchid", "mimpid")),
        source=f"{_FILE}: kvm_riscv_init_machine_ids",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_GET_REG_LIST",
        "one-register",
        r"(?:Error when (?:accessing get-reg-list|reading KVM_GET_REG_LIST)|Unable to (?:get|read) KVM_GET_REG_LIST)",
        "accessing get-reg-list",
        "KVM_GET_REG_LIST",
        source=f"{_FILE}: kvm_riscv_init_multiext_cfg",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        r"Unable to (?:enable|disable) (?:ISA )?ext(?:ension)? (?P<register>\w{1,24}) in KVM",
        "Unable to enable extension",
        "Unable to enable ISA",
        source=f"{_FILE}: kvm_riscv_update_cpu_misa_ext, kvm_riscv_update_cpu_cfg_isa_ext",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        r"Unable to (?:set|enable) (?:KVM (?:ISA|SBI|CSR|reg)|ISA(?:_EXT| extension)|multi-letter|vlenb|KVM_REG)"
        r"[^\n]{0,60}",
        *(f"Unable to {verb} {what}" for verb in ("set", "enable") for what in ("KVM", "ISA", "vlenb")),
        source=_FILE,
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_SET_MP_STATE",
        "mp-state",
        r"kvm_riscv_sync_mpstate_to_kvm: failed to sync MP_STATE (?P<ret>-[0-9]{1,3})",
        "failed to sync MP_STATE",
        source=f"{_FILE}: kvm_riscv_sync_mpstate_to_kvm",
        vmm="qemu",
        arch="riscv64",
    ),
    # Asked of QEMU, which knows what this KVM gives.
    form(
        "KVM_GET_ONE_REG",
        "cpu-extension",
        r"extension '?(?P<register>\w{1,24})'? is not available with KVM"
        r"|KVM does not support disabling extension (?P<what>\w{1,24})",
        "is not available with KVM",
        "support disabling extension",
        source=f"{_FILE}: cpu_set_cfg_unavailable, kvm_cpu_set_multi_ext_cfg",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_GET_DEVICE_ATTR",
        "aia",
        r"KVM AIA: failed to get [^\n]{2,60}",
        "KVM AIA",
        source=_AIA,
        vmm="qemu",
    ),
    form(
        "KVM_SET_DEVICE_ATTR",
        "aia",
        r"KVM AIA: failed to (?:[a-z]{2,14}) [^\n]{2,60}",
        "KVM AIA",
        source=_AIA,
        vmm="qemu",
    ),
    form(
        "KVM_CREATE_DEVICE",
        "aia",
        r"KVM AIA: (?:(?:[Ff]ail(?:ed)?|cannot)[^\n]{2,60}|initialized fail)",
        "KVM AIA",
        source=_AIA,
        vmm="qemu",
    ),
    form(
        "KVM_CREATE_DEVICE",
        "aia",
        r"qemu-system-riscv(?:32|64): Unable to create in-kernel irqchip",
        "create in-kernel irqchip",
        source=_AIA,
        vmm="qemu",
    ),
    *forms(
        "KVM_GET_ONE_REG",
        "cpu-extension",
        (
            r"Enabling MISA bit '(?P<register>[A-Za-z]{1,12})' is not allowed: it's not enabled in the host",
            "Enabling MISA bit",
        ),
        (r"KVM cannot disable (?:KVM )?extension (?P<register>[A-Za-z0-9_]{2,24})", "KVM cannot disable"),
        source=f"{_FILE}: kvm_cpu_set_misa_ext_cfg, kvm_cpu_set_multi_ext_cfg",
        vmm="qemu",
        arch="riscv64",
    ),
    *forms(
        "KVM_GET_ONE_REG",
        "one-register",
        (r"Unable to retrieve (?P<register>satp mode) from host", "retrieve satp mode"),
        (r"Unable to (?:create|add) scratch KVM cpu", "scratch KVM cpu"),
        source=f"{_FILE}: riscv_init_satp_mode_max, riscv_init_kvm_registers",
        vmm="qemu",
        arch="riscv64",
    ),
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        r"Unable to set (?:cbo[mz]_blocksize to a different value than the host|'vlen' to a different value|'?vlenb?'?)"
        r"[^\n]{0,60}",
        "_blocksize",
        "set 'vlen",
        source=f"{_FILE}: kvm_cpu_set_cbomz_blksize, kvm_riscv_read_vlenb",
        vmm="qemu",
        arch="riscv64",
    ),
)
