/* talker: a native client whose every move a test decides.
 *
 * Contract: stdin is a script, stdout a transcript, both are lines.
 *
 *   stdin   a line that starts with '!' is an order, any other line goes to the socket as it is, newline included
 *   stdout  "<LINE"   one answer
 *           "~BYTES"  what had come of an answer when the stream ended
 *           "#WORD…"  what happened: connected, failed WHY, eof, reset, broken, done ORDER
 *
 * Orders:
 *   !connect       connect (again)                 !close        close the connection
 *   !half-close    shut down our sending side      !raw N        the next N bytes of stdin go out as they are
 *   !stop-reading  leave answers in the socket     !read-on      take them again
 *   !inheritable   clear close-on-exec             !copy         one more descriptor for it, inheritable
 *   !many N        N more connections that say nothing
 *   !pass LINE     send LINE with a descriptor attached (SCM_RIGHTS)
 *   !fork LINE     a forked child sends LINE and ends; "#done" comes when it has ended
 *   !fork-part TEXT  the same, without a newline: the beginning of a line
 *   !exec PATH     this process becomes PATH, called as: PATH SOCKET --fd N (attack: connect, then exec)
 *
 * Usage: talker SOCKET [--late] [--inheritable] [--fd N]
 *   --late  do not connect before !connect; --fd N  take over descriptor N as the connection
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VARIANT
#define VARIANT "plain"
#endif
/* Different text, different bytes, different hash: that is all that tells two programs apart. */
__attribute__((used)) static const char variant[] = "variant " VARIANT;

struct buffer {
    char *bytes;
    size_t length, room;
};

static const char *path;
static int fd = -1, cloexec = SOCK_CLOEXEC, reading = 1;
static struct buffer outgoing, incoming, script;
static size_t raw_left;

