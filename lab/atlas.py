"""The atlas, measured: every form on every kernel that can be had.

    python -m lab.atlas fetch                      Debian's newest kernel of each series
    python -m lab.atlas sweep svm                  all forms, twice, on each kernel that was fetched
    python -m lab.atlas sweep vmx --forms sampled --kernel 6.1 7.3
    python -m lab.atlas sweep vmx --forms plain --kernel 6.1 --module-args ept=0
    python -m lab.atlas write                      what was swept becomes src/kvmwhy/emulator/data/atlas.bin
    python -m lab.atlas sample svm --every 40      one form in 40, compared with the atlas: exit status 1 if they differ

Sweeps are journalled in the work directory ($KVMWHY_LAB or ~/.cache/kvmwhy-lab): what is done is not done again, and a
form that ends the machine is found, named and left out. A kernel that gives no outcomes is named and passed over.
Exit status: 0; 1 if a kernel gave no outcomes, or a sample differs; 2 usage; 3 if something is missing here; 4 if a
kernel is not to be had.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from kvmwhy.arch.x86.mode import LONG64, PROT16, PROT32, REAL16
from kvmwhy.emulator.atlas import Atlas
from kvmwhy.emulator.atlas_file import DEFINED, FORCED, PLAIN, Entry, Kernel, pack
from kvmwhy.emulator.encoding_key import key_of
from kvmwhy.emulator.measured import Measured
from kvmwhy.emulator.verdict import by_table
from kvmwhy.probe.classify import judge, prefer
from kvmwhy.probe.encodings import Form, all_forms
from kvmwhy.probe.sweep_format import Probe, Raw, probes_of
from lab import benches, kernels
from lab.console import complain, say
from lab.ready import NotReadyError, kernels_for, work_directory
from lab.run import ROOT, fetch
from lab.sweep import SweepError, Swept, journals, sweep

ATLAS: Final = ROOT / "src" / "kvmwhy" / "emulator" / "data" / "atlas.bin"
_MOST_TURNS: Final = 5
_FLAGS: Final = {"stale": 0, "forced": FORCED, "plain": PLAIN}


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    match options.command:
        case "fetch":
            return fetch(options.work, options.kernel)
        case "write":
            return _write(options)
    try:
        chosen = kernels_for(options.bench, options.work, options.kernel, fetch="python -m lab.atlas fetch")
    except NotReadyError as error:
        complain(str(error))
        return 3
    return _sample(options, chosen) if options.command == "sample" else _sweep(options, chosen)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lab.atlas", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("fetch", "sweep", "write", "sample"))
    parser.add_argument("bench", nargs="?", choices=("svm", "vmx"), default="svm")
    parser.add_argument("--kernel", nargs="+", default=[], metavar="SERIES", help="such as 6.1; or a whole release")
    parser.add_argument("--module-args", default="", help="of kvm-amd or kvm-intel, such as ept=0")
    parser.add_argument("--forms", choices=tuple(_CHOICES), default="all", help="fewer, for a slow bench")
    parser.add_argument("--turns", type=int, default=2, help="how often each form is asked (default: %(default)s)")
    parser.add_argument("--every", type=int, default=40, help="of a sample: one form in so many")
    parser.add_argument("--work", type=Path, default=work_directory(), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=ATLAS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    options.work = options.work.absolute()
    return options


@cache
def all_probes() -> tuple[Probe, ...]:
    return probes_of(all_forms())


_ONE_IN: Final = 61
_MODES: Final = {"real16": REAL16, "prot16": PROT16, "prot32": PROT32, "long64": LONG64}


@cache
def sampled_probes() -> tuple[Probe, ...]:
    """For a bench that is too slow for all forms: one of each mnemonic, mode and shape that the table of the source
    has a handler for, and one in 61 of the others.
    """
    chosen: dict[object, Form] = {}
    for number, form in enumerate(all_forms()):
        found = by_table(form.code.ljust(15, b"\xf4"), mode=_MODES[form.mode], version=None)
        words = form.text.partition("[")[0].split(" ")
        handled = found.outcome == "handler" and form.kind not in {"grid", "group", "check"}
        which = (
            (form.mode, words[0], words[1] if form.kind != "iced" else "", form.memory)
            if handled
            else number // _ONE_IN
        )
        chosen.setdefault(which, form)
    return probes_of(chosen.values())


# What QEMU's CPU and KVM do differently: whether Bochs's CPU sides with KVM is worth a look at every form.
_DOUBTED: Final = (
    *("lss", "lfs", "lgs", "sldt", "str", "movbe", "vmgexit", "tzcnt", "lzcnt", "enter", "iret", "iretd", "aam", "aad"),
    *("pusha", "pushad", "popa", "popad"),
)


@cache
def doubted_probes() -> tuple[Probe, ...]:
    """For the slow bench: every form of which the fast one's CPU says that KVM is wrong."""

    def doubted(form: Form) -> bool:
        words = form.text.split(" ")
        if words[0] in {"data16", "data32", "data64"}:  # "data64 ret far"
            words.pop(0)
        store = form.code[:2] == b"\x48\x8c"  # MOV from a segment register, with REX.W
        branch = form.code[:2] == b"\x66\x0f" and form.code[2] & 0xF0 == 0x80
        return words[0] in _DOUBTED or words[:2] in (["ret", "far"], ["call", "far"]) or store or branch

    return probes_of(form for form in all_forms() if doubted(form))


