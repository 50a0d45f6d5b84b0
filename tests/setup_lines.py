"""Lines of refused set-ups, after the format strings of the programs that print them, with values of our own.

QEMU accel/kvm/kvm-all.c, target/i386/{kvm/kvm,sev,kvm/tdx}.c, hw/intc; Linux arch/*/kvm, drivers/crypto/ccp/sev-dev.c;
kmod; cpu-checker; the Android emulator's CpuAccelerator.cpp; libvirt qemu_process.c; Firecracker, Cloud Hypervisor,
crosvm, libkrun, Dragonball (thiserror texts); kvmtool, Solo5, km, gVisor; strace; KVM selftests.
"""

# ruff: noqa: E501  # lines stand as the programs print them

from __future__ import annotations

# (call, errno, text)
REFUSED: list[tuple[str, str | None, str]] = [
    (
        "KVM_SET_SREGS",
        "EINVAL",
        'qemu: Register sync failed... If you\'re using kvm-hv.ko, only "-cpu host" is possible\n',
    ),
    ("KVM_PPC_GET_SMMU_INFO", None, "qemu-system-ppc64: KVM only supports 32 SLB entries, but guest needs 64\n"),
    (
        "KVM_PPC_GET_HTAB_FD",
        "EINVAL",
        "qemu-system-ppc64: Unable to open fd for reading HPT from KVM: Invalid argument\n",
    ),
    (
        "KVM_CHECK_EXTENSION",
        None,
        "qemu-system-aarch64: cannot enable sve128\nSVE not supported by KVM on this host\n",
    ),
    (
        "KVM_CHECK_EXTENSION",
        None,
        "qemu-system-s390x: KVM is missing capability #89 - please use kernel 4.4 or newer\n",
    ),
    ("KVM_S390_INITIAL_RESET", None, "qemu-system-s390x: CPU reset failed on CPU 0 type ae07\n"),
    ("KVM_S390_INTERRUPT", None, "KVM failed to inject interrupt\n"),
    (
        "KVM_SET_DEVICE_ATTR",
        "EOPNOTSUPP",
        "qemu-system-s390x: warning: Unable to set KVM guest TOD clock: Operation not supported\n",
    ),
    (
        "KVM_ENABLE_CAP",
        None,
        "qemu-system-s390x: Memory backing with 1M pages was specified, but KVM does not support this memory backing\n",
    ),
    ("KVM_SET_DEVICE_ATTR", "EINVAL", "qemu-system-s390x: KVM: Error configuring CPU subfunctions: -22\n"),
    ("KVM_S390_SET_IRQ_STATE", "EINVAL", "qemu-system-s390x: Setting interrupt state failed -22\n"),
    ("KVM_ENABLE_CAP", None, "qemu-system-ppc64: This vCPU type or KVM version does not support PAPR\n"),
    ("KVM_PPC_GET_SMMU_INFO", None, "qemu-system-ppc64: KVM can't supply 64kiB CI pages, which guest expects\n"),
    ("KVM_HAS_DEVICE_ATTR", None, "qemu-system-loongarch64: 'lasx' feature not supported by KVM on host\n"),
    ("KVM_INTERRUPT", None, "qemu-system-mips64el: kvm_arch_pre_run: cpu 0: failed to inject IRQ 2\n"),
    ("open", None, "launch failed: KVM support is not enabled on this machine.\n"),
    ("module", None, "launch failed: CPU does not support KVM extensions.\n"),
    ("KVM_CHECK_EXTENSION", None, "qemu-kvm: kernel doesn't allow setting HyperV VP_INDEX\n"),
    (
        "KVM_GET_SUPPORTED_CPUID",
        None,
        "virError(Code=9, Message=''operation failed: guest CPU\n      doesn''t match specification: missing features: vmx-vmfunc'')\n",
    ),
    ("module", None, "kvm_intel: Inconsistent VMCS config on CPU 4\n"),
    (
        "open",
        "ENOENT",
        "  Error: '/dev/kvm' not found. Please make sure your kernel has CONFIG_KVM enabled and that the KVM modules are loaded.\n",
    ),
    ("KVM_GET_MSRS", "EINVAL", "qemu-system-x86_64: KVM get MSR (index=0x48d) feature failed, Invalid argument\n"),
    (
        "KVM_CLEAR_DIRTY_LOG",
        "ENOENT",
        "kvm_log_clear_one_slot: KVM_CLEAR_DIRTY_LOG failed, slot=3, start=0x0, size=0x40000, errno=-2\n",
    ),
    ("KVM_GET_DIRTY_LOG", "EINVAL", "qemu-system-x86_64: kvm_slot_get_dirty_log: KVM_GET_DIRTY_LOG failed with -22\n"),
    (
        "KVM_GET_SUPPORTED_HV_CPUID",
        None,
        "qemu-system-x86_64: Hyper-V enlightened VMCS (requested by 'hv-evmcs' cpu flag) is not supported by kernel\n",
    ),
    (
        "KVM_CHECK_EXTENSION",
        None,
        "qemu-system-aarch64: mach-virt: KVM does not support providing Virtualization extensions to the guest CPU\n",
    ),
    (
        "KVM_ARM_VCPU_INIT",
        "EINVAL",
        "qemu-system-aarch64: KVM is not supported for this guest CPU type\nqemu-system-aarch64: kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument\n",
    ),
    ("KVM_CREATE_VCPU", "EINVAL", "Cannot open the VCPU file descriptor: Invalid argument (os error 22)\n"),
    ("KVM", "EBUSY", "failed to create partition\n  0: kvm error\n  1: Device or resource busy (os error 16)\n"),
    ("KVM_ARM_VCPU_INIT", None, "  Fatal: Unable to initialise vcpu\n"),
    ("KVM_GET_API_VERSION", None, "The host kernel reports an invalid KVM API version: -1\n"),
    ("open", None, "Error: Host does not support domain type kvm for virtualization type 'hvm' arch 'x86_64'\n"),
    ("KVM", "EBUSY", "ERROR: KVM error: Device or resource busy\n"),
    ("KVM", "EINVAL", "could not set up KVM: Invalid argument (os error 22)\n"),
    ("KVM", "EACCES", "Kvm error: Cannot do this (os error 13)\n"),
    ("SEV_LAUNCH", None, "Error: SNP Launcher start failed\n\nCaused by:\n    Platform configuration invalid\n"),
    (
        "SEV_LAUNCH",
        "EINVAL",
        '[2026-01-02T03:04:05Z ERROR krun] Building the microVM failed: SecureVirtPrepare(SnpSecVirtPrepare(CreateLauncher(Custom { kind: Other, error: IoError(Os { code: 22, kind: InvalidInput, message: "Invalid argument" }) })))\nError creating the microVM: Invalid argument\n',
    ),
    (
        "SNP_LAUNCH_FINISH",
        "EIO",
        "qemu-system-x86_64: sev_snp_launch_finish: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'\n",
    ),
    (
        "KVM_GET_SUPPORTED_CPUID",
        None,
        "Error starting domain: operation failed: guest CPU doesn't match\nspecification: extra features: ..., missing features: tsx, hle, rtm\n",
    ),
    (
        "module",
        None,
        "[ 3630.362249] kvm: enabling virtualization on CPU7 failed\n[ 3630.362250] kvm: enabling virtualization on CPU6 failed\n",
    ),
    (
        "open",
        "ENOENT",
        '{"fault_message":"Internal error while starting microVM: Failed to validate KVM support: Error creating KVM object. [No such file or directory (os error 2)]"}\n',
    ),
    (
        "open",
        None,
        "libvirt error code: 67, message: unsupported configuration: Emulator '/usr/bin/kvm-spice' does not support virt type 'kvm'\n",
    ),
    ("open", None, "Error: NoHypervisorFound\n"),
    (
        "KVM_CHECK_EXTENSION",
        None,
        "qemu-system-aarch64: Initialization of device arm_gic failed: KVM with user space irqchip only works when the host kernel supports KVM_CAP_ARM_USER_IRQ\n",
    ),
    ("open", None, "KVM acceleration requested but cannot access /dev/kvm\n"),
    (
        "open",
        "EACCES",
        "Failed to open hypervisor interface (is /dev/kvm available?): HypervisorCreate(Permission denied (os error 13))\n",
    ),
    ("KVM_CREATE_VM", None, "  Error: KVM_CREATE_VM ioctl\n"),
    ("libkrun", "EINVAL", "start vm: krun_start_enter returned: -22 (EINVAL: libkrun rejected the VM configuration)\n"),
    (
        "open",
        "EACCES",
        "Could not access KVM kernel module: Permission denied\nqemu-system-x86_64: failed to initialize KVM: Permission denied\n",
    ),
    (
        "open",
        "ENOENT",
        "thread 'main' panicked at 'called `Result::unwrap()` on an `Err` value: VmCreate(No such file or directory (os error 2))', src/main.rs:304:22\n",
    ),
    (
        "open",
        "ENOENT",
        "thread '<unnamed>' panicked at 'Error creating the Kvm object: Error(2)', src/vmm/src/linux/vstate.rs:340:30\n",
    ),
    (
        "KVM_SET_USER_MEMORY_REGION",
        "EEXIST",
        "qemu-system-x86_64: kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, slot=4, start=0xc0000, size=0xbff40000: File exists\nkvm_set_phys_mem: error registering slot: File exists\n",
    ),
    ("KVM_SET_USER_MEMORY_REGION", "EINVAL", "kvm_set_phys_mem: error registering slot: Invalid argument\n"),
    (
        "KVM_SET_USER_MEMORY_REGION2",
        "EINVAL",
        "qemu-system-x86_64: kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=3, start=0xc0000, size=0x40000, flags=0x0, guest_memfd=-1, guest_memfd_offset=0x0: Invalid argument\n",
    ),
    ("SNP_LAUNCH_START", "EIO", "qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=\n"),
    (
        "SEV",
        None,
        "qemu-system-x86_64: -object sev-snp-guest,id=s: Parameter 'qom-type' does not accept value 'sev-snp-guest'\n",
    ),
    (
        "KVM_TDX",
        None,
        "qemu-system-x86_64: -object tdx-guest,id=t: Parameter 'qom-type' does not accept value 'tdx-guest'\n",
    ),
    ("SEV", None, "error: unsupported configuration: SEV launch security is not supported with this QEMU binary\n"),
    (
        "KVM_TDX",
        None,
        "error: unsupported configuration: INTEL TDX launch security is not supported with this QEMU binary\n",
    ),
    (
        "module",
        None,
        "[    5.1] kvm: VMCS config on CPU 3 doesn't match reference config: Offset 8 REF = 0x7fffff, CPU = 0x7fdfff, DELTA = 0x2000\n",
    ),
    ("open", None, "could not create machine: platform kvm requested but it's not available\n"),
    (
        "SNP_LAUNCH_START",
        "ENOTTY",
        "qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-25 fw_error=0 ''\nqemu-system-x86_64: sev_kvm_init: failed to create encryption context\nqemu-system-x86_64: failed to initialize kvm: Operation not permitted\n",
    ),
    (
        "SNP_LAUNCH_START",
        "EIO",
        "qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=22 'Invalid parameter'\n",
    ),
    (
        "SEV_INIT",
        "ENOTTY",
        "qemu-system-x86_64: sev_guest_init: failed to initialize ret=-25 fw_error=0 ''\nqemu-system-x86_64: failed to initialize KVM: Operation not permitted\n",
    ),
    (
        "SEV_INIT",
        "EIO",
        "qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to initialize ret=-5 fw_error=33 'unknown error'\nqemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted\n",
    ),
    (
        "SEV_LAUNCH_FINISH",
        "EIO",
        "qemu-system-x86_64: sev_launch_finish: LAUNCH_FINISH ret=-5 fw_error=2 'Guest state is invalid'\n",
    ),
    (
        "open",
        "ENOENT",
        "qemu-system-x86_64: -accel kvm: sev_kvm_init: Failed to open /dev/sev 'No such file or directory'\nqemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted\n",
    ),
    (
        "SEV_ES_INIT",
        None,
        "qemu-system-x86_64: sev_kvm_init: guest policy requires SEV-ES, but host SEV-ES support unavailable\nqemu-system-x86_64: failed to initialize kvm: Operation not permitted\n",
    ),
    (
        "KVM_MEMORY_ENCRYPT_REG_REGION",
        "ENOMEM",
        "qemu-system-x86_64: sev_ram_block_added: failed to register region (0x7f3b40000000+0x40000000) error 'Cannot allocate memory'\n",
    ),
    ("KVM_CREATE_VM", None, "qemu-system-x86_64: -accel kvm: kvm-type 'tdx' not supported by KVM\n"),
    ("KVM_CREATE_VM", None, "qemu-system-x86_64: vm-type tdx not supported by KVM\n"),
    ("KVM_CREATE_VM", None, "qemu-system-x86_64: -accel kvm: vm-type X86_TDX_VM not supported by KVM\n"),
    ("KVM_CREATE_VM", None, "kvm: vm-type tdx not supported by KVM\n[   10.348460] tdx: not enabled by BIOS.\n"),
    (
        "KVM_TDX_CAPABILITIES",
        "ENOTTY",
        "qemu-system-x86_64: -accel kvm: get_tdx_capabilities: KVM_TDX_CAPABILITIES failed: Inappropriate ioctl for device\nqemu-system-x86_64: -accel kvm: failed to initialize kvm: Inappropriate ioctl for device\n",
    ),
    ("KVM_TDX_INIT_MEM_REGION", "EIO", "qemu-system-x86_64: KVM_TDX_INIT_MEM_REGION failed Input/output error\n"),
    (
        "KVM_TDX_INIT_VM",
        "EINVAL",
        "qemu-system-x86_64: -accel kvm: TDX ioctl KVM_TDX_INIT_VM failed, hw_errors: 0xc000010000000000: Invalid argument\n",
    ),
    ("", "ENODEV", "qemu-system-x86_64: -accel kvm: failed to initialize kvm: No such device\n"),
    ("KVM_SET_SREGS", "EINVAL", "KVM_SET_SREGS: Invalid argument\nBackend failed initialization\n"),
    (
        "KVM_CREATE_VM",
        None,
        "  Error: KVM_CREATE_VM ioctl\n  Warning: Failed init: kvm__init\n  Fatal: Initialisation failed\n",
    ),
    ("KVM_CREATE_VCPU", None, "  Fatal: KVM_CREATE_VCPU ioctl\n"),
    ("module", None, "[   39.1] kvm: enabling virtualization on CPU3 failed\n"),
    (
        "KVM_CREATE_IRQCHIP",
        "EOPNOTSUPP",
        "[2026-01-02T03:04:05.000000000+00:00 ERROR crosvm] exiting with error 1: failed to create IRQ chip\n\nCaused by:\n    Operation not supported (os error 95)\n",
    ),
    (
        "KVM_SET_MSRS",
        None,
        "virError(Code=1, Domain=10, Message='internal error: process exited while connecting to monitor: 2026-01-02T03:04:05.000000Z qemu-kvm: error: failed to set MSR 0x48e to 0xf7b9fffe04006172\\nqemu-kvm: /builddir/build/BUILD/qemu-2.12.0/target/i386/kvm.c:2119: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.')\n",
    ),
    (
        "KVM_CREATE_VM",
        "EBUSY",
        "km: KVM: create VM failed. Is another virtual machine manager currently in use?: Device or resource busy\n",
    ),
    ("KVM_CREATE_VCPU", "EEXIST", "Caused by:\n    0: resize vcpu error Vcpu(VcpuCreate(VcpuFd(Error(17))))\n"),
    (
        "module",
        None,
        "emulator: ERROR: x86_64 emulation currently requires hardware acceleration!\nPlease ensure KVM is properly installed and usable.\nCPU acceleration status: KVM requires a CPU that supports vmx or svm\n",
    ),
    (
        "open",
        "ENOENT",
        "emulator: ERROR: x86 emulation currently requires hardware acceleration!\nCPU acceleration status: /dev/kvm is not found: VT disabled in BIOS or KVM kernel module not loaded\n",
    ),
    ("module", None, "[    0.894716] kvm: no hardware support\n"),
    ("module", None, "[    5.1] kvm: disabled by bios\n"),
    ("module", None, "[    5.1] kvm: support for 'kvm_intel' disabled by bios\n"),
    ("module", "EOPNOTSUPP", "modprobe: ERROR: could not insert 'kvm_intel': Operation not supported\n"),
    ("module", "EOPNOTSUPP", "insmod: ERROR: could not insert module kvm-amd.ko: Operation not supported\n"),
    (
        "open",
        "ENOENT",
        "failed to launch: Could not access KVM kernel module: No such file or directory \nfailed to initialize KVM: No such file or directory\n",
    ),
    ("open", "ENOENT", "failed to launch: /dev/kvm does not exist. Try 'sudo modprobe kvm_intel'.\n"),
    ("open", "ENOENT", "open /dev/kvm: No such file or directory\n"),
    (
        "module",
        None,
        "INFO: Your CPU does not support KVM extensions\nINFO: For more detailed results, you should run this as root\n",
    ),
    ("module", None, "INFO: Your CPU supports KVM extensions\nINFO: KVM (vmx) is disabled by your BIOS\n"),
    ("open", "EACCES", "opening KVM device file: open /dev/kvm: permission denied\n"),
    (
        "KVM_CREATE_VM",
        "EBUSY",
        "creating platform: creating VM: device or resource busy\nrunsc: KVM platform error: creating VM: device or resource busy\n",
    ),
    ("open", "ENOENT", "error creating platform: opening /dev/kvm: no such file or directory\n"),
    ("KVM_CREATE_VM", "EBUSY", "Failed to create VM: Device or resource busy (os error 16)\nkvm"),
    (
        "KVM_CREATE_VM",
        "EBUSY",
        "[anonymous-instance:main:ERROR] RunWithoutApiError error: Failed to build MicroVM from Json: Failed to create VM: Vmm(Vm(VmFd(Error(16))))\n",
    ),
    (
        "KVM_SET_SREGS",
        "EINVAL",
        "Error: cloud-hypervisor: Error booting VM: VmBoot(CpuManager(VcpuConfiguration(SREGSConfiguration(SetStatusRegisters(Failed to set special registers: Invalid argument (os error 22))))))\n",
    ),
    (
        "KVM_SET_SREGS",
        "EINVAL",
        "Error booting VM\n\nCaused by:\n   0: Error configuring vCPU\n   1: Error configuring the special registers\n   2: Failed to set SREGs for this CPU\n   3: Failed to set special registers\n   4: Invalid argument (os error 22)\n",
    ),
    (
        "KVM_CREATE_VCPU",
        "EINVAL",
        "VmBoot(CpuManager(VcpuCreate(Failed to create Vcpu: Invalid argument (os error 22))))\n",
    ),
    ("open", "EACCES", "Error: Kvm error: Error creating KVM object: Permission denied (os error 13)\n"),
    ("open", "EACCES", "Error: Hypervisor error: failed to open /dev/kvm: EACCES\n"),
    ("open", "EACCES", "[ERROR] unable to open kvm device: Permission denied (13)\n"),
    ("KVM_SET_CPUID2", "E2BIG", "panic: ioctl KVM_SET_CPUID2: argument list too long\n"),
    ("KVM_CREATE_VM", "EBUSY", "panic: KVM_CREATE_VM: device or resource busy\n"),
    ("KVM_SET_USER_MEMORY_REGION", "EEXIST", "Error: KVM_SET_USER_MEMORY_REGION: errno = 17\n"),
    ("KVM_SET_SREGS2", "EINVAL", "perror KVM_SET_SREGS2: Invalid argument\n"),
    ("KVM_SET_MSRS", "EINVAL", "ioctl(KVM_SET_MSRS) failed: Invalid argument\n"),
    (
        "KVM_CREATE_VM",
        "EBUSY",
        "  ==== Test Assertion Failure ====\n  lib/kvm_util.c:100: vm->fd >= 0\n  pid=1 tid=1 errno=16 - Device or resource busy\n  KVM_CREATE_VM failed, rc: -1 errno: 16 (Device or resource busy)\n",
    ),
    ("KVM_CREATE_VCPU", "EEXIST", "KVM_CREATE_VCPU failed: -EEXIST\n"),
    ("KVM_ENABLE_CAP", "EINVAL", "ioctl KVM_ENABLE_CAP failed: -22\n"),
    ("KVM_SET_TSS_ADDR", "EEXIST", "KVM_SET_TSS_ADDR failed: File exists\n"),
    ("registers", "EINVAL", "qemu-system-aarch64: Failed to put registers after init: Invalid argument\n"),
    (
        "KVM_ARM_VCPU_INIT",
        "EINVAL",
        "qemu-system-aarch64: kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument\n",
    ),
    (
        "KVM_CREATE_DEVICE",
        "ENODEV",
        "qemu-system-aarch64: Initialization of device kvm-arm-gicv3 failed: error creating in-kernel VGIC: No such device\n",
    ),
    ("KVM_SET_DEVICE_ATTR", None, "qemu-system-aarch64: failed to set irq for PMU\n"),
    ("KVM_CREATE_VCPU", "EINVAL", "qemu-system-x86_64: kvm_init_vcpu: kvm_get_vcpu failed (0): Invalid argument\n"),
    ("KVM_CREATE_IRQCHIP", "EINVAL", "qemu-system-x86_64: Create kernel irqchip failed: Invalid argument\n"),
    (
        "KVM_SET_GSI_ROUTING",
        None,
        "qemu-kvm: ../accel/kvm/kvm-all.c:2000: kvm_irqchip_commit_routes: Assertion `ret == 0' failed.\n",
    ),
    ("KVM_CREATE_VCPU", None, "Number of SMP cpus requested (300) exceeds the maximum cpus supported by KVM (288)\n"),
    (
        "KVM_CREATE_VM",
        "EINVAL",
        "qemu-system-ppc64: -accel kvm: ioctl(KVM_CREATE_VM) failed: Invalid argument\nPPC KVM module is not loaded. Try modprobe kvm_hv.\nqemu-system-ppc64: -accel kvm: failed to initialize kvm: Invalid argument\n",
    ),
    (
        "KVM_SET_XSAVE",
        "EINVAL",
        "qemu-system-x86_64: Putting registers after reset: Failed to set XSAVE: Invalid argument\n",
    ),
    (
        "KVM_SET_NESTED_STATE",
        "EINVAL",
        "qemu-system-x86_64: Putting registers after init: Failed to set nested state: Invalid argument\n",
    ),
    ("registers", "EINVAL", "kvm: Failed to put registers after reset: Invalid argument\n"),
    (
        "KVM_SET_MEMORY_ATTRIBUTES",
        "EINVAL",
        "qemu-system-x86_64: kvm_set_memory_attributes: failed to set memory (0x0+0x1000) with attr 0x8 error 'Invalid argument'\n",
    ),
    ("KVM_CREATE_VM", "EBUSY", "ioctl(9, KVM_CREATE_VM, 0)              = -1 EBUSY (Device or resource busy)\n"),
    (
        "KVM_SET_USER_MEMORY_REGION",
        "EEXIST",
        "[pid 1234] ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0, memory_size=4096, userspace_addr=0x7f}) = -1 EEXIST (File exists)\n",
    ),
    (
        "KVM_CREATE_VM",
        "ENOMEM",
        "error: internal error: qemu unexpectedly closed the monitor: ioctl(KVM_CREATE_VM) failed: 12 Cannot allocate memory\n",
    ),
    (
        "open",
        None,
        "Failed to start domain\nunsupported configuration: Domain requires KVM, but it is not available. Check that virtualization is enabled in the host BIOS, and host configuration is setup to load the kvm modules.\n",
    ),
    ("open", None, "invalid argument: could not get preferred machine for /usr/bin/qemu-system-x86_64 type=kvm\n"),
    (
        "KVM_CREATE_VM",
        "EBUSY",
        'Error: Could not create the KVM VM: Os { code: 16, kind: ResourceBusy, message: "Device or resource busy" }\n',
    ),
    ("KVM_CREATE_VM", "ENOMEM", "hyperlight: Error: Failed to create KVM VM: Error(12)\n"),
    ("KVM_CREATE_VM", "EBUSY", "solo5-hvt: KVM: ioctl (CREATE_VM) failed: Device or resource busy\n"),
    ("KVM_SET_SREGS", "EINVAL", "solo5-hvt: KVM: ioctl (SET_SREGS) failed: Invalid argument\n"),
    ("open", "EACCES", "solo5-hvt: Could not open: /dev/kvm: Permission denied\n"),
    ("open", "EACCES", "uhyve: Unable to open /dev/kvm: Permission denied\n"),
    ("KVM_CREATE_PIT2", "EEXIST", "kvm_vm_ioctl KVM_CREATE_PIT2 failed: File exists\n"),
    ("KVM_CREATE_PIT2", "EEXIST", "Create kernel PIC irqchip failed: File exists\n"),
    ("module", None, "[    8.2] kvm: already loaded the other module\n"),
    ("module", None, "[    2.1] kvm [1]: HYP mode not available\n"),
    ("module", None, "[    2.1] kvm_intel: VMX not supported by CPU 0\n"),
    ("module", None, "[    2.1] SVM disabled (by BIOS) in MSR_VM_CR on CPU 0\n"),
    ("module", None, "[    2.1] x86/cpu: VMX (outside TXT) disabled by BIOS\n"),
    ("module", None, "[    2.1] kvm [1]: hypervisor extension not available\n"),
    (
        "open",
        "EACCES",
        "virsh # error: Failed to create domain: 内部错误：process exited while connecting to monitor: Could not access KVM kernel module: 权限不够\nfailed to initialize KVM: 权限不够\n",
    ),
    (
        "KVM_CREATE_VM",
        "EBUSY",
        "ioctl(KVM_CREATE_VM) failed: 16 设备或资源忙\nqemu-system-x86_64: failed to initialize KVM: 设备或资源忙\n",
    ),
    ("KVM_SET_SREGS", "EINVAL", "error: SetSpecialRegs(Invalid argument (os error 22))\n"),
    (
        "KVM_SET_MSRS",
        "EINVAL",
        "Error: Failed to restore vCPUs: Failed to set KVM vcpu msrs: Invalid argument (os error 22)\n",
    ),
    ("KVM_SET_MSRS", None, "Failed to set all KVM MSRs for this vCPU. Only a partial write was done.\n"),
    (
        "KVM_SET_XSAVE",
        "EINVAL",
        "Failed to restore vCPUs: Failed to set KVM vcpu xsave: Invalid argument (os error 22)\n",
    ),
    ("KVM_CHECK_EXTENSION", None, "Missing KVM capabilities: [\n    KVM_CAP_XCRS,\n]\n"),
    ("KVM_CHECK_EXTENSION", None, "KVM: missing capability: KVM_CAP_USER_MEMORY2\n"),
    (
        "KVM_CHECK_EXTENSION",
        None,
        "kvm does not support KVM_CAP_USER_MEMORY\nPlease upgrade to at least kernel 2.6.29 or recent kvm-kmod\n",
    ),
    ("KVM_SET_SREGS", "EINVAL", "km: KVM_SET_SREGS failed: Invalid argument\n"),
    ("KVM_CREATE_VCPU", "EINVAL", "error: failed to add vcpu to kvm: invalid argument\n"),
    ("module", None, "  Warning: couldn't find any supported virtualization extension"),
    (
        "KVM_SET_REGS",
        "EINVAL",
        "error setting up new context: kvm: error initializing vCPU registers: invalid argument",
    ),
    (
        "KVM_SET_MSRS",
        None,
        "qemu-system-x86_64: ../../target/i386/kvm/kvm.c:2850: kvm_buf_set_msrs: La declaración `ret == cpu->kvm_msr_buf->nmsrs' no se cumple.",
    ),
    ("module", None, "kvm [1]: Hyp mode not available"),
    ("KVM_SET_ONE_REG", "EINVAL", "qemu-system-aarch64: Failed to set KVM_REG_ARM_TIMER_CNT: Invalid argument"),
    ("KVM_CREATE_VM", "EOPNOTSUPP", "qemu-system-s390x: KVM Error creating ucontrol VM: Operation not supported"),
    ("KVM_CREATE_VCPU", "EEXIST", "KVM vcpu create failed: EEXIST"),
    (
        "KVM_ARM_VCPU_INIT",
        "EINVAL",
        'uhyve: Failed to initialise vcpu: Os { code: 22, kind: InvalidInput, message: "Invalid argument" }',
    ),
    (
        "module",
        None,
        "QEMU: Checking for hardware virtualization                                 : FAIL (Only emulated CPUs are available, performance will be significantly limited)\n  QEMU: Checking if device /dev/kvm exists                                   : FAIL (Check that CPU and firmware supports virtualization and kvm module is loaded)",
    ),
    ("module", None, "INFO: Your CPU does not support KVM extensions\nKVM acceleration can NOT be used"),
    ("KVM_CREATE_VM", None, "qemu: could not load kvm: Could not initialize KVM, will disable KVM support"),
    ("KVM_SET_ONE_REG", "EINVAL", "qemu-system-ppc64: failed to set KVM_REG_PPC_DAWR: Invalid argument"),
    ("KVM_CREATE_DEVICE", None, "qemu-system-riscv64: KVM AIA: fail to set mode"),
    ("KVM_SET_ONE_REG", "EINVAL", "qemu-system-riscv64: Unable to read ISA_EXT KVM register sstc, error code: -22"),
    ("KVM_SET_SREGS", "EINVAL", "Unable to set SREGS: -22"),
    (
        "KVM_X86_SET_MSR_FILTER",
        "EINVAL",
        "qemu-system-x86_64: Could not install MSR_CORE_THREAD_COUNT handler: Invalid argument",
    ),
    ("KVM_IOEVENTFD", "EMFILE", "qemu-system-x86_64: Error: kvm_set_ioeventfd_mmio: Too many open files"),
    ("KVM_ENABLE_CAP", "EINVAL", "kvm: Failed to enable dirty ring: Invalid argument"),
]

