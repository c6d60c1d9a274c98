/* Lets the n-th write, truncation, rename or fsync under a folder fail; test_write_faults.py.
 *
 * Preloaded into a process (LD_PRELOAD), it counts these calls from arm() on, but not those
 * on Chroma's files. The last mode is a power cut: what was written since the last fsync of
 * its file is taken back before the process dies. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT, IO_ERROR, FULL_DISK, KILL, TORN, POWER_CUT };

struct change {
    struct change *next;
    int fd;
    dev_t device;
    ino_t inode;
    off_t offset, size_before;
    size_t length;
    char *before;
};

static char folder[PATH_MAX];
static int mode, target, counted, armed;
static struct change *changes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void arm(const char *below, int how, int when) {
    snprintf(folder, sizeof folder, "%s", below);
    mode = how, target = when, counted = 0, armed = 1;
}

int disarm(void) {
    armed = 0;
    return counted;
}

static int is_below(const char *path) {
    return strncmp(path, folder, strlen(folder)) == 0 && !strstr(path, "/chroma");
}

static int is_watched(int fd) {
    char link[64], path[PATH_MAX];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static void take_back(void) {
    for (struct change *c = changes; c; c = c->next) {
        for (size_t done = 0; done < c->length;) {
            ssize_t n = REAL(pwrite)(c->fd, c->before + done, c->length - done, c->offset + done);
            if (n <= 0) break;
            done += n;
        }
        REAL(ftruncate)(c->fd, c->size_before);
    }
}

static void die(void) {
    if (mode == POWER_CUT) take_back();
    kill(getpid(), SIGKILL);
    pause();
}

/* Gives 1 if this call is to fail with errno; does not come back if the process is to die. */
static int strikes(void) {
    if (++counted != target || mode == COUNT || mode == TORN) return 0;
    if (mode == KILL || mode == POWER_CUT) die();
    errno = mode == IO_ERROR ? EIO : ENOSPC;
    return 1;
}

static void note(int fd, off_t offset, size_t length) {
    struct stat status;
    if (mode != POWER_CUT || fstat(fd, &status) || !S_ISREG(status.st_mode)) return;
    struct change *c = calloc(1, sizeof *c);
    c->device = status.st_dev, c->inode = status.st_ino;
    c->offset = offset, c->size_before = status.st_size;
    for (struct change *other = changes; other && !c->fd; other = other->next)
        if (other->device == c->device && other->inode == c->inode) c->fd = other->fd;
    if (!c->fd) { /* by its own description: closing a copy would drop SQLite's locks */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        c->fd = open(link, O_RDWR);
    }
    c->before = malloc(length ? length : 1);
    ssize_t held = pread(c->fd, c->before, length, offset);
    c->length = held > 0 ? held : 0;
    c->next = changes;
    changes = c;
}

static void settle(int fd) {
    struct stat status;
    if (mode != POWER_CUT || fstat(fd, &status)) return;
    for (struct change **place = &changes; *place;) {
        struct change *c = *place;
        if (c->device == status.st_dev && c->inode == status.st_ino) *place = c->next;
        else place = &c->next;
    }
}

#define GUARDED(call, before_it, after_it)                        \
    pthread_mutex_lock(&lock);                                    \
    int failed = strikes();                                       \
    if (!failed) { before_it; }                                   \
    __typeof__(call) result = failed ? -1 : (call);               \
    if (!failed && result >= 0) { after_it; }                     \
    pthread_mutex_unlock(&lock);                                  \
    return result

#define TEAR(half) if (mode == TORN && counted == target) { half; die(); }

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    if (!is_watched(fd)) return REAL(pwrite)(fd, data, length, offset);
    GUARDED(REAL(pwrite)(fd, data, length, offset),
            TEAR(REAL(pwrite)(fd, data, length / 2, offset)) note(fd, offset, length), );
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    return pwrite(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!is_watched(fd)) return REAL(write)(fd, data, length);
    GUARDED(REAL(write)(fd, data, length),
            TEAR(REAL(write)(fd, data, length / 2)) note(fd, lseek(fd, 0, SEEK_CUR), length), );
}

int ftruncate(int fd, off_t size) {
    if (!is_watched(fd)) return REAL(ftruncate)(fd, size);
    struct stat status;
    off_t lost = fstat(fd, &status) == 0 && status.st_size > size ? status.st_size - size : 0;
    GUARDED(REAL(ftruncate)(fd, size), TEAR() note(fd, size, lost), );
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fsync(int fd) {
    if (!is_watched(fd)) return REAL(fsync)(fd);
    GUARDED(REAL(fsync)(fd), TEAR(), settle(fd));
}

int fdatasync(int fd) {
    if (!is_watched(fd)) return REAL(fdatasync)(fd);
    GUARDED(REAL(fdatasync)(fd), TEAR(), settle(fd));
}

int rename(const char *from, const char *to) {
    if (!armed || !is_below(to)) return REAL(rename)(from, to);
    GUARDED(REAL(rename)(from, to), TEAR(), );
}
