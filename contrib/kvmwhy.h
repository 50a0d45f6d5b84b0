/* SPDX-License-Identifier: MIT
 *
 * kvmwhy.h: what a kvm_run page says of a failure, as one line of JSON, from a VMM's own error path.
 *
 *     if (ioctl(vcpu_fd, KVM_RUN, 0) < 0 || run->exit_reason == KVM_EXIT_INTERNAL_ERROR || ...)
 *             kvmwhy_write(STDERR_FILENO, run, error, "my-vmm", vcpu_index, &regs, &sregs);
 *
 * `kvmwhy explain` reads such a line wherever it stands in a log. Nothing is allocated and nothing but the
 * page is looked at. The page is shared memory, so each field is read once; ndata is never believed beyond
 * the 16 words that there are. The line's form: `kvmwhy spec record`.
 */
#ifndef KVMWHY_H
#define KVMWHY_H

#include <linux/kvm.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KVMWHY_LINE 4096 /* bytes that hold any record */

struct kvmwhy_line {
	char *text;
	size_t size, used; /* used counts on when the text is full, as snprintf does */
};

#ifdef __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
static inline void kvmwhy_add(struct kvmwhy_line *line, const char *format, ...)
{
	size_t left = line->used < line->size ? line->size - line->used : 0;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(left ? line->text + line->used : NULL, left, format, arguments);
	va_end(arguments);
	if (length > 0)
		line->used += (size_t)length;
}

static inline void kvmwhy_add_text(struct kvmwhy_line *line, const char *text)
{
	size_t length = 0;

	kvmwhy_add(line, "\"");
	for (; *text && length < 64; text++, length++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			kvmwhy_add(line, "\\u%04x", c);
		else
			kvmwhy_add(line, "%c", c);
	}
	kvmwhy_add(line, "\"");
}

static inline void kvmwhy_add_word(struct kvmwhy_line *line, const char *name, uint64_t value)
{
	kvmwhy_add(line, ",\"%s\":\"0x%llx\"", name, (unsigned long long)value);
}

#if defined(__x86_64__) || defined(__i386__)
static inline void kvmwhy_add_segment(struct kvmwhy_line *line, const char *name, const struct kvm_segment *s)
{
	unsigned int attributes = (unsigned int)s->type << 8 | (unsigned int)s->s << 12 | (unsigned int)s->dpl << 13 |
				  (unsigned int)s->present << 15 | (unsigned int)s->avl << 20 |
				  (unsigned int)s->l << 21 | (unsigned int)s->db << 22 | (unsigned int)s->g << 23;

	kvmwhy_add(line, "%s\"%s\":{\"selector\":\"0x%x\",\"base\":\"0x%llx\",\"limit\":\"0x%x\",\"attributes\":\"0x%x\"}",
		   name[0] == 'e' ? "" : ",", name, (unsigned int)s->selector, (unsigned long long)s->base, s->limit,
		   attributes);
}

static inline void kvmwhy_add_table(struct kvmwhy_line *line, const char *name, const struct kvm_dtable *t)
{
	kvmwhy_add(line, ",\"%s\":{\"selector\":\"0x0\",\"base\":\"0x%llx\",\"limit\":\"0x%x\",\"attributes\":\"0x0\"}", name,
		   (unsigned long long)t->base, (unsigned int)t->limit);
}

static inline void kvmwhy_add_cpu(struct kvmwhy_line *line, const struct kvm_run *run, const struct kvm_regs *regs,
				  const struct kvm_sregs *sregs)
{
	kvmwhy_add(line, ",\"cpu\":{\"smm\":%s", run->flags & 1 ? "true" : "false");
	if (regs) {
		const struct { const char *name; uint64_t value; } values[] = {
			{ "rax", regs->rax }, { "rbx", regs->rbx }, { "rcx", regs->rcx }, { "rdx", regs->rdx },
			{ "rsi", regs->rsi }, { "rdi", regs->rdi }, { "rsp", regs->rsp }, { "rbp", regs->rbp },
			{ "r8", regs->r8 },   { "r9", regs->r9 },   { "r10", regs->r10 }, { "r11", regs->r11 },
			{ "r12", regs->r12 }, { "r13", regs->r13 }, { "r14", regs->r14 }, { "r15", regs->r15 },
			{ "rip", regs->rip }, { "rflags", regs->rflags },
		};
		size_t n;

		for (n = 0; n < sizeof values / sizeof *values; n++)
			kvmwhy_add_word(line, values[n].name, values[n].value);
	}
	if (sregs) {
		kvmwhy_add_word(line, "cr0", sregs->cr0);
		kvmwhy_add_word(line, "cr2", sregs->cr2);
		kvmwhy_add_word(line, "cr3", sregs->cr3);
		kvmwhy_add_word(line, "cr4", sregs->cr4);
		kvmwhy_add_word(line, "efer", sregs->efer);
		kvmwhy_add(line, ",\"cpl\":%u,\"segments\":{", sregs->cr0 & 1 ? sregs->ss.dpl & 3u : 0u);
		kvmwhy_add_segment(line, "es", &sregs->es);
		kvmwhy_add_segment(line, "cs", &sregs->cs);
		kvmwhy_add_segment(line, "ss", &sregs->ss);
		kvmwhy_add_segment(line, "ds", &sregs->ds);
		kvmwhy_add_segment(line, "fs", &sregs->fs);
		kvmwhy_add_segment(line, "gs", &sregs->gs);
		kvmwhy_add_segment(line, "ldt", &sregs->ldt);
		kvmwhy_add_segment(line, "tr", &sregs->tr);
		kvmwhy_add_table(line, "gdt", &sregs->gdt);
		kvmwhy_add_table(line, "idt", &sregs->idt);
		kvmwhy_add(line, "}");
	}
	kvmwhy_add(line, "}");
}
#endif

