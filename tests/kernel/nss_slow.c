/* A name service that answers only while a file is not there: see nss(5). It knows users whose names begin with
 * "remote-", and their numbers stand in the name. */
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum nss_status _nss_slow_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, int *error)
{
    const char *gate = getenv("NSS_SLOW_GATE");

    (void)error;
    if (strncmp(name, "remote-", 7) != 0 || size < 256 || strlen(name) > 200)
        return NSS_STATUS_NOTFOUND;
    while (gate != NULL && access(gate, F_OK) == 0)
        usleep(10000);
    strcpy(buffer, name);
    memset(entry, 0, sizeof *entry);
    entry->pw_name = buffer;
    entry->pw_passwd = entry->pw_gecos = entry->pw_dir = entry->pw_shell = buffer + strlen(name);
    entry->pw_uid = entry->pw_gid = (unsigned)atoi(name + 7);
    return NSS_STATUS_SUCCESS;
}
