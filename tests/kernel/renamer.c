/* renamer NAME LAST: take NAME and another name in turn, as often as possible, until stdin ends; then LAST. */
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	if (argc != 3)
		return 2;
	alarm(600);
	while (poll(&input, 1, 0) == 0)
		for (int i = 0; i < 64; i++)
			prctl(PR_SET_NAME, i % 2 == 0 ? argv[1] : "another");
	prctl(PR_SET_NAME, argv[2]);
	for (;;)
		pause();
}
