/* walls: how long programs take from their start to their end, in turns.
 *
 * Contract: the programs run one after the other, round after round, with their output thrown away. A program that does not
 * end with exit code 0 ends the measurement. posix_spawn is used (a vfork), so that the size of whoever measures does not
 * count. The first round is not counted: it fills the caches. Prints one JSON array of milliseconds for each program.
 *
 * Usage: walls ROUNDS PROGRAM [ARGUMENT…] -- PROGRAM [ARGUMENT…] …
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { PROGRAMS = 8, ROUNDS = 1000 };

extern char **environ;
static double taken[PROGRAMS][ROUNDS];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    int rounds = atoi(words[1]), programs = 0;
    char **begins[PROGRAMS] = {words + 2};
    if (rounds < 1 || rounds >= ROUNDS) return 2;
    for (int at = 2; at < count; at++) {
        if (strcmp(words[at], "--")) continue;
        words[at] = NULL;
        if (++programs == PROGRAMS) return 2;
        begins[programs] = words + at + 1;
    }
    programs++;
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    for (int round = 0; round <= rounds; round++)
        for (int program = 0; program < programs; program++) {
            pid_t pid;
            int status;
            double began = now();
            if (posix_spawn(&pid, begins[program][0], &quiet, NULL, begins[program], environ)) return 1;
            if (waitpid(pid, &status, 0) != pid || status) {
                fprintf(stderr, "walls: %s ended with status %d\n", begins[program][0], status);
                return 1;
            }
            if (round) taken[program][round - 1] = now() - began;
        }
    for (int program = 0; program < programs; program++)
        for (int round = 0; round < rounds; round++)
            printf("%s%.3f%s", round ? "," : program ? ",[" : "[[", taken[program][round], round == rounds - 1 ? "]" : "");
    puts("]");
    return 0;
}
