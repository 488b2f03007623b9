/* crowd: a flood of connections that nobody should have to wait for.
 *
 * Contract: forks PROCESSES children that hold CONNECTIONS connections each, and open a new one for each that ends, until it
 * is killed. Prints "ready" once every child has connected for the first time. Answers are read and thrown away.
 *
 * Usage: crowd silent SOCKET PROCESSES CONNECTIONS   say nothing
 *        crowd asking SOCKET PROCESSES CONNECTIONS   ask at once, and so are refused as fast as the daemon can
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 1024 };

static const char line[] =
    "{\"type\":\"REQUEST\",\"action\":\"read\",\"service\":\"bench\",\"targets\":[\"a\"]}\n";
static const char *path;
static int asking;

static int open_connection(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        perror("crowd");
        exit(1);
    }
    if (asking) (void)!send(fd, line, sizeof line - 1, MSG_NOSIGNAL);
    return fd;
}

static void crowd(int connections, int ready) {
    static struct pollfd all[MOST];
    static char chunk[4096];
    for (int at = 0; at < connections; at++) all[at] = (struct pollfd){open_connection(), POLLIN, 0};
    (void)!write(ready, "x", 1);
    for (;;) {
        if (poll(all, (nfds_t)connections, -1) < 0 && errno != EINTR) exit(1);
        for (int at = 0; at < connections; at++) {
            if (!all[at].revents || recv(all[at].fd, chunk, sizeof chunk, MSG_DONTWAIT) > 0) continue;
            close(all[at].fd);
            all[at].fd = open_connection();
        }
    }
}

int main(int count, char **words) {
    int ready[2], processes = count == 5 ? atoi(words[3]) : 0, connections = count == 5 ? atoi(words[4]) : 0;
    char seen;
    if (processes < 1 || connections < 1 || connections > MOST || pipe(ready)) {
        fprintf(stderr, "usage: %s silent|asking SOCKET PROCESSES CONNECTIONS\n", words[0]);
        return 2;
    }
    asking = strcmp(words[1], "asking") == 0;
    path = words[2];
    for (int number = 0; number < processes; number++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            crowd(connections, ready[1]);
        }
    for (int number = 0; number < processes; number++)
        if (read(ready[0], &seen, 1) != 1) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
