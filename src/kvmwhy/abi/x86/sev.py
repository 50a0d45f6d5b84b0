"""Status codes of AMD's SEV firmware, which KVM and the ccp driver pass on as ``fw_error``.

Names and numbers: include/uapi/linux/psp-sev.h; meanings: SEV API (publication 55766) 6.3 and SNP firmware ABI (56860),
chapter on status codes. Codes above 0xff are not the SEV firmware's: the PSP itself, or the ccp driver, returned them.
"""

from __future__ import annotations

from typing import Final

CODES: Final[dict[int, tuple[str, str]]] = {
    0x00: ("SUCCESS", "the firmware did what it was asked, or was never asked"),
    0x01: (
        "INVALID_PLATFORM_STATE",
        "the platform is in the wrong state for this command: not initialised, or already",
    ),
    0x02: ("INVALID_GUEST_STATE", "the guest is in the wrong state for this command"),
    0x03: (
        "INVALID_CONFIG",
        "the platform's configuration is invalid: SMT, memory or BIOS settings do not fit or SNP is off in the BIOS",
    ),
    0x04: ("INVALID_LEN", "a buffer is too small"),
    0x05: ("ALREADY_OWNED", "the platform already has an owner"),
    0x06: ("INVALID_CERTIFICATE", "a certificate is invalid"),
    0x07: (
        "POLICY_FAILURE",
        "the guest's policy does not allow this, or the platform cannot give what the policy asks",
    ),
    0x08: ("INACTIVE", "the guest is not active"),
    0x09: ("INVALID_ADDRESS", "an address is invalid"),
    0x0A: ("BAD_SIGNATURE", "a signature is bad"),
    0x0B: ("BAD_MEASUREMENT", "a measurement is bad: what was loaded is not what the owner signed"),
    0x0C: ("ASID_OWNED", "the ASID is in use by another guest"),
    0x0D: ("INVALID_ASID", "the ASID is out of range for this kind of guest"),
    0x0E: ("WBINVD_REQUIRED", "WBINVD must be executed first"),
    0x0F: ("DF_FLUSH_REQUIRED", "DF_FLUSH must be executed first"),
    0x10: ("INVALID_GUEST", "the guest's handle is invalid"),
    0x11: ("INVALID_COMMAND", "the firmware does not know this command: it is too old"),
    0x12: ("ACTIVE", "the guest is already active"),
    0x13: (
        "HWERROR_PLATFORM",
        "a hardware condition occurred, the platform can go on: often a BIOS that left SEV half set up",
    ),
    0x14: ("HWERROR_UNSAFE", "a hardware condition occurred, and the platform is unsafe until it is reset"),
    0x15: ("UNSUPPORTED", "the firmware does not support this feature"),
    0x16: (
        "INVALID_PARAM",
        "a parameter is invalid; for a CPUID page: a leaf has a value that the firmware does not allow",
    ),
    0x17: ("RESOURCE_LIMIT", "the firmware has no more of a resource"),
    0x18: ("SECURE_DATA_INVALID", "a check of this very part's data failed: its own stored data are damaged"),
    0x19: ("INVALID_PAGE_SIZE", "the page size in the RMP is wrong"),
    0x1A: ("INVALID_PAGE_STATE", "the page's state in the RMP is wrong"),
    0x1B: ("INVALID_MDATA_ENTRY", "a metadata entry is invalid"),
    0x1C: ("INVALID_PAGE_OWNER", "the page belongs to another guest"),
    0x1D: ("AEAD_OFLOW", "the sequence number of guest messages overflowed"),
    0x1F: ("EXIT_RING_BUFFER", "the firmware left the mode in which it takes commands from a ring"),
    0x20: ("RMP_INIT_REQUIRED", "the RMP must be initialised first"),
    0x21: ("BAD_SVN", "the security version is older than the one committed"),
    0x22: ("BAD_VERSION", "the version is older than the one committed"),
    0x23: ("SHUTDOWN_REQUIRED", "the firmware must be shut down first"),
    0x24: ("UPDATE_FAILED", "updating the firmware failed, and the old one was put back"),
    0x25: ("RESTORE_REQUIRED", "the old firmware must be put back"),
    0x26: ("RMP_INITIALIZATION_FAILED", "initialising the RMP failed"),
    0x27: ("INVALID_KEY", "a key is invalid: VLEK is not loaded, or not allowed"),
    0x28: ("SHUTDOWN_INCOMPLETE", "the firmware could not be shut down completely"),
    0x30: ("INCORRECT_BUFFER_LENGTH", "a buffer has the wrong length"),
    0x31: ("EXPAND_BUFFER_LENGTH_REQUEST", "a larger buffer is wanted"),
    0x32: ("SPDM_REQUEST", "the firmware wants an SPDM message sent"),
    0x33: ("SPDM_ERROR", "an SPDM exchange failed"),
    0x3A: ("IN_USE", "it is in use"),
}
_OF_THE_PSP: Final = 0x100
_NO_CALL: Final = 0xFFFFFFFF  # SEV_RET_NO_FW_CALL, -1


def code_name(code: int) -> str | None:
    entry = CODES.get(code)
    return f"SEV_RET_{entry[0]}" if entry else None


def describe_code(code: int) -> str:
    """One sentence; a code that no table has is shown as it is."""
    if code == _NO_CALL:
        return "the firmware was never called"
    if (entry := CODES.get(code)) is not None:
        return f"{entry[0]}: {entry[1]}"
    if code >= _OF_THE_PSP:
        return (
            f"{code:#x} is no status of the SEV firmware: the PSP's boot loader returned it, so the BIOS (AGESA) or "
            "its PSP firmware is at fault or too old"
        )
    return f"{code:#x} is a status that kvmwhy has no name for"
