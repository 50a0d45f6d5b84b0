"""Write docs/emulator-faults.md and the mails beside it, from the families and from what their tests printed.

What they printed is in lab/results/faults/: `python -m lab.faults svm --kernel 7.3` runs them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # for lab/
    sys.path.insert(0, str(ROOT))

from kvmwhy.emulator.encoding_key import MODES  # noqa: E402
from kvmwhy.emulator.faults import FAMILIES, Family  # noqa: E402
from kvmwhy.emulator.faults.families import SET_ASIDE  # noqa: E402
from kvmwhy.emulator.faults.history import extent, spans  # noqa: E402
from kvmwhy.emulator.trap_atlas import trap_atlas  # noqa: E402
from kvmwhy.probe.encodings import text_of  # noqa: E402
from kvmwhy.render.fault_page import sections  # noqa: E402
from kvmwhy.reproduce.export.fault_mail import Run, mail  # noqa: E402
from lab.faults import Results, kept  # noqa: E402
from lab.kernels import version_of  # noqa: E402

DOCS = ROOT / "docs"
_MODULE = {"svm": "kvm-amd", "vmx": "kvm-intel", "riscv64": "KVM of riscv64"}
_MACHINE = {"svm": "QEMU's TCG", "vmx": "Bochs", "riscv64": "QEMU's TCG"}
_MODES = {"real16": "real mode", "prot16": "16-bit", "prot32": "32-bit", "long64": "64-bit", "riscv64": "riscv64"}
HEAD = """# What the atlas found: instructions that KVM carries out wrongly

Made by `python tools/make_emulator_faults.py`. `kvmwhy atlas --faults` lists the same, `kvmwhy cause ID` shows one.

[The atlas](atlas.md) asks KVM for every encoding, and compares what is left behind with the CPU's own execution. On
Linux {newest} it finds {wrong} forms that are carried out unlike on a CPU, and {endless} that never end: KVM_RUN does
not return, or gives the same access for ever. They have seven causes. An eighth is in the KVM of RISC-V.

**A guest meets these only where KVM carries out an instruction itself**: an operand where no memory is (MMIO), a page
table that KVM guards, code that the CPU cannot run (`unrestricted_guest=0`, invalid guest state, `kvm_pvm`). Where an
internal error ends the guest, somebody looks; these go on with a wrong value, or take a CPU of the host and say
nothing.

**What was run is no silicon.** kvm-amd runs under QEMU's TCG, kvm-intel under Bochs, KVM of riscv64 under QEMU's TCG.
The emulator is the kernel's own, from Debian's packages; when it is asked is the emulated CPU's doing. Each test of x86
runs its instruction a second time with the operand in RAM, where that CPU executes it (control): what is expected holds
there. Where a real CPU was asked as well, the section says so.

**The causes are held by a trial.** A kvm.ko of 7.3.4 was built with all suggestions for x86 in it: there every test
ends with 0. All 37,534 forms were measured on it: besides the families' forms, SLDT and STR no longer read, ENTER with
66 is right in 32- and 64-bit code, and BSF, BSR, TZCNT and LZCNT with 66 and F2 or F3 fail. That change is no patch to
merge, and is not kept here.

**Nothing has been sent.** Each section links a mail that is ready for the kernel's list, with the program that shows
the fault. Whoever sends one should run the program on hardware first, and look for it in the list's archive.
"""


def main() -> int:
    """Write the files, or with --check compare them; 1 if one differs."""
    status = 0
    for name, text in files().items():
        path = DOCS / name
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{name} is not what tools/make_emulator_faults.py makes")
            status = 1
    return status


def files() -> dict[str, str]:
    """The page, and a mail for each family, by their names in docs/."""
    results = sorted(kept(), key=lambda one: (list(_MODULE).index(one.vendor), [-n for n in version_of(one.release)]))
    mails = {f"emulator-faults/{family.id}.txt": mail(family, runs_of(family, results)) for family in FAMILIES}
    return {"emulator-faults.md": page(results), **mails}


def runs_of(family: Family, results: Iterable[Results]) -> list[Run]:
    """What the family's program printed, the newest kernel's first, kvm-amd's before kvm-intel's."""
    ran = [one for one in results if family.id in one.families]
    ran.sort(key=lambda one: (version_of(one.release), one.vendor == "svm"), reverse=True)
    runs = []
    for one in ran:
        machine = f"{_MACHINE[one.vendor]} ({emulator(one.bench)})"
        runs.append(Run(one.release, _MODULE[one.vendor], machine, one.families[family.id].printed))
    return runs


def emulator(bench: str) -> str:
    """``QEMU 7.2.22`` of the bench's whole name."""
    found = re.match(r"(?:QEMU emulator version|Bochs) ([\w.]+)", bench)
    return f"{'QEMU' if bench.startswith('QEMU') else 'Bochs'} {found[1]}" if found else bench


