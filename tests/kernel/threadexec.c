/* threadexec PROGRAM: when stdin ends, a second thread executes PROGRAM. The first one lives until then. */
#include <pthread.h>
#include <unistd.h>

static char *program;

static void *execute(void *unused)
{
	execl(program, program, "1000", (char *)NULL);
	_exit(127);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char byte;
	alarm(100);
	program = argv[1];
	while (read(0, &byte, 1) > 0)
		;
	if (pthread_create(&thread, NULL, execute, NULL))
		return 1;
	for (;;)
		pause();
}
