/* End, and let the trusted program have the pid that connected.
 *
 * Usage: reuse SOCKET REQUEST TRUSTED
 *   Connects, writes the request, prints "pid N", leaves the connection with a child, and ends. The child, for each line
 *   on stdin, forks: it prints "missed" for another pid than N; with N it becomes TRUSTED, and prints "reused". Then it
 *   reads the answer and prints it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count != 4) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), silence[2];
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) || dprintf(fd, "%s\n", words[2]) < 0) return 3;
    pid_t wanted = getpid();
    printf("pid %d\n", wanted);
    fflush(stdout);
    if (fork() != 0 || pipe(silence)) return 0;
    setsid(); /* a number that is somebody's process group or session is not given out again */
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        pid_t child = fork();
        if (child == 0) {
            if (getpid() != wanted) _exit(0);
            dup2(silence[0], 0);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(1);
            execl(words[3], words[3], words[1], words[2], "--quiet", (char *)NULL);
            _exit(5);
        }
        if (child == wanted) break;
        waitpid(child, NULL, 0);
        printf("missed\n");
        fflush(stdout);
    }
    if (feof(stdin)) return 0;
    printf("reused\n");
    fflush(stdout);
    char answer[4096];
    ssize_t got = read(fd, answer, sizeof answer - 1);
    printf("answer %.*s", got > 0 ? (int)got : 5, got > 0 ? answer : "none\n");
    return 0;
}
