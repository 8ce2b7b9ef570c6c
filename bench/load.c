/* What the daemons are measured under.
 *
 * load latency N PAUSE_US PROGRAM VALUE   start PROGRAM N times, one after the other, see target.c
 * load storm N PROGRAM [PAUSE_US]         start PROGRAM N times, as fast as they end, or with a pause after each
 * load burst N EVERY PROGRAM OTHER        start N programs: every EVERYth is PROGRAM, and stays; the others OTHER
 * load crowd N                            N processes that sleep
 * load burn                               use up a CPU
 *
 * burst and crowd print a line when all are there, and end with all of their children when stdin ends. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t start(char *program, char *mode, char *value)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char started[32];
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    snprintf(started, sizeof started, "%lld", time.tv_sec * 1000000000LL + time.tv_nsec);
    if (value)
        execl(program, program, mode, value, started, (char *)NULL);
    else
        execl(program, program, mode, (char *)NULL);
    perror(program);
    _exit(127);
}

static int hold(pid_t *children, int count)
{
    char byte;
    puts("ready");
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    for (int i = 0; i < count; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    char *mode = argc > 1 ? argv[1] : "";
    int count = argc > 2 ? atoi(argv[2]) : 0;
    pid_t *children = calloc(count + 1, sizeof *children);
    if (strcmp(mode, "burn") == 0)
        for (;;)
            ;
    if (strcmp(mode, "latency") == 0 && argc == 6) {
        for (int i = 0; i < count; i++) {
            waitpid(start(argv[4], "poll", argv[5]), NULL, 0);
            usleep(atoi(argv[3]));
        }
        return 0;
    }
    if (strcmp(mode, "storm") == 0 && (argc == 4 || argc == 5)) {
        for (int i = 0; i < count; i++) {
            waitpid(start(argv[3], "x", NULL), NULL, 0);
            if (argc == 5)
                usleep(atoi(argv[4]));
        }
        return 0;
    }
    if (strcmp(mode, "burst") == 0 && argc == 6) {
        int kept = 0, every = atoi(argv[3]);
        for (int i = 0; i < count; i++) {
            if (i % every == 0)
                children[kept++] = start(argv[4], "pause", NULL);
            else
                waitpid(start(argv[5], "x", NULL), NULL, 0);
        }
        return hold(children, kept);
    }
    if (strcmp(mode, "crowd") == 0 && argc == 3) {
        for (int i = 0; i < count; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                    pause();
            }
        }
        return hold(children, count);
    }
    return 2;
}