/* The name of an errno that KVM_RUN may return; any other one is given as its number. */
static inline void kvmwhy_add_errno(struct kvmwhy_line *line, int error)
{
	static const struct { int number; const char *name; } names[] = {
		{ 5, "EIO" }, { 12, "ENOMEM" }, { 14, "EFAULT" }, { 16, "EBUSY" }, { 22, "EINVAL" },
		{ 38, "ENOSYS" }, { 133, "EHWPOISON" },
	};
	size_t n;

	for (n = 0; n < sizeof names / sizeof *names; n++)
		if (names[n].number == error) {
			kvmwhy_add(line, ",\"errno\":\"%s\"", names[n].name);
			return;
		}
	kvmwhy_add(line, ",\"errno\":\"%d\"", error);
}

/* The record as text, without a newline. `error`: errno if ioctl(KVM_RUN) failed, else 0. `regs` and `sregs`,
 * from KVM_GET_REGS and KVM_GET_SREGS, may be NULL. Returns the length; the text is cut if that is not below
 * `size`.
 */
static inline size_t kvmwhy_record(char *text, size_t size, const struct kvm_run *run, int error, const char *vmm,
				   unsigned int vcpu, const struct kvm_regs *regs, const struct kvm_sregs *sregs)
{
	struct kvmwhy_line line = { text, size, 0 };
	uint32_t reason = *(const volatile uint32_t *)&run->exit_reason;
	const char *kind = "other";

	if (error)
		kind = "run-error";
	else if (reason == KVM_EXIT_INTERNAL_ERROR)
		kind = "internal-error";
	else if (reason == KVM_EXIT_FAIL_ENTRY)
		kind = "entry-failure";
	else if (reason == KVM_EXIT_SHUTDOWN)
		kind = "shutdown";
	else if (reason == KVM_EXIT_EXCEPTION)
		kind = "exception-exit";
	else if (reason == KVM_EXIT_UNKNOWN && run->hw.hardware_exit_reason)
		kind = "unknown-exit"; /* 0 is what KVM_RUN begins with */
	kvmwhy_add(&line, "{\"schema\":1,\"kind\":\"%s\",\"source\":{\"vmm\":", kind);
	kvmwhy_add_text(&line, vmm ? vmm : "unknown");
	kvmwhy_add(&line, ",\"vcpu\":%u},\"exit_reason\":%u", vcpu, (unsigned int)reason);
	if (error)
		kvmwhy_add_errno(&line, error);
	else if (reason == KVM_EXIT_INTERNAL_ERROR) {
		uint32_t ndata = *(const volatile uint32_t *)&run->internal.ndata, n;

		kvmwhy_add(&line, ",\"suberror\":%u,\"ndata\":%u,\"data\":[", (unsigned int)run->internal.suberror,
			   (unsigned int)ndata);
		for (n = 0; n < ndata && n < 16; n++)
			kvmwhy_add(&line, "%s\"0x%llx\"", n ? "," : "", (unsigned long long)run->internal.data[n]);
		kvmwhy_add(&line, "]");
	} else if (reason == KVM_EXIT_FAIL_ENTRY)
		kvmwhy_add_word(&line, "hardware_error", run->fail_entry.hardware_entry_failure_reason);
	else if (reason == KVM_EXIT_UNKNOWN && run->hw.hardware_exit_reason)
		kvmwhy_add_word(&line, "hardware_reason", run->hw.hardware_exit_reason);
	else if (reason == KVM_EXIT_EXCEPTION) {
		kvmwhy_add(&line, ",\"exception\":%u", (unsigned int)run->ex.exception);
		kvmwhy_add_word(&line, "exception_error_code", run->ex.error_code);
	}
#if defined(__x86_64__) || defined(__i386__)
	if (regs || sregs)
		kvmwhy_add_cpu(&line, run, regs, sregs);
#else
	(void)regs, (void)sregs;
#endif
	kvmwhy_add(&line, "}");
	return line.used;
}

/* The record as one line to a descriptor, with one write(). Returns what write() does. */
static inline ssize_t kvmwhy_write(int fd, const struct kvm_run *run, int error, const char *vmm, unsigned int vcpu,
				   const struct kvm_regs *regs, const struct kvm_sregs *sregs)
{
	char text[KVMWHY_LINE];
	size_t length = kvmwhy_record(text, sizeof text - 1, run, error, vmm, vcpu, regs, sregs);

	if (length > sizeof text - 2)
		length = sizeof text - 2;
	text[length++] = '\n';
	return write(fd, text, length);
}

#endif
