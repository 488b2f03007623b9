/*
 * keychain-auth-guarded PROGRAM [ARGUMENT...]: runs PROGRAM so that no other program of the same user can look into it.
 *
 * It is setgid, to a group that owns nothing and nobody is in. Whatever it executes has an effective group that is not
 * its real one, and to such a process the kernel is strict (fs/exec.c begin_new_exec, security/commoncap.c, ptrace(2)):
 *
 *   - it is not dumpable: /proc/PID/mem, environ, maps, fd are root's, ptrace, process_vm_readv and pidfd_getfd fail,
 *     and it leaves no core file;
 *   - AT_SECURE is set: the loader obeys no LD_PRELOAD, LD_AUDIT, LD_LIBRARY_PATH, GLIBC_TUNABLES (ld.so(8));
 *   - if somebody traces it, or it may gain no privileges, or it shares its file system state, the kernel takes the group
 *     away again, and the daemon sees that.
 *
 * It gives PROGRAM no right that its user does not have. Which program may have what, the daemon decides by looking at it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* By this uninstall knows that the file is its own. */
static const char mark[] __attribute__((used)) = "Written by keychain-auth install";

enum { CANNOT_RUN = 126, NOT_FOUND = 127 }; /* as shells report it */

static int complain(const char *what, const char *next)
{
    fprintf(stderr, "keychain-auth-guarded: %s\n", what);
    if (next != NULL)
        fprintf(stderr, "Next: %s\n", next);
    return CANNOT_RUN;
}

/* The loader forgets most of these by itself; PROGRAM's children, which need not be guarded, shall not find them. */
static void forget_loader_variables(void)
{
    char **kept = environ;
    for (char **each = environ; *each != NULL; each++)
        if (strncmp(*each, "LD_", 3) != 0 && strncmp(*each, "GLIBC_TUNABLES=", 15) != 0)
            *kept++ = *each;
    *kept = NULL;
}

int main(int count, char **words)
{
    const struct rlimit none = {0, 0};

    if (count < 2) {
        fprintf(stderr, "usage: keychain-auth-guarded PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    if (getegid() == getgid())
        return complain("it has no group of its own: it is not installed setgid, or is traced, or lies on a nosuid "
                        "file system, or may gain no privileges (no_new_privs)",
                        "ls -l \"$(command -v keychain-auth-guarded)\"");
    if (geteuid() != getuid())
        return complain("it must not be setuid", NULL);
    forget_loader_variables();
    setrlimit(RLIMIT_CORE, &none);
    syscall(SYS_close_range, 3U, ~0U, 0U); /* Linux 5.9; before it PROGRAM inherits what its user's shell left open */
    execvp(words[1], words + 1);
    fprintf(stderr, "keychain-auth-guarded: %s: %s\n", words[1], strerror(errno));
    return errno == ENOENT ? NOT_FOUND : CANNOT_RUN;
}
