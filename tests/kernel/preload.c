/* A shared object with code that isn't the program's: loaded by LD_PRELOAD, it takes the program over before main().
 * It tells so on stdout, and stays. With $BECOME, a file, it makes that the executable of the process first, and takes
 * the name $NAME, which raises an event. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static unsigned long field(const char *stat, int number)
{
	const char *at = strrchr(stat, ')') + 2;
	for (int i = 3; i < number; i++)
		at = strchr(at, ' ') + 1;
	return strtoul(at, NULL, 10);
}

/* The kernel wants no mapping of the old executable to be left. */
static void unmap_executable(void)
{
	static char path[4096], line[8192];
	unsigned long starts[32], ends[32];
	int count = 0;
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
	FILE *maps = fopen("/proc/self/maps", "re");
	if (length < 0 || !maps)
		_exit(1);
	while (count < 32 && fgets(line, sizeof line, maps))
		if (strstr(line, path) && sscanf(line, "%lx-%lx", &starts[count], &ends[count]) == 2)
			count++;
	fclose(maps);
	while (count-- > 0)
		munmap((void *)starts[count], ends[count] - starts[count]);
}

static int become(int file)
{
	static char stat[4096];
	int input = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	if (input < 0 || read(input, stat, sizeof stat - 1) < 0)
		return -1;
	close(input);
	struct prctl_mm_map map = {
		.start_code = field(stat, 26), .end_code = field(stat, 27), .start_stack = field(stat, 28),
		.start_data = field(stat, 45), .end_data = field(stat, 46), .start_brk = field(stat, 47),
		.arg_start = field(stat, 48), .arg_end = field(stat, 49),
		.env_start = field(stat, 50), .env_end = field(stat, 51),
		.brk = (unsigned long)sbrk(0), .exe_fd = file,
	};
	return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

__attribute__((constructor)) static void take_over(void)
{
	static char name[16];
	const char *target = getenv("BECOME");
	if (strcmp(program_invocation_short_name, "env") == 0)
		return;
	if (target) {
		int file = open(target, O_RDONLY | O_CLOEXEC);
		strncpy(name, getenv("NAME"), sizeof name - 1);
		unmap_executable();
		if (file < 0 || become(file) != 0)
			_exit(1);
		prctl(PR_SET_NAME, name);
	}
	alarm(600);
	if (write(1, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}
