/* Starts programs one after the other, each with an oom_score_adj of its own: stream PROGRAM PAUSE_US MOST.
 * Prints the PID and the value of each. Ends the oldest one with every third start, and all when it is ended. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void start(const char *program, int value)
{
	FILE *file = fopen("/proc/self/oom_score_adj", "w");

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (file == NULL || fprintf(file, "%d", value) < 0 || fclose(file) != 0)
		_exit(1);
	execl(program, program, "600", (char *)NULL);
	_exit(1);
}

int main(int count, char **words)
{
	int pause_us, most, started, ended = 0;
	pid_t *pids;

	if (count != 4)
		return 2;
	pause_us = atoi(words[2]);
	most = atoi(words[3]);
	pids = calloc(most, sizeof(*pids));
	for (started = 0; started < most; started++) {
		int value = 1 + started * 7 % 400;

		pids[started] = fork();
		if (pids[started] == 0)
			start(words[1], value);
		printf("%d %d\n", pids[started], value);
		fflush(stdout);
		if (started % 3 == 2) {
			kill(pids[ended], SIGKILL);
			waitpid(pids[ended++], NULL, 0);
		}
		usleep(pause_us);
	}
	printf("done\n");
	fflush(stdout);
	pause();
	return 0;
}
