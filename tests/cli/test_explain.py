"""The command as a user meets it: output, exit statuses, and input that means harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
GOOD = FIXTURES / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log"
MAPPED = FIXTURES / "lab-svm" / "qemu-5.10" / "prot32-jump" / "qemu.log"  # short enough for the map of its memory
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "TERM"}}


def kvmwhy(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kvmwhy", *args],
        input=stdin,
        capture_output=True,
        env=ENVIRONMENT,
        check=False,
        timeout=60,
    )


def one_sentence(result: subprocess.CompletedProcess[bytes]) -> str:
    """stderr is one line of kvmwhy's own and no traceback."""
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("kvmwhy: ")
    return lines[0]


def test_a_good_log_is_explained_answer_first() -> None:
    """Status 0, nothing on stderr, the answer in the first line, the raw words last."""
    result = kvmwhy("explain", "--full", str(GOOD))
    assert (result.returncode, result.stderr) == (0, b"")
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith("KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`")
    assert "data[7]" in lines[-1]
    assert max(len(line) for line in lines if str(GOOD) not in line) <= 100  # however deep the checkout lies


def test_one_screen_has_the_answer_the_code_and_what_to_do() -> None:
    """What fits 24 rows of 80 columns: the failing instruction amid its neighbours, the access, fixes by role."""
    result = subprocess.run(
        [sys.executable, "-m", "kvmwhy", "explain", str(GOOD)], capture_output=True, env=ENVIRONMENT, check=False
    )
    text = result.stdout.decode()
    assert text.startswith("KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`")
    assert len(text.splitlines()) < 24
    assert re.search(
        r"^  > 0x8086  c5 fe 6f 03 +vmovdqu ymm0,\[rbx\]\n +\^ read of 32 bytes at 0xd0000000$", text, re.MULTILINE
    )
    assert text.index("\n  fix      host:") < text.index("guest:") < text.index("VMM:")
    assert text.splitlines()[-1].startswith("  more     kvmwhy explain --full")


def test_who_asks_sees_his_own_fix() -> None:
    """--for names a role; the others' advice is not shown."""
    text = kvmwhy("explain", "--for", "vmm", str(GOOD)).stdout.decode()
    assert "fix      VMM:" in text
    assert "host:" not in text


def test_many_failures_begin_with_a_table() -> None:
    """Each is numbered; --number shows one of them, and a number that there is not is said."""
    log = GOOD.read_bytes()
    moved = b"".join(log.replace(b"RIP=0000000000008086", b"RIP=%016x" % (0x8086 + n * 4096)) for n in range(5))
    text = kvmwhy("explain", stdin=moved).stdout.decode()
    assert text.startswith("n  what happened")
    assert len(re.findall(r"^[1-5]  emulation-no-handler", text, re.MULTILINE)) == 5
    third = kvmwhy("explain", "--number", "3", stdin=moved).stdout.decode()
    assert "0xa086" in third
    assert not third.startswith("n ")
    assert "there is no failure 6" in one_sentence(kvmwhy("explain", "--number", "6", stdin=moved))


