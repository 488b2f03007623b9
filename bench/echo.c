/* echo: the floor. A bare epoll server that does what every local broker must do, and nothing of what makes it one.
 *
 * It takes lines on a Unix stream socket with SO_PASSCRED on (the kernel attaches the sender's credentials to every message,
 * as it does for the daemon), receives with a control buffer, and answers each line with the same fixed bytes: an answer of
 * the daemon, recorded before. All lines of one receive are answered in one send.
 * What is faster than this is not a measurement but a mistake.
 *
 * Usage: echo SOCKET ANSWER-FILE     (prints "listening SOCKET" on stderr when ready)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 65536, EVENTS = 64 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static char *read_answer(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    char *answer = malloc(CHUNK);
    *length = answer ? fread(answer, 1, CHUNK, file) : 0;
    fclose(file);
    if (*length == 0 || answer[*length - 1] != '\n') {
        fputs("the answer file must hold one line\n", stderr);
        exit(1);
    }
    return answer;
}

static int listen_on(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int one = 1, listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) fail("socket");
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    unlink(path);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) fail(path);
    return listener;
}

/* 0 when the connection has ended. */
static int serve(int client, const char *answer, size_t length) {
    static char input[CHUNK], output[CHUNK * 8];
    char control[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec part = {input, sizeof input};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(client, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    size_t filled = 0;
    for (char *at = input, *end = input + got; (at = memchr(at, '\n', (size_t)(end - at))); at++) {
        if (filled + length > sizeof output) return 0; /* the load generator never sends that much at once */
        memcpy(output + filled, answer, length);
        filled += length;
    }
    return filled == 0 || send(client, output, filled, MSG_NOSIGNAL) == (ssize_t)filled;
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: %s SOCKET ANSWER-FILE\n", words[0]);
        return 2;
    }
    size_t length;
    char *answer = read_answer(words[2], &length);
    int listener = listen_on(words[1]), poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    fprintf(stderr, "listening %s\n", words[1]);
    for (;;) {
        int many = epoll_wait(poll, ready, EVENTS, -1);
        for (int at = 0; at < many; at++) {
            int client = ready[at].data.fd;
            if (client == listener) {
                event.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (event.data.fd >= 0) epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
            } else if (!serve(client, answer, length)) {
                close(client);
            }
        }
    }
}