@cache
def plain_probes() -> tuple[Probe, ...]:
    """For shadow paging (ept=0, npt=0): there, KVM sees the store to the page table, and nothing goes stale. So the
    sampled forms with an operand in memory, as the CPU comes to them.
    """
    forms = dict.fromkeys(probe.form for probe in sampled_probes() if probe.form.memory)
    return tuple(Probe(form, "plain") for form in forms)


_CHOICES: Final = {
    "all": all_probes,
    "sampled": sampled_probes,
    "doubted": doubted_probes,
    "plain": plain_probes,
}


def _sweep(options: argparse.Namespace, chosen: Sequence[kernels.Kernel]) -> int:
    status = 0
    for kernel in chosen:
        for turn in range(options.turns):
            try:
                swept = sweep(
                    *(options.bench, kernel, _CHOICES[options.forms](), options.work),
                    module_args=options.module_args,
                    turn=turn,
                    say=say,
                )
            except (SweepError, FileNotFoundError) as error:
                complain(f"{kernel.release}: {error}")
                status = 1
                break
            say(
                f"{swept.release} {options.module_args}: turn {turn}, {len(swept.raw)} probes,"
                f" {swept.seconds:.0f} s, {swept.rate:.0f} probes/s by its own clock"
            )
    return status


# -- from sweeps to the atlas --------------------------------------------------------------------------


def verdicts_of(turns: Sequence[dict[int, Raw]], probes: Sequence[Probe]) -> tuple[dict[Form, Measured], list[Form]]:
    """The verdict on each form, by most turns; and the forms that did not come to the same outcome each time."""
    found: dict[Form, Measured] = {}
    unsteady: dict[Form, None] = {}
    for number, probe in enumerate(probes):
        said = [judge(probe.form, turn[number]) for turn in turns if number in turn]
        if not said or (probe.technique == "plain" and probe.form.mode != "real16" and not _by_kvm(said[0])):
            continue
        # A comparison that a slow machine did not get to is no disagreement.
        told = [one for one in said if one.compared != "no"] or said
        ((verdict, _),) = Counter(told).most_common(1)
        if not all(verdict.same_outcome(one) for one in said) or len(set(told)) > 1:
            unsteady[probe.form] = None
        earlier = found.get(probe.form)
        found[probe.form] = verdict if earlier is None else prefer(earlier, verdict)
    return found, list(unsteady)


def _by_kvm(verdict: Measured) -> bool:
    """Whether KVM had a hand in it, and not the CPU alone."""
    return bool(verdict.accesses) or verdict.kind in {"fails", "no-exit", "endless"}


class Column(NamedTuple):
    kernel: Kernel
    verdicts: dict[Form, Measured]


def _columns(work: Path) -> list[Column]:
    """Every kernel that was swept with the forms of today, oldest first, kvm-amd before kvm-intel."""
    groups: dict[tuple[str, str, str], dict[str, list[Swept]]] = {}
    for name, probes in _CHOICES.items():
        for bench, swept in journals(work, probes()):
            groups.setdefault((bench, swept.module_args, swept.release), {}).setdefault(name, []).append(swept)
    order = sorted(groups, key=lambda group: (group[0], group[1], kernels.version_of(group[2])))
    return [_column(*group, groups[group]) for group in order]


def _column(bench: str, module_args: str, release: str, swept: dict[str, list[Swept]]) -> Column:
    verdicts: dict[Form, Measured] = {}
    killers: list[str] = []
    for name, turns in swept.items():
        probes = _CHOICES[name]()
        found, unsteady = verdicts_of([turn.raw for turn in turns], probes)
        verdicts |= {form: verdict for form, verdict in found.items() if name != "plain" or _by_kvm(verdict)}
        killers += [f"{probes[n].form.mode} {probes[n].form.code.hex()}" for n in turns[0].killers]
        say(f"{bench} {release} {module_args} {name}: {len(found)} forms, {len(turns)} turns, {len(unsteady)} unsteady")
        for form in unsteady[:20]:
            say(f"    {form.mode} {form.code.hex(' ')} {form.text}")
    turns = next(iter(swept.values()))
    args = f" --module-args {module_args}" if module_args else ""
    args += "" if "all" in swept else f" --forms {' and '.join(swept)}"
    kernel = Kernel(
        *(bench, release, turns[0].version, turns[0].cpu, benches.version(bench), module_args, turns[0].date),
        command=f"python -m lab.atlas sweep {bench} --kernel {release}{args}",
        forms=len(verdicts),
        turns=len(turns),
        killers=tuple(killers),
    )
    return Column(kernel, verdicts)