def test_brief_is_one_line_each() -> None:
    """FILE:LINE: mechanism: origin: answer."""
    (line,) = kvmwhy("explain", "--brief", str(GOOD)).stdout.decode().splitlines()
    assert re.match(r".+/qemu\.log:1: emulation-no-handler: [a-z-]+ \d+%: KVM's emulator", line)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_locale_without_our_characters(encoding: str) -> None:
    """The nearest ones are printed; nothing fails."""
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    explain = [sys.executable, "-m", "kvmwhy", "explain", str(MAPPED)]
    result = subprocess.run(explain, capture_output=True, env=environment, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"|#########|" in result.stdout


def test_json_is_one_object_a_line_with_the_contracts_keys() -> None:
    """Every key of the contract is there, and every u64 is a 0x string."""
    result = kvmwhy("explain", "--json", stdin=GOOD.read_bytes())
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    keys = "schema kind source suberror suberror_name hardware_error errno data layout vendor vendor_from exit cpu"
    assert set(keys.split()) | {"instruction", "access", "causes", "damage"} <= set(found)
    assert found["data"][3:6] == ["0x400", "0x100000004", "0xd0000000"]
    assert (found["suberror"], found["suberror_name"], found["layout"], found["vendor"]) == (
        1,
        "EMULATION",
        "final",
        "svm",
    )
    assert set(found["exit"]) == {"reason", "name", "info1", "info2", "intr_info", "error_code", "words"}
    assert (found["exit"]["reason"], found["exit"]["name"]) == ("0x400", "NPF")
    assert (found["cpu"]["mode"], found["cpu"]["rip"], found["cpu"]["cpl"]) == ("long64", "0x8086", 0)
    assert found["instruction"]["bytes"] == "c5 fe 6f 03"
    assert found["access"] == {
        "kind": "read",
        "gva": "0xd0000000",
        "gpa": "0xd0000000",
        "what": found["access"]["what"],
    }
    cause = found["causes"][0]
    assert {"id", "family", "confidence", "title", "for", "against", "fix", "references"} == set(cause)
    assert set(cause["fix"]) <= {"guest", "vmm", "host"}


def test_att_syntax() -> None:
    """--syntax att prints the same instruction in the other order."""
    result = kvmwhy("explain", "--syntax", "att", str(GOOD))
    assert b"vmovdqu (%rbx),%ymm0" in result.stdout


def test_equal_failures_are_explained_once_and_counted() -> None:
    """The same failure a thousand times is one explanation with a count."""
    result = kvmwhy("explain", "--json", stdin=GOOD.read_bytes() * 1000)
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["source"]["count"] == 1000


def test_the_limit_is_kept_and_said() -> None:
    """Distinct failures beyond --limit are counted on stderr, not silently dropped."""
    log = GOOD.read_bytes()
    many = b"".join(log.replace(b"RCX=0000000000000000", b"RCX=%016x" % n) for n in range(5))
    result = kvmwhy("explain", "--json", "--limit", "2", stdin=many)
    assert len(result.stdout.splitlines()) == 2
    assert "3 more failures" in one_sentence(result)


@pytest.mark.parametrize(
    ("stdin", "status"),
    [
        (b"", 1),
        (b"hello\n", 1),
        (bytes(range(256)) * 100, 1),
        (b"\0" * 4096, 0),
    ],
)
def test_nothing_to_explain(stdin: bytes, status: int) -> None:
    """Empty input, other text and garbage: one sentence and status 1; a zero page is a page, a cut banner damage."""
    result = kvmwhy("explain", stdin=stdin)
    assert result.returncode == status
    if status == 1:
        assert result.stdout == b""
        one_sentence(result)


def test_a_missing_file_does_not_hide_the_good_one(tmp_path: Path) -> None:
    """Status 2 and a sentence; what can be read is still explained."""
    result = kvmwhy("explain", str(tmp_path / "nowhere.log"), str(GOOD))
    assert result.returncode == 2
    assert "nowhere.log: no such file" in one_sentence(result)
    assert result.stdout.startswith(b"KVM's emulator has no handler")


def test_a_directory_is_read_with_all_below_it(tmp_path: Path) -> None:
    """Files once each, whatever leads to them; links in circles, pipes and what may not be read end nothing."""
    log = GOOD.read_bytes()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "one.log").write_bytes(log)
    (deep / "same.log").symlink_to("one.log")
    (deep / "circle").symlink_to(tmp_path)
    (deep / "itself").symlink_to("itself")
    os.mkfifo(deep / "pipe")
    (tmp_path / "two.log.gz").write_bytes(gzip.compress(log.replace(b"RCX=0000", b"RCX=0001")))
    result = kvmwhy("explain", "--json", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, b"")
    found = [json.loads(line)["source"] for line in result.stdout.splitlines()]
    assert [(s["path"].removeprefix(f"{tmp_path}/"), s["count"]) for s in found] == [
        ("two.log.gz", 1),
        ("a/b/one.log", 1),
    ]


