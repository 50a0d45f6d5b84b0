"""Instruction forms: opcode, and what it does to its memory operand, which is at [BX], [EBX] or [RBX].

One line is ``name; opcode; access; text``. The opcode is hex, with ``/n`` for a ModRM byte that has
``n`` in its reg field and the operand in the other two, and ``rel`` for a displacement of 0. The text
is AT&T's, with {m} for the operand.
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

import iced_x86

from lab.cases import Access, Mode
from lab.layout import WORD


class Form(NamedTuple):
    name: str
    opcode: str
    access: Access
    text: str
    words: tuple[int, ...] = (16, 32, 64)  # the operand sizes of code segments in which it exists
    cpl0: bool = False  # privileged

    def encode(self, mode: Mode) -> bytes:
        rm = 7 if WORD[mode] == 16 else 3
        relative = "00" * (2 if WORD[mode] == 16 else 4)
        parts = (f"{int(p[1:]) << 3 | rm:02x}" if p.startswith("/") else p for p in self.opcode.split())
        return bytes.fromhex("".join(parts).replace("rel", relative))

    def say(self, mode: Mode) -> str:
        return self.text.replace("{m}", {16: "(%bx)", 32: "(%ebx)", 64: "(%rbx)"}[WORD[mode]])


_FEATURES: Final = {value: name for name, value in vars(iced_x86.CpuidFeature).items() if isinstance(value, int)}


def needs(code: bytes, mode: Mode) -> tuple[str, ...]:
    """The CPU features of the instruction, as iced names them; empty if there is none."""
    instruction = iced_x86.Decoder(WORD[mode], code).decode()
    return tuple(_FEATURES[feature] for feature in instruction.cpuid_features())


def _parse(table: str, words: tuple[int, ...] = (16, 32, 64), *, cpl0: bool = False) -> tuple[Form, ...]:
    rows = (tuple(map(str.strip, line.split(";"))) for line in table.strip().splitlines())
    short = {"r": "read", "w": "write", "rw": "read-write", "-": "none"}
    return tuple(
        Form(name, opcode, cast("Access", short[access]), text, words, cpl0) for name, opcode, access, text in rows
    )


# -- what no emulator of any release does, when the operand has no memory ------------------------------

X87: Final = _parse("""
    flds;     d9 /0; r;  flds {m}
    fldl;     dd /0; r;  fldl {m}
    fldt;     db /5; r;  fldt {m}
    fsts;     d9 /2; w;  fsts {m}
    fstps;    d9 /3; w;  fstps {m}
    fstpl;    dd /3; w;  fstpl {m}
    fstpt;    db /7; w;  fstpt {m}
    filds;    df /0; r;  filds {m}
    fildll;   df /5; r;  fildll {m}
    fistl;    db /2; w;  fistl {m}
    fistpll;  df /7; w;  fistpll {m}
    fisttpl;  db /1; w;  fisttpl {m}
    fbld;     df /4; r;  fbld {m}
    fbstp;    df /6; w;  fbstp {m}
    fadds;    d8 /0; r;  fadds {m}
    fmull;    dc /1; r;  fmull {m}
    fiaddl;   da /0; r;  fiaddl {m}
    fldenv;   d9 /4; r;  fldenv {m}
    fnstenv;  d9 /6; w;  fnstenv {m}
    frstor;   dd /4; r;  frstor {m}
    fnsave;   dd /6; w;  fnsave {m}
    fldcw;    d9 /5; r;  fldcw {m}
""")
XSAVE: Final = _parse("""
    xsave;    0f ae /4; w; xsave {m}
    xrstor;   0f ae /5; r; xrstor {m}
    xsaveopt; 0f ae /6; w; xsaveopt {m}
    xsavec;   0f c7 /4; w; xsavec {m}
    fxsave;   0f ae /0; w; fxsave {m}
    fxrstor;  0f ae /1; r; fxrstor {m}
    ldmxcsr;  0f ae /2; r; ldmxcsr {m}
    stmxcsr;  0f ae /3; w; stmxcsr {m}
""") + _parse(
    """
    xsave64;  48 0f ae /4; w; xsave64 {m}
    xrstor64; 48 0f ae /5; r; xrstor64 {m}
    fxsave64; 48 0f ae /0; w; fxsave64 {m}
