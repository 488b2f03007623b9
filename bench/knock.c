/* knock: connects, asks and leaves, once for each byte of its stdin; so that whoever serves it does each step alone.
 *
 * Usage: knock SOCKET REQUEST      writes "a" to stdout when it has asked, "b" when it has been answered and has closed
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
    static char answer[65536];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char byte;
    if (count != 3) return 2;
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    while (read(0, &byte, 1) == 1) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        size_t length = strlen(words[2]);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) return 3;
        if (write(fd, words[2], length) != (ssize_t)length || write(1, "a", 1) != 1) return 4;
        if (read(fd, answer, sizeof answer) < 10 || !strstr(answer, "\"success\"")) return 5;
        close(fd);
        if (write(1, "b", 1) != 1) return 6;
    }
    return 0;
}
