"""``kvmwhy probe``: what this host's KVM makes of instructions, and where that differs from the atlas."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kvmwhy.abi.uname import series_of
from kvmwhy.cli.output import complain, require_writable, show
from kvmwhy.cli.probe_journal import Journal
from kvmwhy.cli.status import BAD_INPUT, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.emulator import wording
from kvmwhy.emulator.atlas import Answer, AtlasError, atlas
from kvmwhy.emulator.measured import Measured
from kvmwhy.machine.errors import MachineError, NoKvmError, NotPermittedError
from kvmwhy.probe.encodings import MODES, Form, Mode, all_forms, form_of, require_encoder
from kvmwhy.probe.host import Prober
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

if TYPE_CHECKING:
    from kvmwhy.outputs import ProbedForm

_PROGRESS_EVERY = 0.2  # seconds
_MANY = 40


class ProbeOptions(NamedTuple):
    """``everything``: also what no CPU has, and what has no operand in memory."""

    mode: Mode | None = None
    everything: bool = False
    code: str | None = None
    text: str | None = None
    out: str | None = None
    journal: str | None = None
    as_json: bool = False


def run(wish: ProbeOptions) -> int:
    """Probe; return the exit status."""
    try:
        forms = _forms(wish)
    except ValueError as error:
        complain(str(error))
        return BAD_INPUT
    if not forms:
        complain("no form is like that")
        return NOTHING
    try:
        if wish.out:
            require_writable(wish.out)
        with Prober() as prober:
            answers = _ask(prober, forms, wish)
        if wish.out:
            _write(wish.out, answers)
    except (NoKvmError, NotPermittedError) as error:
        complain(str(error))
        return NOT_PERMITTED
    except (MachineError, OSError) as error:
        complain(str(error))
        return BAD_INPUT
    _show(wish, answers)
    return DONE


class Found(NamedTuple):
    form: Form
    verdict: Measured | None
    known: Answer | None  # what the atlas has of this kernel

    @property
    def differs(self) -> bool:
        """From a measurement of this series, or from both neighbours where they agree."""
        if self.verdict is None or self.known is None:
            return False
        known = self.known
        if known.status == "measured" and known.verdict:
            return not known.verdict.same_outcome(self.verdict)
        if known.below and known.above and not known.changed:
            return not known.below[1].same_outcome(self.verdict)
        return False


def _forms(wish: ProbeOptions) -> list[Form]:
    """Raises ValueError."""
    require_encoder()
    modes = (wish.mode,) if wish.mode else MODES
    if wish.code is not None:
        mode = wish.mode or "long64"
        code = bytes.fromhex(wish.code.replace("0x", "").replace(",", " "))
        if not 0 < len(code) <= 15:
            raise ValueError("an instruction has 1 to 15 bytes")
        return [form_of(code, mode)]
    if wish.text is not None:
        from kvmwhy.probe.lookup import shape_of

        wanted = shape_of(wish.text)
        if wanted is None:
            raise ValueError(f"{wish.text!r} is no instruction in Intel's syntax")
        return [
            form
            for form in all_forms()
            if form.mode == (wish.mode or "long64") and (shape := shape_of(form.text)) and wanted.fits(shape)
        ]
    return [form for form in all_forms() if form.mode in modes and (wish.everything or (form.defined and form.memory))]


def _ask(prober: Prober, forms: Sequence[Form], wish: ProbeOptions) -> list[Found]:
    release = platform.release()
    journal = None
    if wish.journal:
        head = f"{release} {len(forms)} forms {'everything' if wish.everything else 'defined'} {wish.mode or 'all'}"
        journal = Journal(wish.journal, head)
        for number in sorted(journal.killers):
            form = forms[number]
            complain(f"left out, as this host did not survive it: {form.mode} {form.code.hex(' ')} {form.text}")
    # Without hardware help the "native" run is emulated as well, and says nothing of a CPU.
    comparable = not os.path.exists("/sys/module/kvm_pvm")
    answers: dict[int, Measured | None] = dict(journal.answers) if journal else {}
    progress = _Progress(len(forms), quiet=wish.as_json or not sys.stderr.isatty())
    blocks = journal.blocks(len(forms)) if journal else iter([range(len(forms))])
    for block in blocks:
        for number in block:
            verdict, _ = prober.ask(forms[number])
            if verdict is not None and not comparable:
                verdict = verdict._replace(compared="no", wrong=())
            answers[number] = verdict
            if journal:
                journal.answer(number, verdict)
            progress.step(len(answers))
    if journal:
        journal.close()
    progress.end()
    vendor = "vmx" if os.path.exists("/sys/module/kvm_intel") else "svm"
    return [Found(forms[n], answers[n], _known(forms[n], release, vendor)) for n in sorted(answers)]


def _known(form: Form, release: str, vendor: str) -> Answer | None:
    try:
        row = atlas().look_up(form.code, form.mode)
    except (OSError, AtlasError):
        return None
    if row is None or (version := series_of(release)) is None:
        return None
    answer = row.in_kernel(version, vendor)
    return answer if answer.status == "measured" else row.in_kernel(version)


class _Progress:
    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet, self._next = total, quiet, 0.0

    def step(self, done: int) -> None:
        if not self._quiet and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_EVERY
            sys.stderr.write(f"\r{done} of {self._total}")
            sys.stderr.flush()

    def end(self) -> None:
        if not self._quiet:
            sys.stderr.write("\r" + " " * 40 + "\r")


def _write(path: str, answers: Sequence[Found]) -> None:
    """Raises OSError."""
    with open(path, "w", encoding="ascii", errors="replace") as out:
        out.write(f"# {platform.release()} {time.strftime('%Y-%m-%d')}: mode, bytes, text, verdict, code, ndata,")
        out.write(" accesses, compared, wrong\n")
        out.writelines("\t".join(_columns(answer)) + "\n" for answer in answers)


def _show(wish: ProbeOptions, answers: Sequence[Found]) -> None:
    if wish.as_json:
        import msgspec

        for answer in answers:
            sys.stdout.write(msgspec.json.encode(_plain(answer)).decode() + "\n")
        return
    if wish.code is not None or wish.text is not None:
        show([line for answer in answers for line in _one(answer)])
        return
    show(_summary(answers))


def _columns(answer: Found) -> tuple[str, ...]:
    verdict = answer.verdict
    head = (answer.form.mode, answer.form.code.hex(), answer.form.text)
    if verdict is None:
        return (*head, "not asked", "", "", "", "", "")
    rest = (str(verdict.code), str(verdict.ndata), verdict.accesses, verdict.compared, " ".join(verdict.wrong))
    return (*head, verdict.kind, *rest)


def _plain(answer: Found) -> ProbedForm:
    from kvmwhy.outputs import ProbedForm

    form, verdict = answer.form, answer.verdict
    plain = ProbedForm(
        mode=form.mode, text=form.text, bytes=form.code.hex(" "), verdict=None, differs_from_atlas=answer.differs
    )
    if verdict is not None:
        plain.verdict, plain.code, plain.ndata = verdict.kind, verdict.code, verdict.ndata
        plain.accesses, plain.compared = verdict.accesses, verdict.compared
        plain.wrong, plain.says = list(verdict.wrong), wording.say(verdict)
    return plain


def _one(answer: Found) -> list[Line]:
    form = answer.form
    words = "there is no way to ask here" if answer.verdict is None else wording.say(answer.verdict)
    lines = [Line(f"{safe(form.text)} ({form.code.hex(' ')}): {words}", "answer")]
    if answer.known and (text := wording.say_answer(answer.known)):
        lines.append(Line(text, "dim", "The atlas: ", 2))
    return lines


def _summary(answers: Sequence[Found]) -> list[Line]:
    kinds = Counter("not asked" if answer.verdict is None else answer.verdict.kind for answer in answers)
    wrong = [
        answer for answer in answers if answer.verdict and answer.verdict.kind == "emulated" and answer.verdict.wrong
    ]
    differing = [answer for answer in answers if answer.differs]
    compared = sum(answer.known is not None and answer.known.status in {"measured", "between"} for answer in answers)
    asked = len(answers) - kinds["not asked"]
    lines = [Line(f"{asked} of {len(answers)} forms asked of Linux {safe(platform.release())}", "answer")]
    for kind, count in kinds.most_common():
        lines.append(Line(str(count), label=f"{kind:12}", indent=2))
    lines.append(Line(f"{len(wrong)} are carried out unlike a CPU does", "bad" if wrong else "good", indent=2))
    lines += [_short(answer) for answer in wrong[:_MANY]]
    head = f"{len(differing)} differ from the atlas, of {compared} that it knows for this kernel or both its neighbours"
    lines.append(Line(head, "bad" if differing else "good", indent=2))
    for answer in differing[:_MANY]:
        lines.append(_short(answer))
        if answer.known and (expected := wording.say_answer(answer.known)):
            lines.append(Line(expected, "dim", "the atlas: ", 8))
    return lines


def _short(answer: Found) -> Line:
    words = "" if answer.verdict is None else wording.say(answer.verdict)
    return Line(
        words, label=f"{answer.form.mode:6}  {answer.form.code.hex(' '):20}  {safe(answer.form.text):30}  ", indent=4
    )