""",
    (64,),
)
SSE_ARITHMETIC: Final = _parse("""
    addps;      0f 58 /1;          r; addps {m}, %xmm1
    mulsd;      f2 0f 59 /1;       r; mulsd {m}, %xmm1
    ucomiss;    0f 2e /1;          r; ucomiss {m}, %xmm1
    cvtsi2sd;   f2 0f 2a /1;       r; cvtsi2sdl {m}, %xmm1
    cvttss2si;  f3 0f 2c /0;       r; cvttss2si {m}, %eax
    paddd;      66 0f fe /1;       r; paddd {m}, %xmm1
    paddd-mmx;  0f fe /1;          r; paddd {m}, %mm1
    pxor;       66 0f ef /1;       r; pxor {m}, %xmm1
    pshufd;     66 0f 70 /1 1b;    r; pshufd $0x1b, {m}, %xmm1
    pshufb;     66 0f 38 00 /1;    r; pshufb {m}, %xmm1
    ptest;      66 0f 38 17 /1;    r; ptest {m}, %xmm1
    pcmpistri;  66 0f 3a 63 /1 00; r; pcmpistri $0, {m}, %xmm1
    pclmulqdq;  66 0f 3a 44 /1 00; r; pclmulqdq $0, {m}, %xmm1
    aesenc;     66 0f 38 dc /1;    r; aesenc {m}, %xmm1
    movss;      f3 0f 10 /1;       r; movss {m}, %xmm1
    movsd-sse;  f2 0f 10 /1;       r; movsd {m}, %xmm1
    movss-st;   f3 0f 11 /1;       w; movss %xmm1, {m}
    movhps;     0f 16 /1;          r; movhps {m}, %xmm1
    movlps-st;  0f 13 /1;          w; movlps %xmm1, {m}
    movd;       0f 6e /1;          r; movd {m}, %mm1
    movd-st;    66 0f 7e /1;       w; movd %xmm1, {m}
    movq-xmm;   f3 0f 7e /1;       r; movq {m}, %xmm1
    movq-xmmst; 66 0f d6 /1;       w; movq %xmm1, {m}
    lddqu;      f2 0f f0 /1;       r; lddqu {m}, %xmm1
    movntps;    0f 2b /1;          w; movntps %xmm1, {m}
    movntq;     0f e7 /1;          w; movntq %mm1, {m}
    movddup;    f2 0f 12 /1;       r; movddup {m}, %xmm1
""")
VEX_OTHER: Final = _parse("""
    vaddps;        c5 f0 58 /0;       r; vaddps {m}, %xmm1, %xmm0
    vpaddd-ymm;    c5 f5 fe /0;       r; vpaddd {m}, %ymm1, %ymm0
    vpxor;         c5 f1 ef /0;       r; vpxor {m}, %xmm1, %xmm0
    vmovss;        c5 fa 10 /0;       r; vmovss {m}, %xmm0
    vmovq;         c5 fa 7e /0;       r; vmovq {m}, %xmm0
    vlddqu;        c5 fb f0 /0;       r; vlddqu {m}, %xmm0
    vbroadcastss;  c4 e2 79 18 /0;    r; vbroadcastss {m}, %xmm0
    vmaskmovps;    c4 e2 71 2c /0;    r; vmaskmovps {m}, %xmm1, %xmm0
    vfmadd231ps;   c4 e2 71 b8 /0;    r; vfmadd231ps {m}, %xmm1, %xmm0
    vextractf128;  c4 e3 7d 19 /0 01; w; vextractf128 $1, %ymm0, {m}
    andn;          c4 e2 78 f2 /1;    r; andn {m}, %eax, %ecx
    bextr;         c4 e2 78 f7 /1;    r; bextr %eax, {m}, %ecx
    mulx;          c4 e2 7b f6 /1;    r; mulx {m}, %eax, %ecx
    rorx;          c4 e3 7b f0 /1 05; r; rorx $5, {m}, %ecx
    shlx;          c4 e2 79 f7 /1;    r; shlx %eax, {m}, %ecx
    pdep;          c4 e2 7b f5 /1;    r; pdep {m}, %eax, %ecx
