/* What a daemon for one literal path costs at least: the proc connector, a socket filter that lets EXEC through, one
 * readlink and one comparison an event, one write where it fits. No scans, no lineage, no release, no log.
 *
 * reference PATH VALUE [comm]: prints a line when it listens. With comm it reads the name too, as rules over both
 * have to. cn_proc.h, netlink(7), filter.h. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4)
        return 2;
    size_t wanted = strlen(argv[1]), digits = strlen(argv[2]);
    int sock = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
    if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof address) != 0)
        return perror("bind"), 1;
    int room = 8 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);

    size_t head = NLMSG_HDRLEN + sizeof(struct cn_msg);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, head),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_EXEC), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    if (setsockopt(sock, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        return perror("SO_ATTACH_FILTER"), 1;

    char request[NLMSG_SPACE(sizeof(struct cn_msg) + sizeof(enum proc_cn_mcast_op))] = {0};
    struct nlmsghdr *netlink = (struct nlmsghdr *)request;
    struct cn_msg *message = NLMSG_DATA(netlink);
    *netlink = (struct nlmsghdr){.nlmsg_len = sizeof request, .nlmsg_type = NLMSG_DONE, .nlmsg_pid = getpid()};
    *message = (struct cn_msg){.id = {CN_IDX_PROC, CN_VAL_PROC}, .len = sizeof(enum proc_cn_mcast_op)};
    *(enum proc_cn_mcast_op *)message->data = PROC_CN_MCAST_LISTEN;
    if (send(sock, request, sizeof request, 0) < 0)
        return perror("send"), 1;
    puts("listening");
    fflush(stdout);

    for (;;) {
        char datagram[256], name[64], path[4096];
        ssize_t got = recv(sock, datagram, sizeof datagram, 0);
        if (got < (ssize_t)(head + sizeof(struct proc_event)))
            continue;
        struct proc_event *event = (struct proc_event *)(datagram + head);
        int pid = event->event_data.exec.process_tgid;
        snprintf(name, sizeof name, "/proc/%d/exe", pid);
        ssize_t length = readlink(name, path, sizeof path);
        if (argc == 4) {
            char comm[64];
            snprintf(name, sizeof name, "/proc/%d/comm", pid);
            int file = open(name, O_RDONLY | O_CLOEXEC);
            if (file < 0 || read(file, comm, sizeof comm) < 0)
                comm[0] = 0;
            if (file >= 0)
                close(file);
            if (strcmp(comm, "nobody\n") == 0)
                continue;
        }
        if (length != (ssize_t)wanted || memcmp(path, argv[1], wanted) != 0)
            continue;
        snprintf(name, sizeof name, "/proc/%d/oom_score_adj", pid);
        int file = open(name, O_WRONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        if (write(file, argv[2], digits) < 0)
            perror("write");
        close(file);
    }
}
