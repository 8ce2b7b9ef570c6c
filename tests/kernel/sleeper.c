/* Sleeps whatever its arguments are. At SIGUSR1 it executes what follows the argument "then". */
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void note(int signal)
{
    (void)signal;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = note};

    (void)argc;
    sigaction(SIGUSR1, &action, NULL);
    pause();
    while (*argv && strcmp(*argv, "then"))
        argv++;
    if (*argv)
        execv(argv[1], argv + 1);
    return 1;
}
