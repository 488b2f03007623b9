/* The trusted program of some attacks: it does one thing, and does not help anybody.
 *
 * Usage: asker SOCKET REQUEST [--thread] [--close-range] [--quiet]
 *   It says "ready", waits for a line on stdin, connects, asks, prints "answer LINE", and waits for the end of stdin.
 *   --thread: it has a second thread, which waits ("ready TID"). --close-range: as Node does, it marks whatever it
 *   inherited close-on-exec at its start. --quiet: it never connects.
 */
#define _GNU_SOURCE
#include <linux/close_range.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int second;

static void *wait_in_thread(void *started) {
    second = (int)syscall(SYS_gettid);
    pthread_barrier_wait(started);
    for (;;) pause();
    return NULL;
}

static void ask(const char *path, const char *request) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        printf("failed\n");
        return;
    }
    dprintf(fd, "%s\n", request);
    char answer[4096];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof answer - 1 && (got = read(fd, answer + length, sizeof answer - 1 - length)) > 0) {
        length += (size_t)got;
        if (answer[length - 1] == '\n') break;
    }
    printf("answer %.*s", (int)length, answer);
}

int main(int count, char **words) {
    int thread = 0, quiet = 0;
    if (count < 3) return 2;
    for (int at = 3; at < count; at++) {
        if (!strcmp(words[at], "--thread")) thread = 1;
        else if (!strcmp(words[at], "--quiet")) quiet = 1;
        else if (!strcmp(words[at], "--close-range")) syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (thread) {
        pthread_barrier_t started;
        pthread_t other;
        pthread_barrier_init(&started, NULL, 2);
        pthread_create(&other, NULL, wait_in_thread, &started);
        pthread_barrier_wait(&started);
        printf("ready %d\n", second);
    } else
        printf("ready\n");
    char line[16];
    if (!quiet && fgets(line, sizeof line, stdin)) ask(words[1], words[2]);
    while (fgets(line, sizeof line, stdin)) continue;
    return 0;
}
