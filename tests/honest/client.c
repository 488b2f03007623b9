/* An honest client: each time it connects, asks, and closes.
 *
 * Usage: client SOCKET REQUEST COUNT [inheritable]      prints "granted N" and, if there were any, other answers
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 4) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int granted = 0, tries = atoi(words[3]), flags = count > 4 ? 0 : SOCK_CLOEXEC;
    for (int at = 0; at < tries; at++) {
        char answer[4096];
        size_t length = 0;
        ssize_t got;
        int fd = socket(AF_UNIX, SOCK_STREAM | flags, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) || dprintf(fd, "%s\n", words[2]) < 0) return 1;
        while (length < sizeof answer - 1 && (got = read(fd, answer + length, sizeof answer - 1 - length)) > 0) {
            length += (size_t)got;
            if (answer[length - 1] == '\n') break;
        }
        answer[length] = 0;
        if (strstr(answer, "\"success\"")) granted++;
        else printf("%s\n", length ? answer : "nothing");
        close(fd);
    }
    printf("granted %d\n", granted);
    return 0;
}
