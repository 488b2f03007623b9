/* Asks for the secret before main(): its own, or that of the program into which it was loaded as a library. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char ask[] = "{\"type\":\"REQUEST\",\"action\":\"read\",\"service\":\"aws\",\"targets\":[\"secret\"]}\n";

__attribute__((constructor)) static void run(void)
{
    char answer[4096];
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    const char *path = getenv("KEYCHAIN_AUTH_SOCKET");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (path == NULL || fd < 0)
        return;
    strncpy(place.sun_path, path, sizeof place.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&place, sizeof place) != 0)
        return;
    if (write(fd, ask, sizeof ask - 1) > 0) {
        ssize_t got = read(fd, answer, sizeof answer - 1);
        if (got > 0) {
            answer[got] = '\0';
            printf("evil %s\n", answer);
            fflush(stdout);
        }
    }
    close(fd);
}

int main(void)
{
    return 0;
}