# What names such a call and is no refusal: sources, documentation, patches, traces of what succeeded, healthy lines.
NOT_REFUSED: list[str] = [
    # The firmware refused the host, not a VM: drivers/crypto/ccp/sev-dev.c, sev_pci_init.
    "[   14.150879] ccp 0000:49:00.1: SEV: failed to INIT error 0x13\n",
    "[   11.702131] ccp 0000:42:00.1: SEV-SNP: failed to INIT rc -5, error 0x3\n",
    "qemu-kvm: -drive file=/a.img: Could not open '/a.img': Permission denied\n",
    "kvm: -netdev tap: could not configure /dev/net/tun: Device or resource busy\n",
    "error: kvm run failed Bad address\n",
    "KVM guest failed to boot: mount failed: No such device\n",
    '    if (ioctl(vmfd, KVM_CREATE_VCPU, 0) < 0) err(1, "KVM_CREATE_VCPU");\n',
    "KVM_CREATE_VM\n\nCapability: basic\nArchitectures: all\nType: system ioctl\nParameters: machine type identifier (KVM_VM_*)\nReturns: a VM fd that can be used to control the new virtual machine.\n",
    "ioctl(9, KVM_GET_API_VERSION, 0) = 12\nioctl(9, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP) = 1\n",
    "[pid 3] ioctl(5, KVM_SET_USER_MEMORY_REGION, {slot=3, flags=0}) = 0\n",
    "Errors:\n  EEXIST    the irqchip was already created\n  KVM_CREATE_IRQCHIP returns EEXIST if the in-kernel irqchip exists\n",
    '-       error_report("KVM_CREATE_VM failed: %s", strerror(errno));\n',
    '+\t\tpr_err("kvm: enabling virtualization on CPU%d failed\\n", cpu);\n',
    "qemu-system-x86_64 -enable-kvm -m 4096 -cpu host\n",
    "INFO: /dev/kvm exists\nKVM acceleration can be used\n",
    "crw-rw---- 1 root kvm 10, 232 Jan  2 10:00 /dev/kvm\n",
    "kvm: SMP vm created on host with unstable TSC; guest TSC will not be reliable\n",
    "[    2.3] kvm: Nested Virtualization enabled\n[ 2.3] kvm_amd: SEV enabled (ASIDs 100 - 509)\n",
    "# kvm_put_msrs is called for each vcpu\n",
    "KVM_SET_SREGS: This ioctl is used to write special registers into the vcpu. See KVM_GET_SREGS for the data structures.\n",
    'let vcpu = vm.create_vcpu(0).expect("Failed to create vCPU");\n',
    '    assert!(vm_fd.set_user_memory_region(region).is_err(), "Failed to set memory");\n',
    "Failed to start network default: network is already active as virbr0\n",
    "error: Failed to start domain vm1\nerror: internal error: cannot find suitable emulator\n",
    "fix: handle the failure of KVM_CREATE_VCPU properly when EEXIST is returned\n",
    "  - [ ] KVM_SET_CPUID2 should be called before KVM_RUN, otherwise it fails with EINVAL\n",
    "#define KVM_SET_MSRS _IOW(KVMIO, 0x89, struct kvm_msrs)\n",
    "modprobe: FATAL: Module nvidia not found.\n",
    "mount: permission denied\n",
    "failed to open file /etc/passwd: Permission denied\n",
    "[  1.0] virt/tdx: module initialized\n",
    "trace: kvm_ioctl type 0xae01, arg 0x0\n",
    "   kvm_vm_ioctl+0x123/0x456 [kvm]\n   ksys_ioctl+0x1/0x2\n",
    "nova.exception.InternalError: failed to allocate network\n",
]

