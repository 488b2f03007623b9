/* A stand-in for the system calls of macOS that say what a process is. The structures are written down here as Apple's
 * headers have them (sys/proc_info.h, sys/mount.h), apart from what Python reads at fixed places: the two must agree.
 * What they answer a test says beforehand, by fake_process, fake_socket and fake_filesystem.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void fake_note(const char *format, ...);
void *fake_bytes(unsigned long type, const void *bytes, long length);

struct vinfo_stat {
    uint32_t vst_dev;
    uint16_t vst_mode, vst_nlink;
    uint64_t vst_ino;
    uint32_t vst_uid, vst_gid;
    int64_t vst_atime, vst_atimensec, vst_mtime, vst_mtimensec, vst_ctime, vst_ctimensec, vst_birthtime,
        vst_birthtimensec;
    int64_t vst_size, vst_blocks;
    int32_t vst_blksize;
    uint32_t vst_flags, vst_gen, vst_rdev;
    int64_t vst_qspare[2];
};
struct vnode_info {
    struct vinfo_stat vi_stat;
    int vi_type, vi_pad;
    int32_t vi_fsid[2];
};
struct vnode_info_path {
    struct vnode_info vip_vi;
    char vip_path[1024];
};
struct proc_regioninfo {
    uint32_t pri_protection, pri_max_protection, pri_inheritance, pri_flags;
    uint64_t pri_offset;
    uint32_t pri_behavior, pri_user_wired_count, pri_user_tag, pri_pages_resident, pri_pages_shared_now_private,
        pri_pages_swapped_out, pri_pages_dirtied, pri_ref_count, pri_shadow_depth, pri_share_mode,
        pri_private_pages_resident, pri_shared_pages_resident, pri_obj_id, pri_depth;
    uint64_t pri_address, pri_size;
};
struct proc_regionwithpathinfo {
    struct proc_regioninfo prp_prinfo;
    struct vnode_info_path prp_vip;
};
struct proc_vnodepathinfo {
    struct vnode_info_path pvi_cdir, pvi_rdir;
};
struct proc_bsdinfo {
    uint32_t pbi_flags, pbi_status, pbi_xstatus, pbi_pid, pbi_ppid, pbi_uid, pbi_gid, pbi_ruid, pbi_rgid, pbi_svuid,
        pbi_svgid, rfu_1;
    char pbi_comm[16], pbi_name[32];
    uint32_t pbi_nfiles, pbi_pgid, pbi_pjobc, e_tdev, e_tpgid;
    int32_t pbi_nice;
    uint64_t pbi_start_tvsec, pbi_start_tvusec;
};
struct proc_fdinfo {
    int32_t proc_fd;
    uint32_t proc_fdtype;
};
struct proc_fileinfo {
    uint32_t fi_openflags, fi_status;
    int64_t fi_offset;
    int32_t fi_type;
    uint32_t fi_guardflags;
};
struct sockbuf_info {
    uint32_t sbi_cc, sbi_hiwat, sbi_mbcnt, sbi_mbmax, sbi_lowat;
    short sbi_flags, sbi_timeo;
};
struct un_sockinfo {
    uint64_t unsi_conn_so, unsi_conn_pcb;
    char unsi_addr[255], unsi_caddr[255];
};
struct socket_info {
    struct vinfo_stat soi_stat;
    uint64_t soi_so, soi_pcb;
    int soi_type, soi_protocol, soi_family;
    short soi_options, soi_linger, soi_state, soi_qlen, soi_incqlen, soi_qlimit, soi_timeo;
    unsigned short soi_error;
    uint32_t soi_oobmark;
    struct sockbuf_info soi_rcv, soi_snd;
    int soi_kind;
    uint32_t rfu_1;
    struct un_sockinfo pri_un;
};
struct socket_fdinfo {
    struct proc_fileinfo pfi;
    struct socket_info psi;
};
struct statfs64 {
    uint32_t f_bsize;
    int32_t f_iosize;
    uint64_t f_blocks, f_bfree, f_bavail, f_files, f_ffree;
    int32_t f_fsid[2];
    uint32_t f_owner, f_type, f_flags, f_fssubtype;
    char f_fstypename[16], f_mntonname[1024], f_mntfromname[1024];
    uint32_t f_flags_ext, f_reserved[7];
};

typedef struct {
    int pid, parent, uid, traced, version, status, gone, homemade;
    uint64_t start;
    uint32_t device;
    uint64_t inode;
    int64_t size, mtime_ns, ctime_ns;
    char path[1024], folder[1024], team[32];
    unsigned char arguments[4096];
    long arguments_length;
} process;
typedef struct {
    int pid, fd, kind, inheritable;
    uint64_t own, other;
} descriptor;

static process processes[8];
static descriptor descriptors[1024];
static int process_count, descriptor_count;
static char filesystem_kind[16];
static uint32_t filesystem_flags;

void fake_forget(void) { process_count = descriptor_count = 0; }

void fake_process(int pid, int parent, int uid, int traced, int version, int status, uint64_t start, const char *path,
                  uint32_t device, uint64_t inode, int64_t size, int64_t mtime_ns, int64_t ctime_ns) {
    process made = {pid, parent, uid, traced, version, status, 0, 0, start, device, inode, size, mtime_ns, ctime_ns,
                    "", "", "", "", 0};
    int at = 0;
    while (at < process_count && processes[at].pid != pid)
        at++;
    strcpy(made.path, path);
    processes[at] = made;
    if (at == process_count)
        process_count++;
}

static process *find(int pid) {
    for (int n = 0; n < process_count; n++)
        if (processes[n].pid == pid && !processes[n].gone)
            return &processes[n];
    errno = ESRCH;
    return NULL;
}

void fake_gone(int pid) { find(pid)->gone = 1; }
void fake_version(int pid, int version) { find(pid)->version = version; }
void fake_team(int pid, const char *team, int homemade) {
    strcpy(find(pid)->team, team);
    find(pid)->homemade = homemade;
}
void fake_folder(int pid, const char *folder) { strcpy(find(pid)->folder, folder); }
void fake_arguments(int pid, const void *raw, long length) {
    process *at = find(pid);
    memcpy(at->arguments, raw, length);
    at->arguments_length = length;
}

void fake_socket(int pid, int fd, int kind, uint64_t own, uint64_t other, int inheritable) {
    descriptor made = {pid, fd, kind, inheritable, own, other};
    descriptors[descriptor_count++] = made;
}

void fake_filesystem(const char *kind, uint32_t flags) {
    strcpy(filesystem_kind, kind);
    filesystem_flags = flags;
}

static void fill(struct vnode_info_path *info, const process *at) {
    struct vinfo_stat *about = &info->vip_vi.vi_stat;
    about->vst_dev = at->device;
    about->vst_ino = at->inode;
    about->vst_size = at->size;
    about->vst_atime = about->vst_birthtime = 7;
    about->vst_mtime = at->mtime_ns / 1000000000, about->vst_mtimensec = at->mtime_ns % 1000000000;
    about->vst_ctime = at->ctime_ns / 1000000000, about->vst_ctimensec = at->ctime_ns % 1000000000;
    strcpy(info->vip_path, at->path);
}

int proc_pidinfo(int pid, int flavor, uint64_t argument, void *buffer, int size) {
    const process *at = find(pid);
    if (at == NULL || argument != 0)
        return 0;
    if (flavor == 1) { /* PROC_PIDLISTFDS: as many as there is room for */
        int count = 0;
        for (int n = 0; n < descriptor_count; n++)
            if (descriptors[n].pid == pid && (count + 1) * (int)sizeof(struct proc_fdinfo) <= size) {
                struct proc_fdinfo one = {descriptors[n].fd, descriptors[n].kind ? 2 : 1};
                ((struct proc_fdinfo *)buffer)[count++] = one;
            }
        return count * sizeof(struct proc_fdinfo);
    }
    if (flavor == 3 && size >= (int)sizeof(struct proc_bsdinfo)) {
        struct proc_bsdinfo info = {.pbi_flags = 0x10 | (at->traced ? 2 : 0), .pbi_pid = pid, .pbi_ppid = at->parent,
                                    .pbi_uid = at->uid, .pbi_gid = 99, .pbi_ruid = 98, .pbi_nfiles = 97,
                                    .pbi_start_tvsec = at->start / 1000000, .pbi_start_tvusec = at->start % 1000000};
        memcpy(buffer, &info, sizeof info);
        return sizeof info;
    }
    if (flavor == 8 && size >= (int)sizeof(struct proc_regionwithpathinfo)) {
        struct proc_regionwithpathinfo info = {.prp_prinfo = {.pri_size = 4096, .pri_depth = 1}};
        fill(&info.prp_vip, at);
        memcpy(buffer, &info, sizeof info);
        return sizeof info;
    }
    if (flavor == 9 && size >= (int)sizeof(struct proc_vnodepathinfo)) {
        struct proc_vnodepathinfo info = {0};
        strcpy(info.pvi_cdir.vip_path, at->folder);
        strcpy(info.pvi_rdir.vip_path, "not this one");
        memcpy(buffer, &info, sizeof info);
        return sizeof info;
    }
    errno = ENOMEM;
    return 0;
}