def page(results: list[Results]) -> str:
    """The whole of it."""
    amd = [span for family in FAMILIES for span in spans(family) if span.module == "kvm-amd"]
    endless = sum(
        span.forms for family in FAMILIES if family.never_ends for span in spans(family) if span.module == "kvm-amd"
    )
    head = HEAD.format(
        newest=extent(amd[0]).rpartition(" ")[2], wrong=sum(span.forms for span in amd) - endless, endless=endless
    )
    return "\n".join([head, overview(), measured(results), aside(), *(section(one, results) for one in FAMILIES)])


def overview() -> str:
    """A row for each family."""
    rows = ["| id | what | forms | measured on |", "|---|---|---|---|"]
    for family in FAMILIES:
        kernels = "; ".join(f"{span.module} {extent(span)}" for span in spans(family))
        rows.append(f"| [{family.id}](#{family.id}) | {family.title} | {len(family.forms)} | {kernels} |")
    return "\n".join([*rows, ""])


def measured(results: list[Results]) -> str:
    """Every test on every kernel that was booted for it."""
    names = [f"{_MODULE[one.vendor]} {one.release.partition('-')[0]}, {emulator(one.bench)}" for one in results]
    lines = [
        "## The tests, and where they were run",
        "",
        "`kvmwhy atlas --faults ID --export c` writes a program that needs `<linux/kvm.h>` and a libc;",
        "`--export selftest` the same for `tools/testing/selftests/kvm/x86/`. Both fail where KVM is wrong, and count",
        "an internal error as right. `python -m lab.faults svm --kernel 7.3` boots that kernel and runs all programs,",
        "in 15 to 40 seconds. 2/3: two of three guests came out wrong.",
        "",
        f"| | {' | '.join(names)} |",
        "|---" * (1 + len(names)) + "|",
    ]
    for family in FAMILIES:
        cells = [count(one, family) for one in results]
        lines.append(f"| [{family.id}](#{family.id}) | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def count(one: Results, family: Family) -> str:
    """``3/3``; nothing where it was not run."""
    ran = one.families.get(family.id)
    if ran is None:
        return ""
    found = re.match(r"(\d+) wrong of (\d+)", ran.printed.splitlines()[-1])
    return f"{found[1]}/{found[2]}" if found else "not told"


def aside() -> str:
    """What the comparison found besides."""
    lines = ["## Not counted", "", "Also found by the comparison, and no fault of this kind:", ""]
    for one in SET_ASIDE:
        forms = f" ({len(one.forms)} forms)" if one.forms else ""
        lines.append(f"* {one.why}{forms}")
    return "\n".join([*lines, ""])


def section(family: Family, results: list[Results]) -> str:
    """All about one."""
    lines = [f"## {family.id}", "", f"**{family.title}.**", ""]
    for head, text in sections(family):
        lines += [f"*{head}:* {literal(text)}", ""]
    lines += [*forms(family), ""]
    runs = runs_of(family, results)
    if runs:
        lines += [f"*Its test*, on {runs[0].where}:", "", "```", runs[0].printed.expandtabs(4), "```", ""]
    lines += [f"*To the kernel's list:* [the mail](emulator-faults/{family.id}.txt), with the program.", ""]
    return "\n".join(lines)


def literal(text: str) -> str:
    """Underscores of names are none of Markdown's."""
    return re.sub(r"(?<![\w`/])((?:\w+/)*(?:\w+->)?\w*_\w+(?:\.\w+)*(?:=\w+)?(?:\(\))?)(?!`)", r"`\1`", text)


def forms(family: Family) -> list[str]:
    """A table of all of them, by mode."""
    by_mode: dict[str, list[str]] = {}
    for mode, code in family.forms:
        by_mode.setdefault(mode, []).append(f"`{code}` {text_of_form(mode, code)}")
    return ["| code | forms |", "|---|---|", *(f"| {_MODES[mode]} | {', '.join(f)} |" for mode, f in by_mode.items())]


def text_of_form(mode: str, code: str) -> str:
    """The instruction."""
    if mode == "riscv64":
        row = trap_atlas("riscv64").look_up(int(code, 16))
        return row.text if row else ""
    return text_of(bytes.fromhex(code).ljust(15, b"\xf4"), next(known for known in MODES if known == mode))


if __name__ == "__main__":
    sys.exit(main())
