// SPDX-License-Identifier: MIT
//! What a `kvm_run` page says of a failure, as one line of JSON, from a VMM's own error path. No crates.
//!
//! ```ignore
//! eprintln!("{}", kvmwhy::record(page, None, "my-vmm", vcpu_index, &[("rip", regs.rip)]));
//! ```
//!
//! `page` is a copy of the first 288 bytes or more of the vCPU's mapping: the mapping itself is shared with
//! the kernel, and a Rust slice must not change while it is borrowed. `kvmwhy explain` reads the line wherever
//! it stands in a log; its form: `kvmwhy spec record`.

use std::fmt::Write;

const MAX_NDATA: u32 = 16;

fn u32_at(page: &[u8], at: usize) -> u32 {
    u64_at(page, at) as u32 // little endian, as every x86 is
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(found) = page.get(at..at + 8) {
        bytes.copy_from_slice(found);
    }
    u64::from_le_bytes(bytes)
}

fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars().take(64) {
        match c {
            '"' | '\\' => write!(out, "\\{c}").unwrap(),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            }
        }
    }
    out.push('"');
    out
}

fn errno_name(error: i32) -> String {
    let name = match error {
        5 => "EIO",
        12 => "ENOMEM",
        14 => "EFAULT",
        16 => "EBUSY",
        22 => "EINVAL",
        38 => "ENOSYS",
        133 => "EHWPOISON",
        _ => return error.to_string(),
    };
    name.to_string()
}

/// The record, without a newline. `error`: errno if ioctl(KVM_RUN) failed. `registers`: any that are at hand, by
/// their 64-bit names (`rip`, `rax`, `cr0`, `efer` …).
pub fn record(page: &[u8], error: Option<i32>, vmm: &str, vcpu: u32, registers: &[(&str, u64)]) -> String {
    let reason = u32_at(page, 8);
    let kind = match (error, reason) {
        (Some(_), _) => "run-error",
        (_, 17) => "internal-error",
        (_, 9) => "entry-failure",
        (_, 8) => "shutdown",
        (_, 1) => "exception-exit",
        (_, 0) if u64_at(page, 32) != 0 => "unknown-exit", // 0 is what KVM_RUN begins with
        _ => "other",
    };
    let mut line = format!(
        "{{\"schema\":1,\"kind\":\"{kind}\",\"source\":{{\"vmm\":{},\"vcpu\":{vcpu}}},\"exit_reason\":{reason}",
        text(vmm)
    );
    match (error, kind) {
        (Some(number), _) => write!(line, ",\"errno\":\"{}\"", errno_name(number)).unwrap(),
        (_, "internal-error") => {
            let ndata = u32_at(page, 36);
            let words: Vec<String> = (0..ndata.min(MAX_NDATA) as usize)
                .map(|n| format!("\"{:#x}\"", u64_at(page, 40 + 8 * n)))
                .collect();
            let suberror = u32_at(page, 32);
            write!(line, ",\"suberror\":{suberror},\"ndata\":{ndata},\"data\":[{}]", words.join(",")).unwrap();
        }
        (_, "entry-failure") => write!(line, ",\"hardware_error\":\"{:#x}\"", u64_at(page, 32)).unwrap(),
        (_, "unknown-exit") => write!(line, ",\"hardware_reason\":\"{:#x}\"", u64_at(page, 32)).unwrap(),
        (_, "exception-exit") => {
            let (vector, code) = (u32_at(page, 32), u32_at(page, 36));
            write!(line, ",\"exception\":{vector},\"exception_error_code\":\"{code:#x}\"").unwrap();
        }
        _ => {}
    }
    if !registers.is_empty() {
        let values: Vec<String> = registers.iter().map(|(name, value)| format!("{}:\"{value:#x}\"", text(name))).collect();
        write!(line, ",\"cpu\":{{{}}}", values.join(",")).unwrap();
    }
    line.push('}');
    line
}
