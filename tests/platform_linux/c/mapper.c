/* mapper: a process with the mappings that a test asks for.
 *
 * usage: mapper WHAT [FILE]   says "ready" when they are there, and waits for its stdin to end
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define PAGE 4096

/* A page of its own, so that patching it touches nothing else. */
__attribute__((noinline, aligned(PAGE))) static int code(int n) { return n * 3; }

static void *executable(int flags, int fd, size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_EXEC, flags, fd, 0);
    if (memory == MAP_FAILED) exit(2);
    return memory;
}

static void make(const char *what, const char *path) {
    if (!strcmp(what, "anonymous")) executable(MAP_PRIVATE | MAP_ANONYMOUS, -1, PAGE);
    if (!strcmp(what, "shared")) executable(MAP_SHARED | MAP_ANONYMOUS, -1, PAGE);
    if (!strcmp(what, "named")) /* as near to a name of the kernel's as it gets */
        prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, executable(MAP_PRIVATE | MAP_ANONYMOUS, -1, PAGE), PAGE, "vdso");
    if (!strcmp(what, "memfd")) {
        int fd = memfd_create("code", 0);
        if (fd < 0 || ftruncate(fd, PAGE) != 0) exit(3);
        executable(MAP_SHARED, fd, PAGE);
    }
    if (!strcmp(what, "many")) /* neighbours that differ are not joined */
        for (int n = 0; n < 2000; n++)
            if (mmap(NULL, PAGE, n % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) exit(4);
    if (!strcmp(what, "behind")) { /* a file, just behind memory that is called nothing */
        int fd = open(path, O_RDONLY);
        char *memory = executable(MAP_PRIVATE | MAP_ANONYMOUS, -1, 2 * PAGE);
        if (mmap(memory + PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) exit(8);
    }
    if (!strcmp(what, "library") && !dlopen(path, RTLD_NOW)) exit(5);
    if (!strcmp(what, "patched")) {
        char *page = (char *)code;
        if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0) exit(6);
        *(volatile char *)page = *(volatile char *)page;
        if (mprotect(page, PAGE, PROT_READ | PROT_EXEC) != 0) exit(7);
    }
}

int main(int count, char **words) {
    if (count < 2) return 1;
    make(words[1], count > 2 ? words[2] : "");
    puts(code(1) == 3 ? "ready" : "wrong");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