# target/i386/cpu-dump.c behind "Failed to put registers": CS has L=1 and EFER is 0.
REGISTERS = """qemu: Failed to put registers after init: Invalid argument
EAX=00000000 EBX=00010000 ECX=000000f0 EDX=00000000
ESI=00000000 EDI=00000000 EBP=c001cf34 ESP=c001cf34
EIP=c00083c6 EFL=00000082 [--S----] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0010 00000000 ffffffff 00f09300 DPL=0 DS   [-WA]
CS =0008 00000000 ffffffff 00e09b00 DPL=0 CS64 [-RA]
SS =0010 00000000 ffffffff 00f09300 DPL=0 DS   [-WA]
DS =0010 00000000 ffffffff 00f09300 DPL=0 DS   [-WA]
FS =0010 00000000 ffffffff 00f09300 DPL=0 DS   [-WA]
GS =0010 00000000 ffffffff 00f09300 DPL=0 DS   [-WA]
LDT=0000 00000000 0000ffff 00008200 DPL=0 LDT
TR =0028 c002b8ea 00000068 00008b00 DPL=0 TSS32-busy
GDT=     c002b8aa 0000003f
IDT=     c001a1c0 000007ff
CR0=80000013 CR2=00000000 CR3=04cc9000 CR4=00000680
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000000
Code=00
"""
