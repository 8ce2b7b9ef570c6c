/* The program that is to be pinned. In one of two ways:
 *
 * target poll VALUE STARTED_NS   ask for its own oom_score_adj until it is VALUE, and print three numbers, in ns:
 *                                from STARTED_NS (before execve) to VALUE seen, from the first instruction to VALUE
 *                                seen, and how long it has run itself until then. VALUE not seen for 2 s: all -1.
 * target pause                   do nothing until it is killed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    long long first = now(CLOCK_MONOTONIC), ran = now(CLOCK_PROCESS_CPUTIME_ID);
    if (argc != 4)
        return pause();
    long long started = atoll(argv[3]);
    int file = open("/proc/self/oom_score_adj", O_RDONLY);
    for (;;) {
        char shown[16] = {0};
        pread(file, shown, sizeof shown - 1, 0);
        if (atoi(shown) == atoi(argv[2]))
            break;
        if (now(CLOCK_MONOTONIC) - first > 2000000000LL) {
            puts("-1 -1 -1");
            return 1;
        }
    }
    long long seen = now(CLOCK_MONOTONIC);
    printf("%lld %lld %lld\n", seen - started, seen - first, now(CLOCK_PROCESS_CPUTIME_ID) - ran);
    return 0;
}
