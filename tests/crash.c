/* Preloaded library, for Linux: records the system calls of a process on files in one directory,
   and makes the Nth call fail, write less, or kill the process.

   If LACKS_LOCKS or LACKS_FLUSH is set to an error number, setting a record lock or flushing a
   directory fails with it, on every file system. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { FAIL = 1, LESS, KILL_BEFORE, KILL_AFTER, TRUNCATE };

static char directory[PATH_MAX];
static int armed, countdown, mode, code, reads;
static char log_[1 << 16];

/* Starts recording calls below `path`; with `only_reads`, reads in place of all other calls. */
void crash_watch(const char *path, int nth, int how, int error, int only_reads) {
    snprintf(directory, sizeof directory, "%s", path);
    countdown = nth;
    mode = how;
    code = error;
    reads = only_reads;
    log_[0] = 0;
    armed = 1;
}

/* Stops recording, and returns the calls, one per line, such as "fsync run.safetensors". */
const char *crash_seen(void) {
    armed = 0;
    return log_;
}

static int within(const char *path, char *name) {
    size_t length = strlen(directory);
    if (!armed || strncmp(path, directory, length) || (path[length] && path[length] != '/'))
        return 0;
    snprintf(name, PATH_MAX, "%s", path[length] ? path + length + 1 : ".");
    return 1;
}

static int named(int fd, char *name) {
    char link[64], path[PATH_MAX];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return within(path, name);
}

static void note(const char *what, const char *name) {
    size_t used = strlen(log_);
    snprintf(log_ + used, sizeof log_ - used, "%s %s\n", what, name);
}

/* Records a call, and returns the mode that applies to it, or 0. KILL_BEFORE does not return. */
static int record(const char *what, const char *name) {
    note(what, name);
    if (--countdown != 0) return 0;
    if (mode == KILL_BEFORE) kill(getpid(), SIGKILL);
    if (mode == FAIL) errno = code;
    return mode;
}

/* Whether the environment variable `what` is set, and then sets errno to its number. */
static int lacks(const char *what) {
    const char *number = getenv(what);
    if (number) errno = atoi(number);
    return number != NULL;
}

static int is_directory(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define RUN(found, what, type, call)                      \
    int what_happens = (found) ? record(what, name) : 0;    \
    if (what_happens == FAIL) return -1;                  \
    type result = call;                                   \
    if (what_happens == KILL_AFTER) kill(getpid(), SIGKILL); \
    return result

#define OPEN(function)                                                        \
    int function(const char *path, int flags, ...) {                          \
        char name[PATH_MAX];                                                  \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t permissions = flags & O_CREAT ? va_arg(rest, mode_t) : 0;      \
        va_end(rest);                                                         \
        RUN(!reads && within(path, name), flags & O_CREAT ? "create" : "open", int, \
            REAL(function)(path, flags, permissions));                        \
    }
OPEN(open)
OPEN(open64)

#define FCNTL(function)                                                       \
    int function(int fd, int command, ...) {                                  \
        char name[PATH_MAX];                                                  \
        va_list rest;                                                         \
        va_start(rest, command);                                              \
        void *argument = va_arg(rest, void *);                                \
        va_end(rest);                                                         \
        if (command == F_SETLK && lacks("LACKS_LOCKS")) return -1;            \
        RUN(!reads && command == F_SETLK && named(fd, name), "lock", int,     \
            REAL(function)(fd, command, argument));                           \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

ssize_t write(int fd, const void *bytes, size_t length) {
    char name[PATH_MAX];
    int happens = !reads && named(fd, name) ? record("write", name) : 0;
    if (happens == FAIL) return -1;
    if (happens == LESS) length = (length + 1) / 2;
    ssize_t result = REAL(write)(fd, bytes, length);
    if (happens == KILL_AFTER) kill(getpid(), SIGKILL);
    return result;
}

#define PWRITE(function, offset)                                              \
    ssize_t function(int fd, const void *bytes, size_t length, offset at) {   \
        char name[PATH_MAX];                                                  \
        RUN(!reads && named(fd, name), "pwrite", ssize_t, REAL(function)(fd, bytes, length, at)); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t pread64(int fd, void *bytes, size_t length, off64_t at) {
    char name[PATH_MAX];
    int happens = reads && named(fd, name) ? record("read", name) : 0;
    if (happens == FAIL) return -1;
    if (happens == LESS) length = (length + 1) / 2;
    if (happens == TRUNCATE) {
        char path[PATH_MAX + 1];
        snprintf(path, sizeof path, "%.2048s/%.2000s", directory, name);
        if (truncate(path, code)) return -1;
    }
    return REAL(pread64)(fd, bytes, length, at);
}

#define ONE(function, what, arguments, ...)                                   \
    int function arguments {                                                  \
        char name[PATH_MAX];                                                  \
        RUN(!reads && named(fd, name), what, int, REAL(function)(__VA_ARGS__)); \
    }

int fsync(int fd) {
    char name[PATH_MAX];
    if (is_directory(fd) && lacks("LACKS_FLUSH")) return -1;
    RUN(!reads && named(fd, name), "fsync", int, REAL(fsync)(fd));
}

ONE(fdatasync, "fsync", (int fd), fd)
ONE(ftruncate, "ftruncate", (int fd, off_t length), fd, length)
ONE(ftruncate64, "ftruncate", (int fd, off64_t length), fd, length)
ONE(fchmod, "fchmod", (int fd, mode_t permissions), fd, permissions)
ONE(syncfs, "fsync", (int fd), fd)

off64_t lseek64(int fd, off64_t at, int whence) {
    char name[PATH_MAX];
    RUN(!reads && named(fd, name), "lseek", off64_t, REAL(lseek64)(fd, at, whence));
}

int rename(const char *from, const char *to) {
    char name[PATH_MAX];
    RUN(!reads && within(to, name), "rename", int, REAL(rename)(from, to));
}

/* Recorded, but neither counted nor made to fail: a partial file that stays is used again by the next
   save. */
int unlink(const char *path) {
    char name[PATH_MAX];
    if (!reads && within(path, name)) note("unlink", name);
    return REAL(unlink)(path);
}
