/* ptrace(2) for a kernel of user-mode Linux that knows fewer registers than the processor has.
 *
 * The host takes extended registers back only as a whole (PTRACE_SETREGSET with NT_X86_XSTATE: EFAULT for a part, see
 * xstateregs_set() in arch/x86/kernel/fpu/regset.c). A kernel before 6.13 keeps a part that has no AMX. This library
 * is loaded before the C library and completes the part with what the process has. Nothing in a guest has AMX state,
 * as a process must ask for it first (Documentation/arch/x86/xstate.rst).
 *
 * Without headers and without a library, so that it needs no package but a compiler, and works with any C library.
 */

#include <stdarg.h>
#include <stddef.h>

enum { PEEKTEXT = 1, PEEKUSER = 3, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, SYSCALL_PTRACE = 101 };

struct part {
    char *start;
    size_t length;
};

extern int *__errno_location(void);

static char whole[65536]; /* the host gives 11008 bytes on a processor with AMX */

static long call(long request, long process, long address, void *data)
{
    long answer;
    register void *fourth __asm__("r10") = data;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"((long)SYSCALL_PTRACE), "D"(request), "S"(process), "d"(address), "r"(fourth)
                     : "rcx", "r11", "memory");
    return answer;
}

long ptrace(long request, ...)
{
    va_list rest;
    va_start(rest, request);
    long process = va_arg(rest, int);
    long address = va_arg(rest, long);
    void *data = va_arg(rest, void *);
    va_end(rest);
    request = (int)request;

    struct part all = {whole, sizeof whole};
    if (request == SETREGSET && address == XSTATE) {
        struct part *given = data;
        if (call(GETREGSET, process, address, &all) == 0 && all.length > given->length) {
            for (size_t at = 0; at < given->length; at++)
                whole[at] = given->start[at];
            data = &all;
        }
    }
    long word, answer;
    int peek = request >= PEEKTEXT && request <= PEEKUSER;
    answer = call(request, process, address, peek ? &word : data);
    if (answer < 0) {
        *__errno_location() = (int)-answer;
        return -1;
    }
    if (peek) {
        *__errno_location() = 0;
        return word;
    }
    return answer;
}