static void append(struct buffer *buffer, const char *bytes, size_t length) {
    if (buffer->length + length > buffer->room) {
        buffer->room = 2 * (buffer->length + length);
        buffer->bytes = realloc(buffer->bytes, buffer->room);
        if (!buffer->bytes) abort();
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static void drop(struct buffer *buffer, size_t length) {
    buffer->length -= length;
    memmove(buffer->bytes, buffer->bytes + length, buffer->length);
}

static void print_bytes(char mark, const char *bytes, size_t length) {
    fputc(mark, stdout);
    fwrite(bytes, 1, length, stdout);
    fputc('\n', stdout);
    fflush(stdout);
}

static void report(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_bytes('#', text, strlen(text));
}

static int open_connection(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int new = socket(AF_UNIX, SOCK_STREAM | cloexec, 0);
    if (new < 0) return -1;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (connect(new, (struct sockaddr *)&address, sizeof address) == 0) return new;
    int why = errno;
    close(new);
    errno = why;
    return -1;
}

static void disconnect(void) {
    if (fd >= 0) close(fd);
    fd = -1;
    outgoing.length = incoming.length = 0;
}

static void connect_now(void) {
    disconnect();
    fd = open_connection();
    if (fd < 0) report("failed %s", strerror(errno));
    else report("connected");
}

/* One line with a descriptor in its luggage. */
static void send_with_descriptor(const char *line) {
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part[2] = {{(void *)line, strlen(line)}, {"\n", 1}};
    struct msghdr message = {
        .msg_iov = part, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *luggage = CMSG_FIRSTHDR(&message);
    int passed = STDERR_FILENO;
    luggage->cmsg_level = SOL_SOCKET;
    luggage->cmsg_type = SCM_RIGHTS;
    luggage->cmsg_len = CMSG_LEN(sizeof passed);
    memcpy(CMSG_DATA(luggage), &passed, sizeof passed);
    if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0) report("broken %s", strerror(errno));
}

static void send_from_child(const char *line, size_t parts) {
    struct iovec part[2] = {{(void *)line, strlen(line)}, {"\n", 1}};
    struct msghdr message = {.msg_iov = part, .msg_iovlen = parts};
    pid_t child = fork();
    if (child == 0) _exit(sendmsg(fd, &message, MSG_NOSIGNAL) < 0);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
}

static void open_many(long count) {
    for (long number = 0; number < count; number++)
        if (open_connection() < 0) {
            report("failed %s after %ld", strerror(errno), number);
            return;
        }
}

static void become(const char *program) {
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    execl(program, program, path, "--fd", number, (char *)NULL);
    report("failed exec %s", strerror(errno));
}

static int starts(const char **order, const char *word) {
    size_t length = strlen(word);
    if (strncmp(*order, word, length) != 0) return 0;
    *order += length;
    return 1;
}

static void obey(const char *order) {
    const char *rest = order;
    if (!strcmp(order, "connect")) connect_now();
    else if (!strcmp(order, "close")) disconnect();
    else if (!strcmp(order, "half-close")) shutdown(fd, SHUT_WR);
    else if (!strcmp(order, "stop-reading")) reading = 0;
    else if (!strcmp(order, "read-on")) reading = 1;
    else if (!strcmp(order, "inheritable")) fcntl(fd, F_SETFD, 0);
    else if (!strcmp(order, "copy")) { if (dup(fd) < 0) report("failed %s", strerror(errno)); }
    else if (starts(&rest, "raw ")) raw_left = strtoul(rest, NULL, 10);
    else if (starts(&rest, "many ")) open_many(strtol(rest, NULL, 10));
    else if (starts(&rest, "pass ")) send_with_descriptor(rest);
    else if (starts(&rest, "fork ")) send_from_child(rest, 2);
    else if (starts(&rest, "fork-part ")) send_from_child(rest, 1);
    else if (starts(&rest, "exec ")) become(rest);
    else { report("failed unknown order"); return; }
    report("done %.*s", (int)strcspn(order, " "), order);
}

/* Take from the script what is complete: raw bytes at once, lines when their newline is there. */
static void follow_script(void) {
    while (script.length) {
        if (raw_left) {
            size_t part = raw_left < script.length ? raw_left : script.length;
            append(&outgoing, script.bytes, part);
            drop(&script, part);
            raw_left -= part;
            continue;
        }
        char *end = memchr(script.bytes, '\n', script.length);
        if (!end) return;
        size_t length = (size_t)(end - script.bytes);
        if (script.bytes[0] == '!') {
            *end = 0;
            /* Orders wait until what came before them is sent; but if that waits for us to read, this one frees it. */
            int frees = strcmp(script.bytes, "!read-on") == 0;
            if (outgoing.length && fd >= 0 && !frees) {
                *end = '\n';
                return;
            }
            char *order = strdup(script.bytes + 1);
            drop(&script, length + 1);
            obey(order);
            free(order);
        } else {
            append(&outgoing, script.bytes, length + 1);
            drop(&script, length + 1);
        }
    }
}

static void send_some(void) {
    if (fd < 0) {
        outgoing.length = 0;
        return;
    }
    ssize_t sent = send(fd, outgoing.bytes, outgoing.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) drop(&outgoing, (size_t)sent);
    else if (errno != EAGAIN && errno != EINTR) {
        report("broken %s", strerror(errno));
        outgoing.length = 0;
    }
}

static void end_of_stream(const char *how) {
    if (incoming.length) print_bytes('~', incoming.bytes, incoming.length);
    disconnect();
    report("%s", how);
}

static void receive_some(void) {
    static char chunk[1 << 16];
    ssize_t got = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) end_of_stream("reset");
        return;
    }
    if (got == 0) {
        end_of_stream("eof");
        return;
    }
    size_t seen = incoming.length;
    append(&incoming, chunk, (size_t)got);
    char *end;
    while ((end = memchr(incoming.bytes + seen, '\n', incoming.length - seen))) {
        size_t length = (size_t)(end - incoming.bytes);
        print_bytes('<', incoming.bytes, length);
        drop(&incoming, length + 1);
        seen = 0;
    }
}

static int read_script(void) {
    static char chunk[1 << 16];
    ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
    if (got > 0) append(&script, chunk, (size_t)got);
    return got != 0;
}

static void converse(void) {
    int more = 1;
    while (more || (outgoing.length && fd >= 0)) {
        int wants_out = outgoing.length != 0;
        struct pollfd sources[2] = {
            {more ? STDIN_FILENO : -1, POLLIN, 0},
            {reading || wants_out ? fd : -1, (short)((reading ? POLLIN : 0) | (wants_out ? POLLOUT : 0)), 0},
        };
        if (poll(sources, 2, -1) < 0 && errno != EINTR) return;
        if (sources[1].revents & POLLOUT) send_some();
        if (fd >= 0 && reading && sources[1].revents & (POLLIN | POLLHUP | POLLERR)) receive_some();
        else if (!reading && wants_out && sources[1].revents & (POLLHUP | POLLERR)) send_some();
        if (sources[0].revents & (POLLIN | POLLHUP)) more = read_script();
        follow_script();
        if (outgoing.length) send_some();
        follow_script();
    }
}

int main(int count, char **words) {
    int late = 0;
    if (count < 2) return 2;
    path = words[1];
    for (int at = 2; at < count; at++) {
        if (!strcmp(words[at], "--late")) late = 1;
        else if (!strcmp(words[at], "--inheritable")) cloexec = 0;
        else if (!strcmp(words[at], "--fd") && at + 1 < count) fd = atoi(words[++at]);
        else return 2;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
    if (fd >= 0) report(fcntl(fd, F_GETFD) < 0 ? "failed no such descriptor" : "connected");
    else if (!late) connect_now();
    converse();
    return 0;
}
