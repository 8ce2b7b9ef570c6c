/* A shared object for LD_PRELOAD: the program is stopped (SIGSTOP) after each of its first two writes to the
 * oom_score_adj of another process. So a test can do something between such a write and what the program does next. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void stop_after(int file)
{
	static const char name[] = "/oom_score_adj";
	static int left = 2;
	char link[64], path[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	length = readlink(link, path, sizeof path);
	if (left == 0 || length < (ssize_t)strlen(name) || memcmp(path + length - strlen(name), name, strlen(name)) != 0)
		return;
	left--;
	raise(SIGSTOP);
}

ssize_t write(int file, const void *data, size_t size)
{
	static ssize_t (*real)(int, const void *, size_t);
	ssize_t written;

	if (real == NULL)
		real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	written = real(file, data, size);
	if (written > 0)
		stop_after(file);
	return written;
}

static ssize_t written_at(const char *function, int file, const void *data, size_t size, off_t offset)
{
	ssize_t (*real)(int, const void *, size_t, off_t);
	ssize_t written;

	real = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, function);
	written = real(file, data, size, offset);
	if (written > 0)
		stop_after(file);
	return written;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
	return written_at("pwrite", file, data, size, offset);
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t offset)
{
	return written_at("pwrite64", file, data, size, offset);
}
