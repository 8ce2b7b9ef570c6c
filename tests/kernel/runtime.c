/* runtime STEPS VALUE CGROUP PROGRAM ARGUMENT...: makes a container as runtimes do. STEPS, one letter each:
 *   n  fork into a PID namespace of its own, and go on in the child
 *   f  fork, and go on in the child
 *   N, F  likewise, but the child has the parent of its maker
 *   v  write VALUE as the own oom_score_adj, as a manager asks for it
 *   c  move to CGROUP
 *   x  execute PROGRAM
 * Before each step it writes the step and its own PID, and waits for a line. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void put(const char *directory, const char *name, const char *text)
{
	char path[512];
	int file;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, text, strlen(text)) < 0) {
		perror(path);
		_exit(1);
	}
	close(file);
}

int main(int argc, char **argv)
{
	char line[16], own[32] = "";
	const char *step;

	for (step = argv[1]; *step; step++) {
		if (readlink("/proc/self", own, sizeof own - 1) < 0) /* the PID, also from a PID namespace below */
			_exit(1);
		printf("%c %s\n", *step, own);
		fflush(stdout);
		if (read(0, line, sizeof line) <= 0)
			_exit(1);
		if (strchr("nNfF", *step)) {
			int flags = SIGCHLD | (strchr("nN", *step) ? CLONE_NEWPID : 0) | (strchr("NF", *step) ? CLONE_PARENT : 0);

			if (syscall(SYS_clone, flags, 0, 0, 0, 0) != 0)
				pause();
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			memset(own, 0, sizeof own);
		} else if (*step == 'v')
			put("/proc/self", "oom_score_adj", argv[2]);
		else if (*step == 'c')
			put(argv[3], "cgroup.procs", "0");
		else {
			execv(argv[4], argv + 4);
			_exit(127);
		}
	}
	pause();
}
