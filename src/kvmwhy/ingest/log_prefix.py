"""What log collectors put before, or wrap around, one line: syslog, printk, CRI, logfmt, JSON lines.

A wrapping that names its writer tells two VMs of one journal apart; one that has only a time does not.
Wrappings are nested (a JSON line holds logfmt holds the line), so they are peeled one by one.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from kvmwhy.ingest.escapes import unescape
from kvmwhy.ingest.wrapping import DAY, HINT, MONTH, Peeled

_MOST_LAYERS: Final = 4

_CLOCK: Final = r"\d\d:\d\d:\d\d"
_ZONE: Final = r"(?:Z|[+-]\d\d:?\d\d| ?UTC| [A-Z]{3,4}(?= ))?"
_ISO: Final = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:\.\d{{1,9}})?{_ZONE}"
_BSD: Final = rf"{MONTH} [ \d]\d (?:\d{{4}} )?{_CLOCK}(?:\.\d{{1,9}})?"
_UNIX: Final = r"\d{9,10}\.\d{3,9}"

# journalctl's short formats and rsyslog's: time, host, who, message.
_SYSLOG: Final = re.compile(
    rf"\s{{0,16}}(?:<\d{{1,3}}>)?(?:(?P<time>{_BSD}|{_ISO}|{DAY} {_ISO}|{_UNIX})|(?P<mono>\[ {{0,12}}\d{{1,12}}\.\d{{1,9}}\]))"  # noqa: E501
    r" {1,3}(?!extra )(?P<host>[\w.-]{1,255}) (?!KVM:|kvm:|error:)(?P<name>[^\s\[\]:,;=]{1,128})(?:\[(?P<pid>\d{1,10})\])?:(?: |$)"  # noqa: E501
)
_RFC5424: Final = re.compile(
    rf"\s{{0,16}}<\d{{1,3}}>\d{{1,2}} (?P<time>{_ISO}) (?P<host>\S{{1,255}}) (?P<name>\S{{1,48}}) (?P<pid>\S{{1,128}})"
    r" \S{1,32} (?:-|\[[^\n]{0,400}?\])(?: |$)(?:\ufeff|BOM)?"
)
_NAMED: Final = re.compile(r"\s{0,64}(?!d?a?t?a\[\d\d?\]:)(?P<name>[A-Za-z][\w.@-]{0,63})\[(?P<pid>\d{1,10})\]:(?: |$)")
_CRI: Final = re.compile(rf"\s{{0,16}}(?P<time>{_ISO}) (?:stdout|stderr) (?P<part>[FP]) ?")
_POD: Final = re.compile(r"\s{0,16}\[(?P<name>pod/[\w./-]{1,300})\] ")
_COMPOSE: Final = re.compile(r"(?P<name>[a-z][\w.-]{0,62}[-_]\d{1,3}) {0,40}+\| ")
_STEP: Final = re.compile(
    rf"(?P<name>[^\t\n]{{1,100}}+\t[^\t\n]{{1,100}}+)\t\ufeff?(?P<time>{_ISO}) ?(?:##\[[a-z]{{2,16}}\])?"
)
# Seven digits: GitHub's runner; nine: docker and kubectl. They name nobody, and syslog's daemons write six at most.
_RUNNER: Final = re.compile(
    r"\ufeff?(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(?:\d{7}|\d{9})(?:Z|[+-]\d\d:\d\d)) (?:##\[[a-z]{2,16}\])?"
)
_GITLAB: Final = re.compile(rf"(?P<time>{_ISO}) \d\d[OE](?P<part>[+ ])")
_PRINTK: Final = re.compile(
    r"\s{0,16}(?:<\d{1,3}>)?(?:[a-z]{1,8} {0,8}:[a-z]{1,8} {0,8}: )?\[(?P<time> {0,12}\d{1,12}\.\d{1,9})\]"
    r"(?:(?=\[ {0,12}[TC]\d{1,10}\])| ?)"  # printk.caller stays: it tells two CPUs apart that print at once
)
_KMSG: Final = re.compile(r"\d{1,4},\d{1,20},(?P<time>\d{1,20}),[-c+](?:,[^;\n]{0,100})?;")
_TIME: Final = re.compile(
    rf"\s{{0,16}}\[?(?P<time>{_ISO}|{_BSD}|{DAY} {_ISO}|{DAY} {MONTH} [ \d]\d {_CLOCK}(?: \d{{4}})?"
    rf"|\d{{4}}-\d\d-\d\d[T ]{_CLOCK},\d{{3,6}}{_ZONE})\]?(?!: (?:starting up|shutting down))(?:[ \t:]{{1,3}}|$)"
)

_LOGFMT: Final = re.compile(r"\s{0,16}(?:time|ts|t|level|lvl|msg|logger|source|name)=")
_PAIR: Final = re.compile(r'([A-Za-z_@][\w.@/-]{0,63})=(?:"((?:[^"\\]|\\.)*)("?)|([^\s"]*))')
_CUT_JSON: Final = re.compile(r'"(?:MESSAGE|message|msg|log|line|textPayload)" ?: ?("(?:[^"\\]|\\.)*)')

# Where collectors keep the line, who wrote it, and when; first come, first served.
MESSAGE: Final = ("MESSAGE", "log", "msg", "message", "@message", "line", "textPayload", "body", "text")
# Where structured loggers put what went wrong, beside what they were doing: logrus, zap, slog, glog's JSON.
_ERROR: Final = ("error", "err", "reason", "cause", "exception", "stderr", "output", "detail", "details")
# What structured loggers give of the record in fields of their own, named as in linux/kvm.h: OpenVMM's tracing.
_OF_RECORD: Final = ("hardware_entry_failure_reason", "hardware_exit_reason", "exit_reason", "suberror", "gpa", "errno")
_WRITTEN_NUMBER: Final = re.compile(r"0[xX][0-9A-Fa-f]{1,16}|[0-9]{1,20}")
INSIDE: Final = ("_source", "jsonPayload", "fields", "result", "record")
_HOST: Final = ("_HOSTNAME", "hostname", "host", "node", "nodename")
_NAME: Final = ("SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT", "unit", "container_name", "pod_name", "pod", "name", "component")
_PID: Final = ("_PID", "SYSLOG_PID", "qemuPid", "pid", "procid")
_VM: Final = ("sandbox", "vmid", "domain", "container_id", "container", "id", "uid")
WHEN: Final = ("__REALTIME_TIMESTAMP", "time", "timestamp", "ts", "t", "@timestamp", "_SOURCE_REALTIME_TIMESTAMP")
WHO: Final = frozenset((*_HOST, *_NAME, *_PID, *_VM, "kubernetes"))
_RESULT: Final = {"insn", "events"}  # a record of readers.run_results, whose text is an instruction's
_MOST_NAME: Final = 200


# How a wrapping inside of another begins: that of dmesg -x is known there alone.
_NESTED: Final = re.compile(rf"{HINT.pattern}|\ufeff|\s{{0,16}}[a-z]{{1,8}} {{0,8}}:[a-z]")

# What is tried, by the first character of the line.
_PATTERNS: Final = {
    "0": (_CRI, _GITLAB, _RUNNER, _SYSLOG, _TIME, _KMSG),
    "[": (_SYSLOG, _POD, _PRINTK, _TIME),
    "<": (_RFC5424, _SYSLOG, _PRINTK),
}
_OTHERS: Final = (_SYSLOG, _NAMED, _TIME, _COMPOSE, _STEP, _PRINTK)


def peel(line: str) -> Peeled | None:
    """Undo every wrapping of one line, outermost first; ``None`` if it has none."""
    peeled = _one(line)
    layers = 1
    while peeled and layers < _MOST_LAYERS and _NESTED.match(peeled.text) and "\n" not in peeled.text.rstrip("\n"):
        inner = _one(peeled.text)
        if inner is None:
            break
        peeled = Peeled(
            inner.text,
            _nearest(inner.who, peeled.who),
            peeled.time or inner.time,
            peeled.goes_on or inner.goes_on,
            peeled.decoded or inner.decoded,
        )
        layers += 1
    return peeled


def _nearest(inner: tuple[str, str] | None, outer: tuple[str, str] | None) -> tuple[str, str] | None:
    """Host and writer, each as the inner wrapping names it, if it does."""
    return (inner[0] or outer[0], inner[1] or outer[1]) if inner and outer else inner or outer


def _one(line: str) -> Peeled | None:
    stripped = line.lstrip("\x1e \t")
    if stripped.startswith("data: {"):  # journalctl -o json-sse
        stripped = stripped[6:].lstrip()
    if stripped.startswith("{"):
        return _json(stripped)
    for pattern in _PATTERNS.get(_kind(stripped), _OTHERS):
        match = pattern.match(line)
        if match and not (match.re is _SYSLOG and match["mono"] and not match["pid"]):  # a kernel's "usb 1-1: …"
            return _matched(match)
    return _logfmt(line) if _LOGFMT.match(line) else None


def _kind(line: str) -> str:
    return "0" if line[:1].isdecimal() else line[:1] if line[:1] in "<[" else "a"


def _matched(match: re.Match[str] | None) -> Peeled | None:
    if match is None:
        return None
    groups = match.groupdict()
    name, pid = groups.get("name") or "", groups.get("pid") or ""
    who = f"{name}[{pid}]" if pid and pid != "-" else name
    host = groups.get("host") or ""
    time = groups.get("time") or groups.get("mono")
    goes_on = groups.get("part") == "P"
    text = match.string[match.end() :]
    return Peeled(text, (host, who) if who or host else None, time and time.strip(" []"), goes_on)


# -- records with fields --------------------------------------------------------------------------


def of_fields(fields: dict[str, Any]) -> Peeled | None:
    """The line that a record of a collector holds, whatever the collector; ``None`` if it holds none."""
    message = next((fields[key] for key in MESSAGE if key in fields), None)
    if message is None:
        for key in INSIDE:
            if isinstance(fields.get(key), dict):
                return of_fields({**{k: v for k, v in fields.items() if k not in INSIDE}, **fields[key]})
        return None
    text = text_of(message)
    if text is None:
        return None
    text = _with_error(text, fields)
    kubernetes = fields.get("kubernetes")
    if isinstance(kubernetes, dict):
        fields = {**kubernetes, **fields}
    name, pid, machine = (_first(fields, keys) for keys in (_NAME, _PID, _VM))
    who = f"{name}[{pid}]" if pid else name
    who = f"{who} {machine}".strip() if machine else who
    host = _first(fields, _HOST)
    goes_on = "log" in fields and "stream" in fields and not text.endswith("\n")  # docker cuts at 16 KiB
    return Peeled(text, (host, who) if host or who else None, _first(fields, WHEN) or None, goes_on, decoded=True)


def _with_error(text: str, fields: dict[str, Any]) -> str:
    """The message with what a structured logger keeps of it in fields of their own: numbers behind it, errors below."""
    numbers = [f"{key}={value}" for key in _OF_RECORD if (value := _number(fields.get(key))) and key not in text]
    if numbers:
        text = " ".join((text.rstrip("\n"), *numbers))
    errors = [error for key in _ERROR if isinstance(error := fields.get(key), str) and " " in error]
    errors = [error for error in errors if error not in text]
    if not errors:
        return text
    inner = peel(text)  # what stands on several lines is not peeled again
    return "\n".join((inner.text if inner else text, *errors))


def _number(value: Any) -> str | None:
    """As it is written (zap and logfmt have strings); no more than a u64 has digits."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return str(value)
    return value if isinstance(value, str) and _WRITTEN_NUMBER.fullmatch(value) else None


def _first(fields: dict[str, Any], keys: tuple[str, ...]) -> str:
    value = next((v for key in keys if isinstance(v := fields.get(key), (str, int, float)) and v != ""), "")
    return str(value)[:_MOST_NAME]


def text_of(message: Any) -> str | None:
    """The message; journald gives what is no clean UTF-8 as an array of bytes."""
    if isinstance(message, str):
        return message
    if isinstance(message, list) and all(isinstance(n, int) and 0 <= n < 256 for n in message):
        return bytes(message).decode("utf-8", "replace")
    return None


def _json(line: str) -> Peeled | None:
    if line.startswith('{"schema":'):  # kvmwhy's own
        return None
    try:
        fields = msgspec.json.decode(line.rstrip(" \t,").encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        cut = _CUT_JSON.search(line)
        return Peeled(unescape(cut[1][1:]), decoded=True) if cut else None
    if not isinstance(fields, dict) or fields.keys() >= _RESULT:
        return None
    return of_fields(fields)


def _logfmt(line: str) -> Peeled | None:
    fields: dict[str, Any] = {}
    for key, quoted, _, bare in _PAIR.findall(line):
        fields.setdefault(key, unescape(quoted) if quoted else bare)
    return of_fields(fields)
