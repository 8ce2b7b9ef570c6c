/* memory_holder FILE: once it is told to by a line, hold the lock of its memory until the file system of FILE answers.
 * A thread reads a page of FILE by /proc/self/mem, which keeps the lock for reading (__access_remote_vm() of
 * mm/memory.c). The first thread maps memory, so that it waits for the lock, and so do all readers that come later. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 4096 };

static char *page;
static int memory;
static atomic_int done;

static void *read_page(void *unused)
{
	char byte;

	if (pread(memory, &byte, 1, (off_t)(uintptr_t)page) < 0)
		perror("/proc/self/mem");
	done = 1;
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int file = argc == 2 ? open(argv[1], O_RDONLY) : -1;

	alarm(600);
	memory = open("/proc/self/mem", O_RDONLY);
	page = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, file, 0);
	if (file < 0 || memory < 0 || page == MAP_FAILED)
		return 1;
	puts("ready");
	fflush(stdout);
	getchar();
	if (pthread_create(&thread, NULL, read_page, NULL))
		return 1;
	while (!done)
		munmap(mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE);
	for (;;)
		pause();
}