int proc_pidfdinfo(int pid, int fd, int flavor, void *buffer, int size) {
    if (find(pid) == NULL)
        return 0;
    for (int n = 0; n < descriptor_count; n++)
        if (descriptors[n].pid == pid && descriptors[n].fd == fd) {
            const descriptor *at = &descriptors[n];
            struct socket_fdinfo info = {.pfi = {.fi_openflags = 3, .fi_status = at->inheritable ? 1 : 3, .fi_type = 2}};
            if (flavor != 3 || at->kind == 0)
                break;
            if (size < (int)sizeof info) {
                errno = ENOMEM;
                return 0;
            }
            info.psi.soi_so = at->own, info.psi.soi_pcb = 1;
            info.psi.soi_kind = at->kind, info.psi.soi_error = 5, info.psi.soi_snd.sbi_timeo = 6;
            info.psi.pri_un.unsi_conn_so = at->other;
            memcpy(buffer, &info, sizeof info);
            return sizeof info;
        }
    errno = EBADF;
    return 0;
}

int proc_listpids(uint32_t type, uint32_t kind, void *buffer, int size) {
    if (type != 1 || kind != 0 || size < (int)(process_count * sizeof(int)))
        abort();
    for (int n = 0; n < process_count; n++)
        ((int *)buffer)[n] = processes[n].pid;
    return process_count * sizeof(int);
}

