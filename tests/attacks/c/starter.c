/* Starts a program, and may be something else, or nothing, by the time that program is looked at.
 *
 * Usage: starter [--adopt] [--memory] [--orphan | --become PROGRAM] WORDS…
 *   WORDS are run in a child, with the same standard streams; this process waits for it, and has its exit code.
 *   --adopt    orphans below become its children (PR_SET_CHILD_SUBREAPER); it waits for all of them
 *   --memory   it has code in memory that comes from no file, as a library that unmapped itself leaves behind
 *   --orphan   the child waits until this process has ended
 *   --become   this process becomes PROGRAM, called as PROGRAM --wait; the child waits until it has
 * starter --wait: wait until it is killed, with the child that it was started with.
 * SIGUSR1: become $STRANGER, called as $STRANGER --wait.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VARIANT
#define VARIANT "plain"
#endif
__attribute__((used)) static const char variant[] = "variant " VARIANT;

static int wait_for_all(void) {
    int status, last = 0;
    while (wait(&status) > 0) last = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return last;
}

static void become(int number) {
    (void)number;
    const char *stranger = getenv("STRANGER");
    if (stranger) execl(stranger, stranger, "--wait", (char *)NULL);
    _exit(9);
}

static int runs(pid_t pid, const char *program) {
    char name[64];
    struct stat one, other;
    snprintf(name, sizeof name, "/proc/%d/exe", pid);
    return stat(name, &one) == 0 && stat(program, &other) == 0 && one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

int main(int count, char **words) {
    int at = 1, orphan = 0;
    const char *other = NULL;
    signal(SIGUSR1, become);
    if (count > 1 && strcmp(words[1], "--wait") == 0) return wait_for_all();
    for (; at < count && strncmp(words[at], "--", 2) == 0; at++) {
        if (strcmp(words[at], "--adopt") == 0) prctl(PR_SET_CHILD_SUBREAPER, 1);
        else if (strcmp(words[at], "--memory") == 0)
            mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        else if (strcmp(words[at], "--orphan") == 0) orphan = 1;
        else if (strcmp(words[at], "--become") == 0 && at + 1 < count) other = words[++at];
        else return 2;
    }
    if (at >= count) return 2;
    pid_t self = getpid(), child = fork();
    if (child < 0) return 3;
    if (child == 0) {
        while (orphan && getppid() == self) usleep(1000);
        while (other && !runs(self, other)) usleep(1000);
        execv(words[at], words + at);
        _exit(4);
    }
    if (orphan) return 0;
    if (other) execl(other, other, "--wait", (char *)NULL);
    return wait_for_all();
}
