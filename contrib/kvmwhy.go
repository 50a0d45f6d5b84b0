// SPDX-License-Identifier: MIT

// Package kvmwhy writes what a kvm_run page says of a failure as one line of JSON, from a VMM's own error path.
//
//	fmt.Fprintln(os.Stderr, kvmwhy.Record(page, 0, "my-vmm", vcpu, map[string]uint64{"rip": regs.RIP}))
//
// page is a copy of the first 288 bytes or more of the vCPU's mapping. `kvmwhy explain` reads the line wherever
// it stands in a log; its form: `kvmwhy spec record`.
package kvmwhy

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"syscall"
)

const maxNdata = 16

var errnoNames = map[syscall.Errno]string{
	5: "EIO", 12: "ENOMEM", 14: "EFAULT", 16: "EBUSY", 22: "EINVAL", 38: "ENOSYS", 133: "EHWPOISON",
}

type source struct {
	VMM  string `json:"vmm"`
	VCPU uint32 `json:"vcpu"`
}

type record struct {
	Schema             int               `json:"schema"`
	Kind               string            `json:"kind"`
	Source             source            `json:"source"`
	ExitReason         uint32            `json:"exit_reason"`
	Errno              string            `json:"errno,omitempty"`
	Suberror           *uint32           `json:"suberror,omitempty"`
	Ndata              *uint32           `json:"ndata,omitempty"`
	Data               []string          `json:"data,omitempty"`
	HardwareError      string            `json:"hardware_error,omitempty"`
	HardwareReason     string            `json:"hardware_reason,omitempty"`
	Exception          *uint32           `json:"exception,omitempty"`
	ExceptionErrorCode string            `json:"exception_error_code,omitempty"`
	CPU                map[string]string `json:"cpu,omitempty"`
}

func hex(value uint64) string { return fmt.Sprintf("%#x", value) }

// Record returns the line without its newline. errno is that of a failed ioctl(KVM_RUN), else 0; registers are any
// that are at hand, by their 64-bit names (rip, rax, cr0, efer …). A page that is too short reads as zeros.
func Record(page []byte, errno syscall.Errno, vmm string, vcpu uint32, registers map[string]uint64) string {
	head := make([]byte, 288)
	copy(head, page)
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(head[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(head[at:]) }
	reason := u32(8)
	line := record{Schema: 1, Kind: "other", Source: source{vmm, vcpu}, ExitReason: reason}
	switch {
	case errno != 0:
		line.Kind, line.Errno = "run-error", errnoNames[errno]
		if line.Errno == "" {
			line.Errno = strconv.Itoa(int(errno))
		}
	case reason == 17:
		suberror, ndata := u32(32), u32(36)
		line.Kind, line.Suberror, line.Ndata = "internal-error", &suberror, &ndata
		for n := 0; n < int(ndata) && n < maxNdata; n++ {
			line.Data = append(line.Data, hex(u64(40+8*n)))
		}
	case reason == 9:
		line.Kind, line.HardwareError = "entry-failure", hex(u64(32))
	case reason == 8:
		line.Kind = "shutdown"
	case reason == 1:
		vector := u32(32)
		line.Kind, line.Exception, line.ExceptionErrorCode = "exception-exit", &vector, hex(uint64(u32(36)))
	case reason == 0 && u64(32) != 0: // 0 is what KVM_RUN begins with
		line.Kind, line.HardwareReason = "unknown-exit", hex(u64(32))
	}
	for name, value := range registers {
		if line.CPU == nil {
			line.CPU = map[string]string{}
		}
		line.CPU[name] = hex(value)
	}
	text, err := json.Marshal(line)
	if err != nil { // no field of it can fail
		return "{}"
	}
	return string(text)
}