int proc_pidpath(int pid, void *buffer, uint32_t size) {
    const process *at = find(pid);
    if (at == NULL || size < 4096)
        return 0;
    strcpy(buffer, at->path);
    return strlen(at->path);
}

static process *named(const uint32_t *token) {
    process *at = find(token[5]);
    return at != NULL && (uint32_t)at->version == token[7] ? at : NULL;
}

int csops_audittoken(int pid, unsigned operation, void *flags, size_t size, const uint32_t *token) {
    const process *at = named(token);
    if (operation != 0 || size != 4)
        abort();
    if (at == NULL || at->pid != pid) {
        errno = ESRCH;
        return -1;
    }
    memcpy(flags, &at->status, 4);
    return 0;
}

#ifdef __APPLE__
#define SYMBOL "_statfs$INODE64"
#else
#define SYMBOL "statfs$INODE64"
#endif
int fake_statfs(const char *path, struct statfs64 *about) __asm__(SYMBOL);

int fake_statfs(const char *path, struct statfs64 *about) {
    struct statfs64 made = {.f_flags = filesystem_flags, .f_type = 26, .f_owner = 3, .f_fssubtype = 5};
    memcpy(made.f_fstypename, filesystem_kind, sizeof made.f_fstypename);
    strcpy(made.f_mntonname, path[0] == '/' ? "/" : "");
    memcpy(about, &made, sizeof made);
    return 0;
}

