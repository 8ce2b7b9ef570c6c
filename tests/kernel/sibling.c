/* sibling VALUE PROGRAM ARGUMENT: waits until its oom_score_adj is another than VALUE, then makes a sibling by
 * CLONE_PARENT that leads a session of its own and executes PROGRAM. Writes its PID and the sibling's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int value(void)
{
	char text[16] = "";
	int file = open("/proc/self/oom_score_adj", O_RDONLY);

	if (read(file, text, sizeof(text) - 1) < 0)
		_exit(1);
	close(file);
	return atoi(text);
}

int main(int argc, char **argv)
{
	int first = atoi(argv[1]);
	char *arguments[] = { argv[2], argv[3], NULL };
	long sibling;

	while (value() == first)
		usleep(1000);
	sibling = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (sibling == 0) {
		setsid();
		execv(argv[2], arguments);
		_exit(127);
	}
	printf("%d %ld\n", getpid(), sibling);
	fflush(stdout);
	pause();
}
