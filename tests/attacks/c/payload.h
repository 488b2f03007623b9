/* Code that runs wherever it is copied to: an attacker's hand in another program's memory.
 *
 * Contract: ``payload`` takes away the mappings that its order names, connects, asks, prints "answer LINE" and ends the
 * process. It has no constants, no calls and no relocations: everything it needs is in the order, which must not lie in
 * what it takes away. x86-64 only.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#ifndef __x86_64__
#error "x86-64 only"
#endif

enum { MOST_RANGES = 16, REQUEST_BYTES = 512, ANSWER_BYTES = 4096 };

struct order {
    struct { void *start; size_t length; } unmap[MOST_RANGES];
    int unmaps;
    struct prctl_mm_map *map; /* change the executable of this memory to map->exe_fd, NULL: do not */
    size_t map_bytes;
    unsigned long clone_flags; /* let a child with these flags do so, 0: do it ourselves */
    struct sockaddr_un address;
    char request[REQUEST_BYTES];
    size_t request_bytes;
    char answer[ANSWER_BYTES]; /* "answer " is in it already */
};

#define IN_PAYLOAD __attribute__((section(".payload"), noinline, noclone, optimize("O2,no-tree-loop-distribute-patterns")))

static inline __attribute__((always_inline)) long call(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

IN_PAYLOAD static void payload(struct order *order) {
    for (int at = 0; at < order->unmaps; at++)
        call(SYS_munmap, (long)order->unmap[at].start, (long)order->unmap[at].length, 0, 0, 0, 0);
    if (order->map) {
        long child = order->clone_flags ? call(SYS_clone, (long)order->clone_flags, 0, 0, 0, 0, 0) : 0;
        if (child == 0) {
            long failed = call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)order->map, (long)order->map_bytes, 0, 0);
            if (order->clone_flags) call(SYS_exit, failed, 0, 0, 0, 0, 0);
        } else
            call(SYS_wait4, child, 0, 0, 0, 0, 0);
        /* The trusted file among the mapped code, as if it had been run. */
        call(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, order->map->exe_fd, 0);
    }
    long fd = call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);
    long failed = call(SYS_connect, fd, (long)&order->address, sizeof order->address, 0, 0, 0);
    if (failed) call(SYS_exit_group, 9, 0, 0, 0, 0, 0);
    call(SYS_write, fd, (long)order->request, (long)order->request_bytes, 0, 0, 0);
    long length = 7;
    while (length < ANSWER_BYTES && order->answer[length - 1] != '\n') {
        long got = call(SYS_read, fd, (long)order->answer + length, ANSWER_BYTES - length, 0, 0, 0);
        if (got <= 0) break;
        length += got;
    }
    call(SYS_write, 1, (long)order->answer, length, 0, 0, 0);
    call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
    __builtin_unreachable();
}


enum { PAYLOAD_BYTES = 1024 }; /* more than it has: what follows it is copied too, and does no harm */

static inline __attribute__((unused)) void fill_order(struct order *order, const char *socket, const char *request) {
    memset(order, 0, sizeof *order);
    order->address.sun_family = AF_UNIX;
    strncpy(order->address.sun_path, socket, sizeof order->address.sun_path - 1);
    order->request_bytes = strlen(request) + 1;
    memcpy(order->request, request, order->request_bytes - 1);
    order->request[order->request_bytes - 1] = '\n';
    memcpy(order->answer, "answer ", 7);
}
#endif
