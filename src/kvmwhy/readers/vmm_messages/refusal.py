"""Lines that name KVM's exits and report none: source code, patches, strace, traces, what was expected, prose."""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(
    # how a line of C, Go or Rust begins, and one of a patch
    r"^\s*(?:case\s|if\s?\(|else\b|#\s?define|#\s?include|return\b|//|/\*|\*\s|\*\*|\}|pub\s|fn\s|use\s|let\s|match\s)"
    r"|^\s*(?:assert|#\[|_ = |- \*\*)"
    # an expression that is the whole line: a list of names, a path of Rust, a macro around a name
    r"|^\s*[^\s,]{3,80}(?:, {0,8}[^\s,]{1,80}){0,4},$|^\s*(?:\w{1,40}::){1,4}\w{1,40}(?: ?[({][^:\n]{0,200})?[,;]?$"
    r"|^\s*(?:\w{1,40}::){1,4}\w{1,40}\(\w{1,40}::|[A-Z_]{6,40}\(KVM_EXIT_|\bfail_entry\.|__bindgen|\.to_string\(\)"
    r"|\bt\.(?:Fatal|Error|Log)f?\(|\bExitType\b"
    r"|^\s{0,8}(?:diff --git|@@ |\+\+\+ |--- [ab]/|\+[ \t]|-\t)"
    # operators, calls that print, format strings before they are filled in
    r"|[a-z_]->|\s==\s|\s!=\s|\s=>|=> ?\{|;\s*$|[({,]\s*//|\bTEST_ASSERT|\bOk\(Vcpu"
    r"|\b(?:printf?|errx?|warnx?|die|perror|pr_err|strcmp|assert_eq)\("
    r"|\b(?:error|warn|info|debug|panic|e?println|bail|anyhow|format)!\("
    r"|\bfmt\.[A-Z]|\blog\.[A-Z]|console\.log|\bstd::c(?:err|out)\b|<< ?\""
    r"|%-?[0-9.]{0,6}(?:l{0,2}[dux]|[spqv])\b"
    r"|\{:[#?x]|\{[a-z_]{0,40}:[?#x0]|\{\}[^\"\n]{0,60}\"|\bErr\((?:[a-z_]{1,20}\)|[A-Za-z]{2,40}::)"
)
# Rust's Debug of a result is no code.
_RESULT: Final = re.compile(r"(?:regs|sregs) (?:Ok|Err)\(")
_ELSEWHERE: Final = re.compile(
    r"kvm_userspace_exit|\bstrace\b|\bioctl\([0-9]{1,5}(?:<[^>]{0,80}>)?, ?KVM_|\[pid +[0-9]{1,9}\] [a-z_]{1,20}\("
    r"|\bperf kvm\b|https?://\S{0,200}KVM"
)
# Words before and behind an exit's name in a sentence about it: "returns with KVM_EXIT_FAIL_ENTRY when …".
_BEFORE: Final = (
    "if|when|whenever|whether|instead of|should|may|might|would|could|can|must|the|an?|via|returns?|to userspace with"
    "|handles?|for|on|by|rename|add|fix(?:es)?|see|document(?:ation)?|exits? (?:to|with)|use|supports?|supported"
)
_BEHIND: Final = (
    r"is|are|was|were|has|have|means?|exits\b|when|if|with(?! (?:reason|suberror|error|code))|to|for|in"
    r"|on(?! (?:cpu|vcpu|v?CPU|host))|and|or|so|because|should|must|can|may|will|which|that|handl\w{1,6}|from|instead"
    r"|by|as|without"
)
_PROSE: Final = re.compile(rf"\b(?:{_BEFORE}) `?\Z", re.IGNORECASE)
_PROSE_BEHIND: Final = re.compile(rf"\A`?(?: \([0-9]{{1,3}}\))?`?,? (?:{_BEHIND})\b")
_CONDITION: Final = re.compile(r"^\W{0,8}(?:If|When|Whenever|Otherwise|Note)\b")
# "When running inside a VM, it crashes with KVM_EXIT_FAIL_ENTRY" reports one for all that.
_ENDED: Final = re.compile(
    r"\b(?:crash|die|fail|abort|panic|stop|end|quit|exit|terminat)(?:s|es|ed|d)?"
    r"(?: (?:immediately|instantly|always|early)){0,2}"
    r"(?: (?:from|in) [`\w.:()]{1,40})?"
    r" (?:with|due to|because of)(?: an?| the)? [`'\"]?(?:\w{1,12}(?:->|\.))?\Z"
)
_NAME_LENGTH: Final = 40
_EXPECTED: Final = re.compile(
    r"\b(?:[Ww]anted|[Ee]xpect(?:s|ed|ing)?|[Ii]nstead of|[Ss]hould (?:be|have been))\b[^,;.\n]{0,80}"
    r"|\b[Oo]ther than\b[^,;.:\n]{0,80}"
)


# A sentence with code between backticks: at least six words before the line ends.
_SENTENCE: Final = re.compile(r"^\W{0,8}(?:[A-Z][a-z]{0,20}|I)(?: [\w`'\",.:()/>*&-]{1,60}){5}")
_INLINE: Final = re.compile(r"`[^`\n]{1,80}`")


def is_no_message(line: str) -> bool:
    """Source code, a patch, strace, or a tracepoint's line."""
    if "`" in line and _SENTENCE.match(line):
        line = _INLINE.sub("it", line)
    return bool(_ELSEWHERE.search(line) or (_CODE.search(line) and not _RESULT.search(line)))


def is_prose(line: str, start: int, stop: int) -> bool:
    """line[start:stop], the exit's name, stands in a sentence about it."""
    before = line[max(0, start - _NAME_LENGTH) : start]
    if _ENDED.search(line, max(0, start - 2 * _NAME_LENGTH), start):
        return False
    if _CONDITION.match(line):
        return True
    return bool(_PROSE.search(before) or _PROSE_BEHIND.match(line[stop : stop + _NAME_LENGTH]))


def without_expectations(line: str) -> str:
    """The line with what was wanted blanked: ``Got exit_reason 8, expected KVM_EXIT_HLT (5)`` got 8."""
    return _EXPECTED.sub(lambda m: " " * len(m[0]), line)