""")
INTEGER: Final = _parse("""
    popcnt;     f3 0f b8 /0;     r;  popcnt {m}, %eax
    lzcnt;      f3 0f bd /0;     r;  lzcnt {m}, %eax
    tzcnt;      f3 0f bc /0;     r;  tzcnt {m}, %eax
    crc32;      f2 0f 38 f1 /0;  r;  crc32 {m}, %eax
    adcx;       66 0f 38 f6 /0;  r;  adcx {m}, %eax
    adox;       f3 0f 38 f6 /0;  r;  adox {m}, %eax
    movdiri;    0f 38 f9 /0;     w;  movdiri %eax, {m}
    xlat;       d7;              r;  xlat
    clflush;    0f ae /7;        r;  clflush {m}
    clflushopt; 66 0f ae /7;     r;  clflushopt {m}
    prefetcht0; 0f 18 /1;        -;  prefetcht0 {m}
    lss;        0f b2 /0;        r;  lss {m}, %eax
    lfs;        0f b4 /0;        r;  lfs {m}, %eax
""") + _parse(
    """
    cmpxchg16b;      48 0f c7 /1;      rw; cmpxchg16b {m}
    lock-cmpxchg16b; f0 48 0f c7 /1;   rw; lock cmpxchg16b {m}
    movdir64b;       66 0f 38 f8 /7;   r;  movdir64b {m}, %rdi
""",
    (64,),
)
SYSTEM: Final = _parse(
    """
    sgdt; 0f 01 /0; w; sgdt {m}
    sidt; 0f 01 /1; w; sidt {m}
    lgdt; 0f 01 /2; r; lgdt {m}
    lidt; 0f 01 /3; r; lidt {m}
    smsw; 0f 01 /4; w; smsw {m}
    lmsw; 0f 01 /6; r; lmsw {m}
    invlpg; 0f 01 /7; -; invlpg {m}
""",
    cpl0=True,
) + _parse(
    """
    sldt; 0f 00 /0; w; sldt {m}
    str;  0f 00 /1; w; str {m}
    lldt; 0f 00 /2; r; lldt {m}
    verr; 0f 00 /4; r; verr {m}
    lar;  0f 02 /0; r; lar {m}, %eax
""",
    (32, 64),
    cpl0=True,
)
EVEX: Final = _parse(
    """
    vmovdqu64-zmm;    62 f1 fe 48 6f /0; r; vmovdqu64 {m}, %zmm0
    vmovdqu64-zmm-st; 62 f1 fe 48 7f /0; w; vmovdqu64 %zmm0, {m}
    vmovups-zmm-st;   62 f1 7c 48 11 /0; w; vmovups %zmm0, {m}
    vpaddd-zmm;       62 f1 75 48 fe /0; r; vpaddd {m}, %zmm1, %zmm0
    vmovdqu8-xmm;     62 f1 7f 08 6f /0; r; vmovdqu8 {m}, %xmm0
    vaddph-zmm;       62 f5 74 48 58 /0; r; vaddph {m}, %zmm1, %zmm0
    kmovq;            c4 e1 f8 90 /1;    r; kmovq {m}, %k1
""",
    (64,),
)
NEWER: Final = (
    *EVEX,
    *_parse(
        """
    tileloadd;   c4 e2 7b 4b 04 03;   r; tileloadd (%rbx,%rax), %tmm0
    ldtilecfg;   c4 e2 78 49 /0;      r; ldtilecfg {m}
    enqcmd;      f2 0f 38 f8 /7;      r; enqcmd {m}, %rdi
    vpgatherdd;  c4 e2 75 90 04 93;   r; vpgatherdd %ymm1, (%rbx,%ymm2,4), %ymm0
    sha256msg1;  0f 38 cc /1;         r; sha256msg1 {m}, %xmm1
    rao-aadd;    0f 38 fc /0;         rw; aadd %eax, {m}
    apx-mov;     d5 00 8b /0;         r; mov {m}, %eax with a REX2 prefix
    apx-cfcmov;  62 f4 7c 08 44 /0;   r; cfcmove {m}, %eax
