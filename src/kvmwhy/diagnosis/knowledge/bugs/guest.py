"""Bugs of guests: kernels and hypervisors that run in the VM."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.predicate import Shape

BUGS: Final = (
    Bug(
        id="bug-l1-vmx-operand-not-ram",
        title="The guest's hypervisor gave a VMX instruction an operand where there is no RAM",
        origin="guest-code",
        family="emulator-gap",
        shape=Shape(
            "internal-error", 1, vendor="vmx", reason=(19, 21, 22, 23, 25, 27, 50, 53, 58), layout=("final-no-bytes",)
        ),
        what=(
            "KVM reads the memory operand of VMPTRLD, VMREAD, INVEPT and the like for the guest. If it lies in a device"
            " or past the end of RAM, KVM cannot emulate the access and stops the VM."
        ),
        fix=Fix(
            guest="Check the address: the operand of these instructions is a pointer in memory, not the VMCS itself."
        ),
        references=("arch/x86/kvm/x86.c: kvm_handle_memory_failure",),
        example="suberror 1 without bytes, reason 0x15 (VMPTRLD)",
        confused_with="fetch-non-ram: there the code itself cannot be read.",
    ),
    Bug(
        id="bug-l1-vmcb-not-ram",
        title="The guest's hypervisor executed VMRUN, VMLOAD or VMSAVE with an address where there is no RAM",
        origin="guest-code",
        family="emulator-gap",
        shape=Shape("internal-error", 1, vendor="svm", reason=(0x80, 0x82, 0x83), layout=("final-no-bytes",)),
        what=(
            "The instructions take the physical address of a VMCB in RAX. Where no RAM is behind it, KVM cannot map the"
            " VMCB: recent kernels stop the VM, older ones raised an exception in the guest."
        ),
        fix=Fix(guest="Check RAX: it must hold the physical address of a page of RAM."),
        references=(
            "arch/x86/kvm/svm/nested.c: nested_svm_vmrun",
            "tools/testing/selftests/kvm: svm_nested_vmcb12_gpa",
        ),
        example="suberror 1 without bytes, reason 0x80 (VMRUN)",
        confused_with="bug-nested-svm-without-nrips: KVM only wanted to skip an instruction.",
        also=("bug-nested-svm-without-nrips",),
    ),
    Bug(
        id="bug-sgx-epc-not-backed",
        title="The guest executed ENCLS on memory that the host does not back",
        origin="guest-code",
        family="host-memory",
        shape=Shape("internal-error", 1, vendor="vmx", reason=(60,)),
        what=(
            "KVM carries ECREATE and EINIT out for the guest, on the host's mapping of its memory. If the enclave's"
            " pages or their operands are not backed, or the VMM gave the guest an SGX CPUID without enclave memory, it"
            " stops the VM."
        ),
        fix=Fix(
            guest="Check the pointers in the structure that ENCLS is given.",
            vmm="Give the guest enclave memory (QEMU: memory-backend-epc), or hide SGX.",
        ),
        references=("arch/x86/kvm/vmx/sgx.c: sgx_handle_emulation_failure",),
        example="suberror 1 without bytes, reason 0x3c, then an address and a size as further words",
        confused_with="unhandled-exit: an ENCLS leaf that KVM does not know ends as an unknown exit 60.",
    ),
    Bug(
        id="bug-illumos-double-fault",
        title="KVM's port in illumos cannot run guests on CPUs without EPT",
        origin="host-kernel",
        family="simultaneous-events",
        shape=Shape("internal-error", 2, first_word=0x8000_0008),
        at_most="possible",
        what=(
            "A double fault arose while timer interrupt 8 was delivered, again and again: the port's shadow paging was"
            " broken on CPUs without EPT. The same words on Linux mean a guest whose stack cannot be written."
        ),
        fix=Fix(host="Use a CPU with EPT, or bhyve."),
        references=("https://github.com/jclulow/illumos-kvm/issues/6",),
        example="suberror 2: 80000008 80000b08",
        confused_with="simultaneous-events: any other pair of events.",
        corpus=("039-illumos-kvm-suberror2-double-fault",),
    ),
    Bug(
        id="bug-unikraft-jump-to-minus-one",
        title="Unikraft's ELF loader let the program call through a pointer of all ones",
        origin="guest-code",
        family="fetch-non-ram",
        shape=Shape("internal-error", 1, mode=("long64",), linear=(((1 << 64) - 1, (1 << 64) - 1),), access=("fetch",)),
        what=(
            "MySQL on app-elfloader jumped to ffffffffffffffff: a function or system call that is missing there is -1."
            " The page tables map that address to an end of the address space where there is no RAM."
        ),
        fix=Fix(guest="Look at the return address on the stack: it names the caller and the missing function."),
        references=("https://github.com/unikraft/unikraft/issues/916",),
        example="suberror 1 without bytes, NPF fetch at 0x7ffffff000, RIP=ffffffffffffffff",
        confused_with="fetch-non-ram: jumps to other addresses.",
    ),
)
