/* An older kernel, for a daemon that this is preloaded into: calls that it does not know fail as they would there.
 *
 * OLD_PEERPIDFD: the error number of getsockopt(SO_PEERPIDFD). OLD_OPENAT2: that of openat2(2). Unset: as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static int fails(const char *variable) {
    const char *number = getenv(variable);
    if (!number) return 0;
    errno = atoi(number);
    return 1;
}

int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict length) {
    static int (*next)(int, int, int, void *, socklen_t *);
    if (!next) next = (int (*)(int, int, int, void *, socklen_t *))dlsym(RTLD_NEXT, "getsockopt");
    if (level == SOL_SOCKET && option == 77 && fails("OLD_PEERPIDFD")) return -1;
    return next(fd, level, option, value, length);
}

long syscall(long number, ...) {
    static long (*next)(long, ...);
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_openat2 && fails("OLD_OPENAT2")) return -1;
    va_list words;
    long word[6];
    va_start(words, number);
    for (int at = 0; at < 6; at++) word[at] = va_arg(words, long);
    va_end(words);
    return next(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
