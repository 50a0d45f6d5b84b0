"""kvmwhy atlas, from the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from kvmwhy.cli.main import kvmwhy


def atlas(*arguments: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["atlas", *arguments])


def test_an_address_that_the_mode_does_not_have_is_said_so() -> None:
    """[bx] is of 16-bit code: in 64-bit code other forms are shown, and a remark says that they are others."""
    answers = [atlas("mov ax, [bx]", "--mode", mode) for mode in ("long64", "real16")]
    assert [result.exit_code for result in answers] == [0, 0]
    assert ["no address such as [bx]" in result.stderr for result in answers] == [True, False]


def test_by_text() -> None:
    """An instruction's text is found whatever its registers, and the change is dated by the source as well."""
    result = atlas("MOVNTDQA xmm5, xmmword ptr [rdi+8]")
    assert result.exit_code == 0
    assert "carried out: reads 8 + 8 bytes" in result.output
    assert "changed between 6.18 and 7.2" in " ".join(result.output.split())
    assert "since Linux 6.19" in result.output


def test_by_bytes() -> None:
    """Bytes are looked up as they are, in the mode that is asked for."""
    result = atlas("--bytes", "d9 47 10", "--mode", "prot32")
    assert result.exit_code == 0
    assert "suberror 1, on every measured kernel" in " ".join(result.output.split())


def test_json() -> None:
    """One object per form: the measured bytes, and a verdict for each kernel."""
    result = atlas("--bytes", "660f382a07", "--json")
    row = json.loads(result.output)
    assert row["measured"] == "66 0f 38 2a 13"
    assert row["exact"] is False
    by_release = {one["release"].split("-")[0]: one["verdict"] for one in row["kernels"] if one["vendor"] == "svm"}
    assert by_release["5.10.0"] == "fails"
    assert by_release["7.3.4+deb13"] == "emulated"


def test_between() -> None:
    """A kernel that was not measured gets both neighbours, not a guess."""
    said = " ".join(atlas("--bytes", "c5fe6f07", "--kernel", "6.19.3").output.split())
    assert "Not measured on this kernel; it changed between 6.18" in said


def test_since() -> None:
    """Only the one line per form."""
    result = atlas("movbe", "--since")
    assert "between 6.1 (not yet) and 6.12" in result.output
    assert "5.10 or older" in result.output


def test_diff() -> None:
    """Between 6.1 and 6.12 it is 16-bit MOVBE, and nothing else."""
    result = atlas("--diff", "6.1", "6.12", "--json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert rows
    assert all(row["text"].startswith("movbe") for row in rows)
    assert atlas("--diff", "6.1", "6.1").exit_code == 1


def test_overview() -> None:
    """Without an argument: the kernels."""
    assert "5.10.0-46" in atlas().output
    assert json.loads(atlas("--json").output.splitlines()[0])["release"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--bytes", "xyz"], 2),
        (["--bytes", ""], 1),
        (["--bytes", "66"], 1),
        (["frobnicate"], 1),
        (["\x1b[31m"], 1),
        (["--diff", "6.1", "9.9"], 2),
    ],
)
def test_refusals(arguments: list[str], status: int) -> None:
    """What cannot be answered is said in one line, with nothing that a terminal would act on."""
    result = atlas(*arguments)
    assert result.exit_code == status
    assert "\x1b" not in result.output


def test_arm64_by_text_and_by_word() -> None:
    """Arm's manual: a pair has no syndrome, one register without write-back has. Measured, it is so on every kernel."""
    pair = atlas("--arch", "arm64", "ldp x0, x1, [x2]")
    assert pair.exit_code == 0
    assert "KVM_RUN fails with ENOSYS, on every measured kernel" in pair.output
    assert "KVM_EXIT_ARM_NISV, esr_iss 0x5 (read" in pair.output
    alone = json.loads(atlas("--arch", "arm64", "--bytes", "f9400003", "--json").output)
    assert (alone["instruction"], alone["form"], alone["syndrome"]) == ("f9400003", "one register", True)
    assert (alone["text"], alone["exact"]) == ("ldr x4, [x0]", False)
    kernels = {one["release"].split("-")[0] for one in alone["kernels"]}
    assert len(kernels) >= 3
    assert {(one["verdict"], one["accesses"]) for one in alone["kernels"] if one["setup"] == "mmu-off"} == {
        ("mmio", "r8")
    }
    in_memory = atlas("--arch", "arm64", "--bytes", "03 00 40 f9", "--json")
    assert json.loads(in_memory.output)["form"] == "one register"


def test_arm64_not_measured() -> None:
    """What no CPU here has is answered by the manual, and says so."""
    result = atlas("--arch", "arm64", "ld64b x0, [x1]")
    assert result.exit_code == 0
    assert "by the manual: no CPU that was measured has it" in " ".join(result.output.split())


