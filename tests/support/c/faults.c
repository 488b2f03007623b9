/* A disk that fails when a test says so: preloaded (LD_PRELOAD) into a process under test, never into anything else.
 *
 * Every call that changes what is on the disk under one folder is a boundary, and is counted. At the boundary that the
 * test chose, one of these happens:
 *
 *   KILL    the process dies before the call
 *   HALF    half of a write is made, then the process dies (another call: as KILL)
 *   POWER   as KILL, and everything that no fsync made durable is undone: data, lengths, new, removed and renamed files
 *   CHANCE  as POWER, but a part of the data that was not synced, chosen by chance, did reach the disk
 *   FAIL    the call fails with an errno, and so do the next ones, as many as the test chose
 *
 * Not seen: stores into mapped memory. SQLite maps only its -shm file, which needs to survive nothing; it and lock
 * files are not counted. A file is told by its name at the time of the call (/proc/self/fd).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL, HALF, POWER, CHANCE, FAIL };

static char under[PATH_MAX], attic[PATH_MAX]; /* attic: beside the folder, keeps what an undo puts back */
static size_t under_length;
static long count, at, fails;
static int action, error_number, kept;
static unsigned seed;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

/* What was done since the last fsync, newest first. Data: `before` (may be shorter than `after`: the file grew) and
 * `after` at `offset`. A length: `size` before. Names: `path` appeared, `path` went (a link to it is `other`), or
 * `other` became `path`. */
struct step {
    enum { DATA, LENGTH, APPEARED, WENT, RENAMED } kind;
    dev_t device;
    ino_t inode;
    int fd;
    off_t offset, size, after_size;
    char *before, *after;
    size_t before_length, after_length;
    char path[PATH_MAX], other[PATH_MAX];
    struct step *next;
} *steps;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_arm(const char *folder, long boundary, int what, int number, long times, unsigned chance)
{
    under_length = (size_t)snprintf(under, sizeof under, "%s/", folder);
    snprintf(attic, sizeof attic, "%s.attic", folder);
    mkdir(attic, 0700);
    count = 0, at = boundary, action = what, error_number = number, fails = times, seed = chance;
}

long faults_count(void) { return count; }

/* For a process that is started by its command line: everything under the prefix FAULTS_UNDER fails with the errno that
 * stands in the file FAULTS_FILE, as long as there is such a file. */
static const char *control;

__attribute__((constructor)) static void from_environment(void)
{
    const char *prefix = getenv("FAULTS_UNDER");
    control = getenv("FAULTS_FILE");
    if (prefix && control)
        under_length = (size_t)snprintf(under, sizeof under, "%s", prefix);
}

static int told_to_fail(void)
{
    FILE *file = control ? fopen(control, "re") : NULL;
    if (!file)
        return 0;
    int known = fscanf(file, "%d", &error_number) == 1;
    fclose(file);
    return known;
}

void faults_disarm(void) { action = NONE; }

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && !strcmp(text + length - wanted, end);
}

static int ours(const char *path)
{
    return under_length && !strncmp(path, under, under_length) && !ends_with(path, "-shm") && !ends_with(path, ".lock");
}

static int path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return ours(path);
}

static void absolute(const char *path, char *full)
{
    if (path[0] == '/')
        snprintf(full, PATH_MAX, "%s", path);
    else if (getcwd(full, PATH_MAX / 2))
        strncat(strncat(full, "/", 2), path, PATH_MAX / 2 - 2);
}

static void undo(const struct step *step)
{
    ssize_t done = 0;
    switch (step->kind) {
    case DATA:
        if (step->before_length)
            done = REAL(pwrite64)(step->fd, step->before, step->before_length, step->offset);
        done |= REAL(ftruncate64)(step->fd, step->size);
        break;
    case LENGTH:
        done = REAL(ftruncate64)(step->fd, step->size);
        if (step->before_length)
            done |= REAL(pwrite64)(step->fd, step->before, step->before_length, step->offset);
        break;
    case APPEARED: done = REAL(unlink)(step->path); break;
    case WENT: done = link(step->other, step->path); break;
    case RENAMED: done = REAL(rename)(step->path, step->other); break;
    }
    (void)done;
}

static void lose_what_is_not_synced(int by_chance)
{
    size_t number = 0;
    for (struct step *step = steps; step; step = step->next, number++)
        undo(step);
    if (by_chance) { /* the data in the order of its writing, some of it */
        struct step **all = malloc((number + 1) * sizeof *all);
        size_t filled = 0;
        for (struct step *step = steps; step; step = step->next)
            all[filled++] = step;
        while (filled--)
            if (all[filled]->kind == DATA && rand_r(&seed) % 2)
                if (REAL(pwrite64)(all[filled]->fd, all[filled]->after, all[filled]->after_length, all[filled]->offset) < 0)
                    break;
    }
}

