/* load: asks as fast as answers come, and says how fast that was.
 *
 * Contract: one request is outstanding on each connection. Every answer must begin with the expected bytes: a denial is an
 * error that ends the run, never a fast answer. What the warm-up asks is not counted. Prints one JSON object:
 *   requests, seconds, per_second, p50_us, p99_us (of the counted part), total (all requests, warm-up and ending included)
 * A latency is the time from send to the whole line, in steps of 0.1 µs; above 100 ms it counts as 100 ms.
 *
 * Usage: load ask     SOCKET REQUEST-FILE                        each line in turn, answers to stdout
 *        load steady  SOCKET REQUEST-FILE EXPECT CONNECTIONS SECONDS WARMUP-SECONDS [REQUESTS]
 *        load spin    SOCKET REQUEST-FILE EXPECT CONNECTIONS SECONDS WARMUP-SECONDS [REQUESTS]
 *        load connect SOCKET REQUEST-FILE EXPECT 1 SECONDS WARMUP-SECONDS [REQUESTS]
 *        load hold    SOCKET REQUEST-FILE EXPECT CONNECTIONS 0 0
 * steady keeps its connections, connect opens and closes one for each request. With REQUESTS it ends after so many.
 * A request file of several lines (at most 64) is asked line after line, from the first again after the last.
 * hold asks once on each connection, prints "holding" and is silent until its stdin ends.
 * steady sleeps until an answer wakes it, as clients do, and the server pays for waking it: on a virtual machine often more
 * than for the answer itself. spin never sleeps (it needs a processor of its own), so that the server's own work shows.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, CHUNK = 1 << 20, STEPS = 1000000, LINES = 64 };

struct connection {
    int fd;
    int64_t asked; /* nanoseconds, monotonic */
    size_t seen;   /* bytes of the present answer that have come */
};

static const char *path, *expected;
static char request[CHUNK], chunk[CHUNK];
static size_t request_length, expected_length, line_ends[LINES];
static int lines, next_line;
static uint32_t histogram[STEPS];
static int64_t start, counted_from, until;
static long counted, total, limit;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "");
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int open_connection(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail(path);
    return fd;
}

static void ask(struct connection *connection) {
    connection->asked = now();
    connection->seen = 0;
    size_t from = next_line ? line_ends[next_line - 1] : 0, length = line_ends[next_line] - from;
    next_line = next_line + 1 < lines ? next_line + 1 : 0;
    if (send(connection->fd, request + from, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
}

/* 1 when the answer is complete. Only the first receive can hold the beginning of the line. */
static int receive(struct connection *connection) {
    ssize_t got = recv(connection->fd, chunk, sizeof chunk - 1, 0);
    if (got <= 0) {
        if (got == 0) errno = 0;
        fail("the connection ended before the answer");
    }
    size_t have = (size_t)got;
    if (connection->seen == 0 && (have < expected_length || memcmp(chunk, expected, expected_length) != 0)) {
        fprintf(stderr, "load: unexpected answer: %.*s\n", (int)(have < 300 ? have : 300), chunk);
        exit(1);
    }
    connection->seen += have;
    return chunk[have - 1] == '\n';
}

/* Count one answer; 0 when the run is over. */
static int record(int64_t asked) {
    int64_t then = now();
    total++;
    if (asked >= counted_from) {
        int64_t step = (then - asked) / 100;
        histogram[step < STEPS ? step : STEPS - 1]++;
        counted++;
    }
    return then < until && (limit == 0 || total < limit);
}

static void keep_asking(int connections, int spin) {
    static struct connection all[MOST];
    struct epoll_event event = {.events = EPOLLIN}, ready[64];
    int poll = epoll_create1(EPOLL_CLOEXEC), running = 1;
    for (int at = 0; at < connections; at++) {
        all[at].fd = open_connection();
        event.data.ptr = &all[at];
        epoll_ctl(poll, EPOLL_CTL_ADD, all[at].fd, &event);
    }
    for (int at = 0; at < connections; at++) ask(&all[at]);
    while (running) {
        int many = epoll_wait(poll, ready, 64, spin ? 0 : 10000);
        if (many == 0 && (!spin || now() > until + INT64_C(10000000000))) {
            errno = 0;
            fail("no answer for 10 s");
        }
        for (int at = 0; at < many && running; at++) {
            struct connection *connection = ready[at].data.ptr;
            if (!receive(connection)) continue;
            running = record(connection->asked);
            if (running) ask(connection);
        }
    }
}

static void reconnecting(void) {
    struct connection connection;
    int64_t asked;
    do {
        asked = now(); /* the connect is part of what is measured */
        connection.fd = open_connection();
        ask(&connection);
        while (!receive(&connection)) continue;
        close(connection.fd);
    } while (record(asked));
}

static void hold(int connections) {
    struct connection connection;
    char byte;
    for (int at = 0; at < connections; at++) {
        connection.fd = open_connection();
        ask(&connection);
        while (!receive(&connection)) continue;
    }
    puts("holding");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) continue;
}

static double percentile(double part) {
    long wanted = (long)((double)counted * part), so_far = 0;
    for (int step = 0; step < STEPS; step++)
        if ((so_far += histogram[step]) > wanted) return step / 10.0;
    return 0;
}

static void load_request(FILE *file) {
    request_length = fread(request, 1, sizeof request, file);
    for (size_t at = 0; at < request_length; at++) {
        if (request[at] != '\n') continue;
        if (lines == LINES) fail("the request file holds too many lines");
        line_ends[lines++] = at + 1;
    }
    if (!lines || line_ends[lines - 1] != request_length) fail("the request file must hold whole lines");
}

/* Every line of the file on one connection; a last line without newline is not sent. */
static void ask_all(FILE *file) {
    struct connection connection = {.fd = open_connection()};
    while (fgets(request, sizeof request, file)) {
        line_ends[0] = strlen(request);
        ask(&connection);
        for (int done = 0; !done;) {
            ssize_t got = recv(connection.fd, chunk, sizeof chunk, 0);
            if (got <= 0) fail("the connection ended before the answer");
            fwrite(chunk, 1, (size_t)got, stdout);
            done = chunk[got - 1] == '\n';
        }
    }
}

int main(int count, char **words) {
    FILE *file = count > 3 ? fopen(words[3], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: %s ask|steady|spin|connect|hold SOCKET REQUEST-FILE …\n", words[0]);
        return 2;
    }
    path = words[2];
    if (!strcmp(words[1], "ask")) {
        ask_all(file);
        return 0;
    }
    if (count < 8) return 2;
    load_request(file);
    expected = words[4];
    expected_length = strlen(expected);
    int connections = atoi(words[5]);
    if (connections < 1 || connections > MOST) return 2;
    if (!strcmp(words[1], "hold")) {
        hold(connections);
        return 0;
    }
    start = now();
    counted_from = start + (int64_t)(atof(words[7]) * 1e9);
    until = counted_from + (int64_t)(atof(words[6]) * 1e9);
    limit = count > 8 ? atol(words[8]) : 0;
    if (!strcmp(words[1], "connect")) reconnecting();
    else keep_asking(connections, !strcmp(words[1], "spin"));
    double seconds = (double)(now() - (counted_from > start ? counted_from : start)) / 1e9;
    printf("{\"requests\":%ld,\"seconds\":%.6f,\"per_second\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"total\":%ld}\n",
           counted, seconds, (double)counted / seconds, percentile(0.50), percentile(0.99), total);
    return 0;
}
