"""What any kernel says of itself: oopses, warnings, lockups, stalls, memory, hardware errors, the hypervisor under it.

Sources: arch/x86/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c, kernel/{panic,watchdog,hung_task}.c, lib/bug.c,
kernel/rcu/tree_stall.h,
kernel/locking/lockdep.c, mm/{oom_kill,page_alloc,memory-failure}.c,
arch/x86/kernel/cpu/{mce/core,bus_lock,hypervisor,feat_ctl}.c, drivers/edac.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

# Heads of reports of several lines: whose they are, and how far they go, is for ``oops`` to find out.
REPORTS: Final[tuple[HostMessage, ...]] = (
    message(
        "oops",
        "fault",
        form("BUG: unable to handle page fault for address: %px", "address", what="page fault"),  # 5.1 on
        form("BUG: kernel NULL pointer dereference, address: %px", "address", what="NULL pointer"),  # 5.1 on
        form("BUG: unable to handle kernel paging request at virtual address %px", "address", what="page fault"),
        form("BUG: unable to handle kernel paging request at %px", "address", what="page fault"),
        form("BUG: unable to handle kernel NULL pointer dereference at %px", "address", what="NULL pointer"),
        form("BUG: unable to handle %s", "what"),
        form("Unable to handle kernel paging request at virtual address %016lx", "address", what="page fault"),
        form(
            "Unable to handle kernel NULL pointer dereference at virtual address %016lx", "address", what="NULL pointer"
        ),
        form("Unable to handle kernel %s", "what"),
        form("BUG: Unable to handle kernel %s", "what"),  # powerpc
        form(
            "Oops: general protection fault, probably for non-canonical address %px: %04lx [#%d]%s",
            "address error number _",
            what="general protection fault",
        ),
        form(
            "general protection fault, probably for non-canonical address %px: %04lx [#%d]%s",
            "address error number _",
            what="general protection fault",
        ),
        form("Oops: %s: %04lx [#%d]%s", "what error number _"),
        form("general protection fault: %04lx [#%d]%s", "error number _", what="general protection fault"),
        form("int3: %04lx [#%d]%s", "error number _", what="int3"),
        form("invalid opcode: %04lx [#%d]%s", "error number _", what="invalid opcode"),
        form("double fault: %04lx [#%d]%s", "error number _", what="double fault"),
        form("stack segment: %04lx [#%d]%s", "error number _", what="stack segment"),
        form("divide error: %04lx [#%d]%s", "error number _", what="divide error"),
        form("traps: PANIC: double fault, error_code: 0x%lx", "error", what="double fault"),
        form("PANIC: double fault, error_code: 0x%lx", "error", what="double fault"),
        form("Oops: %04lx [#%d]%s", "error number _"),
        form("Internal error: Oops: %s [#%d]%s", "error number _"),  # arm64
        form("Internal error: Oops - %s: %s [#%d]%s", "what error number _"),
        form(  # illumos, SmartOS: usr/src/uts/i86pc/os/trap.c, die
            'BAD TRAP: type=%x (#%s %s) rp=%p addr=%p occurred in module "%s" due to %s',
            "_ _ what _ address module why",
        ),
        form("BAD TRAP: type=%x (#%s %s) rp=%p addr=%p", "_ _ what _ address"),
    ),
    message(
        "kernel-bug",
        "fault",
        form("kernel BUG at %s:%u!", "path line"),
        form("kernel BUG at %s:%u (%pS)", "path line function"),  # as people retype it, without the mark
        form("kernel BUG at %s:%u", "path line"),
        form("kernel BUG at %pB [verbose debug info unavailable]", "function"),
    ),
    message(
        "warning",
        "fault",
        form("WARNING: CPU: %d PID: %d at %s:%d %pS", "cpu pid path line function"),  # 3.15 to 6.18
        form("WARNING: CPU: %d PID: %d at %s:%d", "cpu pid path line"),
        form("WARNING: CPU: %d PID: %d at %pS", "cpu pid function"),
        form("WARNING: %s:%d at %pS, CPU#%d: %s/%d", "path line function cpu comm pid"),  # 6.19 on
        form("WARNING: %s:%d at %pS", "path line function"),
        form("WARNING: at %s:%d %pS", "path line function"),  # until 3.14
    ),
    message(
        "page-state-bad",
        "fault",
        form("BUG: Bad page state in process %s  pfn:%05lx", "comm pfn"),
        form("BUG: Bad page map in process %s  pte:%08llx pmd:%08llx", "comm pte pmd"),
        form("BUG: Bad rss-counter state mm:%p type:%s val:%ld"),
        form("BUG: non-zero pgtables_bytes on freeing mm: %ld"),
    ),
    message(
        "sanitizer",
        "fault",
        form("BUG: KASAN: %s in %pS", "what function"),
        form("BUG: KMSAN: %s in %pS", "what function"),
        form("BUG: KCSAN: %s in %s", "what function"),
        form("BUG: KFENCE: %s in %pS", "what function"),
        form("UBSAN: %s in %s:%d:%d", "what path line _"),
        form("UBSAN: %s in %s:%d", "what path line"),
    ),
    message(
        "locking",
        "fault",
        form("WARNING: possible %s detected", "what"),
        form("WARNING: inconsistent lock state", what="inconsistent lock state"),
        form("WARNING: suspicious RCU usage", what="suspicious RCU usage"),
        form("WARNING: bad unlock balance detected!", what="bad unlock balance"),
        form("WARNING: lock held when returning to user space!", what="lock held when returning to user space"),
        form("WARNING: held lock freed!", what="held lock freed"),
        form("WARNING: Nested lock was not taken", what="nested lock not taken"),
        form("[ INFO: possible %s detected ]", "what"),  # until 4.12
        form("[ INFO: suspicious RCU usage. ]", what="suspicious RCU usage"),
        form("[ BUG: %s ]", "what"),
        form(
            "BUG: sleeping function called from invalid context at %s:%d",
            "path line",
            what="sleeping in atomic context",
        ),
        form("BUG: scheduling while atomic: %s/%d/0x%08x", "comm pid _", what="scheduling while atomic"),
        form("BUG: using %s in preemptible [%s] code: %s/%d", "what _ comm pid"),
        form("BUG: workqueue lockup - pool %s", "_", what="workqueue lockup"),
    ),
    message(
        "soft-lockup",
        "fault",
        form("BUG: soft lockup - CPU#%d stuck for %us! [%s:%d]", "cpu seconds comm pid"),
        form("BUG: soft lockup - CPU#%d stuck for %us!", "cpu seconds"),
        form("BUG: soft lockup detected on CPU#%d!", "cpu"),
    ),
    message(
        "hard-lockup",
        "fault",
        form("CPU%u: Watchdog detected hard LOCKUP on cpu %u", "_ cpu"),
        form("Watchdog detected hard LOCKUP on cpu %u", "cpu"),
        form("NMI watchdog: Watchdog detected LOCKUP on CPU%d", "cpu"),
    ),
    message(
        "rcu-stall",
        "fault",
        form("INFO: %s self-detected stall on CPU", "flavour"),
        form("INFO: %s detected stalls on CPUs/tasks:", "flavour"),
        form("INFO: %s detected expedited stalls on CPUs/tasks: %s", "flavour _"),
        form("INFO: %s detected stall on CPU %d", "flavour cpu"),
    ),
    message("hung-task", "fault", form("INFO: task %s:%d blocked%sfor more than %ld seconds.", "comm pid _ seconds")),
    message("kernel-panic", "fault", form("Kernel panic - not syncing: %s", "why")),
    message(
        "page-allocation-failed",
        "fault",
        form("%s: page allocation failure: order:%u, mode:%#x", "comm order mode"),
        form("%s: page allocation failure. order:%d, mode:0x%x", "comm order mode"),
    ),
    message(
        "msr-access-error",
        "fault",
        form(
            "unchecked MSR access error: WRMSR to 0x%x (tried to write 0x%lx) at rIP: 0x%lx (%pS",
            "msr value _ function",
            access="write",
        ),
        form("unchecked MSR access error: RDMSR from 0x%x at rIP: 0x%lx (%pS", "msr _ function", access="read"),
        form(
            "MSR access error: WRMSR to 0x%x (tried to write 0x%lx) at rIP: 0x%lx (%pS",
            "msr value _ function",
            access="write",
        ),
        form("MSR access error: RDMSR from 0x%x at rIP: 0x%lx (%pS", "msr _ function", access="read"),
    ),
    # A report whose first line was not copied: 0x10 is the kernel's code segment (``__KERNEL_CS``).
    message(
        "cut-report",
        "fault",
        # lib/dump_stack.c: dump_stack_print_info
        form("CPU: %d PID: %d Comm: %s Not tainted", "cpu pid comm"),  # 3.10 on
        form("CPU: %d PID: %d Comm: %s Tainted: %s", "cpu pid comm _"),
        form("CPU: %d UID: %u PID: %d Comm: %s Not tainted", "cpu _ pid comm"),  # 6.10 on
        form("CPU: %d UID: %u PID: %d Comm: %s Tainted: %s", "cpu _ pid comm _"),
        form("Pid: %d, comm: %s Not tainted", "pid comm"),  # until 3.9
        form("Pid: %d, comm: %s Tainted: %s", "pid comm _"),
        form("RIP: 0010:[<%x>] [<%x>] %pS", "_ _ function"),  # until 4.9
        form("RIP: 0010:%pS", "function"),
        form("pc : %pS", "function"),  # arm64: __show_regs
        form("Call Trace:"),
        form("Call trace:"),
    ),
)
MESSAGES: Final[tuple[HostMessage, ...]] = (
    message(
        "oom-kill",
        "fault",
        form("Out of memory: Killed process %d (%s) total-vm:%s", "pid comm _"),
        form("Memory cgroup out of memory: Killed process %d (%s) total-vm:%s", "pid comm _", limit="cgroup"),
        form("Out of memory: Kill process %d (%s) score", "pid comm"),  # until 5.0
        form("Memory cgroup out of memory: Kill process %d (%s) score", "pid comm", limit="cgroup"),
        form("Killed process %d (%s) total-vm:%s", "pid comm _"),
        form("Out of memory and no killable processes..."),
    ),
    message(
        "oom-called",
        "note",
        form("%s invoked oom-killer: gfp_mask=%#x", "comm gfp"),
        form("oom-kill:constraint=%s,nodemask=%s,task=%s,pid=%d", "constraint _ comm pid"),
    ),
    message(
        "memory-poisoned",
        "fault",
        form("Memory failure: %#lx: Sending SIGBUS to %s:%d due to hardware memory corruption", "pfn comm pid"),
        form("Memory failure: %#lx: recovery action for %s: %s", "pfn what result"),
        form("MCE: Killing %s:%d due to hardware memory corruption fault at %lx", "comm pid address"),
        form("Uncorrected hardware memory error in user-access at %llx", "address"),
        form("Memory failure: %#lx: %s", "pfn what"),
    ),
    message(
        "machine-check",
        "fault",
        form("mce: [Hardware Error]: CPU %d: Machine Check%s: %Lx Bank %d: %016Lx", "cpu _ mcg bank status"),
        form("[Hardware Error]: CPU %d: Machine Check%s: %Lx Bank %d: %016Lx", "cpu _ mcg bank status"),
        form("mce: [Hardware Error]: Machine check events logged"),
        form("[Hardware Error]: Machine check: %s", "why"),
        form("mce: [Hardware Error]: %s", "text"),
        form("{%d}[Hardware Error]: %s", "_ text"),
        form("[Hardware Error]: %s", "text"),
        form("mce: Uncorrected hardware memory error in user-access at %llx", "address"),
        form("Disabling lock debugging due to kernel taint"),
    ),
    message(
        "memory-error",
        "fault",
        form("EDAC MC%d: %d CE %s", "controller count text", severity="corrected"),
        form("EDAC MC%d: %d UE %s", "controller count text", severity="uncorrected"),
        form("EDAC MC%d: UE %s", "controller text", severity="uncorrected"),
        form("EDAC MC%d: CE %s", "controller text", severity="corrected"),
    ),
    message(
        "split-lock",
        "guest",  # of a vCPU's thread: arch/x86/kernel/cpu/bus_lock.c: split_lock_warn, handle_guest_split_lock
        form("x86/split lock detection: #AC: %s/%d took a split_lock trap at address: 0x%lx", "comm pid address"),
        form("#AC: %s/%d took a split_lock trap at address: 0x%lx", "comm pid address"),
        form("x86/split lock detection: #AC: %s/%d %s split_lock trap at address: 0x%lx", "comm pid _ address"),
        form("x86/split lock detection: #DB: %s/%d took a bus_lock trap at address: 0x%lx", "comm pid address"),
        form("#DB: %s/%d took a bus_lock trap at address: 0x%lx", "comm pid address"),
    ),
    message(
        "virtualization-off",
        "refusal",
        form("VMX (%s TXT) disabled by BIOS", "where"),
        form("VMX disabled by BIOS"),
        form("SVM disabled by BIOS"),
    ),
    message("hypervisor-detected", "note", form("Hypervisor detected: %s", "hypervisor")),
    message("kernel-version", "note", form("Linux version %s (%s", "release _")),
)