static void die(void)
{
    if (action == POWER || action == CHANCE)
        lose_what_is_not_synced(action == CHANCE);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Counts a boundary. 1: the call has to fail, errno is set. Dies where it has to; `half` is called before a HALF death. */
static int boundary(void (*half)(void *), void *argument)
{
    count++;
    if (told_to_fail()) {
        errno = error_number;
        return 1;
    }
    if (action == NONE || count < at)
        return 0;
    if (action == FAIL) {
        if (count >= at + fails)
            return 0;
        errno = error_number;
        return 1;
    }
    if (action == HALF && half)
        half(argument);
    die();
    return 1;
}

static struct step *remember(int kind)
{
    struct step *step = calloc(1, sizeof *step);
    step->kind = kind;
    step->fd = -1;
    step->next = steps;
    steps = step;
    return step;
}

static void remember_data(int fd, const char *path, const void *data, size_t length, off_t offset)
{
    struct stat info;
    if (fstat(fd, &info))
        return;
    struct step *step = remember(DATA);
    step->device = info.st_dev, step->inode = info.st_ino, step->size = info.st_size, step->offset = offset;
    step->fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    step->after = memcpy(malloc(length), data, length);
    step->after_length = length;
    step->before = malloc(length);
    ssize_t got = pread64(step->fd, step->before, length, offset);
    step->before_length = got > 0 ? (size_t)got : 0;
}

static void remember_length(int fd, const char *path, off_t length)
{
    struct stat info;
    if (fstat(fd, &info) || info.st_size == length)
        return;
    struct step *step = remember(LENGTH);
    step->device = info.st_dev, step->inode = info.st_ino, step->size = info.st_size, step->offset = length;
    step->fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    if (info.st_size > length) {
        step->before = malloc((size_t)(info.st_size - length));
        ssize_t got = pread64(step->fd, step->before, (size_t)(info.st_size - length), length);
        step->before_length = got > 0 ? (size_t)got : 0;
    }
}

static void keep(const char *path, char *kept_as)
{
    snprintf(kept_as, PATH_MAX, "%.*s/%d", PATH_MAX - 32, attic, kept++);
    (void)!link(path, kept_as);
}

/* fsync of a file makes its data and lengths durable, fsync of a folder the names in it. */
static void synced(int fd)
{
    struct stat info;
    char path[PATH_MAX];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (fstat(fd, &info) || length < 0)
        return;
    path[length] = 0;
    for (struct step **step = &steps; *step;) {
        struct step *one = *step;
        int names = one->kind == APPEARED || one->kind == WENT || one->kind == RENAMED;
        int done = names ? S_ISDIR(info.st_mode) && !strncmp(one->path, path, (size_t)length)
                               && one->path[length] == '/' && !strchr(one->path + length + 1, '/')
                         : one->device == info.st_dev && one->inode == info.st_ino;
        if (!done) {
            step = &one->next;
            continue;
        }
        *step = one->next;
        if (one->fd >= 0)
            REAL(close)(one->fd);
        free(one->before);
        free(one->after);
        free(one);
    }
}

struct writing { int fd; const void *data; size_t length; off_t offset; };

static void half_of(void *argument)
{
    struct writing *w = argument;
    (void)!REAL(pwrite64)(w->fd, w->data, w->length / 2, w->offset);
}

static ssize_t write_at(int fd, const void *data, size_t length, off_t offset, int moves)
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return moves ? REAL(write)(fd, data, length) : REAL(pwrite64)(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    if (moves)
        offset = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    struct writing all = {fd, data, length, offset};
    ssize_t done = -1;
    if (!boundary(half_of, &all)) {
        remember_data(fd, path, data, length, offset);
        done = moves ? REAL(write)(fd, data, length) : REAL(pwrite64)(fd, data, length, offset);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) { return write_at(fd, data, length, 0, 1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return write_at(fd, data, length, offset, 0); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return write_at(fd, data, length, offset, 0); }

static int truncate_to(int fd, off_t length)
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return REAL(ftruncate64)(fd, length);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (!boundary(NULL, NULL)) {
        remember_length(fd, path, length);
        result = REAL(ftruncate64)(fd, length);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return truncate_to(fd, length); }
int ftruncate64(int fd, off_t length) { return truncate_to(fd, length); }

static int sync_with(int fd, int (*real)(int))
{
    char path[PATH_MAX];
    int mine = path_of(fd, path);
    if (!mine) {
        strncat(path, "/", 2); /* the folder itself */
        mine = under_length && !strcmp(path, under);
    }
    if (!mine)
        return real(fd);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (!boundary(NULL, NULL)) {
        result = real(fd);
        synced(fd);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_with(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_with(fd, REAL(fdatasync)); }

int rename(const char *old, const char *new)
{
    char from[PATH_MAX] = "", to[PATH_MAX] = "";
    absolute(old, from);
    absolute(new, to);
    if (!ours(to) && !ours(from))
        return REAL(rename)(old, new);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (!boundary(NULL, NULL)) {
        struct stat info;
        if (!lstat(to, &info)) {
            struct step *gone = remember(WENT);
            strcpy(gone->path, to);
            keep(to, gone->other);
        }
        struct step *step = remember(RENAMED);
        strcpy(step->path, to);
        strcpy(step->other, from);
        result = REAL(rename)(old, new);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *name)
{
    char path[PATH_MAX] = "";
    struct stat info;
    absolute(name, path);
    if (!ours(path) || lstat(path, &info))
        return REAL(unlink)(name);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (!boundary(NULL, NULL)) {
        struct step *step = remember(WENT);
        strcpy(step->path, path);
        keep(path, step->other);
        result = REAL(unlink)(name);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int open_at(const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX] = "";
    struct stat info;
    absolute(name, path);
    if (!(flags & O_CREAT) || !ours(path) || !lstat(path, &info))
        return REAL(open64)(name, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = -1;
    if (!boundary(NULL, NULL)) {
        fd = REAL(open64)(name, flags, mode);
        if (fd >= 0)
            strcpy(remember(APPEARED)->path, path);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        return open_at(path, flags, mode);                                                                             \
    }

OPEN(open)
OPEN(open64)
