/* Leave the connection in a message that nobody takes yet, and become the trusted program.
 *
 * Usage: flight SOCKET REQUEST TRUSTED [OPTION of TRUSTED]
 *   A copy of the connected descriptor is sent into a pair of sockets (SCM_RIGHTS); while it is under way no process
 *   has it. A child holds the far end of the pair; on a line on stdin it takes the copy out and prints "answer LINE".
 *   With an option, our own descriptor is inheritable, and TRUSTED is called with that option.
 *   Prints "parked" before it becomes TRUSTED, which waits in silence.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

union control {
    char room[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

static int pass(int to, int fd) {
    char byte = 0;
    union control control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *luggage = CMSG_FIRSTHDR(&message);
    luggage->cmsg_level = SOL_SOCKET;
    luggage->cmsg_type = SCM_RIGHTS;
    luggage->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(luggage), &fd, sizeof fd);
    return sendmsg(to, &message, 0) == 1 ? 0 : -1;
}

static int take(int from) {
    char byte;
    int fd = -1;
    union control control;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(from, &message, 0) == 1 && CMSG_FIRSTHDR(&message)) memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

int main(int count, char **words) {
    if (count < 4) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | (count > 4 ? 0 : SOCK_CLOEXEC), 0), pair[2], silence[2];
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) return 3;
    if (dprintf(fd, "%s\n", words[2]) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pass(pair[0], fd)) return 4;
    if (fork() == 0) {
        char line[16], answer[4096];
        close(fd);
        close(pair[0]);
        if (!fgets(line, sizeof line, stdin)) return 5;
        ssize_t got = read(take(pair[1]), answer, sizeof answer - 1);
        printf("answer %.*s", got > 0 ? (int)got : 5, got > 0 ? answer : "none\n");
        return 0;
    }
    if (pipe2(silence, O_CLOEXEC) || dup2(silence[0], 0) < 0) return 6;
    fcntl(silence[1], F_SETFD, 0); /* TRUSTED holds its own stdin open, and so waits for ever */
    printf("parked\n");
    fflush(stdout);
    execl(words[3], words[3], words[1], words[2], "--quiet", count > 4 ? words[4] : NULL, (char *)NULL);
    return 7;
}
