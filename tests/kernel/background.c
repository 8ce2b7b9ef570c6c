/* background FORKS: as a daemon goes into the background. Fork so often, each time until the parent has ended, and stay
 * without executing anything; tell of the PID on stdout. Ends after 1,000 s at the latest. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	for (int left = argc > 1 ? atoi(argv[1]) : 1; left > 0; left--) {
		pid_t parent = getpid();
		if (fork() != 0)
			_exit(0);
		while (getppid() == parent)
			usleep(1000);
	}
	printf("%d\n", getpid());
	fclose(stdout);
	alarm(1000);
	for (;;)
		pause();
}
