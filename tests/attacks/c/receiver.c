/* A trusted program that takes descriptors out of messages, as clients of D-Bus and of Wayland do: close-on-exec.
 *
 * Usage: receiver SERVER
 *   It connects to SERVER, which its caller chose, receives one message, says "received", and waits for the end of stdin.
 *   It asks for no secret.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 2) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) return 3;
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1) return 4;
    puts("received");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) continue;
    return 0;
}
