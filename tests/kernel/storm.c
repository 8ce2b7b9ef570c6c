/* storm N: start N programs one after the other, each of which ends at once. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 2)
		return 0;
	for (long left = atol(argv[1]); left > 0; left--) {
		pid_t pid = vfork();
		if (pid == 0) {
			execl(argv[0], argv[0], (char *)NULL);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return 1;
	}
	return 0;
}
