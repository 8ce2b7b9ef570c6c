/* brood CHILDREN [OTHER]: makes so many children, which sleep until the parent ends. With CHILDREN below 0, another thread
 * makes them. Then it prints "ok", and executes OTHER at the next line of its standard input. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void make(long count)
{
	for (long i = 0; i < count; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	puts("ok");
	fflush(stdout);
}

/* PR_SET_PDEATHSIG is about the thread, so it has to go on. */
static void *make_and_stay(void *count)
{
	make((long)count);
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	long count = atol(argv[1]);
	pthread_t thread;

	if (count < 0) {
		pthread_create(&thread, NULL, make_and_stay, (void *)-count);
		pthread_join(thread, NULL);
	}
	make(count);
	getchar();
	execl(argv[2], argv[2], (char *)NULL);
	return 1;
}
