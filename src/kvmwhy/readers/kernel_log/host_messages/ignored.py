"""Messages of KVM's modules that are no events: how each begins, and why it says nothing about a guest's failure."""

from __future__ import annotations

from typing import Final

_STATE: Final = "a module tells at its start what it can do; what a guest meets does not depend on it"
_CRYPTO: Final = "the crypto engine's queues, DMA and random numbers, which no guest's memory or state passes through"
_TEE: Final = "AMD's trusted execution environment for the host's own applets: no guest uses it"
_PROBE: Final = "a PCI driver's probe: what failed to be set up is told again by the part that needs it"
_MISUSE: Final = "a program's own mistake with a call, answered by the call's error"
_LEGACY: Final = (
    "an old interrupt controller or timer was programmed in a way that KVM does not model; the guest goes on"
)
_IN_BETWEEN: Final = "the middle of a message whose beginning is read"
_GENERIC: Final = "a check that the compiler puts into any module; the report around it is read"

IGNORED: Final[tuple[tuple[str, str], ...]] = (
    ("AVIC enabled", _STATE),
    ("x2AVIC enabled", _STATE),
    ("LBR virtualization supported", _STATE),
    ("PMU virtualization is disabled", _STATE),
    ("TSC scaling supported", _STATE),
    ("Virtual GIF supported", _STATE),
    ("Virtual NMI enabled", _STATE),
    ("Virtual VMLOAD VMSAVE supported", _STATE),
    ("kvm: Hyper-V ", _STATE),
    ("kvm_amd: Hyper-V ", _STATE),
    ("psp: TSME enabled", _STATE),
    ("psp: Both TSME and SME are active", _STATE),
    ("SFS ", _STATE),
    ("SEV-TIO status", _STATE),
    ("SEV-TIO STATUS", "the link encryption of devices: not used for a guest's memory or state"),
    ("Failed to enable SEV-TIO", "the link encryption of devices: not used for a guest's memory or state"),
    ("! ERROR: expected", "the link encryption of devices: not used for a guest's memory or state"),
    ("Expanding BUFFER", "the link encryption of devices: not used for a guest's memory or state"),
    ("Additional HV_Fixed pages", "pages that the processor's firmware keeps; nothing fails"),
    ("SEV: %s does not exist and will be created later", "the first start with a file for the firmware's state"),
    ("SEV: retrying INIT command", "what comes of it is the next message"),
    ("SEV_GET_ID command is deprecated", _MISUSE),
    ("KVM: debugfs: duplicate directory", "a file of statistics is missing; nothing else"),
    ("CCP error", _CRYPTO),
    ("DMA is not supported", _CRYPTO),
    ("Invalid value for dma_chan_attr", _CRYPTO),
    ("Unable to assign LSBs", _CRYPTO),
    ("%u command queues available", _CRYPTO),
    ("no command queues available", _CRYPTO),
    ("unable to allocate command queue", _CRYPTO),
    ("unable to allocate dma pool", _CRYPTO),
    ("error creating queue thread", _CRYPTO),
    ("error registering hwrng", _CRYPTO),
    ("%s %s: rejecting DMA map", _CRYPTO),
    ("ccp ", _CRYPTO),
    ("tee ", _TEE),
    ("tee: ", _TEE),
    ("doorbell command", "the platform's mailbox, which no guest uses"),
    ("firmware request failed", "the platform's mailbox, which no guest uses"),
    ("could not enable MSI", _PROBE),
    ("dma_set_mask_and_coherent failed", _PROBE),
    ("pcim_", _PROBE),
    ("ioremap failed", _PROBE),
    ("initialization failed", _PROBE),
    ("missing driver data", _PROBE),
    ("sev: missing driver data", _PROBE),
    ("unable to allocate an IRQ", _PROBE),
    ("psp: unable to allocate an IRQ", _PROBE),
    ("unable to get IRQ", _PROBE),
    ("enabled", _PROBE),
    ("disabled", _PROBE),
    ("psp enabled", _PROBE),
    ("sev enabled", _PROBE),
    ("Can't clear EOI MSR value", _LEGACY),
    ("Can't read EOI MSR value", _LEGACY),
    ("TODO: unsupported delivery mode", _LEGACY),
    ("ioapic: ", _LEGACY),
    ("pic: ", _LEGACY),
    ("kvm: pic: ", _LEGACY),
    ("apic: phys broadcast and lowest prio", _LEGACY),
    ("kvm: apic: phys broadcast and lowest prio", _LEGACY),
    ("Captured SR-IOV VF", "a virtual function got the driver that its owner asked for"),
    ("device denylist disabled", "somebody asked for it with a parameter"),
    ("vfio_pci: ", "a parameter of the module was read; what is refused later says so itself"),
    ("could not fix page fault during prefault", _MISUSE),
    (", spte[%d] = 0x%llx", _IN_BETWEEN),
    ("%s %llx", _IN_BETWEEN),
    ("\\n  Offset %u REF", _IN_BETWEEN),
    ("Buffer overflow detected", _GENERIC),
    ("memcpy: detected field-spanning write", _GENERIC),
    ("struct file::f_count incremented from zero", _GENERIC),
    ("file_ref_inc() on a released file reference", _GENERIC),
    ("DEBUG_LOCKS_WARN_ON", _GENERIC),
    ("Unexpected unmapping in atomic context", _GENERIC),
    ("Get pfn+order from guest_memfd", "a name that is printed with another message"),
    ("Unexpected Src operand", "the emulator's own check of its table; the report around it is read"),
    ("Update vmcs12_write_any()", "a remark for who changes the code; the report around it is read"),
)


def reason(format_string: str) -> str | None:
    """Why a format string of a module is no event, if it is none; the names before it are left out."""
    text = format_string.strip()
    for name in ("kvm_intel: ", "kvm_amd: ", "SVM: ", "kvm: "):
        for start, why in IGNORED:
            if text.startswith(start):
                return why
        text = text.removeprefix(name)
    return next((why for start, why in IGNORED if text.startswith(start)), None)
