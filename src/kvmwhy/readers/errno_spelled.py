"""How programs spell an errno: its name, its number, strerror in the common languages, Rust's and Go's forms.

Numbers are those of Linux on every architecture that KVM runs on but mips (include/uapi/asm-generic/errno-base.h,
errno.h). Words: glibc's and musl's strerror; glibc's translations (po/*.po).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

from kvmwhy.abi import error_numbers
from kvmwhy.ingest.multi_search import Seeker

# Those that a program that drives KVM meets.
_MET: Final = (
    *range(1, 10), *range(11, 15), 16, 17, 19, *range(22, 29), 33, 34, 35, 38, 61, 66, 71, 75, 95, 110, 133, 524,
)  # fmt: skip
NAMES: Final = {number: error_numbers.NAMES[number] for number in _MET}
_NUMBERS: Final = {name: number for number, name in NAMES.items()} | {"ENOTSUP": 95, "EWOULDBLOCK": 11}

# strerror's words in lower case. The first of each row is glibc's English.
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "EPERM": (
        "operation not permitted", "not super-user", "不允许的操作", "此項操作並不被允許",
        "許可されていない操作です", "명령을 허용하지 않음", "명령이 허용되지 않음",
        "die operation ist nicht erlaubt", "vorgang nicht zulässig", "opération non permise",
        "operación no permitida", "operazione non permessa", "operação não permitida", "операция не позволена",
        "операция не разрешена", "operacja niedozwolona", "operace není povolena",
        "дію заборонено", "actie is niet toegestaan", "operationen inte tillåten", "i̇şleme izin verilmedi",
        "operationen er ikke tilladt", "operasjonen er ikke tillatt", "a művelet nem engedélyezett",
        "l'operació no és permesa", "operasi tidak diijinkan", "thao tác không được phép",
        "η λειτουργία δεν επιτρέπεται",
    ),
    "ENOENT": (
        "no such file or directory", "没有那个文件或目录", "沒有此一檔案或目錄",
        "そのようなファイルやディレクトリはありません", "그런 파일이나 디렉터리가 없습니다",
        "datei oder verzeichnis nicht gefunden", "aucun fichier ou dossier de ce type",
        "no existe el fichero o el directorio", "no existe el archivo o el directorio",
        "file o directory non esistente", "arquivo ou diretório inexistente", "arquivo ou diretório não encontrado",
        "нет такого файла или каталога", "nie ma takiego pliku ani katalogu", "adresář nebo soubor neexistuje",
        "ficheiro ou pasta inexistente", "немає такого файла або каталогу", "bestand of map bestaat niet",
        "filen eller katalogen finns inte", "böyle bir dosya ya da dizin yok",
        "ingen sådan fil eller filkatalog", "ingen slik fil eller filkatalog", "nincs ilyen fájl vagy könyvtár",
        "el fitxer o directori no existeix", "tidak ada berkas atau direktori seperti itu",
        "không có tập tin hoặc thư mục như vậy", "δεν υπάρχει τέτοιο αρχείο ή κατάλογος",
    ),
    "EIO": (
        "input/output error", "i/o error", "输入/输出错误", "輸入/輸出錯誤", "入力/出力エラーです", "입력/출력 오류",
        "eingabe-/ausgabefehler", "erreur d'entrée/sortie", "error de entrada/salida", "errore di input/output",
        "erro de entrada/saída", "ошибка ввода/вывода", "błąd wejścia/wyjścia",
        "помилка введення-виведення", "chyba vstupu/výstupu", "invoer-/uitvoerfout", "in/ut-fel",
        "girdi/çıktı hatası", "inddata/uddata-fejl", "inn/ut-feil", "kimeneti/bemeneti hiba",
        "error d'entrada/sortida", "error masukan/keluaran", "lỗi vào/ra", "σφάλμα εισόδου/εξόδου",
    ),
    "ENXIO": (
        "no such device or address", "没有那个设备或地址",
        "kein passendes gerät bzw. keine passende adresse gefunden",
        "aucun périphérique ou adresse", "no existe el dispositivo o la dirección",
        "device o indirizzo non esistente", "endereço ou dispositivo inexistente",
        "dispositivo ou endereço inexistente", "нет такого устройства или адреса",
        "немає такого пристрою чи адреси", "nie ma takiego urządzenia ani adresu",
        "takové zařízení nebo adresa neexistuje", "沒有此一裝置或位址",
        "そのようなデバイスやアドレスはありません", "그런 장치 혹은 주소가 없음",
        "apparaat of adres bestaat niet", "enheten eller adressen finns inte", "böyle bir aygıt ya da adres yok",
        "ingen sådan enhed eller adresse", "nem létező eszköz vagy cím", "el dispositiu o adreça no existeix",
        "tidak ada perangkat atau alamat seperti itu", "không có thiết bị hoặc địa chỉ như vậy",
        "δεν υπάρχει τέτοια συσκευή ή διεύθυνση",
    ),
    "E2BIG": (
        "argument list too long", "参数列表过长", "引数列 [list] が長すぎます", "引数リストが長すぎます",
        "die argumentliste ist zu lang", "liste d'arguments trop longue",
        "la lista de argumentos es demasiado larga", "список аргументов слишком длинный",
        "elenco degli argomenti troppo lungo", "lista de argumentos muito longa",
        "слишком длинный список аргументов", "занадто довгий список аргументів", "lista argumentów za długa",
        "příliš dlouhý seznam argumentů", "引數列項目過長", "인수 명단이 너무 김", "argumentenlijst is te lang",
        "argumentlistan för lång", "argüman listesi çok uzun", "argumentlisten er for lang",
        "túl hosszú argumentumlista", "la llista d'arguments és massa llarga", "daftar argumen terlalu panjang",
        "danh sách đối số quá dài", "ο κατάλογος των παραμέτρων είναι πολύ μακρύς",
    ),
    "ENOEXEC": (
        "exec format error", "可执行文件格式错误", "fehler im format der programmdatei",
        "erreur de format pour exec()", "formato de ejecutable incorrecto", "formato eseguibile non valido",
        "erro no formato exec", "erro de formato do executável", "ошибка формата выполняемого файла",
        "помилка, пов'язана з форматом виконуваних файлів", "błędny format pliku wykonywalnego",
        "chybný formát spustitelného souboru", "可執行檔格式錯誤", "実行形式エラー", "exec 형식 오류",
        "verkeerd uitvoerbaar bestand", "formatfel på körbar fil", "çalıştırılabilir biçem hatası",
        "ugyldigt format på eksekverbar fil", "ugyldig format på eksekverbar fil",
        "érvénytelen végrehajtható fájlformátum", "l'executable té un format erroni", "format eksekusi error",
        "lỗi định dạng thực hiện", "σφάλμα στη διαμόρφωση του εκτελέσιμου",
    ),
    "EBADF": (
        "bad file descriptor", "错误的文件描述符", "坏的文件描述符", "ungültiger dateideskriptor",
        "bad file number", "mauvais descripteur de fichier", "descriptor de fichero erróneo",
        "descrittore di file errato", "descritor de arquivo inválido", "mau descritor de ficheiro",
        "неправильный дескриптор файла", "помилковий дескриптор файла", "błędny deskryptor pliku",
        "chybný popisovač souboru", "錯誤的檔案敘述項", "不正なファイル記述子です", "파일 디스크립터가 잘못됨",
        "ongeldige bestandsdescriptor", "felaktig filidentifierare", "dosya betimleyici hatalı",
        "ugyldig fildeskriptor", "hibás fájlleíró", "el descriptor de fitxer no és vàlid",
        "berkas deskripsi buruk", "bộ mô tả tập tin sai", "εσφαλμένος περιγραφέας αρχείου",
    ),
    "EAGAIN": (
        "resource temporarily unavailable", "资源暂时不可用",
        "die ressource ist zur zeit nicht verfügbar",
        "ressource temporairement non disponible", "recurso no disponible temporalmente",
        "risorsa temporaneamente non disponibile", "recurso temporariamente indisponível",
        "ресурс временно недоступен", "ресурс тимчасово недоступний", "zasoby chwilowo niedostępne",
        "prostředek je dočasně nepřístupný", "資源暫時無法取得", "リソースが一時的に利用できません",
        "자원이 일시적으로 사용 불가능함", "hulpbron is tijdelijk onbeschikbaar",
        "resursen tillfälligt otillgänglig", "özkaynak geçici olarak kullanılamaz durumda",
        "resursen midlertidig utilgængelig", "ressursen midlertidig utilgjengelig",
        "erőforrás átmenetileg nem érhető el", "el recurs no es troba disponible temporalment",
        "sumber daya sementara tidak tersedia", "tài nguyên tạm thời không sẵn sàng",
        "ο πόρος είναι προσωρινά μη διαθέσιμος",
    ),
    "ENOMEM": (
        "cannot allocate memory", "out of memory", "无法分配内存", "無法配置記憶體", "メモリを確保できません",
        "メモリを割り当てられません", "메모리를 할당할 수 없습니다", "nicht genügend hauptspeicher verfügbar",
        "nicht genügend arbeitsspeicher", "ne peut allouer de la mémoire", "impossible d'allouer de la mémoire",
        "no se pudo asignar memoria", "no se puede asignar memoria", "impossibile allocare memoria",
        "não foi possível alocar memória", "não é possível alocar memória", "невозможно выделить память",
        "не удалось выделить память", "nie można przydzielić pamięci",
        "impossível alocar memória", "не вдалося розподілити пам'ять", "nelze alokovat paměť",
        "onvoldoende geheugen beschikbaar", "kan inte allokera minne", "bellek ayrılamadı",
        "kan ikke tildele hukommelse", "kan ikke tildele minne", "nem foglalható memória",
        "no s'ha pogut reservar memòria", "tidak dapat mengalokasikan memori", "không thể cấp phát bộ nhớ",
        "δεν είναι δυνατό να δεσμευτεί μνήμη",
    ),
    "EACCES": (
        "permission denied", "权限不够", "權限不足", "拒絕不符權限的操作", "許可がありません", "허가 거부",
        "keine berechtigung", "permission non accordée", "permiso denegado", "permesso negato", "permissão negada",
        "отказано в доступе", "brak dostępu", "operace zamítnuta",
        "permissão recusada", "відмовлено у доступі", "toegang geweigerd", "åtkomst nekas", "erişim engellendi",
        "adgang nægtet", "ikke tilgang", "engedély megtagadva", "s'ha denegat el permís", "ijin ditolak",
        "không đủ quyền truy cập", "άρνηση πρόσβασης",
    ),
    "EFAULT": (
        "bad address", "错误的地址", "错误的地址参数", "錯誤的位址", "位址錯誤", "不正なアドレスです",
        "アドレスが不正です", "잘못된 주소", "ungültige adresse", "mauvaise adresse", "dirección incorrecta",
        "indirizzo non valido", "indirizzo errato", "endereço inválido", "неправильный адрес", "błędny adres",
        "mau endereço", "неправильна адреса", "chybná adresa", "주소가 잘못됨", "ongeldig adres",
        "felaktig adress", "adres hatalı", "ugyldig adresse", "hibás cím", "l'adreça no és vàlida",
        "alamat buruk", "địa chỉ sai", "εσφαλμένη διεύθυνση",
    ),
    "EBUSY": (
        "device or resource busy", "resource busy", "设备或资源忙", "裝置或系統資源忙碌中", "裝置或資源忙碌",
        "デバイスもしくはリソースがビジー状態です", "デバイスもしくはリソースがビジーです", "장치나 자원이 동작 중",
        "das gerät oder die ressource ist belegt", "périphérique ou ressource occupé",
        "dispositivo o recurso ocupado", "dispositivo o risorsa occupata", "dispositivo ou recurso está ocupado",
        "dispositivo ou recurso ocupado", "устройство или ресурс занято", "urządzenie lub zasoby zajęte",
        "zařízení nebo zdroj jsou používány",
        "пристрій або ресурс зайнято", "apparaat of hulpbron is bezig", "enhet eller resurs upptagen",
        "aygıt ya da özkaynak meşgul", "enheden eller ressourcen optaget", "enheten eller ressursen opptatt",
        "az eszköz vagy erőforrás foglalt", "el dispositiu o recurs es troba ocupat",
        "perangkat atau sumber daya sibuk", "thiết bị hoặc tài nguyên đang bận",
        "συσκευή ή πόροι είναι απασχολημένοι",
    ),
    "EEXIST": (
        "file exists", "文件已存在", "檔案已存在", "ファイルが存在します", "파일이 있습니다",
        "die datei existiert bereits", "le fichier existe", "el fichero ya existe", "el archivo ya existe",
        "file già esistente", "arquivo existe", "файл существует", "plik istnieje",
        "o ficheiro existe", "файл вже існує", "soubor již existuje", "bestand bestaat al", "filen existerar",
        "dosya var", "filen eksisterer", "a fájl már létezik", "el fitxer ja existeix", "berkas telah ada",
        "tập tin đã sẵn có", "το αρχείο υπάρχει",
    ),
    "ENODEV": (
        "no such device", "没有那个设备", "沒有此一裝置", "そのようなデバイスはありません", "그런 장치가 없습니다",
        "kein passendes gerät gefunden", "aucun périphérique de ce type", "no existe el dispositivo",
        "device non esistente", "dispositivo non esistente", "dispositivo inexistente", "нет такого устройства",
        "nie ma takiego urządzenia",
        "nessun device corrisponde", "пристрою не знайдено", "takové zařízení neexistuje", "그런 장치가 없음",
        "onjuist apparaat", "enheten finns inte", "böyle bir aygıt yok", "ingen sådan enhed", "ingen slik enhet",
        "nincs ilyen eszköz", "el dispositiu no és vàlid", "tidak ada perangkat seperti itu",
        "không có thiết bị như vậy", "δεν υπάρχει τέτοια συσκευή",
    ),
    "EINVAL": (
        "invalid argument", "无效的参数", "不適用的參數", "無效的引數", "無効な引数です", "부적절한 인수",
        "인수가 잘못됨", "das argument ist ungültig", "ungültiges argument", "argument invalide",
        "paramètre invalide", "argumento inválido", "argomento non valido", "недопустимый аргумент",
        "błędny argument", "neplatný argument",
        "некоректний аргумент", "zły argument", "nepřípustný argument", "不適用的引數", "ongeldig argument",
        "ogiltigt argument", "geçersiz argüman", "ugyldigt argument", "ugyldig argument",
        "érvénytelen argumentum", "l'argument passat no és vàlid", "argumen tidak valid", "đối số không hợp lệ",
        "μη έγκυρη παράμετρος",
    ),
    "EMFILE": (
        "too many open files", "打开的文件过多", "zu viele offene dateien",
    ),
    "ENOTTY": (
        "inappropriate ioctl for device", "not a tty", "对设备不适当的 ioctl 操作",
        "デバイスに対する不適切なioctlです", "unpassender ioctl (i/o-control) für das gerät",
        "ioctl() inapproprié pour un périphérique", "inadecuado ioctl para el dispositivo",
        "función ioctl no apropiada para el dispositivo", "ioctl non appropriata per il device",
        "ioctl inapropriado para dispositivo", "controlo de e/s inapropriado para o dispositivo",
        "неприменимый к данному устройству ioctl",
        "неналежна дія з керування введенням-виведенням (ioctl) для пристрою",
        "niewłaściwy ioctl dla urządzenia", "pro toto zařízení nevhodné ioctl", "不希望的裝置輸出入控制 (ioctl)",
        "장치에 대해 부적절한 ioctl", "ongepaste ioctl() voor apparaat", "olämplig ioctl för enheten",
        "aygıt için g/ç kontrol işlemi uygun değil", "uegnet 'ioctl' for enhed", "uegnet «ioctl» for enhet",
        "helytelen ioctl hívás az eszköznek", "l'operació ioctl() no s'adequa al dispositiu",
        "iocl untuk perangkat tidak sesuai", "ioctl không thích hợp với thiết bị",
        "ακατάλληλο ioctl για συσκευή",
    ),
    "ENOSPC": (
        "no space left on device", "设备上没有空间", "auf dem gerät ist kein speicherplatz mehr verfügbar",
        "aucun espace disponible sur le périphérique", "no queda espacio en el dispositivo",
        "spazio esaurito sul device", "não há espaço disponível no dispositivo",
        "sem espaço livre no dispositivo", "на устройстве не осталось свободного места",
        "недостатньо місця на пристрої", "brak miejsca na urządzeniu", "na zařízení není volné místo",
        "裝置上已無多餘空間", "デバイスに空き領域がありません", "장치에 남은 공간이 없음",
        "geen ruimte meer over op apparaat", "enheten är full", "aygıt üzerinde boş yer yok",
        "ikke mere plads på enheden", "ikke mer plass på enheten", "nincs több hely a lemezen",
        "no resta espai al dispositiu", "tidak ruang lagi diperangkat", "không có đủ chỗ trống trên thiết bị",
        "δεν έμεινε καθόλου χώρος στη συσκευή",
    ),
    "ERANGE": (
        "numerical result out of range", "result too large",
    ),
    "ENOSYS": (
        "function not implemented", "函数未实现", "功能未实现", "函數並未實作", "関数は実装されていません",
        "함수가 구현되지 않았습니다", "die angeforderte funktion ist nicht implementiert", "fonction non implantée",
        "fonction non implémentée", "función no implementada", "funzione non implementata",
        "função não implementada", "функция не реализована",
        "функцію не реалізовано", "nie zaimplementowana funkcja", "funkce není implementována", "功能沒有實作",
        "함수를 구현하지 않았습니다", "functie is niet aanwezig", "funktion inte implementerad",
        "i̇şlev bulunamadı (bir güncelleme gerekebilir)", "funktionen er ikke implementeret",
        "funksjonen er ikke implementert", "a függvény nincs megvalósítva", "la funció no està implementada",
        "fungsi tidak terimplementasi", "hàm chưa có đoạn mã thực hiện", "η λειτουργία δεν έχει υλοποιηθεί",
    ),
    "EOPNOTSUPP": (
        "operation not supported", "not supported by the kernel", "不支持的操作", "サポートされていない操作です",
        "サポートされていません", "die operation wird nicht unterstützt", "opération non supportée",
        "operación no soportada", "operazione non supportata", "операция не поддерживается",
        "la operación no está soportada", "operação sem suporte", "operação não suportada",
        "неподдерживаемая операция", "дія не підтримується", "operacja nie obsługiwana",
        "operace není podporována", "此項操作並不被支援", "명령을 지원하지 않음", "actie wordt niet ondersteund",
        "operationen stöds ej", "i̇şlem desteklenmiyor", "operationen er ikke understøttet",
        "operasjonen er ikke støttet", "a művelet nem támogatott", "no es permet l'ús de l'operació",
        "operasi tidak didukung", "thao tác không được hỗ trợ", "η λειτουργία δεν υποστηρίζεται",
    ),
    "EINTR": (
        "interrupted system call", "被中断的系统调用", "unterbrechung während des betriebssystemaufrufs",
        "appel système interrompu", "llamada al sistema interrumpida", "chiamata di sistema interrotta",
        "chamada de sistema interrompida", "прерван системный вызов", "перерваний системний виклик",
        "przerwane wywołanie systemowe", "přerušené volání systému", "中斷的系統呼叫", "システムコール割り込み",
        "중단된 시스템 콜", "onderbroken systeemaanroep", "avbrutet systemanrop",
        "sistem çağrısı kesme ile engellendi", "afbrudt systemkald", "avbrutt systemkall",
        "félbeszakított rendszerhívás", "la crida al sistema ha estat interrompuda",
        "pemanggilan sistem terinterupsi", "cuộc gọi hệ thống bị gián đoạn", "διακοπείσα κλήση συστήματος",
    ),
    "ETIMEDOUT": (
        "connection timed out",
    ),
    "EHWPOISON": (
        "memory page has hardware error", "内存页有硬件错误",
        "memory-seite hat einen hardware-fehler", "la page mémoire a une erreur matériel",
        "la página de memoria tiene un error de hardware", "página de memória tem um erro de hardware",
        "a página de memória tem um erro de equipamento", "в странице памяти аппаратная ошибка",
        "на сторінці пам'яті виявлено апаратну помилку", "strona pamięci ma błąd sprzętowy",
        "stránka paměti má hardwarovou poruchu", "内存分页有硬件错误", "記憶體分頁有硬體錯誤",
        "메모리 페이지에 하드웨어 오류", "geheugenpagina bevat een hardware-fout", "minnessida har hårdvarufel",
        "bellek sayfasında donanım hatası var", "la pàgina de memòria té un error de maquinari",
        "trang nhớ có lỗi phần cứng",
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
    r"|\b(?:Errno|(?:Os|Sys|Io)?Error)\((?P<rust>[0-9]{1,3})\)"
    r"|\bcode:\s{1,3}(?P<code>[0-9]{1,3}),\s{1,3}kind:"
    r"|\berr(?:no|or)?(?:\scode)?(?:\s{0,2}[=:]\s{0,2}|\s)-?(?P<errno>[0-9]{1,3})(?![0-9a-zA-Z])"
    r"|\b(?:ret|rc|r|res|result|err|code)(?:\s{0,2}[=:]\s{0,2}|\s)-(?P<ret>[0-9]{1,3})(?![0-9a-zA-Z])"
    r"|(?:failed|error|returned|failure)(?:\s{1,2}with)?[:,]?\s{1,2}\(?-(?P<minus>[0-9]{1,3})\)?(?![0-9a-zA-Z.])"
    r"|(?:failed|error|failure):?\s{1,2}(?P<plain>[0-9]{1,3})(?=\s[A-Z(])"
    r"|:\s?-(?P<last>[0-9]{1,3})[ \t]*(?=\r?\n|\Z)",
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
    spelled = _words_in(piece)
    for match in _SPELLED.finditer(piece, 0, spelled.start if spelled else len(piece)):
        name = _name(match)
        if name is not None:
            spelled = Spelled(name, match.start(), match.end())
            break
    return spelled and Spelled(spelled.name, start + spelled.start, start + spelled.end)


def _words_in(piece: str) -> Spelled | None:
    """The first of strerror's words, the longest of those that begin there."""
    lowered = piece.lower().replace("\n", " ").replace("\u2019", "'")  # as glibc's translations have it
    data = lowered.encode("utf-8", "replace")
    found = min(((at, which, end) for which, at, end in _seek()(data)), default=None)
    if found is None:
        return None
    at, which, end = found
    if len(data) != len(lowered):
        at, end = (len(data[:place].decode("utf-8", "replace")) for place in (at, end))
    return Spelled(_BY_WORDS[which][1], at, end)


@cache
def _seek() -> Seeker:
    return Seeker([words.encode() for words, _ in _BY_WORDS])


def _name(match: re.Match[str]) -> str | None:
    if match["name"]:
        number = _NUMBERS.get(match["name"].upper())
        # "Efault" in prose is no errno's name.
        return NAMES[number] if number is not None and match["name"].isupper() else None
    digits = match[match.lastgroup or 0]
    number = int(digits) if digits and digits.isdigit() else 0
    if number == 1 and match.lastgroup in {"ret", "minus", "errno", "plain", "last"}:
        return None
    return NAMES.get(number)