@pytest.mark.parametrize("head", [b'{"row":2,"path":"a"}\n', b"PAR1" + bytes(40) + b"PAR1"])
def test_a_table_of_rows_goes_to_triage(tmp_path: Path, head: bytes) -> None:
    """What a scan wrote holds no failure to explain, but answers: the sentence says who reads it."""
    (tmp_path / "rows").write_bytes(head)
    result = kvmwhy("explain", str(tmp_path / "rows"))
    assert result.returncode == 1
    assert "`kvmwhy triage`" in one_sentence(result)


def test_an_empty_directory_has_nothing(tmp_path: Path) -> None:
    """Status 1 and a sentence."""
    result = kvmwhy("explain", str(tmp_path))
    assert result.returncode == 1
    assert "is empty" in one_sentence(result)


def test_a_device_without_an_end_is_not_read() -> None:
    """/dev/zero would be read for ever."""
    result = kvmwhy("explain", "/dev/zero")
    assert result.returncode == 2
    assert "is a device" in one_sentence(result)


def test_an_archive_through_a_pipe() -> None:
    """A tar.gz on stdin: each failure with the name that it has in there."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for n in range(2):
            log = GOOD.read_bytes().replace(b"RCX=0000", b"RCX=%04x" % n)
            info = tarfile.TarInfo(f"node{n}/guest.log")
            info.size = len(log)
            archive.addfile(info, io.BytesIO(log))
    result = kvmwhy("explain", "--json", stdin=made.getvalue())
    paths = [json.loads(line)["source"]["path"] for line in result.stdout.splitlines()]
    assert paths == ["the input:node0/guest.log", "the input:node1/guest.log"]


def test_a_torn_archive_gives_what_it_had() -> None:
    """What could be unpacked is explained, one sentence says that the rest is lost, and the status is 4."""
    packed = gzip.compress(GOOD.read_bytes() + os.urandom(100_000))
    result = kvmwhy("explain", stdin=packed[:-50_000])
    assert result.returncode == 4
    assert "ends early" in one_sentence(result)
    assert result.stdout.startswith(b"KVM's emulator has no handler")


def test_the_first_and_the_last_of_many_are_told() -> None:
    """A guest that fails again and again is one record: its count, first and last line, first and last time."""
    lines = GOOD.read_text().splitlines()
    journal = "".join(f"Jan 02 03:{n:02}:05 pve1 QEMU[123]: {line}\n" for n in range(50) for line in lines)
    (line,) = kvmwhy("explain", "--json", stdin=journal.encode()).stdout.splitlines()
    source = json.loads(line)["source"]
    assert source["count"] == 50
    assert (source["line"], source["last_line"]) == (1, 49 * len(lines) + 1)
    assert (source["time"], source["last_time"]) == ("Jan 02 03:00:05", "Jan 02 03:49:05")
    assert source["writer"] == "QEMU[123] on pve1"


def test_its_own_json_is_explained_alike() -> None:
    """What explain --json prints, explain reads: the same object comes out again, counts and all."""
    first = kvmwhy("explain", "--json", stdin=GOOD.read_bytes() * 3).stdout
    again = json.loads(kvmwhy("explain", "--json", stdin=first).stdout)
    assert again.pop("stored")["answer"] == again["answer"]
    assert {**again, "stored": None} == json.loads(first)


def test_a_torn_log_is_explained_with_status_4() -> None:
    """Cut in the middle: the answer still comes, and what was lost is listed."""
    log = GOOD.read_bytes()
    torn = log[: log.index(b"R12=") + 9]
    assert b"torn     " in kvmwhy("explain", stdin=torn).stdout
    result = kvmwhy("explain", "--full", stdin=torn)
    assert result.returncode == 4
    assert b"Damage in the evidence" in result.stdout
    assert b"R12 is cut" in result.stdout
    assert result.stdout.startswith(b"KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`")


def test_no_byte_of_a_log_reaches_the_terminal_raw(tmp_path: Path) -> None:
    """Escapes, markup and control characters, in the text and in the file's name, come out harmless."""
    nasty = tmp_path / "\x1b[31mred\x07[bold]x.log"
    log = GOOD.read_text().replace("RIP=", "RSP=zz\x1b]0;owned\x07 RIP=").replace("emulation failure", "\x9b31m")
    nasty.write_text("error: kvm run failed \x1b[2J[red]Bad\x08address[/red]\n" + log)
    for args in (["explain"], ["explain", "--full"], ["explain", "--brief"], ["explain", "--json"]):
        result = kvmwhy(*args, str(nasty))
        assert result.returncode in {0, 4}
        for raw in (b"\x1b", b"\x07", b"\x08", b"\xc2\x9b"):
            assert raw not in result.stdout + result.stderr
    assert b"[bold]" in kvmwhy("explain", "--full", str(nasty)).stdout


