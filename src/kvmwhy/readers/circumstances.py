"""What people write about the circumstances of a failure: what cured it, what changed before it, where it is absent.

Whole posts are pasted, with the sentences around the record. Each slug of ``Host.remarks`` that is made here stands for
one kind of statement; only that it was made is kept, never its words. A statement that is denied ("did not help") is
none.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.deferred_re import deferred


class _Statement(NamedTuple):
    slug: str
    marks: tuple[str, ...]  # one of them is in every text that holds the statement
    pattern: re.Pattern[str]


# Within one sentence: a dot ends it unless it is one of a version's.
_SAME: Final = r"(?:[^\n.;]|\.(?=[0-9])){0,70}?"
_CURED: Final = r"\b(?:fix|help|solv|resolv|cur(?:e|ing)|stabl|gone\b|went away)"
# Not "runs" or "boots": a host that runs Linux 6.1 on bare metal is what most reports describe.
_WORKS: Final = r"\b(?:[Ww]ork(?:s|ed)|[Ff]ine|successfully|without (?:a|any) (?:problem|issue|error)s?)\b"
_METAL: Final = r"\b(?:bare[ -]?metal|real hardware|physical (?:hardware|machines?|hosts?|servers?))\b"
_PARTS: Final = "(?:RAM|DIMMs?|SODIMMs?|memory|CPU|processor)"
_RELEASE: Final = r"v?[2-9]\.[0-9]{1,2}"
_VMMS: Final = r"(?:qemu|QEMU|Qemu|pve-qemu-kvm|qemu-kvm|firecracker|Firecracker|cloud-hypervisor|crosvm)"
_AFTER: Final = (
    r"\b(?:[Aa]fter|[Ss]ince|[Ff]ollowing|[Bb]y|[Bb]efore) (?:[\w-]{1,12} ){0,3}?(?:up|down)(?:grad|dat)\w{1,4}\b"
)
_CHANGING: Final = r"\b(?:[Uu]pgrad|[Uu]pdat|[Dd]owngrad)ing (?:[\w-]{1,12} ){0,4}?"
_STATEMENTS: Final = (
    _Statement(
        "works-on-metal",
        ("metal", "hardware", "hysical"),
        deferred(
            rf"{_WORKS}{_SAME}\bon (?:[\w-]{{1,12}} ){{0,3}}?{_METAL}"
            rf"|\b[Oo]n (?:[\w-]{{1,12}} ){{0,3}}?{_METAL}{_SAME}{_WORKS}"
        ),
    ),
    _Statement(
        "only-nested",
        ("nested",),
        deferred(r"\b_?[Oo]nly_? (?:happens?|occurs?|fails?|crash\w{0,4}|reproduc\w{1,8})[^\n.]{0,60}\bnested\b"),
    ),
    _Statement(
        "microcode-cured",
        ("icrocode",),
        deferred(rf"\b[Mm]icrocode\b{_SAME}{_CURED}|{_CURED}{_SAME}\b[Mm]icrocode\b"),
    ),
    _Statement(
        "parts-replaced-cured",
        ("eplac", "aulty", "efective", "wapp"),
        deferred(
            rf"\b(?:[Rr]eplac|[Ss]wapp)\w{{2,4}} (?:\w{{1,12}} ){{0,4}}?{_PARTS}\b{_SAME}{_CURED}"
            rf"|\b(?:faulty|defective) {_PARTS}\b"
        ),
    ),
    _Statement(
        "kernel-changed",
        ("ernel", "isect", "evert", "egression", "Linux "),
        deferred(
            rf"\b[Bb]isect(?:ed|ing|ion|s)?\b[^\n]{{0,100}}(?:\n[^\n]{{0,60}})?\b(?:KVM|kvm|x86|arm64|mm)\b[/:]"
            rf"|\b[Rr]everting (?:that|this|the|it|commit|patch)\b"
            rf"|\b(?:triggers?|caus(?:es|ed)|is) an? [^\n.]{{0,24}}regression\b"
            rf"|{_AFTER}{_SAME}\bkernel\b|{_CHANGING}kernel\b"
            rf"|{_WORKS}{_SAME}\b(?:with|on|in|under) (?:[\w-]{{1,12}} ){{0,2}}?"
            rf"(?:kernel|Linux|linux)(?: version)? {_RELEASE}"
        ),
    ),
    _Statement(
        "vmm-changed",
        ("emu", "EMU", "irecracker", "hypervisor", "crosvm"),
        deferred(
            rf"{_AFTER}{_SAME}\b{_VMMS}\b|{_CHANGING}{_VMMS}\b"
            rf"|{_WORKS}{_SAME}\b(?:with|on|in|under) {_VMMS}[ -]?{_RELEASE}"
        ),
    ),
    # What the mend changes: a commit's own header, as mails and issue trackers show it.
    _Statement(
        "patch-of-kvm",
        ("Fixes: ", "diff --git ", "[PATCH"),
        deferred(
            r"^[ \t>]{0,12}Fixes: [0-9a-f]{8,40} \(\"(?:KVM|kvm|x86|arm64|mm|vfio)\b"
            r"|^[ \t>]{0,12}diff --git a/(?:arch/\w{2,12}/kvm|virt/kvm|mm|drivers/vfio)/"
            r"|\[PATCH[^\]\n]{0,40}\] (?:KVM|kvm|x86/kvm|kvm/x86): ",
            re.MULTILINE,
        ),
    ),
    _Statement(
        "patch-of-vmm",
        ("Fixes: ", "diff --git ", "[PATCH"),
        deferred(
            r"^[ \t>]{0,12}Fixes: [0-9a-f]{8,40} "
            r"\(\"(?:target[/-]|hw/|accel/|i386[/:]|softmmu|spapr|pc-bios|q35|vfio/|virtio)"
            r"|^[ \t>]{0,12}diff --git a/(?:target|hw|accel|target-i386|softmmu|system)/",
            re.MULTILINE,
        ),
    ),
    # The kernel's own lines about what it has brought up: arch/x86/virt/vmx/tdx/tdx.c, arch/x86/kvm/svm/sev.c.
    _Statement(
        "tdx-initialized",
        ("tdx: module init", "tdx: TDX module init"),
        deferred(r"\btdx: (?:TDX )?module initialized\b"),
    ),
    _Statement(
        "snp-initialized",
        ("SEV-SNP enabled", "SEV-SNP supported"),
        deferred(r"\b(?:kvm_amd|kvm|SVM): (?:[A-Z-]{1,8} and )?SEV-SNP (?:enabled|supported)(?! \(disabled)"),
    ),
    _Statement(
        "sev-initialized",
        ("SEV enabled", "SEV-ES enabled"),
        deferred(r"\b(?:kvm_amd|kvm|SVM): SEV(?:-ES)? enabled\b"),
    ),
    # uname -a of the host.
    _Statement(
        "arm64-host",
        ("aarch64 GNU/Linux", "aarch64 Linux"),
        deferred(r"^[ \t>*]{0,8}Linux \S{1,64} [2-9]\.[0-9]{1,2}[^\n]{0,200}\baarch64 (?:GNU/)?Linux\b", re.MULTILINE),
    ),
    # What /proc/cpuinfo shows of a CPU whose VMX or SVM this kernel is not given: the count of the lines that name one,
    # as a command prints it or a sentence repeats it, or all the flags without it.
    _Statement(
        "no-vmx-or-svm",
        ("/proc/cpuinfo", "lags"),
        deferred(
            r"grep[^\n]{1,40}\b(?:vmx|svm)\b[^\n]{0,40}/proc/cpuinfo[^\n]{0,24}(?:\n[^\S\n]{0,8}0[^\S\n]{0,8}$"
            r"|[`'\"*)]{0,3},?[ \t](?:and )?(?:I got|I get|returned|gave|gives me|prints|printed|shows|showed|is)"
            r" (?:me )?[`'\"*]{0,3}(?:0|zero|nothing|empty)\b)"
            r"|^[ \t>]{0,8}[Ff]lags[ \t]{0,24}: {0,24}fpu (?![^\n]{0,6000}\b(?:vmx|svm)\b)[^\n]{200,6000}$",
            re.MULTILINE,
        ),
    ),
    # Chips and boards with two kinds of Arm cores, of which a vCPU may meet the other kind than it was made on.
    _Statement(
        "two-kinds-of-cores",
        (
            *(
                "LITTLE",
                "RK3",
                "rk3",
                "S922",
                "A311D",
                "Pine",
                "ockPro",
                "Orange Pi 5",
                "orangepi5",
                "Rock 5",
                "rock-5",
            ),
            *("anopc", "anoPC", "anoPi", "DROID-N2", "VIM3", "Snapdragon", "Dimensity", "Exynos", "Kirin"),
        ),
        deferred(
            r"\bbig\.LITTLE\b|\b[Rr][Kk]3(?:399|588|576)|\b(?:S922X|A311D2?)\b|\bPine(?:[Pp]hone|book) Pro\b"
            r"|\b[Rr]ock[Pp]ro64\b|\bOrange Pi 5\b|\borangepi5|\b[Rr]ock[ -]5[ABC]?\b|\b[Nn]ano(?:pc|PC)-T[46]\b"
            r"|\bNanoPi (?:M4|R4S|R6S|NEO4)|\bODROID-N2|\bVIM3\b|\bSnapdragon [0-9]|\b(?:Dimensity|Exynos|Kirin)\b"
        ),
    ),
)
_DENIED: Final = deferred(r"\b(?:not|never|no|without|neither|nor|still|also)\b|n't\b|\b[Gg]uest(?:'s)? kernel\b")
_MOST: Final = 8


def circumstances_of(text: str) -> tuple[str, ...]:
    """The slugs of what one text states."""
    return tuple(
        statement.slug
        for statement in _STATEMENTS
        if any(mark in text for mark in statement.marks) and _stated(statement.pattern, text)
    )


def _stated(pattern: re.Pattern[str], text: str) -> bool:
    for n, match in enumerate(pattern.finditer(text)):
        if not _DENIED.search(match[0]):
            return True
        if n >= _MOST:
            break
    return False
