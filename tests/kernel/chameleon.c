/* chameleon: change in the way that each line of stdin says, and answer "ok": the identity of a running process.
 * u UID, g GID: real and saved ids. e UID: the effective one. n NAME: comm. s: a new session. v VALUE: oom_score_adj. w VALUE: the same over and over,
 * without an answer. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int set_value(const char *value)
{
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	int failed = file < 0 || write(file, value, strlen(value)) < 0;
	close(file);
	return failed;
}

int main(void)
{
	char line[64];
	alarm(600);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ok");
	while (fgets(line, sizeof line, stdin)) {
		char *value = line + 2;
		int failed = 0;
		line[strcspn(line, "\n")] = 0;
		if (line[0] == 'u')
			failed = setresuid(atoi(value), -1, atoi(value));
		else if (line[0] == 'g')
			failed = setresgid(atoi(value), -1, atoi(value));
		else if (line[0] == 'e')
			failed = seteuid(atoi(value));
		else if (line[0] == 'n')
			failed = prctl(PR_SET_NAME, value);
		else if (line[0] == 's')
			failed = setsid() < 0;
		else if (line[0] == 'v')
			failed = set_value(value);
		else
			for (;; usleep(20000))
				set_value(value);
		puts(failed ? "failed" : "ok");
	}
	return 0;
}
