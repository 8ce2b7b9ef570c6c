/* leaderexit [SECONDS]: the first thread ends at once, and another one goes on. It takes lines from stdin as `chameleon`
 * does: u UID (real and saved ids), n NAME (of the first thread, as it is shown), x PROGRAM (execute), v VALUE
 * (oom_score_adj), t (this thread ends too, and a third one goes on), each answered by "ok". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	int failed = file < 0 || write(file, text, strlen(text)) < 0;
	close(file);
	return failed;
}

static void *go_on(void *unused)
{
	char line[4096];
	while (fgets(line, sizeof line, stdin)) {
		char *value = line + 2;
		int failed = 0;
		line[strcspn(line, "\n")] = 0;
		if (line[0] == 'u')
			failed = setresuid(atoi(value), -1, atoi(value));
		else if (line[0] == 'n')
			failed = put("/proc/self/comm", value);
		else if (line[0] == 'v')
			failed = put("/proc/self/oom_score_adj", value);
		else if (line[0] == 'x')
			failed = execl(value, value, "1000", (char *)NULL);
		else if (line[0] == 't') {
			pthread_t next;
			failed = pthread_create(&next, NULL, go_on, NULL);
			if (!failed) {
				puts("ok");
				pthread_exit(NULL);
			}
		}
		puts(failed ? "failed" : "ok");
	}
	_exit(0);
}

int main(void)
{
	pthread_t thread;
	alarm(600);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (pthread_create(&thread, NULL, go_on, NULL) != 0)
		return 1;
	puts("ok");
	syscall(SYS_exit, 0);
}
