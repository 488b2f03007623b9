/* dbtool: a small native client of keychain-auth, in plain C, to read and to learn from.
 *
 *   dbtool write   SERVICE                 store each TARGET=VALUE line of stdin in one batch: all or none
 *   dbtool read    SERVICE PREFIX          every secret whose target begins with PREFIX
 *   dbtool session SERVICE PREFIX          the same once for each line on stdin, over one connection
 *
 * Prints the daemon's answer, one JSON line for each request. Exit code: 0 success, 3 denied, 4 no daemon, 1 anything else.
 *
 * All there is to the protocol: connect, write one line of JSON, read one line of JSON. There is no token and no password,
 * because the kernel tells the daemon which program this is. The one duty of a client is SOCK_CLOEXEC: a connection that
 * would survive an exec could be left to another program, so the daemon refuses it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void die(int code, const char *message) {
    fprintf(stderr, "dbtool: %s\n", message);
    exit(code);
}

/* The same order as everywhere: KEYCHAIN_AUTH_SOCKET, the runtime folder, the cache folder. */
static void socket_path(char *path, size_t size) {
    const char *given = getenv("KEYCHAIN_AUTH_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
    int length = given && *given ? snprintf(path, size, "%s", given)
        : runtime && *runtime    ? snprintf(path, size, "%s/keychain-auth/agent.sock", runtime)
                                 : snprintf(path, size, "%s/.cache/keychain-auth/agent.sock", home ? home : "");
    if (length < 0 || (size_t)length >= size) die(1, "the path of the socket is too long");
}

static int connect_to_daemon(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socket_path(address.sun_path, sizeof address.sun_path);
    int daemon = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (daemon < 0 || connect(daemon, (struct sockaddr *)&address, sizeof address) != 0)
        die(4, "keychain-auth daemon is not running. Start it with: keychain-auth start");
    return daemon;
}

/* A JSON string. Bytes of UTF-8 go through as they are; only these characters have to be escaped (RFC 8259, 7). */
static void put_string(FILE *out, const char *text, size_t length) {
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text, *end = at + length; at < end; at++) {
        if (*at == '"' || *at == '\\') fprintf(out, "\\%c", *at);
        else if (*at < 0x20) fprintf(out, "\\u%04x", *at);
        else fputc(*at, out);
    }
    fputc('"', out);
}

static void put_head(FILE *out, const char *action, const char *service) {
    fprintf(out, "{\"type\":\"REQUEST\",\"action\":\"%s\",\"service\":", action);
    put_string(out, service, strlen(service));
}

/* Secrets come in on stdin, a TARGET=VALUE on each line: what stands on a command line, every user can read in ps. */
static int read_pairs(char **pairs, int most) {
    int count = 0;
    size_t size = 0;
    for (char *line = NULL; count < most && getline(&line, &size, stdin) > 0; line = NULL, size = 0) {
        line[strcspn(line, "\n")] = '\0';
        if (!strchr(line, '=')) die(2, "expected TARGET=VALUE on each line of stdin");
        pairs[count++] = line;
    }
    return count;
}

static void put_write(FILE *out, const char *service) {
    char *pairs[1000]; /* as many as one request may hold */
    int count = read_pairs(pairs, 1000);
    put_head(out, "write", service);
    fputs(",\"targets\":[", out);
    for (int at = 0; at < count; at++) {
        if (at) fputc(',', out);
        put_string(out, pairs[at], strcspn(pairs[at], "="));
    }
    fputs("],\"values\":[", out);
    for (int at = 0; at < count; at++) {
        const char *value = strchr(pairs[at], '=') + 1;
        if (at) fputc(',', out);
        put_string(out, value, strlen(value));
    }
    fputs("]}\n", out);
}

static void put_read(FILE *out, const char *service, const char *prefix) {
    put_head(out, "read", service);
    fputs(",\"match\":\"prefix\",\"targets\":[", out);
    put_string(out, prefix, strlen(prefix));
    fputs("]}\n", out);
}

static void send_all(int daemon, const char *bytes, size_t length) {
    while (length) {
        ssize_t sent = send(daemon, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0) die(1, "the daemon closed the connection");
        bytes += sent;
        length -= (size_t)sent;
    }
}

/* Print one answer; the exit code that it means. */
static int show_answer(FILE *answers) {
    static char *line; /* getline makes it as long as the answer is */
    static size_t size;
    if (getline(&line, &size, answers) < 0) die(1, "the daemon closed the connection");
    fputs(line, stdout);
    fflush(stdout);
    if (strstr(line, "\"status\":\"success\"")) return 0;
    return strstr(line, "\"status\":\"denied\"") ? 3 : 1;
}

int main(int count, char **words) {
    if (count < 3 || (count < 4 && strcmp(words[1], "write"))) die(2, "usage: dbtool write SERVICE | read SERVICE PREFIX | session SERVICE PREFIX");
    int session = !strcmp(words[1], "session");
    char *request, line[256];
    size_t length;
    FILE *out = open_memstream(&request, &length); /* the whole line first, so that it goes out in one piece */
    if (!out) die(1, "out of memory");
    if (!strcmp(words[1], "write")) put_write(out, words[2]);
    else if (session || !strcmp(words[1], "read")) put_read(out, words[2], words[3]);
    else die(2, "the first word is write, read or session");
    fclose(out);

    int daemon = connect_to_daemon(), code = 0;
    FILE *answers = fdopen(daemon, "r");
    if (!answers) die(1, "out of memory");
    while (!session || fgets(line, sizeof line, stdin)) {
        send_all(daemon, request, length);
        code = show_answer(answers);
        if (!session) break;
    }
    fclose(answers);
    free(request);
    return code;
}