int sysctl(const int *name, unsigned count, void *buffer, size_t *size, const void *fresh, size_t fresh_size) {
    if (count != 3 || name[0] != 1 || name[1] != 49 || fresh != NULL || fresh_size != 0)
        abort();
    const process *at = find(name[2]);
    if (at == NULL)
        return -1;
    memcpy(buffer, at->arguments, at->arguments_length);
    *size = at->arguments_length;
    return 0;
}

int ptrace(int request, int pid, void *address, int data) {
    if (pid != 0 || address != NULL || data != 0)
        abort();
    fake_note("ptrace %d\n", request);
    return 0;
}

int mlock(const void *address, size_t size) {
    if ((uintptr_t)address % 4096 != 0 || size % 4096 != 0)
        abort();
    fake_note("mlock\n");
    return 0;
}

/* --- code signatures ---------------------------------------------------------------------------- */

extern const void *kSecGuestAttributeAudit, *kSecCodeInfoTeamIdentifier, *kSecCodeInfoIdentifier;
extern long kCFTypeDictionaryKeyCallBacks[], kCFTypeDictionaryValueCallBacks[];
const void *CFDictionaryGetValue(const void *table, const void *key);
const void *CFDataGetBytePtr(const void *data);
long CFDataGetLength(const void *data);
const void *CFDictionaryCreate(const void *, const void **, const void **, long, const void *, const void *);
void CFRelease(const void *);

int SecCodeCopyGuestWithAttributes(const void *host, const void *wanted, uint32_t flags, const void **code) {
    const void *token = CFDictionaryGetValue(wanted, kSecGuestAttributeAudit);
    if (host != NULL || flags != 0 || token == NULL || CFDataGetLength(token) != 32)
        abort();
    const process *at = named(CFDataGetBytePtr(token));
    if (at == NULL)
        return 100003; /* kPOSIXErrorBase + ESRCH */
    *code = fake_bytes(2, &at, sizeof at); /* an object of no other type */
    return 0;
}

extern const unsigned char *fake_content(const void *object);

int SecRequirementCreateWithString(const void *text, uint32_t flags, const void **requirement) {
    const char *known = "anchor apple generic";
    if (flags != 0)
        abort();
    if (memcmp(fake_content(text), known, strlen(known)) != 0)
        return -67056; /* errSecCSReqInvalid */
    *requirement = fake_bytes(3, known, strlen(known));
    return 0;
}

int SecCodeCheckValidity(const void *code, uint32_t flags, const void *requirement) {
    const process *at;
    memcpy(&at, fake_content(code), sizeof at);
    if (flags != 0)
        abort();
    if (!(at->status & 1))
        return -67062; /* errSecCSUnsigned */
    return requirement != NULL && at->homemade ? -67050 : 0; /* errSecCSReqFailed */
}

int SecCodeCopySigningInformation(const void *code, uint32_t flags, const void **information) {
    const process *at;
    memcpy(&at, fake_content(code), sizeof at);
    if (flags != 2)
        abort();
    const void *keys[] = {kSecCodeInfoIdentifier, kSecCodeInfoTeamIdentifier};
    const void *values[] = {fake_bytes(7, "org.example", 11), fake_bytes(7, at->team, strlen(at->team))};
    *information = CFDictionaryCreate(NULL, keys, values, at->team[0] ? 2 : 1, kCFTypeDictionaryKeyCallBacks,
                                      kCFTypeDictionaryValueCallBacks);
    CFRelease(values[0]);
    CFRelease(values[1]);
    return 0;
}
