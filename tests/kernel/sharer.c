/* sharer OTHER [USER]: make a child that shares the memory, without being a thread: clone(2) with CLONE_VM. The child
 * becomes USER, if one is given, answers "PID", and executes OTHER when it gets SIGUSR1. Both end after 100 s. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static char **arguments;
static char stack[65536] __attribute__((aligned(16)));

static int child(void *unused)
{
	sigset_t wanted;
	int number;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGUSR1);
	if (arguments[2] != NULL && setresuid(atoi(arguments[2]), -1, atoi(arguments[2])) != 0)
		_exit(1);
	alarm(600);
	dprintf(1, "%d\n", getpid());
	sigwait(&wanted, &number);
	execl(arguments[1], arguments[1], "1000", (char *)NULL);
	_exit(127);
}

int main(int count, char **given)
{
	sigset_t blocked;
	if (count < 2)
		return 2;
	arguments = given;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	alarm(600);
	if (clone(child, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0)
		return 1;
	for (;;)
		pause();
}
