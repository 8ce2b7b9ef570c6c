/* family SECONDS OTHER: have a child in every way there is, and tell of each descendant on stdout: "KIND PID".
 * family SECONDS OTHER COUNT VALUE FAMILY PAUSE_US: start COUNT families one after the other, as session leaders, at
 * oom_score_adj VALUE; FAMILY is this program at the path that the rules know, OTHER one that no rule knows.
 * A parent that gets SIGUSR1 executes $NEXT with its own arguments. Everyone ends after SECONDS at the latest. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static char *seconds, *other;

static void tell(const char *kind, pid_t pid)
{
	char line[64];
	int length = snprintf(line, sizeof line, "%s %d\n", kind, pid);
	if (write(1, line, length) != length)
		_exit(1);
}

static void set_value(const char *value)
{
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, value, strlen(value)) < 0)
		_exit(1);
	close(file);
}

static void stay(const char *kind)
{
	alarm(atoi(seconds));
	tell(kind, getpid());
	for (;;)
		pause();
}

static void turn_into_other(const char *kind)
{
	alarm(atoi(seconds));
	tell(kind, getpid());
	execl(other, other, seconds, (char *)NULL);
	_exit(127);
}

/* Fork, and go on in the child. */
static int in_child(void)
{
	pid_t pid = fork();
	if (pid < 0)
		_exit(1);
	return pid == 0;
}

static void have_children(void)
{
	if (in_child())
		turn_into_other("exec");
	if (in_child())
		stay("fork");
	if (in_child()) {
		if (in_child())
			stay("grandchild");
		stay("fork");
	}
	if (in_child()) {
		if (in_child())
			turn_into_other("grandchild-exec");
		stay("fork");
	}
	if (in_child()) {
		if (in_child())
			stay("orphan");
		_exit(0);
	}
	if (in_child()) {
		if (in_child())
			turn_into_other("orphan-exec");
		_exit(0);
	}
	if (in_child()) {
		if (in_child() && in_child() && in_child())
			stay("far-orphan");
		_exit(0);
	}
	if (in_child()) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		if (in_child()) {
			if (in_child())
				stay("adopted");
			_exit(0);
		}
		stay("fork");
	}
	if (in_child()) {
		/* Until it ends it is a session's leader, and must not be what the rule is about: see families.py. */
		prctl(PR_SET_NAME, "between");
		setsid();
		if (in_child())
			stay("daemon");
		_exit(0);
	}
	if (in_child()) {
		set_value("850");
		stay("own");
	}
	pid_t pid;
	char *arguments[] = { other, seconds, NULL }, *environment[] = { NULL };
	if (posix_spawn(&pid, other, NULL, NULL, arguments, environment) == 0)
		tell("spawn", pid);
}

static void wake(int number)
{
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	seconds = argv[1];
	other = argv[2];
	if (argc == 3) {
		signal(SIGUSR1, wake);
		have_children();
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		alarm(atoi(seconds));
		tell("parent", getpid());
		pause();
		execl(getenv("NEXT"), argv[0], seconds, other, (char *)NULL);
		_exit(127);
	}
	if (argc != 7)
		return 2;
	set_value(argv[4]);
	for (int left = atoi(argv[3]); left > 0; left--) {
		if (in_child()) {
			setsid();
			execl(argv[5], argv[5], seconds, other, (char *)NULL);
			_exit(127);
		}
		usleep(atoi(argv[6]));
	}
	return 0;
}
