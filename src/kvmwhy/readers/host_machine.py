"""What machine the host is: its CPU, its board, the hypervisor that it runs under, the parameters of its modules.

From /proc/cpuinfo, lscpu, dmidecode and /sys/class/dmi, uname, the kernel's log, modprobe.d, sysfs and systool. A
guest's console in QEMU's log shows the same of the guest: what a guest of KVM itself may print is not taken where a
VMM's output stands beside it.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from kvmwhy.deferred_re import deferred
from kvmwhy.readers.vmm_output import has_vmm_output

_CPU: Final = deferred(r"^[ \t>]{0,8}[Mm]odel name[ \t]{0,24}: {0,40}(\S.{2,80}?)\s{0,8}$", re.MULTILINE)
_OWN_CPUS: Final = ("QEMU", "Common KVM", "Common 32-bit KVM")  # -cpu models of QEMU
_DMI: Final = deferred(r"(?:Hardware name|DMI): {0,4}([^\n]{2,160})")
_BIOS: Final = deferred(r",? BIOS\b|,$")  # behind the name
_BOARD: Final = deferred(
    r"^[ \t]{0,8}(?:Manufacturer|sys_vendor): {0,4}(\S[^\n]{1,60})\n(?:[^\n]{0,120}\n){0,2}?"
    r"[ \t]{0,8}(?:Product Name|product_name): {0,4}(\S[^\n]{1,60})",
    re.MULTILINE,
)
# Machines that only another hypervisor shows, and what each is.
_OUTER: Final = deferred(
    r"VMware|Microsoft Corporation Virtual|innotek GmbH|Oracle Corporation VirtualBox|Xen |Amazon EC2"
    r"|Google Google Compute|Parallels|Nutanix|RHEV|OpenStack|oVirt|DigitalOcean|Hetzner|Alibaba Cloud"
)
_OUTER_NAMES: Final = {
    "Microsoft Corporation Virtual": "Hyper-V",
    "innotek GmbH": "VirtualBox",
    "Oracle Corporation VirtualBox": "VirtualBox",
    "Google Google Compute": "Google Compute Engine",
    "Xen ": "Xen",
}
_METAL: Final = deferred(r"Amazon EC2 [a-z0-9-]{1,20}\.metal")  # no hypervisor under it
# The kernel's own detection prefers KVM where both answer, so that the others are never a guest of KVM's.
_DETECTED: Final = deferred(
    r"Hypervisor detected: (Microsoft Hyper-V|VMware|Xen HVM|Xen PV|Parallels|ACRN|Jailhouse|KVM)"
)
# lscpu; Cloud Hypervisor, arch/src/x86_64/mod.rs.
_VENDOR: Final = deferred(r"Hypervisor (?:vendor: {1,40}|string: )(\w[\w -]{1,30})")
_NAMES: Final = {
    "microsoft hyper-v": "Hyper-V",
    "microsoft": "Hyper-V",
    "vmware": "VMware",
    "xen hvm": "Xen",
    "xen pv": "Xen",
    "xen": "Xen",
    "kvm": "KVM",
    "kvmkvmkvm": "KVM",
    "microsoft hv": "Hyper-V",
    "oracle": "VirtualBox",
    "parallels": "Parallels",
    "acrn": "ACRN",
    "jailhouse": "Jailhouse",
}
_OF_KVM: Final = (("QEMU ", "QEMU"), ("linux,dummy-virt", "QEMU"), ("Cloud Hypervisor", "Cloud Hypervisor"))
_RUNS_KVM: Final = ("[kvm]", "[kvm_intel]", "[kvm_amd]", "kvm_intel: ", "kvm_amd: ")
_UNAME: Final = deferred(
    r"^[ \t>]{0,8}Linux \S{1,64} ([0-9]{1,2}\.[0-9]{1,4}\S{0,60}) #[^\n]{1,120}(?:GNU/)?Linux", re.MULTILINE
)
# Of the host's own log; a guest that boots its own kernel prints the same on its console.
_BOOTED: Final = deferred(
    r"\bBOOT_IMAGE=(?:\([\w,]{1,24}\))?/[\w./@-]{0,60}?vmlinu[xz]-([0-9]{1,2}\.[0-9]{1,4}[\w.+~-]{0,60})(?=\s)"
)
# Kernels that are built for one cloud's virtual machines alone.
_CLOUD_KERNELS: Final = (("-azure", "Hyper-V"), ("-gcp", "Google Compute Engine"), ("-gke", "Google Compute Engine"))
_RUNNER: Final = "/home/runner/work/"  # GitHub's own runners, which are machines of Azure
# What people write of a host that is a virtual machine itself, and the name that the layer below has in it.
_SAID_NAMES: Final = {
    "Hyper-V": "Hyper-V",
    "VMware": "VMware",
    "VMWare": "VMware",
    "ESXi": "VMware",
    "ESXI": "VMware",
    "VirtualBox": "VirtualBox",
    "Virtualbox": "VirtualBox",
    "Parallels": "Parallels",
    "Azure": "Hyper-V",
}
_SAID_NAME: Final = rf"(?P<a>{'|'.join(_SAID_NAMES)})\b"
# Names that are taken only where they stand with their own preposition, as people use them for other things too.
_SAID_OF_ITS_OWN: Final = {
    **dict.fromkeys(("WSL2", "WSL 2"), "Hyper-V"),
    **dict.fromkeys(("Codespaces", "codespaces", "Codespace", "codespace"), "Hyper-V"),  # machines of Azure
}
_LAYERS: Final = _SAID_NAMES | _SAID_OF_ITS_OWN
_MARKS_OF_NAMED: Final = (*_LAYERS, "microsoft-standard")
_WITHIN: Final = r"\b(?:[Ii]n|[Ii]nside|[Ww]ithin|[Uu]nder|[Oo]n|on top of) (?:an? |my |our |the |this )?(?:nested )?"
_NOUN: Final = r"(?: [\w.-]{1,16}){0,2}? (?:VM|virtual machine|instance)\b"
# What a reporter runs KVM as, and not a guest of KVM's, which another hypervisor may have run before.
_RUN: Final = (
    r"(?:it|this|everything|KVM|kvm|QEMU|qemu|QEMU/KVM|qemu-kvm|libvirt|Proxmox|Firecracker|Linux|Ubuntu|Debian|Fedora"
    r"|the host|the hypervisor|the VMM|nested KVM)"
)
_DISTRIBUTIONS: Final = (
    "(?:Ubuntu|Debian|Fedora|CentOS|Rocky|RHEL|openSUSE|Arch|Manjaro|Kali|Mint|NixOS|Alpine|Gentoo|Proxmox)"
)
# Clauses about the host itself.
_SAID: Final = (
    deferred(
        rf"\b{_DISTRIBUTIONS}\b[^\n.;()]{{0,12}}(?:\.[0-9]{{1,2}}[^\n.;()]{{0,12}}){{0,2}}\b(?:running|runs|hosted) "
        + _WITHIN
        + _SAID_NAME
    ),
    deferred(
        r"\b(?:[Ii]n|[Ii]nside|[Ww]ithin|[Oo]n|[Uu]sing|[Ff]rom) (?:an? |my |the )?(?:[Gg]it[Hh]ub )?"
        r"(?P<a>[Cc]odespaces?)\b"
    ),
    deferred(_WITHIN + r"(?P<a>WSL ?2)(?![0-9A-Za-z])"),
    deferred(_WITHIN + _SAID_NAME + _NOUN),
    deferred(r"\b[Hh]ost\b[^\n.;,]{0,20}? is (?:itself )?(?:an? |our |my )?(?:nested )?" + _SAID_NAME + _NOUN),
    deferred(r"\b[Hh]ost\b[^\n.;,]{0,20}? (?:runs|running|sits|is) " + _WITHIN + _SAID_NAME),
    deferred(
        r"\b(?:I|[Ww]e)(?:'m|'re| am| are)?(?: [a-z]{1,12})? (?:run|running|ran) (?:"
        + _RUN
        + r" )?"
        + _WITHIN
        + _SAID_NAME
    ),
    deferred(
        r"\b[Nn]est(?:ed|ing)\b(?: virtuali[sz]ation)? (?:is |was )?(?:on|enabled|switched on|turned on|active) "
        + _WITHIN
        + _SAID_NAME
    ),
)
# How the host is named at once with what it runs on: "Ubuntu 20.04 (installed on VirtualBox)", "OS: Debian, VMware VM".
_SAID_BRIEFLY: Final = (
    deferred(
        rf"\b{_DISTRIBUTIONS}\b[^\n.;()]{{0,12}}(?:\.[0-9]{{1,2}}[^\n.;()]{{0,12}}){{0,2}}"
        rf"\((?:[a-z ]{{0,20}} )?(?:on|in|inside|under) (?:an? |my )?{_SAID_NAME}"
    ),
    deferred(
        r"^[ \t>*-]{0,8}(?:Host(?: OS| system| environment)?|OS|Platform|Environment)\b\**[ \t]{0,4}:\**"
        rf"[^\n;]{{0,60}}?(?:{_WITHIN}|[(,] ?){_SAID_NAME}",
        re.MULTILINE,
    ),
)
# A layer below that is not named, or is a cloud's.
_SAID_UNNAMED: Final = deferred(
    r"\b(?:[Rr]unning|[Rr]uns?|[Uu]s(?:e|ing)|[Ss]tart(?:s|ing)?|[Ll]aunch(?:es|ing)?) (?:KVM|kvm|QEMU|qemu|QEMU/KVM"
    r"|qemu-kvm|libvirt|Proxmox|Firecracker|firecracker|minikube|Kata|the (?:VMM|hypervisor))"
    r" (?:inside|within|in|under) (?:an? |my |another )(?:nested |cloud |[A-Z]\w{1,14} )?"
    r"(?:VMs?|virtual machine|virtuali[sz]ation|VPS|hypervisor|virtuali[sz]ed environment)\b"
    r"|\b(?:on|inside|have|using|rented) (?:an? |my |the )(?:[A-Z]\w{1,14} ){0,2}(?:VPS|[Dd]roplet|vServer)\b"
)
# Clouds whose machines are virtual unless they are said to be metal, and the prompts of those that give a shell.
_CLOUDS: Final = (
    r"(?:OCI|EC2|GCE|GCP|AWS|Lightsail|DigitalOcean|Digital Ocean|Linode|Gitpod|(?:Oracle|Google|Alibaba|IBM) Cloud"
    r"|Cloud ?Shell)"
)
_SAID_OF_A_CLOUD: Final = deferred(
    r"\b(?:run|running|ran|runs|hosted|deployed|machine|VM|vm|VPS|instance|server) (?:on|in|at|with|from) "
    rf"(?:an? |my |the )?(?:[A-Z]\w{{1,12}} ){{0,2}}{_CLOUDS}\b|\b{_CLOUDS} (?:\w{{1,16}} )?(?:VMs?|instances?|VPS)\b"
)
_PROMPT_OF_A_CLOUD: Final = deferred(r"^(?:gitpod /workspace\b[^\n$]{0,80}\$|[\w.-]{1,32}@cloudshell:)", re.MULTILINE)
_MARKS_OF_UNNAMED: Final = (  # one of them is in whatever the patterns above take
    *(" VM", "virtual machine", "irtuali", "VPS", "roplet", "vServer", " hypervisor", "OCI", "EC2", "GCE"),
    *("GCP", "AWS", "Lightsail", "cean", "Linode", "itpod", " Cloud", "@cloudshell"),
)
_METAL_WORDS: Final = ("metal", "Metal", "dedicated server")
# The kernel that Microsoft builds for WSL2, by its release.
_OF_WSL: Final = deferred(r"\b[0-9]{1,2}\.[0-9]{1,4}[\w.+-]{0,40}-microsoft-standard\b")
# A clause with one of these compares, tells of a guest, or denies.
_OF_ANOTHER: Final = deferred(
    r"\b(?:guests?|images?|works?|worked|working|boots?|booted|booting|fine|okay|ok|same|instead|not|never|no|unlike"
    r"|whereas|compared?|install(?:s|ed|ing)?|import(?:s|ed)?|export(?:s|ed)?|migrat(?:e|es|ed|ion)|convert(?:s|ed)?"
    r"|created|originally|previously|formerly|(?:in|inside|within) (?:the|a|my) (?:Windows )?VM)\b|n't\b",
    re.IGNORECASE,
)
_CLAUSE_ENDS: Final = deferred(r"[.!?;](?:\s|$)|\n")
_WIDEST_CLAUSE: Final = 240
_APPLE: Final = deferred(
    r"Hypervisor\.framework|Virtualization\.framework|\bvmType: vz\b|\bUTM\b|\bParallels\b|\blima(?:ctl)?\b"
    r"|\b(?:V[Mm]|guest|machine)\b[^\n]{0,40}\bM[1-9] (?:Mac|MacBook|Macbook|Pro|Max|Air|mini)"
)
# libvirt's words for an arm64 host without KVM: Linux runs on a Mac as a virtual machine, if it is not Asahi Linux.
_ON_A_MAC: Final = deferred(
    r"\b(?:[Oo]n|[Ww]ith) (?:an? |my |the )?(?:Apple )?(?:M[1-9] )?(?:[Mm]ac(?:[Bb]ook)?\b(?! address)"
    r"|Apple [Ss]ilicon\b)(?![^\n]{0,200}Asahi)"
)
# The kernel of the VM in which Docker Desktop runs containers, as dockur's start-up line and uname show it.
_OF_DOCKER: Final = deferred(
    r"(?:\bHOST: |^Linux \S{1,64} )[0-9]{1,2}\.[0-9]{1,3}\.[0-9]{1,4}-linuxkit\b", re.MULTILINE
)
_FLAGS: Final = deferred(r"^[ \t>]{0,8}[Ff]lags[ \t]{0,24}: [^\n]{0,4000}\bhypervisor\b", re.MULTILINE)

_KVM_MODULES: Final = r"kvm(?:[_-](?:intel|amd|hv|pr))?|ccp|vfio[\w-]{0,24}|tdx"
_VALUE: Final = r"(?P<value>[\w-]{1,24})"
_PARAMETERS: Final = (
    deferred(
        rf"/sys/module/(?P<module>{_KVM_MODULES})/parameters/(?P<name>\w{{1,40}})(?::|\n| ?= ?){_VALUE}\s{{0,4}}$",
        re.MULTILINE,
    ),
    # Not the kernel's advice "set kvm_intel.dump_invalid_vmcs=1 to …".
    deferred(rf"(?<![\w.])(?<!set )(?P<module>{_KVM_MODULES})\.(?P<name>[a-z]\w{{1,40}})={_VALUE}"),
)
_OPTIONS: Final = deferred(
    r"(?:^|[\s;&])(?:options|(?:/sbin/)?modprobe(?: -\w)?|insmod) (?:\S{0,80}/)?"
    rf"(?P<module>{_KVM_MODULES})(?:\.ko)? (?P<rest>[^\n;&|]{{1,200}})"
)
_OPTION: Final = deferred(r"(?P<name>[a-z]\w{1,40})=(?P<value>[\w-]{1,24})")
_MOST_PARAMETERS: Final = 64


_ON_A_CONSOLE: Final = ("Hardware name: ", "DMI: ", "Hypervisor detected: ")


class Machine(Struct, frozen=True):
    cpu_name: str | None = None
    dmi: str | None = None
    hypervisor: str | None = None
    kernel: str | None = None  # of uname
    parameters: dict[str, str] = {}  # never changed


def machine_of(text: str) -> Machine:
    """What the text shows of the host."""
    beside_vmm = any(mark in text for mark in _ON_A_CONSOLE) and has_vmm_output(text)
    named = set(_CPU.findall(text)) if "odel name" in text else set()
    named = {name for name in named if not name.startswith(_OWN_CPUS)}
    boards = _boards(text)
    release = set(_UNAME.findall(text)) if "Linux " in text and "#" in text else set()
    if not release and "BOOT_IMAGE=" in text and not has_vmm_output(text):
        release = set(_BOOTED.findall(text))
    return Machine(
        _only(named),
        None if beside_vmm else _only(boards),
        _hypervisor(text, boards, release, beside_vmm=beside_vmm),
        _only(release),
        _parameters(text),
    )


def _only(values: set[str]) -> str | None:
    return next(iter(values)) if len(values) == 1 else None


def _boards(text: str) -> set[str]:
    boards = set[str]()
    if "Hardware name: " in text or "DMI: " in text:
        boards |= {_BIOS.split(board.strip(), maxsplit=1)[0] for board in _DMI.findall(text)}
    if "Product Name" in text or "product_name" in text:
        boards |= {f"{vendor.strip()} {product.strip()}" for vendor, product in _BOARD.findall(text)}
    return boards


def _hypervisor(text: str, boards: set[str], releases: set[str], *, beside_vmm: bool) -> str | None:
    names = set[str]()
    for board in boards:
        if (outer := _OUTER.match(board)) and not _METAL.match(board):
            names.add(_OUTER_NAMES.get(outer[0], outer[0]))
    if "Hypervisor detected: " in text:
        names |= {_NAMES[name.lower()] for name in _DETECTED.findall(text) if name != "KVM" or not beside_vmm}
    if "Hypervisor vendor:" in text or "Hypervisor string: " in text:
        names |= {_NAMES.get(name.strip().lower(), name.strip()) for name in _VENDOR.findall(text)}
    if "Hyper-V: privilege flags" in text:
        names.add("Hyper-V")
    if not names:
        names |= {name for release in releases for suffix, name in _CLOUD_KERNELS if suffix in release}
    if not names and _RUNNER in text:
        names.add("Hyper-V")
    if not names and "linuxkit" in text and _OF_DOCKER.search(text):
        names.add("Docker Desktop's VM")
    if not names and "aarch64 host is not supported by hypervisor" in text and _ON_A_MAC.search(text):
        names.add("Apple's Hypervisor framework")
    if not names and "HYP mode not available" in text and _APPLE.search(text):
        names.add("Apple's Hypervisor framework")
    if not names and "lags" in text and _FLAGS.search(text):
        names.add("unnamed")
    if not names and not beside_vmm and any(mark in text for mark in _RUNS_KVM):
        names |= {name for board in boards for start, name in _OF_KVM if board.startswith(start)}
    if not names and any(mark in text for mark in _MARKS_OF_NAMED):
        names |= _said_layers(text)
    if not names and any(mark in text for mark in _MARKS_OF_UNNAMED) and _says_that_there_is_one(text):
        names.add("unnamed")
    return _only(names)


def _says_that_there_is_one(text: str) -> bool:
    if _PROMPT_OF_A_CLOUD.search(text):
        return True
    said = [_SAID_UNNAMED] if any(word in text for word in _METAL_WORDS) else [_SAID_UNNAMED, _SAID_OF_A_CLOUD]
    return any(
        _OF_ANOTHER.search(_clause(text, match.start(), match.end())) is None
        for pattern in said
        for match in pattern.finditer(text)
    )


def _said_layers(text: str) -> set[str]:
    """The layers below the host that a reporter names in a clause about the host itself."""
    layers = {"Hyper-V"} if _OF_WSL.search(text) else set()
    for about_the_host in _SAID:
        for match in about_the_host.finditer(text):
            if _OF_ANOTHER.search(_clause(text, match.start(), match.end())) is None:
                layers.add(_LAYERS[match["a"]])
    for briefly in _SAID_BRIEFLY:
        layers |= {_LAYERS[match["a"]] for match in briefly.finditer(text)}
    return layers


def _clause(text: str, start: int, stop: int) -> str:
    """The clause, or so much of it as can matter, in which text[start:stop] stands."""
    before = text[max(0, start - _WIDEST_CLAUSE) : start]
    begin = max((end.end() for end in _CLAUSE_ENDS.finditer(before)), default=0)
    behind = text[stop : stop + _WIDEST_CLAUSE]
    end = _CLAUSE_ENDS.search(behind)
    return before[begin:] + text[start:stop] + (behind if end is None else behind[: end.start()])


def _parameters(text: str) -> dict[str, str]:
    """``kvm_intel.nested`` → ``Y``; a parameter with two values is left out."""
    if "kvm" not in text and "vfio" not in text:
        return {}
    parameters: dict[str, set[str]] = {}
    if "/parameters/" in text or "kvm" in text:
        for pattern in _PARAMETERS:
            for match in pattern.finditer(text):
                parameters.setdefault(f"{match['module'].replace('-', '_')}.{match['name']}", set()).add(match["value"])
    if "options " in text or "modprobe" in text or "insmod" in text:
        for command in _OPTIONS.finditer(text):
            for match in _OPTION.finditer(command["rest"]):
                parameters.setdefault(f"{command['module'].replace('-', '_')}.{match['name']}", set()).add(
                    match["value"]
                )
    certain = {name: values.pop() for name, values in parameters.items() if len(values) == 1}
    return dict(list(certain.items())[:_MOST_PARAMETERS])
