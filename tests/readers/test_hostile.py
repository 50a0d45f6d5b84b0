"""Logs are hostile input: nothing raises, and nothing takes more than linear time.

Sizes are such that quadratic work would not end before the limit of ``no_hang``; no test measures time.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.readers import read
from samples import EVERY_CASE

N = 100_000 if EVERY_CASE else 25_000
MEGA = 1 << (20 if EVERY_CASE else 18)
no_hang = pytest.mark.usefixtures("no_hang")

TOKENS = (
    "KVM internal error. Suberror: ",
    "extra data[0]: 0x",
    "extra data[99]: ",
    "extra data[1",
    "emulation failure\n",
    "KVM: entry failed, hardware error 0x",
    "KVM: unknown exit, hardware reason ",
    "KVM: unknown exit reason ",
    "KVM: exception ",
    "exit (error code 0x",
    "error: kvm run failed ",
    "kvm: unhandled exit ",
    "kvm_run returned -",
    "vmx: unexpected exit reason 0x",
    "RAX=",
    "EAX=",
    "ES =",
    "GDT=",
    "CR3=",
    "EFER=",
    "CPL=",
    "rax 0000000000000000 ",
    "rflags 0 ",
    "code: 00 --> ",
    "Code=",
    "<0f>",
    "<??>",
    "<",
    "0000000000000000",
    "00000000",
    "0010 00000000 ffffffff 00c09300",
    "9" * 400,
    "f" * 17,
    "&#" + "9" * 5000 + ";",
    "&#xffffffff;",
    "&#1114112;",
    "=3D",
    "=\n",
    "=ZZ",
    "\x1b[",
    "\x1b]",
    "\\u0000",
    "\\n",
    "\n",
    " ",
    ": starting up libvirt",
    "-m 99999999999T -smp 1\n",
    "data[0] = 0x1\n",
    "\u0663",
    "\x00",
    "\r",
    "> ",
    "<pre>",
)


@settings(deadline=None)  # the first bytes that a reader is asked about import it
@given(st.binary(max_size=5000))
def test_any_bytes_are_read(data: bytes) -> None:
    """Bytes are evidence or they are not."""
    read(data)


@settings(max_examples=400)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=8)), max_size=60))
def test_any_text_with_tokens_is_read(pieces: list[str]) -> None:
    """Every word that the reader looks for, in any place."""
    for failure in read("".join(pieces).encode("utf-8", "surrogatepass")).failures:
        assert len(failure.data) <= 16
        assert all(0 <= word < 1 << 64 for word in failure.data)


@given(st.sampled_from((2352, 4096, 8192, 12288)), st.data())
def test_any_page_is_read(size: int, data: st.DataObject) -> None:
    """Whatever stands in a page of the right size."""
    head = data.draw(st.binary(max_size=320))
    read(head.ljust(size, b"\0"))


REPEATED = {
    "banners": "KVM internal error. Suberror: 1\n",
    "banners of several kinds": "KVM internal error. Suberror: 3\nKVM: entry failed, hardware error 0x7\n",
    "banners with a word": "KVM internal error. Suberror: 1\nextra data[0]: 1\n",
    "banners with a tail": "KVM internal error. Suberror: 1\nemulation failure\n",
    "first words": "extra data[0]: 0x0000000000000001\n",
    "second words": "extra data[1]: 0x0000000000000001\n",
    "impossible words": "extra data[99]: 1\n",
    "tails": "emulation failure\n",
    "run errors": "error: kvm run failed Bad address\n",
    "beginnings of dumps": "RAX=0000000000000000 RBX=0000000000000000\n",
    "ends of dumps": "EFER=0000000000000000\nCode=00\n",
    "banners and beginnings": "KVM: exception 6 exit (error code 0x0)\nEAX=00000000\n",
    "RAX= on one line": "RAX=",
    "Code= on one line": "Code=",
    "Code= and bytes": "Code=00 00 <00> 00\n",
    "Code= and line ends": "Code=00\n00\n",
    "cut values": "RIP=00\n",
    "restarts": ": starting up libvirt\nKVM: unknown exit reason 41\n",
    "quotes": "> ",
    "bars": "|",
    "escapes": "\x1b[",
    "titles": "\x1b]0;",
    "markup": "<pre ",
    "entities": "&lt;&#60;&#",
    "soft breaks": "=3D=\n",
    "JSON escapes": "\\n\\u003c\\",
    "options": " -m 5",
    "kernels": "kernel: 6.1 CPU: 1 PID: 1 Comm: a Tainted: G  ",
    "words of a dump": "data[0] = 0x1\n",
    "old dumps": "rax 0000000000000000 rflags 00000000\n",
    "old dumps without a beginning": "rflags 0 cs 0008 (00000000/ffffffff p 1 dpl 0 db 0 code: 00 --> 00 ",
}


@no_hang
@pytest.mark.parametrize("name", REPEATED)
def test_many_of_one_thing(name: str) -> None:
    """Each is handled once."""
    read(b"KVM: \n" + REPEATED[name].encode() * N)


@no_hang
def test_banners_first_and_dumps_after() -> None:
    """A dump is not compared with every failure that waits."""
    banners = "".join(f"KVM: entry failed, hardware error {n:#x}\n" for n in range(N // 4))
    read((banners + "EFER=0000000000000000\nCode=00 <01>\n" * (N // 4)).encode())


@no_hang
def test_many_whole_failures_are_read() -> None:
    """A log of a VM that is started again and again."""
    with open(__file__.replace("readers/test_hostile.py", "fixtures/long64-flds/qemu.log"), "rb") as log:
        data = log.read()
    assert len(read(data * 5000).failures) == 5000


LONG = {
    "spaces after =": "RAX=" + " " * MEGA,
    "line ends after =": "RAX=" + "\n" * MEGA,
    "spaces after Code=": "Code=" + " " * MEGA,
    "line ends after Code=": "Code=" + "\n" * MEGA,
    "spaces and line ends after Code=": "Code=" + " \n" * MEGA,
    "bytes after Code=": "Code=" + "00 " * MEGA,
    "hex after Code=": "Code=" + "0" * MEGA,
    "bytes on lines after Code=": "Code=" + "00\n" * MEGA,
    "spaces in a segment": "ES =0010" + " " * MEGA,
    "spaces in a table": "EAX=00000000\nGDT=" + " " * MEGA,
    "spaces in a banner": "KVM" + " " * MEGA + "internal",
    "line ends in a banner": "KVM internal error. Suberror:" + "\n" * MEGA,
    "spaces in a word": "extra data[0]:" + " " * MEGA,
    "digits of a word": "extra data[0]: 0x" + "1" * MEGA,
    "digits of a suberror": "KVM internal error. Suberror: " + "1" * MEGA,
    "digits of a reason": "KVM: unknown exit reason " + "1" * MEGA,
    "digits of an entry": "KVM: entry failed, hardware error 0x" + "1" * MEGA,
    "digits of an entity": "KVM: &#" + "1" * MEGA + ";",
    "spaces in an old dump": "rax 0000000000000000 rflags " + " " * MEGA,
    "bytes of an old dump": "rax 0000000000000000 rflags 0 code:" + " 00" * MEGA,
    "capitals": "KVM: " + "A" * MEGA,
    "words": "KVM: " + "AB12 " * MEGA,
    "spaces": "KVM: " + " " * MEGA + ">|",
    "spaces before quotes": "KVM: \n" + " " * MEGA + ">" * MEGA,
    "unended escape": "KVM: \x1b[" + "1" * MEGA,
    "unended title": "KVM: \x1b]" + "1" * MEGA,
    "unended tag": "KVM: </" + "<pre" + " " * MEGA,
    "soft break": "KVM: =3D0=" + " " * MEGA,
    "tainted": "KVM: CPU: 1 PID: 1 Comm: a Tainted: " + " " * MEGA,
    "comm": "KVM: CPU: 1 PID: 1 Comm: " + "a" * MEGA,
    "version": "KVM: qemu version: " + "1." * MEGA,
    "monitor": "KVM: QEMU " + "1." * MEGA + " monitor",
    "kernel": "KVM: kernel: 6." + "1" * MEGA,
    "flags": "RFL=00000002 " + "[" * MEGA,
    "errno": "error: kvm run failed" + " " * MEGA,
}


@no_hang
@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("behind", ["", "x", "\n"])
def test_much_of_one_thing(name: str, behind: str) -> None:
    """No pattern goes back over what it has read."""
    read((LONG[name] + behind).encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_torn_utf_16_is_read(encoding: str) -> None:
    """An odd byte at the end, or one lost in the middle, raises nothing."""
    data = ("KVM: entry failed, hardware error 0x7\n" * 100).encode(encoding)
    read(data[:-1])
    read(data[:100] + data[101:])
