/* Put code into a running program and let it run: ptrace(2), and /proc/PID/mem, which writes even what is read-only.
 *
 * Usage: puppeteer TID SOCKET REQUEST stay|leave
 *   TID is a thread of the program. stay: it stays traced while it asks; leave: it is let go first.
 */
#include "payload.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned long code_of(pid_t tid) {
    char name[64], line[512], permissions[8];
    unsigned long start, end;
    snprintf(name, sizeof name, "/proc/%d/maps", tid);
    FILE *maps = fopen(name, "r");
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %7s", &start, &end, permissions) == 3 && permissions[2] == 'x') return start;
    return 0;
}

static unsigned long data_of(pid_t tid) {
    char name[64], line[512], permissions[8];
    unsigned long start, end;
    snprintf(name, sizeof name, "/proc/%d/maps", tid);
    FILE *maps = fopen(name, "r");
    while (maps && fgets(line, sizeof line, maps)) /* the stack, at its low end, where nothing of it is in use */
        if (sscanf(line, "%lx-%lx %7s", &start, &end, permissions) == 3 && strstr(line, "[stack]")) return start;
    return 0;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    pid_t tid = atoi(words[1]);
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0)) {
        perror("ptrace");
        return 3;
    }
    int status;
    if (waitpid(tid, &status, __WALL) != tid) return 4;
    static struct order order;
    fill_order(&order, words[2], words[3]);
    unsigned long code = code_of(tid), data = data_of(tid);
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/mem", tid);
    int memory = open(name, O_RDWR);
    if (pwrite(memory, (void *)payload, PAYLOAD_BYTES, (off_t)code) != PAYLOAD_BYTES) return 5;
    if (pwrite(memory, &order, sizeof order, (off_t)data) != sizeof order) return 6;
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, tid, 0, &registers)) return 7;
    registers.rip = code;
    registers.rdi = data;
    registers.orig_rax = (unsigned long)-1; /* a call that was interrupted is not begun again */
    registers.rsp = (registers.rsp & ~15UL) - 8;
    if (ptrace(PTRACE_SETREGS, tid, 0, &registers)) return 8;
    if (!strcmp(words[4], "leave")) return ptrace(PTRACE_DETACH, tid, 0, 0) ? 9 : 0;
    if (ptrace(PTRACE_CONT, tid, 0, 0)) return 10;
    waitpid(tid, &status, __WALL);
    return 0;
}