""",
        (64,),
    ),
)

# -- what the emulator of some release, or of all, carries out -----------------------------------------

SSE_MOVES: Final = _parse("""
    movups;    0f 10 /1;       r; movups {m}, %xmm1
    movups-st; 0f 11 /1;       w; movups %xmm1, {m}
    movaps;    0f 28 /1;       r; movaps {m}, %xmm1
    movaps-st; 0f 29 /1;       w; movaps %xmm1, {m}
    movupd;    66 0f 10 /1;    r; movupd {m}, %xmm1
    movapd-st; 66 0f 29 /1;    w; movapd %xmm1, {m}
    movdqa;    66 0f 6f /1;    r; movdqa {m}, %xmm1
    movdqa-st; 66 0f 7f /1;    w; movdqa %xmm1, {m}
    movdqu;    f3 0f 6f /1;    r; movdqu {m}, %xmm1
    movdqu-st; f3 0f 7f /1;    w; movdqu %xmm1, {m}
    movq-mmx;  0f 6f /1;       r; movq {m}, %mm1
    movq-mmst; 0f 7f /1;       w; movq %mm1, {m}
    movntdq;   66 0f e7 /1;    w; movntdq %xmm1, {m}
    movntpd;   66 0f 2b /1;    w; movntpd %xmm1, {m}
    movntdqa;  66 0f 38 2a /1; r; movntdqa {m}, %xmm1
""")
VEX_MOVES: Final = _parse("""
    vmovdqu;        c5 fa 6f /0;    r; vmovdqu {m}, %xmm0
    vmovdqu-st;     c5 fa 7f /0;    w; vmovdqu %xmm0, {m}
    vmovdqu-ymm;    c5 fe 6f /0;    r; vmovdqu {m}, %ymm0
    vmovdqu-ymmst;  c5 fe 7f /0;    w; vmovdqu %ymm0, {m}
    vmovdqa-ymm;    c5 fd 6f /0;    r; vmovdqa {m}, %ymm0
    vmovdqa-st;     c5 f9 7f /0;    w; vmovdqa %xmm0, {m}
    vmovups-ymm;    c5 fc 10 /0;    r; vmovups {m}, %ymm0
    vmovups-st;     c5 f8 11 /0;    w; vmovups %xmm0, {m}
    vmovapd-ymm;    c5 fd 28 /0;    r; vmovapd {m}, %ymm0
    vmovaps-st;     c5 f8 29 /0;    w; vmovaps %xmm0, {m}
    vmovntps-ymm;   c5 fc 2b /0;    w; vmovntps %ymm0, {m}
    vmovntdq;       c5 f9 e7 /0;    w; vmovntdq %xmm0, {m}
    vmovntdqa-ymm;  c4 e2 7d 2a /0; r; vmovntdqa {m}, %ymm0
    vmovdqu-vex3;   c4 e1 7a 6f /0; r; vmovdqu {m}, %xmm0 with a three-byte VEX prefix