def settle(columns: Sequence[Column]) -> None:
    """Where KVM differs from one bench's CPU and not from the other's, of the same series, that CPU is no witness.

    Neither emulated CPU is silicon. QEMU's, for one, takes 16-bit MOVBE without a prefix for the 32-bit one. What
    holds for one form of an instruction then holds for all of its forms in that mode, on every kernel.
    """
    said: dict[tuple[tuple[int, int], Form], set[str]] = {}
    for kernel, verdicts in columns:
        for form, verdict in verdicts.items():
            if verdict.kind == "emulated" and verdict.compared != "no":
                said.setdefault((kernel.series, form), set()).add(verdict.compared)
    disputed = {_name(form) for (_, form), ways in said.items() if len(ways) > 1}
    for _, verdicts in columns:
        for form, verdict in verdicts.items():
            if verdict.kind == "emulated" and verdict.compared == "wrong" and _name(form) in disputed:
                verdicts[form] = verdict._replace(compared="no", wrong=())


_PREFIX_WORDS: Final = {"lock", "rep", "repe", "repne", "data16", "data32", "data64", "addr16", "addr32", "bnd"}


def _name(form: Form) -> tuple[str, str, int]:
    """An instruction in a mode; with REX.W it is another one."""
    words = form.text.partition("[")[0].split(" ")
    mnemonic = next((word for word in words if word not in _PREFIX_WORDS), "")
    return form.mode, mnemonic, form.code[0] & 0xF8 if form.mode == "long64" else 0


def _write(options: argparse.Namespace) -> int:
    columns = _columns(options.work)
    settle(columns)
    if not columns:
        complain(f"no sweeps in {options.work}: run `python -m lab.atlas sweep` first")
        return 3
    data = pack([kernel for kernel, _ in columns], list(_entries([verdicts for _, verdicts in columns])))
    options.out.write_bytes(data)
    atlas = Atlas(data)
    say(f"{options.out}: {len(data)} bytes, {len(atlas)} forms, {len(atlas.kernels)} kernels")
    return 0


def _entries(columns: Sequence[dict[Form, Measured]]) -> Iterator[Entry]:
    for form in all_forms():
        verdicts = tuple(column.get(form) for column in columns)
        key = key_of(form.code, form.mode)
        if key is None or not any(verdicts):  # some makers' opcodes of the nineties that end before their ModRM
            continue
        technique = "stale" if form.mode != "real16" else _technique(form, verdicts)
        yield Entry(key, form.code, _FLAGS[technique] | (DEFINED if form.defined else 0), verdicts)


def _technique(form: Form, verdicts: Sequence[Measured | None]) -> str:
    """In real mode: which of the two had the last word."""
    return "plain" if form.memory and not all(v is None or v.kind == "exception" for v in verdicts) else "forced"


# -- a sample, against the atlas -----------------------------------------------------------------------


def _sample(options: argparse.Namespace, chosen: Sequence[kernels.Kernel]) -> int:
    """Again, on fewer forms: does each kernel still say what the atlas has of its series?"""
    atlas = Atlas(options.out.read_bytes())
    forms = [form for number, form in enumerate(all_forms()) if number % options.every == 0]
    probes = probes_of(forms)
    status = 0
    for kernel in chosen:
        try:
            swept = sweep(options.bench, kernel, probes, options.work, again=True, say=say)
        except (SweepError, FileNotFoundError) as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        lines = list(disagreements(atlas, swept, probes, options.bench))
        say(f"{swept.release}: {len(forms)} forms, {len(lines)} differ from the atlas, {swept.seconds:.0f} s")
        for line in lines:
            say(f"    {line}")
        status |= bool(lines)
    return status


def disagreements(atlas: Atlas, swept: Swept, probes: Sequence[Probe], bench: str) -> Iterator[str]:
    """What was said now and not by the atlas, of the same series."""
    series = kernels.series_of(swept.release)
    columns = [
        number
        for number, kernel in enumerate(atlas.kernels)
        if (kernel.vendor, kernels.series_of(kernel.release), kernel.module_args) == (bench, series, swept.module_args)
    ]
    if not columns:
        yield f"the atlas has no {bench} {series}"
        return
    found, _ = verdicts_of([swept.raw], probes)
    for form, verdict in found.items():
        row = atlas.look_up(form.code, form.mode)
        if row is None:
            if key_of(form.code, form.mode) is not None:
                yield f"{form.mode} {form.code.hex(' ')} {form.text}: not in the atlas"
            continue
        known = row.verdicts[columns[0]]
        # Without a witness, or on a slow machine, the comparison with the CPU says nothing.
        compared = known is None or "no" not in {known.compared, verdict.compared}
        if known is None or _bare(known, compared) != _bare(verdict, compared):
            yield f"{form.mode} {form.code.hex(' ')} {form.text}: {known} in the atlas, {verdict} now"


def _bare(verdict: Measured, compared: bool) -> Measured:
    return verdict if compared else verdict._replace(compared="no", wrong=())


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        complain(str(error))
        sys.exit(3)
