"""How programs spell an errno: its name, its number, strerror in the common languages, Rust's and Go's forms.

Numbers are those of Linux on every architecture that KVM runs on but mips (include/uapi/asm-generic/errno-base.h,
errno.h). Words: glibc's and musl's strerror; glibc's translations (po/*.po).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

NAMES: Final = {
    1: "EPERM", 2: "ENOENT", 3: "ESRCH", 4: "EINTR", 5: "EIO", 6: "ENXIO", 7: "E2BIG", 8: "ENOEXEC", 9: "EBADF",
    11: "EAGAIN", 12: "ENOMEM", 13: "EACCES", 14: "EFAULT", 16: "EBUSY", 17: "EEXIST", 19: "ENODEV", 22: "EINVAL",
    23: "ENFILE", 24: "EMFILE", 25: "ENOTTY", 26: "ETXTBSY", 27: "EFBIG", 28: "ENOSPC", 33: "EDOM", 34: "ERANGE",
    35: "EDEADLK", 38: "ENOSYS", 61: "ENODATA", 66: "EREMOTE", 71: "EPROTO", 75: "EOVERFLOW", 95: "EOPNOTSUPP",
    110: "ETIMEDOUT", 133: "EHWPOISON", 524: "ENOTSUPP",
}  # fmt: skip
_NUMBERS: Final = {name: number for number, name in NAMES.items()} | {"ENOTSUP": 95, "EWOULDBLOCK": 11}

# strerror's words in lower case. The first of each row is glibc's English.
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "EPERM": (
        "operation not permitted", "not super-user", "不允许的操作", "此項操作並不被允許",
        "許可されていない操作です", "명령을 허용하지 않음", "명령이 허용되지 않음",
        "die operation ist nicht erlaubt", "vorgang nicht zulässig", "opération non permise",
        "operación no permitida", "operazione non permessa", "operação não permitida", "операция не позволена",
        "операция не разрешена", "operacja niedozwolona", "operace není povolena",
    ),
    "ENOENT": (
        "no such file or directory", "没有那个文件或目录", "沒有此一檔案或目錄",
        "そのようなファイルやディレクトリはありません", "그런 파일이나 디렉터리가 없습니다",
        "datei oder verzeichnis nicht gefunden", "aucun fichier ou dossier de ce type",
        "no existe el fichero o el directorio", "no existe el archivo o el directorio",
        "file o directory non esistente", "arquivo ou diretório inexistente", "arquivo ou diretório não encontrado",
        "нет такого файла или каталога", "nie ma takiego pliku ani katalogu", "adresář nebo soubor neexistuje",
    ),
    "EIO": (
        "input/output error", "i/o error", "输入/输出错误", "輸入/輸出錯誤", "入力/出力エラーです", "입력/출력 오류",
        "eingabe-/ausgabefehler", "erreur d'entrée/sortie", "error de entrada/salida", "errore di input/output",
        "erro de entrada/saída", "ошибка ввода/вывода", "błąd wejścia/wyjścia",
    ),
    "ENXIO": (
        "no such device or address", "没有那个设备或地址",
        "kein passendes gerät bzw. keine passende adresse gefunden",
    ),
    "E2BIG": (
        "argument list too long", "参数列表过长", "引数列 [list] が長すぎます", "引数リストが長すぎます",
        "die argumentliste ist zu lang", "liste d'arguments trop longue",
        "la lista de argumentos es demasiado larga", "список аргументов слишком длинный",
    ),
    "ENOEXEC": (
        "exec format error", "可执行文件格式错误", "fehler im format der programmdatei",
    ),
    "EBADF": (
        "bad file descriptor", "错误的文件描述符", "坏的文件描述符", "ungültiger dateideskriptor",
    ),
    "EAGAIN": (
        "resource temporarily unavailable", "try again", "资源暂时不可用",
        "die ressource ist zur zeit nicht verfügbar",
    ),
    "ENOMEM": (
        "cannot allocate memory", "out of memory", "无法分配内存", "無法配置記憶體", "メモリを確保できません",
        "メモリを割り当てられません", "메모리를 할당할 수 없습니다", "nicht genügend hauptspeicher verfügbar",
        "nicht genügend arbeitsspeicher", "ne peut allouer de la mémoire", "impossible d'allouer de la mémoire",
        "no se pudo asignar memoria", "no se puede asignar memoria", "impossibile allocare memoria",
        "não foi possível alocar memória", "não é possível alocar memória", "невозможно выделить память",
        "не удалось выделить память", "nie można przydzielić pamięci",
    ),
    "EACCES": (
        "permission denied", "权限不够", "權限不足", "拒絕不符權限的操作", "許可がありません", "허가 거부",
        "keine berechtigung", "permission non accordée", "permiso denegado", "permesso negato", "permissão negada",
        "отказано в доступе", "brak dostępu", "operace zamítnuta",
    ),
    "EFAULT": (
        "bad address", "错误的地址", "错误的地址参数", "錯誤的位址", "位址錯誤", "不正なアドレスです",
        "アドレスが不正です", "잘못된 주소", "ungültige adresse", "mauvaise adresse", "dirección incorrecta",
        "indirizzo non valido", "indirizzo errato", "endereço inválido", "неправильный адрес", "błędny adres",
    ),
    "EBUSY": (
        "device or resource busy", "resource busy", "设备或资源忙", "裝置或系統資源忙碌中", "裝置或資源忙碌",
        "デバイスもしくはリソースがビジー状態です", "デバイスもしくはリソースがビジーです", "장치나 자원이 동작 중",
        "das gerät oder die ressource ist belegt", "périphérique ou ressource occupé",
        "dispositivo o recurso ocupado", "dispositivo o risorsa occupata", "dispositivo ou recurso está ocupado",
        "dispositivo ou recurso ocupado", "устройство или ресурс занято", "urządzenie lub zasoby zajęte",
        "zařízení nebo zdroj jsou používány",
    ),
    "EEXIST": (
        "file exists", "文件已存在", "檔案已存在", "ファイルが存在します", "파일이 있습니다",
        "die datei existiert bereits", "le fichier existe", "el fichero ya existe", "el archivo ya existe",
        "file già esistente", "arquivo existe", "файл существует", "plik istnieje",
    ),
    "ENODEV": (
        "no such device", "没有那个设备", "沒有此一裝置", "そのようなデバイスはありません", "그런 장치가 없습니다",
        "kein passendes gerät gefunden", "aucun périphérique de ce type", "no existe el dispositivo",
        "device non esistente", "dispositivo non esistente", "dispositivo inexistente", "нет такого устройства",
        "nie ma takiego urządzenia",
    ),
    "EINVAL": (
        "invalid argument", "无效的参数", "不適用的參數", "無效的引數", "無効な引数です", "부적절한 인수",
        "인수가 잘못됨", "das argument ist ungültig", "ungültiges argument", "argument invalide",
        "paramètre invalide", "argumento inválido", "argomento non valido", "недопустимый аргумент",
        "błędny argument", "neplatný argument",
    ),
    "EMFILE": (
        "too many open files", "打开的文件过多", "zu viele offene dateien",
    ),
    "ENOTTY": (
        "inappropriate ioctl for device", "not a tty", "对设备不适当的 ioctl 操作",
        "デバイスに対する不適切なioctlです", "unpassender ioctl (i/o-control) für das gerät",
        "ioctl() inapproprié pour un périphérique", "inadecuado ioctl para el dispositivo",
    ),
    "ENOSPC": (
        "no space left on device", "设备上没有空间", "auf dem gerät ist kein speicherplatz mehr verfügbar",
        "aucun espace disponible sur le périphérique", "no queda espacio en el dispositivo",
    ),
    "ERANGE": (
        "numerical result out of range", "result too large",
    ),
    "ENOSYS": (
        "function not implemented", "函数未实现", "功能未实现", "函數並未實作", "関数は実装されていません",
        "함수가 구현되지 않았습니다", "die angeforderte funktion ist nicht implementiert", "fonction non implantée",
        "fonction non implémentée", "función no implementada", "funzione non implementata",
        "função não implementada", "функция не реализована",
    ),
    "EOPNOTSUPP": (
        "operation not supported", "not supported by the kernel", "不支持的操作", "サポートされていない操作です",
        "サポートされていません", "die operation wird nicht unterstützt", "opération non supportée",
        "operación no soportada", "operazione non supportata", "операция не поддерживается",
    ),
    "EINTR": (
        "interrupted system call", "被中断的系统调用", "unterbrechung während des betriebssystemaufrufs",
    ),
    "ETIMEDOUT": (
        "connection timed out",
    ),
    "EHWPOISON": (
        "memory page has hardware error", "内存页有硬件错误",
    ),
}  # fmt: skip
# The longer first: "no such device or address" is no "no such device".
_BY_WORDS: Final = sorted(
    ((words, name) for name, spellings in _WORDS.items() for words in spellings), key=lambda pair: -len(pair[0])
)
_ALL_NAMES: Final = "|".join(sorted(_NUMBERS, key=len, reverse=True))
# In Rust: `os error 22`, kvm-ioctls' `Error(22)`, `Errno(22)`, `code: 22, kind: …`. C: `errno=22`, `ret=-22`, `: -22`.
_SPELLED: Final = re.compile(
    rf"(?<![A-Za-z0-9_])-?(?P<name>{_ALL_NAMES})(?![A-Za-z0-9_])"
    r"|os\s{1,3}error\s{1,3}-?(?P<os>[0-9]{1,3})(?![0-9])"
    r"|\b(?:Errno|Error)\((?P<rust>[0-9]{1,3})\)"
    r"|\bcode:\s{1,3}(?P<code>[0-9]{1,3}),\s{1,3}kind:"
    r"|\berr(?:no|or)?(?:\s{0,2}[=:]\s{0,2}|\s)-?(?P<errno>[0-9]{1,3})(?![0-9a-zA-Z])"
    r"|\b(?:ret|rc|r|res|result|err|code)(?:\s{0,2}[=:]\s{0,2}|\s)-(?P<ret>[0-9]{1,3})(?![0-9a-zA-Z])"
    r"|(?:failed|error|returned|failure)(?:\s{1,2}with)?[:,]?\s{1,2}\(?-(?P<minus>[0-9]{1,3})\)?(?![0-9a-zA-Z.])"
    r"|(?:failed|error|failure):?\s{1,2}(?P<plain>[0-9]{1,3})(?=\s[A-Z(])",
    re.IGNORECASE,
)


class Spelled(NamedTuple):
    """An errno where a text spells it."""

    name: str
    start: int
    end: int


def name_of(number: int) -> str | None:
    """EINVAL of 22 and of -22."""
    return NAMES.get(abs(number))


def find_errno(text: str, start: int = 0, end: int | None = None) -> Spelled | None:
    """The first errno that is spelled in ``text[start:end]``.

    ``-1`` is what every ioctl returns on failure and 1 what a program exits with, not EPERM.
    """
    piece = text[start:end]
    found = _words_in(piece)
    for match in _SPELLED.finditer(piece, 0, found.start if found else len(piece)):
        name = _name(match)
        if name is not None:
            found = Spelled(name, match.start(), match.end())
            break
    return found and Spelled(found.name, start + found.start, start + found.end)


def _words_in(piece: str) -> Spelled | None:
    """The first of strerror's words; one by one, which is faster than any pattern of all of them."""
    lowered = piece.lower().replace("\n", " ")
    found: Spelled | None = None
    for words, name in _BY_WORDS:
        at = lowered.find(words, 0, found.start + len(words) - 1 if found else len(lowered))
        if at >= 0:
            found = Spelled(name, at, at + len(words))
    return found


def _name(match: re.Match[str]) -> str | None:
    if match["name"]:
        number = _NUMBERS.get(match["name"].upper())
        # "Efault" in prose is no errno's name.
        return NAMES[number] if number is not None and match["name"].isupper() else None
    digits = match[match.lastgroup or 0]
    number = int(digits) if digits and digits.isdigit() else 0
    if number == 1 and match.lastgroup in {"ret", "minus", "errno", "plain"}:
        return None
    return NAMES.get(number)