def test_impossible_numbers_in_a_page() -> None:
    """ndata 2**32-1 and insn_size 255: said, survived, and all sixteen words shown."""
    page = bytearray(4096)
    page[8] = 17
    page[32:48] = b"\x01\0\0\0\xff\xff\xff\xff\x01" + bytes(7)
    page[48] = 255
    result = kvmwhy("explain", "--full", stdin=bytes(page))
    assert result.returncode in {0, 4}
    assert b"ndata is 4294967295" in result.stdout
    assert b"data[15]" in result.stdout


def test_a_big_file_is_read_by_windows(tmp_path: Path) -> None:
    """A sparse gigabyte with one failure in it: found, with the line it stands on, in little memory."""
    big = tmp_path / "big.log"
    with big.open("wb") as out:
        out.write(b"\n" * 9)
        out.seek(1 << 30)
        out.write(b"\n" + GOOD.read_bytes())
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))\n"
        "from kvmwhy.cli.main import main\nsys.argv = ['kvmwhy', 'explain', '--json', sys.argv[1]]\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code, str(big)], capture_output=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["source"]["line"] == 11


def test_a_closed_pipe_is_quiet() -> None:
    """`kvmwhy explain … | head -1` prints no traceback."""
    log = GOOD.read_bytes()
    many = b"".join(log.replace(b"RCX=0000000000000000", b"RCX=%016x" % n) for n in range(300))
    with subprocess.Popen(
        [sys.executable, "-m", "kvmwhy", "explain", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(many)
        process.stdin.close()
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == -signal.SIGPIPE


def test_a_table_of_several_files_names_them() -> None:
    """FILE:LINE where there are several files, and the line alone where there is one."""
    logs = sorted((ROOT / "examples").glob("*.log"))
    table = kvmwhy("explain", *map(str, logs)).stdout.decode().split("\n\n")[0].splitlines()
    assert [row.rpartition("/")[2] for row in table[1:]] == [f"{log.name}:1" for log in logs]
    twice = logs[0].read_bytes() + logs[1].read_bytes()
    table = kvmwhy("explain", stdin=twice).stdout.decode().splitlines()
    assert re.search(r"  line 1$", table[1])


def test_brief_names_the_whole_file(tmp_path: Path) -> None:
    """However long its path: an editor is to open it."""
    folder = tmp_path.joinpath(*(["a directory with a long name"] * 8))
    folder.mkdir(parents=True)
    log = folder / "guest.log"
    log.write_bytes(GOOD.read_bytes())
    assert kvmwhy("explain", "--brief", str(log)).stdout.decode().startswith(f"{log}:1: emulation-no-handler: ")


def test_the_catalogue() -> None:
    """`kvmwhy cause` lists every page; a page shows its parts; a wrong ID suggests a near one."""
    listed = kvmwhy("cause").stdout.decode()
    ids = [line.split()[0] for line in listed.splitlines() if re.match(r"  \S", line)]
    assert {"fetch-not-ram", "outer-hypervisor", "suberror-3", "fetch-non-ram", "undecided"} <= set(ids)
    for cause_id in ids[:: len(ids) // 12]:
        page = kvmwhy("cause", cause_id)
        assert page.returncode == 0
        assert b"How to recognise it" in page.stdout
    wrong = kvmwhy("cause", "fetch-non-rum")
    assert wrong.returncode == 1
    assert "did you mean fetch-non-ram?" in one_sentence(wrong)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    """Each shell gets a script that names the program."""
    result = kvmwhy("completion", shell)
    assert result.returncode == 0
    assert b"_KVMWHY_COMPLETE" in result.stdout


def test_help_shows_examples_and_exit_statuses() -> None:
    """--help of the program lists what the statuses mean; of a command, how it is used."""
    assert b"4    something was found, but part of the evidence is damaged" in kvmwhy("--help").stdout
    assert b"journalctl" in kvmwhy("explain", "--help").stdout


def test_on_a_terminal_with_and_without_colour() -> None:
    """Styles need a terminal and an empty NO_COLOR; the words are the same either way."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")

    def run(**environment: str) -> str:
        chunks: list[bytes] = []
        leader, follower = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "kvmwhy", "explain", str(GOOD)],
            stdout=follower,
            stdin=subprocess.DEVNULL,
            env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "90", **environment},
        ):
            os.close(follower)
            try:
                while chunk := os.read(leader, 65536):
                    chunks.append(chunk)
            except OSError:
                pass  # the other end is closed: all was read
        os.close(leader)
        return b"".join(chunks).decode()

    styled, plain = run(), run(NO_COLOR="1")
    assert "\x1b[" in styled
    assert "\x1b" not in plain
    assert plain.startswith("KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`")


def test_man_pages_are_those_of_the_commands() -> None:
    """docs/man is what the commands' own help makes."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_man.py"), "--check"], capture_output=True, check=False
    )
    assert result.stdout == b""
    assert result.returncode == 0


def test_a_guest_log_of_a_bundle_is_explained_with_its_host(tmp_path: Path) -> None:
    """A sosreport, as a directory and packed: kernel and outer hypervisor are those of the files beside the log."""
    top = tmp_path / "sosreport-pve1"
    files = {
        "sos_commands/kernel/uname_-a": b"Linux pve1 5.15.0-91-generic #101-Ubuntu SMP x86_64 GNU/Linux\n",
        "dmidecode": b"System Information\n\tManufacturer: VMware, Inc.\n\tProduct Name: VMware7,1\n",
        "var/log/libvirt/qemu/web.log": b"KVM: entry failed, hardware error 0x7\n",
    }
    for name, data in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    packed = tmp_path / "sos.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(top, "sosreport-pve1")
    for path in (top, packed):
        item = json.loads(kvmwhy("explain", "--json", str(path)).stdout)
        assert item["host"]["kernel"] == "5.15.0-91-generic"
        assert item["host"]["hypervisor"] == "VMware"
        assert item["origins"][0]["id"] == "outer-hypervisor"


def test_what_says_most_comes_first() -> None:
    """A shutdown and a symptom that stand before the refused entry, and follow from it, are told after it."""
    lines = ("VM status: paused (internal-error)", 'KVM exit reason: 8 ("KVM_EXIT_SHUTDOWN")', "", "", HEAD_OF_ENTRY)
    kinds = [
        json.loads(line)["kind"]
        for line in kvmwhy("explain", "--json", stdin="\n".join(lines).encode()).stdout.splitlines()
    ]
    assert kinds[0] == "entry-failure"
    assert kinds[1:] == sorted(kinds[1:], key=["shutdown", "symptom"].index)


HEAD_OF_ENTRY = "KVM: entry failed, hardware error 0x7\n"


@pytest.mark.parametrize("command", [["explain", str(GOOD)], ["explain", "--json", str(GOOD)], ["cause"]])
def test_an_output_that_cannot_be_written(command: list[str]) -> None:
    """A full disk or a closed descriptor: one sentence, no traceback, and not the status of nothing found."""
    for redirection in (">/dev/full", ">&-"):
        line = f"{shlex.quote(sys.executable)} -m kvmwhy {shlex.join(command)} {redirection}"
        result = subprocess.run(["sh", "-c", line], capture_output=True, env=ENVIRONMENT, check=False, timeout=60)
        assert result.returncode == 2
        assert "output cannot be written" in one_sentence(result)


def test_an_interrupt_is_quiet(tmp_path: Path) -> None:
    """Ctrl-C while a pipe is read: status 130, as a shell has it, and nothing on stderr."""
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "kvmwhy", "explain", str(tmp_path / "pipe")]
    # A shell's background job ignores the signal, and whatever it starts would, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        signal.signal(signal.SIGINT, before)
        with (tmp_path / "pipe").open("wb", buffering=0) as writer:  # opened: it reads now
            writer.write(b"x")
            for _ in range(12):  # Python loses one that comes in the middle of a finalizer
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                    break
            assert process.poll() == 130
        assert process.stderr
        assert process.stderr.read().strip() == b""  # a line end, behind the terminal's ^C


def test_a_wrong_option_is_one_sentence() -> None:
    """In kvmwhy's own style, with where the right ones are."""
    result = kvmwhy("explain", "--nonsense")
    assert result.returncode == 2
    assert one_sentence(result).endswith("see `kvmwhy explain --help`")


def test_an_argument_is_named_as_the_help_names_it() -> None:
    """Sentences of click's begin small in kvmwhy's style, names do not."""
    result = kvmwhy("atlas", "--bytes", "c5 fe 6f 07", "movbe eax, [rdi]")
    assert one_sentence(result).startswith("kvmwhy: INSTRUCTION and --bytes")
    assert one_sentence(kvmwhy("run")).startswith("kvmwhy: missing argument 'IMAGE'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["reproduce", "--on", "kvm", "--kernel", "6.1", str(GOOD)],
        ["reproduce", "--export", "c", "--matrix", "model", str(GOOD)],
        ["atlas", "--bytes", "c5 fe 6f 07", "movbe eax, [rdi]"],
        ["atlas", "--kernel", "banana", "mov eax, [rdi]"],
        ["triage", "--memory", "lots", "rows.parquet"],
        ["explain", "--json", "--full", str(GOOD)],
        ["explain", "--html", "page.html", "--brief", str(GOOD)],
        ["explain", "--full", "--for", "host", str(GOOD)],
        ["explain", "-f", "--markdown", str(GOOD)],
        ["explain", "-f", "--number", "2", str(GOOD)],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_no_option_is_ignored(arguments: list[str]) -> None:
    """What cannot be done together, or makes no sense, is refused in one sentence with status 2."""
    result = kvmwhy(*arguments)
    assert result.returncode == 2
    assert result.stdout == b""
    one_sentence(result)


def test_what_was_missing_can_be_given_in_a_file(tmp_path: Path) -> None:
    """The answers of the two commands that `missing` names, in files beside the log, are asked for no more."""
    log = str(ROOT / "examples" / "jump-into-vga-window.log")
    assert "systemd-detect-virt" in kvmwhy("explain", log).stdout.decode()
    (tmp_path / "virt.txt").write_text("none\n")
    (tmp_path / "uname.txt").write_text("6.12.9-amd64\n")
    files = [str(tmp_path / "virt.txt"), log, str(tmp_path / "uname.txt")]
    assert "  missing " not in kvmwhy("explain", *files).stdout.decode()
    host = json.loads(kvmwhy("explain", "--json", *files).stdout)["host"]
    assert (host["kernel"], host["is_physical"]) == ("6.12.9-amd64", True)
