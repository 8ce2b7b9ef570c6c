/* hostile STEP...: do one thing after the other, without privileges, to be taken for another program. The steps that
 * follow an exec are the arguments of what is executed, so that it is this program again, or one that ignores them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	_exit(1);
}

static void put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	must(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(file);
}

__attribute__((noreturn)) static void *in_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	for (;;)
		pause();
}

static void own_namespaces(void)
{
	char map[64];
	snprintf(map, sizeof map, "0 %d 1", getuid());
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "unshare");
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", map);
}

/* In namespaces of its own, put `impostor` over `place`, open it there, and leave the descriptor to the other process,
 * which lives outside, but shares the table of descriptors. */
static int smuggle(const char *impostor, const char *place, int delete)
{
	int ready[2];
	char byte = 0;
	must(pipe(ready) == 0, "pipe");
	int spare = open("/dev/null", O_RDONLY);
	pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	must(child >= 0, "clone");
	if (child == 0) {
		own_namespaces();
		must(mount(impostor, place, NULL, MS_BIND, NULL) == 0, "mount");
		int file = open(place, O_RDONLY);
		must(file >= 0 && dup2(file, spare) == spare, "open");
		must(!delete || unlink(impostor) == 0, "unlink");
		must(write(ready[1], &byte, 1) == 1, "write");
		alarm(600);
		for (;;)
			pause();
	}
	must(read(ready[0], &byte, 1) == 1, "read");
	return spare;
}

/* Have a process of one's own traced, and go on in it: its tracer may write to its memory at every stop. */
static void be_traced(void)
{
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		must(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0, "ptrace");
		return;
	}
	for (int status; waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);)
		ptrace(PTRACE_CONT, pid, 0, WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status));
	_exit(0);
}

static int in_memory(const char *name)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = memfd_create(name, 0);
	struct stat status;
	must(from >= 0 && to >= 0 && fstat(from, &status) == 0, "memfd_create");
	must(sendfile(to, from, NULL, status.st_size) == status.st_size, "sendfile");
	return to;
}

struct steps {
	int argc;
	char **argv;
};

static int take(int argc, char **argv);

static void *take_in_thread(void *steps)
{
	usleep(1000); /* so that the first thread has ended */
	_exit(take(((struct steps *)steps)->argc, ((struct steps *)steps)->argv));
}

/* Take the steps that are left in another thread, and end the first one. */
static void leave_to_a_thread(int argc, char **argv)
{
	static struct steps left;
	left = (struct steps){ argc, argv };
	must(pthread_create(&(pthread_t){ 0 }, NULL, take_in_thread, &left) == 0, "pthread_create");
	syscall(SYS_exit, 0);
}

int main(int argc, char **argv)
{
	return take(argc, argv);
}

static int take(int argc, char **argv)
{
	extern char **environ;
	alarm(600);
	for (int i = 1; i < argc; i++) {
		char *step = argv[i], **rest = argv + i;
		char *value = strchr(step, '=');
		if (value)
			*value++ = 0;
		if (!strcmp(step, "name"))
			prctl(PR_SET_NAME, value);
		else if (!strcmp(step, "comm"))
			put("/proc/self/comm", value);
		else if (!strcmp(step, "thread"))
			must(pthread_create(&(pthread_t){ 0 }, NULL, in_thread, value) == 0, "pthread_create");
		else if (!strcmp(step, "setsid"))
			must(setsid() >= 0 || errno == EPERM, "setsid");
		else if (!strcmp(step, "child")) {
			pid_t pid = fork();
			must(pid >= 0, "fork");
			while (pid > 0)
				pause();
			alarm(600);
		} else if (!strcmp(step, "orphan")) {
			pid_t pid = fork();
			must(pid >= 0, "fork");
			if (pid > 0)
				_exit(0);
			alarm(600);
		} else if (!strcmp(step, "vfork")) {
			pid_t pid = vfork();
			if (pid == 0) {
				execv(value, rest);
				_exit(127);
			}
			must(pid > 0, "vfork");
			for (;;)
				pause();
		} else if (!strcmp(step, "unlink"))
			must(unlink(value) == 0, "unlink");
		else if (!strcmp(step, "exec")) {
			execv(value, rest);
			must(0, value);
		} else if (!strcmp(step, "memory")) {
			fexecve(in_memory(value), rest, environ);
			must(0, "fexecve");
		} else if (!strcmp(step, "smuggle") || !strcmp(step, "smuggle-deleted")) {
			char *place = strchr(value, ':');
			*place++ = 0;
			fexecve(smuggle(value, place, !strcmp(step, "smuggle-deleted")), rest, environ);
			must(0, "fexecve");
		} else if (!strcmp(step, "trace"))
			be_traced();
		else if (!strcmp(step, "leave"))
			leave_to_a_thread(argc - i, rest);
		else if (!strcmp(step, "drop"))
			must(setresuid(getuid(), getuid(), getuid()) == 0, "setresuid");
		else if (!strcmp(step, "say"))
			continue;
		else if (!strcmp(step, "tell"))
			must(write(1, "x", 1) == 1, "write");
		else if (!strcmp(step, "stay"))
			for (;;)
				pause();
		else
			return 2;
	}
	return 0;
}
