/* Threads that take the lock of the process's memory for writing all the time: `memory_locker COUNT`. */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t SIZE = 32UL << 20;

static void *map_without_end(void *unused)
{
    for (;;) {
        char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

        if (memory == MAP_FAILED)
            continue;
        for (int i = 0; i < 20; i++) {
            mprotect(memory, SIZE, PROT_READ);
            mprotect(memory, SIZE, PROT_READ | PROT_WRITE);
        }
        munmap(memory, SIZE);
    }
    return unused;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1;
    pthread_t thread;

    for (int i = 0; i < count; i++)
        pthread_create(&thread, NULL, map_without_end, NULL);
    pause();
    return 0;
}
