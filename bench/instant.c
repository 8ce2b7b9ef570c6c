/* `target poll` without a C library, whose own start would hide a part of what a pin takes. VALUE not seen for 2 s: it
 * prints no number. */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/time.h>

#if defined(__x86_64__)
__asm__(".globl _start\n_start: mov %rsp, %rdi\n call run\n");
static long call(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n_start: mov x0, sp\n bl run\n");
static long call(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
#error "how does a program begin here, and call the kernel?"
#endif

static long long now(int clock)
{
    struct __kernel_timespec time;
    call(__NR_clock_gettime, clock, (long)&time, 0, 0);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long parsed(const char *text)
{
    long long value = 0;
    int sign = *text == '-' ? -1 : 1;
    for (text += *text == '-'; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    return sign * value;
}

static char *digits(char *end, long long value)
{
    do
        *--end = '0' + value % 10;
    while ((value /= 10) > 0);
    return end;
}

__attribute__((noreturn, used)) void run(long *stack)
{
    char **argv = (char **)(stack + 1), line[64], shown[16], *start = line + sizeof line;
    long long first = now(CLOCK_MONOTONIC), ran = now(CLOCK_PROCESS_CPUTIME_ID), seen;
    if (stack[0] != 4)
        call(__NR_exit_group, 2, 0, 0, 0);
    long wanted = parsed(argv[2]);
    long file = call(__NR_openat, AT_FDCWD, (long)"/proc/self/oom_score_adj", O_RDONLY, 0);
    do {
        long length = call(__NR_pread64, file, (long)shown, sizeof shown - 1, 0);
        shown[length > 0 ? length : 0] = 0;
        seen = now(CLOCK_MONOTONIC);
    } while (parsed(shown) != wanted && seen - first < 2000000000LL);
    *--start = '\n';
    if (parsed(shown) == wanted) {
        start = digits(start, now(CLOCK_PROCESS_CPUTIME_ID) - ran);
        *--start = ' ';
        start = digits(start, seen - first);
        *--start = ' ';
        start = digits(start, seen - parsed(argv[3]));
    } else
        *--start = '-'; /* no number: the bench stops */
    call(__NR_write, 1, (long)start, line + sizeof line - start, 0);
    for (;;)
        call(__NR_exit_group, 0, 0, 0, 0);
}
