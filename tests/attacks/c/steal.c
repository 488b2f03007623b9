/* Take the connection out of a running program: pidfd_getfd(2).
 *
 * Usage: steal PID send|read REQUEST
 *   send: write REQUEST on it and print "answer LINE". read: say "stolen" and print what the program is answered.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int stolen_socket(const char *pid) {
    char folder[64], link[64];
    snprintf(folder, sizeof folder, "/proc/%s/fd", pid);
    DIR *numbers = opendir(folder);
    int process = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
    for (struct dirent *number; numbers && (number = readdir(numbers));) {
        ssize_t length = readlinkat(dirfd(numbers), number->d_name, link, sizeof link - 1);
        if (length > 0 && !strncmp(link, "socket:", 7))
            return (int)syscall(SYS_pidfd_getfd, process, atoi(number->d_name), 0);
    }
    return -1;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    int fd = stolen_socket(words[1]);
    if (fd < 0) {
        perror("pidfd_getfd");
        return 3;
    }
    printf("stolen\n");
    fflush(stdout);
    if (!strcmp(words[2], "send") && dprintf(fd, "%s\n", words[3]) < 0) return 4;
    char answer[4096];
    ssize_t got = read(fd, answer, sizeof answer - 1);
    printf("answer %.*s", got > 0 ? (int)got : 5, got > 0 ? answer : "none\n");
    return 0;
}
