/* brood CHILDREN [OTHER PAUSE]: makes so many children, which sleep until the parent ends. Then it prints "ok", and
 * reads from standard input: at an end of file it sleeps; at a line it executes OTHER after PAUSE microseconds, which
 * executes this program again, and so on. With CHILDREN below 0, another thread makes them. */
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
}

/* PR_SET_PDEATHSIG is about the thread: it has to go on. */
static void *make_and_stay(void *count)
{
	make((long)count);
	puts("ok");
	fflush(stdout);
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
	if (count > 0) {
		make(count);
		puts("ok");
		fflush(stdout);
		if (getchar() == EOF)
			for (;;)
				pause();
	}
	usleep(atoi(argv[3]));
	execl(argv[2], argv[2], "0", argv[0], argv[3], (char *)NULL);
	return 1;
}