""")
PLAIN: Final = (
    *_parse("""
    mov-load8;    8a /0;          r;  mov {m}, %al
    mov-load;     8b /0;          r;  mov {m}, %eax
    mov-load-o;   66 8b /0;       r;  mov {m}, %ax (%eax in 16-bit code)
    mov-store8;   88 /0;          w;  mov %al, {m}
    mov-store;    89 /0;          w;  mov %eax, {m}
    mov-imm8;     c6 /0 5a;       w;  movb $0x5a, {m}
    movzx8;       0f b6 /0;       r;  movzbl {m}, %eax
    movzx16;      0f b7 /0;       r;  movzwl {m}, %eax
    movsx8;       0f be /0;       r;  movsbl {m}, %eax
    add-load;     03 /0;          r;  add {m}, %eax
    add-store;    01 /0;          rw; add %eax, {m}
    lock-or;      f0 09 /0;       rw; lock or %eax, {m}
    and-imm;      83 /4 0f;       rw; andl $0xf, {m}
    sub-load;     2b /0;          r;  sub {m}, %eax
    xor-store;    31 /0;          rw; xor %eax, {m}
    cmp-load;     3b /0;          r;  cmp {m}, %eax
    cmp-imm;      83 /7 00;       r;  cmpl $0, {m}
    test;         85 /0;          r;  test %eax, {m}
    inc;          ff /0;          rw; incl {m}
    not;          f7 /2;          rw; notl {m}
    neg;          f7 /3;          rw; negl {m}
    mul;          f7 /4;          r;  mull {m}
    imul;         0f af /0;       r;  imul {m}, %eax
    div;          f7 /6;          r;  divl {m}
    shl;          c1 /4 03;       rw; shll $3, {m}
    shld;         0f a4 /0 04;    rw; shld $4, %eax, {m}
    bt;           0f ba /4 03;    r;  btl $3, {m}
    bts;          0f ba /5 03;    rw; btsl $3, {m}
    bsf;          0f bc /0;       r;  bsf {m}, %eax
    xchg;         87 /0;          rw; xchg %eax, {m}
    cmpxchg;      0f b1 /1;       rw; cmpxchg %ecx, {m}
    cmpxchg8b;    0f c7 /1;       rw; cmpxchg8b {m}
    xadd;         0f c1 /0;       rw; xadd %eax, {m}
    setz;         0f 94 /0;       w;  setz {m}
    cmovz;        0f 44 /0;       r;  cmovz {m}, %eax
    movbe;        0f 38 f0 /0;    r;  movbe {m}, %eax
    movbe-st;     0f 38 f1 /0;    w;  movbe %eax, {m}
    movnti;       0f c3 /0;       w;  movnti %eax, {m}
    fnstcw;       d9 /7;          w;  fnstcw {m}
    fnstsw;       dd /7;          w;  fnstsw {m}
    push-m;       ff /6;          r;  push {m}
    pop-m;        8f /0;          w;  pop {m}
    call-m;       ff /2;          r;  call *{m}
    jmp-m;        ff /4;          r;  jmp *{m}
    mov-sreg;     8e /4;          r;  mov {m}, %fs
    mov-from-ds;  8c /3;          w;  mov %ds, {m}
"""),
    *_parse("mov-load64; 48 8b /0; r; mov {m}, %rax\n mov-store64; 48 89 /0; w; mov %rax, {m}", (64,)),
    *_parse("movsxd; 48 63 /0; r; movslq {m}, %rax", (64,)),
    *_parse("bound; 62 /0; r; bound %eax, {m}\n les; c4 /0; r; les {m}, %eax", (16, 32)),
    *_parse("arpl; 63 /0; rw; arpl %ax, {m}", (32,)),
)
# Strings use SI and DI: the table says which of them is in the hole.
STRINGS: Final = _parse("""
    lods;       ac;    r;  lodsb
    lods-w;     ad;    r;  lodsl
    stos;       aa;    w;  stosb
    stos-w;     ab;    w;  stosl
    movs-from;  a4;    r;  movsb, from there
    movs-to;    a5;    w;  movsl, to there
    cmps;       a6;    r;  cmpsb
    scas;       ae;    r;  scasb
    rep-stos;   f3 aa; w;  rep stosb
    rep-movs;   f3 a4; w;  rep movsb, to there
    rep-lods;   f3 ac; r;  rep lodsb
    outs;       6e;    r;  outsb
    ins;        6c;    w;  insb
""")
# They touch the stack, which is in the hole.
STACKS: Final = (
    *_parse("""
    push;    50;          w; push %eax
    push-i;  6a 01;       w; push $1
    pushf;   9c;          w; pushf
    pop;     58;          r; pop %eax
    popf;    9d;          r; popf
    call;    e8 rel;      w; call, relative
    ret;     c3;          r; ret
    enter;   c8 10 00 00; w; enter $16, $0
    leave;   c9;          r; leave
    iret;    cf;          r; iret
    lret;    cb;          r; lret
"""),
    *_parse("pusha; 60; w; pusha\n popa; 61; r; popa\n push-ds; 1e; w; push %ds\n pop-ds; 1f; r; pop %ds", (16, 32)),
)

UNHANDLED: Final = (*X87, *XSAVE, *SSE_ARITHMETIC, *VEX_OTHER, *INTEGER)
MOVES: Final = (*SSE_MOVES, *VEX_MOVES)
FORMS: Final = (*UNHANDLED, *MOVES, *PLAIN, *SYSTEM, *STRINGS, *STACKS, *EVEX)
BY_NAME: Final = {form.name: form for form in FORMS}