def test_arm64_on_a_kernel() -> None:
    """A release in between gets its neighbours; --json leaves only that series."""
    said = " ".join(atlas("--arch", "arm64", "dc zva, x0", "--kernel", "6.6").output.split())
    assert "Not measured on this kernel; the nearest: 6.1 (KVM_RUN fails with ENOSYS) and 6.12" in said
    row = json.loads(atlas("--arch", "arm64", "dc zva, x0", "--kernel", "6.1", "--json").output)
    assert {one["release"][:4] for one in row["kernels"]} == {"6.1."}


def test_a_cpu_without_the_instruction_does_not_stand_for_its_kernel() -> None:
    """FEAT_LOR's STLLRB: one of the emulators that ran 7.3 lacks it; by the manual it has a syndrome, so it is MMIO."""
    result = atlas("--arch", "arm64", "--bytes", "08821804", "--kernel", "7.3")
    (line,) = [line for line in result.output.splitlines() if "Measured on Linux 7.3" in line]
    assert "KVM_EXIT_MMIO: writes 1 bytes" in line


def test_emulators_that_disagree_are_both_shown() -> None:
    """C.SWSP with offset 0: KVM decodes the guest's word, or what the newer emulator hands it (HTINST) instead."""
    said = " ".join(atlas("--arch", "riscv64", "--bytes", "c032", "--kernel", "7.2").output.split())
    assert "EOPNOTSUPP on QEMU 7.2; KVM_EXIT_MMIO: writes 4 bytes on QEMU 10.0" in said
    assert atlas("--arch", "riscv64", "--diff", "6.12", "7.2").exit_code == 1, "that is no difference of kernels"
    result = atlas("--arch", "riscv64", "--diff", "7.2 on QEMU 7.2", "7.2 on QEMU 10.0")
    assert result.exit_code == 0
    assert "between 7.2 (QEMU 7.2) and 7.2 (QEMU 10.0)" in " ".join(result.output.split())


def test_riscv64() -> None:
    """KVM decodes integer loads and stores itself, and nothing else; HEX is a word, or two bytes."""
    word = atlas("--arch", "riscv64", "--bytes", "00052507")
    assert "KVM_RUN fails with EOPNOTSUPP, on every measured kernel" in " ".join(word.output.split())
    short = json.loads(atlas("--arch", "riscv64", "--bytes", "4502", "--json").output)
    assert short["text"].startswith("c.lwsp")
    assert {one["verdict"] for one in short["kernels"] if one["setup"] == "bare"} == {"mmio"}
    assert (short["form"], short["syndrome"]) == (None, None)


def test_riscv64_stores_on_the_stack() -> None:
    """C.SWSP with an offset of 0 or 32 is not carried out, with another it is: KVM takes the offset for a register."""
    rows = [json.loads(line) for line in atlas("--arch", "riscv64", "c.swsp", "--json").output.splitlines()]
    by_text = {
        row["text"]: {one["verdict"] for one in row["kernels"] if one["setup"] == "bare" and " 7.2.22 " in one["bench"]}
        for row in rows
    }
    assert by_text["c.swsp a2,0(sp)"] == {"error"}
    assert by_text["c.swsp a2,8(sp)"] == {"mmio"}


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_overview_and_diff_elsewhere(arch: str) -> None:
    """Without an argument the kernels; between two of them what differs, which is nothing for one and itself."""
    result = atlas("--arch", arch)
    assert "forms in" in result.output
    columns = [json.loads(line) for line in atlas("--arch", arch, "--json").output.splitlines()]
    assert columns[0]["release"].startswith("6.")
    assert atlas("--arch", arch, "--diff", "6.12", "6.12").exit_code == 1
    assert atlas("--arch", arch, "--diff", "6.12", "9.9").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--bytes", "xyz"], 2),
        (["--bytes", "a9 40 10"], 2),
        (["--bytes", ""], 2),
        (["add x0, x1, x2"], 1),
        (["--bytes", "123456789"], 2),
        (["\x1b[31m"], 1),
        (["ldr x0, [x1]", "--kernel", "new"], 2),
    ],
)
@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_refusals_elsewhere(arch: str, arguments: list[str], status: int) -> None:
    """One sentence, the exit status that its kind has, and nothing that a terminal would act on."""
    refused = atlas("--arch", arch, *arguments)
    assert refused.exit_code == status
    assert refused.stderr.count("\n") == 1
    assert "\x1b" not in refused.output


