"""Signs from what the VMM says: exits it does not know, a guest's own end, other hypervisors, and nothing at all."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.injections import injections
from kvmwhy.diagnosis.knowledge.predicate import is_about_attributes
from kvmwhy.diagnosis.knowledge.sign import EMULATION, Answer, Sign, Test, weights
from kvmwhy.diagnosis.kvm_run_alone import is_only_a_page
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At

_UNKNOWN: Final = ("exit-unknown-to-vmm",)
_SHUTDOWN: Final = ("triple-fault",)
_OTHER: Final = ("not-this",)
_SHOWN_NOT: Final = ("not-shown",)
_FAILED: Final = frozenset({"internal-error", "entry-failure", "run-error", "symptom"})
_MEMORY_FAULT, _SYSTEM_EVENT, _SET_TPR = 39, 24, 11
_WITHOUT_FIRMWARE: Final = frozenset(
    {
        *("firecracker", "libkrun", "dragonball", "gokvm", "hyperlight", "uhyve", "hermit", "solo5", "ukvm", "km"),
        *("gvisor", "enarx", "nanvix", "tinykvm", "vmm-reference", "opendcdiag", "kvm-selftests"),
    }
)
_CRASH: Final = 3  # of KVM_SYSTEM_EVENT_*
_ENDED_ITSELF: Final = frozenset({6, 7})


def _speaker(*names: str) -> Test:
    def test(scene: Scene) -> Answer:
        return scene.speaker if scene.speaker in names else None

    return test


def _system_event(scene: Scene) -> int | None:
    return scene.failure.exit_fields.get("type") if scene.failure.exit_reason == _SYSTEM_EVENT else None


def _put_in_by_kvm(scene: Scene) -> Answer:
    """KVM emulated, and the last exception that it put into the guest is none that the guest had raised."""
    trace = scene.failure.trace
    if not any(event.name == "kvm_emulate_insn" for event in trace):
        return None
    last = next(reversed(tuple(injections(trace))), None)
    return None if last is None or last.passed_on or last.walk or not last.is_known else last.at


SIGNS: Final = (
    Sign(
        "vmm-without-firmware",
        None,
        lambda scene: scene.speaker if scene.speaker in _WITHOUT_FIRMWARE else None,
        "{} starts its guests without firmware",
        weights(guest_firmware=-3),
        "They load a kernel or a program and enter it; no SeaBIOS, OVMF or option ROM is there to fail.",
    ),
    Sign(
        "confidential-guest-ended-itself",
        _UNKNOWN,
        lambda scene: (
            scene.failure.exit_reason == _SYSTEM_EVENT
            and scene.state not in {"reset", "startup"}
            and (bool(scene.confidential) or scene.hidden_state)
        ),
        "a confidential guest asked for its end",
        weights(confidential_stack=2, vmm=-0.5),
        "KVM_SYSTEM_EVENT_SEV_TERM: firmware or guest found something it cannot trust.",
    ),
    Sign(
        "confidential-exit",
        (*_UNKNOWN, "exit-unhandled", "host-trouble", "triple-fault"),
        lambda scene: scene.confidential,
        "the guest is a confidential one ({})",
        weights(confidential_stack=1, vmm=0.5),
        "Its exits are newer than most VMMs, and its end is often its own.",
    ),
    Sign(
        "memory-attribute-exit",
        _UNKNOWN,
        lambda scene: scene.failure.exit_reason == _MEMORY_FAULT and is_about_attributes(scene.failure),
        "the exit asks the VMM to convert memory between private and shared",
        weights(vmm=1.5),
        "KVM_EXIT_MEMORY_FAULT; the VMM keeps the attributes.",
    ),
    Sign(
        "memory-fault-without-private-memory",
        _UNKNOWN,
        lambda scene: scene.is_plain_memory_fault,
        "the access was not to private memory: so KVM reports every page that it cannot get from the host (EFAULT)",
        weights(host_setup=3, host_kernel=1),
        "arch/x86/kvm/mmu/mmu.c: kvm_handle_error_pfn, since 6.8; in a confidential guest it can be a conversion.",
    ),
    Sign(
        "guest-reported-its-crash",
        _UNKNOWN,
        lambda scene: _system_event(scene) == _CRASH,
        "the guest reported its own crash",
        weights(guest_code=3, vmm=-1.5),
        "KVM_SYSTEM_EVENT_CRASH: Hyper-V's crash MSRs, PSCI.",
    ),
    Sign(
        "guest-asked-for-its-termination",
        _UNKNOWN,
        lambda scene: _system_event(scene) in _ENDED_ITSELF,
        "the confidential guest ended itself",
        weights(confidential_stack=3, vmm=-1),
        "KVM_SYSTEM_EVENT_SEV_TERM, _TDX_FATAL.",
    ),
    Sign(
        "page-alone",
        _UNKNOWN,
        lambda scene: scene.failure.exit_reason != _MEMORY_FAULT and is_only_a_page(scene.failure),
        "no VMM says that it could not answer the exit",
        weights(none=2.5),
        "kvm_run keeps the last exit, answered or not.",
    ),
    Sign(
        "a-test-expected-another-exit",
        _UNKNOWN,
        _speaker("kvm-selftests"),
        "a test of KVM expected another exit",
        weights(host_kernel=2),
        "tools/testing/selftests/kvm: TEST_ASSERT_KVM_EXIT_REASON.",
    ),
    Sign(
        "page-that-nobody-filled",
        ("exit-unknown-to-kvm",),
        lambda scene: scene.failure.kind == "other" and is_only_a_page(scene.failure),
        "exit_reason is 0, as in every page before the vCPU's first exit",
        weights(none=3, host_kernel=-2, outer_hypervisor=-2),
        "Documentation/virt/kvm/api.rst: struct kvm_run.",
    ),
    Sign(
        "ordinary-exit",
        _UNKNOWN,
        lambda scene: (
            scene.failure.exit_reason not in {None, _MEMORY_FAULT}
            and not scene.confidential
            and not scene.hidden_state
            and scene.speaker != "kvm-selftests"
            and not is_only_a_page(scene.failure)
        ),
        "the exit is an ordinary one that the VMM has no case for",
        weights(vmm=1),
        "include/uapi/linux/kvm.h: the VMM is older than the kernel.",
    ),
    Sign(
        "guest-restarts",
        (*_SHUTDOWN, "exit-unknown-to-vmm"),
        lambda scene: scene.guest_restarts,
        "the guest was restarting itself: that is how it ends",
        weights(none=2.5),
        "Linux falls back to a triple fault when nothing else resets the machine.",
    ),
    Sign(
        "stack-at-the-top",
        (*_SHUTDOWN, *EMULATION, "fetch-not-ram", "event-delivery", "not-shown"),
        lambda scene: scene.mmio_at_top,
        "the guest pushed onto a stack at address 0: it never set its stack pointer",
        weights(guest_code=3),
        "The VMM logged an access just below 4 GiB.",
    ),
    Sign(
        "kvm-injected-into-its-guest",
        _SHUTDOWN,
        _put_in_by_kvm,
        "KVM emulated an instruction and put the exception into the guest before it died",
        weights(host_kernel=1.5),
        "An exception that hardware would not have raised is KVM's.",
    ),
    Sign(
        "triple-fault-at-first-code",
        _SHUTDOWN,
        lambda scene: (
            scene.state in {"reset", "startup"} or (scene.young_vmm and scene.rip is not None and scene.paging)
        ),
        "it died at its first code",
        weights(vmm=1, guest_code=0.5),
        "Page tables, GDT and entry point are the VMM's or the loader's.",
    ),
    Sign(
        "split-lock-in-firmware",
        ("exception-exit",),
        lambda scene: (
            scene.failure.exception == 17 and scene.rip_place in {"bios", "option-rom", "flash"} and At(register="rip")
        ),
        "the split lock is in firmware or an option ROM",
        weights(guest_firmware=1.5),
        "A descriptor table that straddles a cache line.",
    ),
    Sign(
        "split-lock",
        ("exception-exit", "guest-loops"),
        lambda scene: scene.failure.exception == 17 or scene.event("split-lock"),
        "the CPU raised #AC for a locked access across two cache lines",
        weights(guest_code=1, guest_firmware=0.5, host_setup=0.5, host_kernel=-1),
        "Whose code does it, and that the host detects it.",
    ),
    Sign(
        "split-lock-of-a-running-vcpu",
        ("exception-exit",),
        lambda scene: scene.failure.exception is None and scene.event("split-lock"),
        "the host's kernel names the vCPU's thread",
        weights(guest_code=1.5, host_kernel=-2),
        "bus_lock.c does what split_lock_detect= asks it to; the access is the guest's.",
    ),
    Sign(
        "kvm-of-2007",
        ("exception-exit", "exit-unknown-to-vmm", "emulation-failed", "entry-refused-guest-state"),
        lambda scene: scene.old_format,
        "this is printed by the qemu-kvm of 2007 to 2009",
        weights(host_kernel=1.5, vmm=0.5),
        "Real mode ran as virtual-8086 code, and the emulator knew few instructions.",
    ),
    Sign(
        "another-hypervisor",
        _OTHER,
        _speaker("xen", "bhyve", "haxm", "hyperkit", "hyper-v", "acrn", "whpx", "mshv", "openbsd-vmm"),
        "{} reports it: the place of the host's kernel is taken by that hypervisor",
        weights(host_kernel=1.5),
        "Its emulator or its VMX code lacks something.",
    ),
    Sign(
        "own-hypervisor",
        _OTHER,
        _speaker("noirvisor", "noah", "hvf", "simplevisor", "hyperplatform", "hypervisor", "jailhouse", "own"),
        "{} makes the guest's state and controls by itself",
        weights(vmm=1.5),
        "A small hypervisor's own fields.",
    ),
    Sign(
        "tcg-left-ram",
        _OTHER,
        lambda scene: scene.speaker == "tcg" and "outside RAM" in scene.spoken,
        "QEMU's own CPU emulator ran the guest where there is no RAM",
        weights(guest_code=1, vm_configuration=1, guest_firmware=0.5),
        "accel/tcg: the guest jumped, or has too little RAM.",
    ),
    Sign(
        "tcg-logs-the-guest",
        _OTHER,
        lambda scene: scene.logs_the_guest,
        "QEMU's own CPU emulator logged exceptions and registers of the guest, and no failure of its own",
        weights(guest_code=3, host_kernel=-1),
        "QEMU -d int, -d cpu: target/i386/tcg/excp_helper.c logs what the guest raises.",
    ),
    Sign(
        "nothing-fails-in-the-trace",
        _SHOWN_NOT,
        lambda scene: (
            scene.failure.kind == "healthy"
            or (scene.failure.kind == "other" and bool(scene.failure.trace))
            or (
                scene.failure.kind == "other"
                and scene.failure.exit_reason is not None
                and is_only_a_page(scene.failure)
            )
        ),
        "nothing fails in what is shown",
        weights(none=2),
        "A trace that ends in ordinary exits, or a dump made on purpose.",
    ),
    Sign(
        "something-did-fail",
        _SHOWN_NOT,
        lambda scene: scene.failure.kind in _FAILED and At(line=scene.failure.source.line),
        "the VMM says that it failed, though not how",
        weights(none=-3),
        "KVM_EXIT_INTERNAL_ERROR, a refused entry or a guest that libvirt paused are never orderly ends.",
    ),
    Sign(
        "internal-error-unnamed",
        _SHOWN_NOT,
        lambda scene: scene.failure.kind == "internal-error" and At(line=scene.failure.source.line),
        "the exit was KVM_EXIT_INTERNAL_ERROR: mostly an instruction that KVM could not emulate",
        weights(guest_code=3, vmm=1, guest_firmware=2, outer_hypervisor=-0.5),
        "arch/x86/kvm: prepare_emulation_failure_exit is the usual maker of that exit.",
    ),
    Sign(
        "refused-entry-unnamed",
        _SHOWN_NOT,
        lambda scene: scene.failure.kind == "entry-failure" and At(line=scene.failure.source.line),
        "the CPU did not enter the guest (KVM_EXIT_FAIL_ENTRY)",
        weights(vmm=1, host_kernel=0.5, outer_hypervisor=0.5),
        "Which of the reasons it was is in kvm_run alone.",
    ),
    Sign(
        "dump-without-its-line",
        _SHOWN_NOT,
        lambda scene: scene.failure.control is not None,
        "the kernel dumped the control block, as it does for a refused entry",
        weights(outer_hypervisor=0.5, host_kernel=0.5, none=-2),
        "arch/x86/kvm/vmx/vmx.c: dump_vmcs.",
    ),
    Sign(
        "harmless-flood",
        ("guest-loops",),
        lambda scene: None if scene.event("oops", "warning", "kernel-bug") else scene.event("exchange-as-write"),
        "KVM only says that it emulates a locked exchange as a plain write",
        weights(none=3),
        "arch/x86/kvm/x86.c: emulator_cmpxchg_emulated: a remark, not a failure.",
    ),
    Sign(
        "hypercall-status-as-exit",
        ("exit-unknown-to-kvm",),
        lambda scene: (
            scene.arch in {"ppc64", "ppc"}
            and scene.failure.hardware_reason is not None
            and bool(scene.failure.hardware_reason >> 63)
        ),
        "the number is the negative status of a call to the hypervisor below",
        weights(outer_hypervisor=1, host_kernel=0.5),
        "arch/powerpc/kvm: nested KVM-HV hands on what H_ENTER_NESTED returned.",
    ),
    Sign(
        "empty-vectors-on-power",
        ("guest-loops",),
        lambda scene: scene.event("ppc-emulation-failed") or scene.arch in {"ppc64", "ppc"},
        "the guest's exception vectors are empty",
        weights(guest_firmware=1, host_kernel=0.5),
        "KVM-PR emulates supervisor code; firmware that has no handler yet loops.",
    ),
    Sign(
        "forced-emulation",
        ("undef-injected",),
        _speaker("kvm-unit-tests"),
        "the test uses KVM's forced-emulation prefix, which a module parameter must allow",
        weights(host_setup=2),
        "kvm.force_emulation_prefix.",
    ),
    Sign(
        "illumos-port",
        (
            *_SHUTDOWN,
            "emulation-no-handler",
            "emulation-gives-up",
            "entry-refused-guest-state",
            "simultaneous-events",
            "guest-loops",
            "undef-injected",
        ),
        _speaker("illumos", "illumos-kvm"),
        "this is illumos' port of KVM, of 2011",
        weights(host_kernel=1),
        "What Linux mended since then is missing there.",
    ),
)