@pytest.mark.parametrize(
    ("att", "intel"),
    [
        ("movntdqa (%rdi), %xmm0", "movntdqa xmm0, [rdi]"),
        ("movl %eax, 8(%rbx,%rcx,4)", "mov [rbx], eax"),
        ("movb $1, (%rdi)", "mov byte ptr [rdi], 1"),
        ("vmovdqu %fs:(%rax), %ymm3", "vmovdqu ymm3, [rax]"),
        ("movzbl (%rdi), %eax", "movzx eax, byte ptr [rdi]"),
        ("flds (%rbx)", "fld dword ptr [rbx]"),
        ("fildll (%rbx)", "fild qword ptr [rbx]"),
        ("lock cmpxchg8b (%rdi)", "lock cmpxchg8b [rdi]"),
        ("addq %rax, (%rdi)", "add [rdi], rax"),
        ("call *(%rdi)", "call [rdi]"),
    ],
)
def test_att_syntax(att: str, intel: str) -> None:
    """GNU as's way to write an instruction finds the forms that Intel's finds."""
    found, wanted = atlas(att, "--json"), atlas(intel, "--json")
    assert (found.exit_code, found.stdout) == (0, wanted.stdout)


def test_a_matrix_of_forms_and_kernels() -> None:
    """A row for each form, a column for each kernel, the one that was asked for first."""
    lines = atlas("movbe", "--kernel", "6.12").output.splitlines()
    assert lines[0].split() == [
        "6.12*",
        "5.10",
        "6.1",
        "6.16",
        "6.17",
        "6.18",
        "7.2",
        "7.3",
        "vmx",
        "6.1",
        "vmx",
        "7.3",
    ]
    row = next(line.split() for line in lines if line.startswith("movbe [rbx],dx"))
    assert row[2:6] == ["yes", "no", "no", "yes"]
    assert all(len(line) <= 100 for line in lines)


def test_a_kernel_between_two_measured_ones_is_not_guessed() -> None:
    """6.19 was not measured: where its neighbours differ there is a question mark."""
    lines = atlas("vmovdqu", "--kernel", "6.19").output.splitlines()
    assert lines[0].split()[0] == "6.19*"
    assert any(line.split()[2] == "?" for line in lines if line.startswith("vmovdqu "))


@pytest.mark.parametrize(
    ("text", "said"), [("vmovdqqu", "did you mean vmovdqu"), ("aaa", "--mode real16"), ("zzzzqq", "movl (%rbx), %eax")]
)
def test_a_word_that_is_no_instruction(text: str, said: str) -> None:
    """The nearest, the mode that has it, or how a form is written."""
    assert said in atlas(text).stderr


def test_a_wrong_form_names_its_fault() -> None:
    """One instruction, a mnemonic with many forms, JSON, and an instruction that is right."""
    shown = atlas("tzcnt ecx, [rax]").output
    assert "kvmwhy cause tzcnt-lzcnt, docs/emulator-faults.md" in shown
    assert "kvmwhy cause tzcnt-lzcnt" in atlas("lzcnt").output
    assert {json.loads(line)["fault"] for line in atlas("tzcnt", "--json").output.splitlines()} == {"tzcnt-lzcnt"}
    assert "Fault:" not in atlas("bsf ecx, [rax]").output
    riscv = atlas("--arch", "riscv64", "c.swsp", "--json").output.splitlines()
    assert {row["text"]: row["fault"] for row in map(json.loads, riscv)} == {
        "c.swsp a2,0(sp)": "riscv-c-swsp-c-sdsp",
        "c.swsp a2,8(sp)": None,
    }
    assert "kvmwhy cause riscv-c-swsp-c-sdsp" in atlas("--arch", "riscv64", "--bytes", "c032").output


def test_faults_are_listed_shown_and_exported() -> None:
    """All by name; one whole, as `kvmwhy cause` has it as well; its test in two forms; and what cannot be."""
    listed = [json.loads(line) for line in atlas("--faults", "--json").output.splitlines()]
    shown = atlas("--faults").output
    assert all(entry["id"] in shown for entry in listed)
    one = atlas("--faults", "enter-stack-width").output
    assert "em_enter()" in one
    assert CliRunner().invoke(kvmwhy, ["cause", "enter-stack-width"]).output == one
    cause = CliRunner().invoke(kvmwhy, ["cause", "enter-stack-width", "--json"]).output
    assert json.loads(cause)["kind"] == "fault"
    assert "KVM_CREATE_VM" in atlas("--faults", "enter-stack-width", "--export", "c").output
    assert "TEST_ASSERT" in atlas("--faults", "enter-stack-width", "--export", "selftest").output
    assert atlas("--faults", "riscv-c-swsp-c-sdsp", "--export", "selftest").exit_code == 2
    assert atlas("--faults", "enter-stack-with").exit_code == 1
    assert atlas("--faults", "--kernel", "6.1").exit_code == 2
    assert atlas("tzcnt", "--export", "c").exit_code == 2
