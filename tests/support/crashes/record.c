/* Records what a process does to the files below a folder: preloaded, it writes every call that changes one, after it
 * succeeded, to a log. CRASH_FOLDER is the folder, CRASH_LOG the log. Read by record.py, which describes a record. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside;
static int log_file = -2;
static char folder[PATH_MAX];
static size_t folder_length;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void start(void) {
    if (log_file != -2) return;
    const char *log = getenv("CRASH_LOG"), *below = getenv("CRASH_FOLDER");
    log_file = -1;
    if (!log || !below) return;
    folder_length = strlen(strcpy(folder, below));
    log_file = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_below(const char *path) {
    return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* The absolute path of a name, which need not exist; 0 if it is not below the folder. */
static int path_of(int at, const char *name, char *path) {
    char base[PATH_MAX], link[64];
    if (name[0] == '/') snprintf(path, PATH_MAX, "%s", name);
    else {
        ssize_t n;
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        n = readlink(link, base, sizeof base - 1);
        if (n < 0) return 0;
        base[n] = 0;
        snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX / 2, base, name);
    }
    return is_below(path);
}

/* A file's number if it is below the folder, or was made there without a name; else 0. */
static uint64_t number_of(int file) {
    char link[64], path[PATH_MAX];
    struct stat status;
    ssize_t n;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (!is_below(path) || fstat(file, &status)) return 0;
    return status.st_ino;
}

static void put(char kind, const char *a, const char *b, uint64_t number, uint64_t place, const void *data, uint64_t size) {
    uint32_t lengths[2] = {a ? strlen(a) : 0, b ? strlen(b) : 0};
    uint64_t numbers[3] = {number, place, size};
    ssize_t (*out)(int, const void *, size_t) = REAL(write);
    out(log_file, &kind, 1);
    out(log_file, lengths, sizeof lengths);
    out(log_file, numbers, sizeof numbers);
    if (a) out(log_file, a, lengths[0]);
    if (b) out(log_file, b, lengths[1]);
    if (size) out(log_file, data, size);
}

/* Every call holds one lock from before it happens until it is noted: the log has the calls of all threads in order. */
#define BEGIN int outer = !inside++; if (outer) { pthread_mutex_lock(&lock); start(); }
#define END { int error = errno; if (outer) pthread_mutex_unlock(&lock); inside--; errno = error; }
#define NOTED (outer && log_file >= 0)

static int opened(const char *call, int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    BEGIN
    int existed = 1;
    struct stat status;
    int ours = NOTED && path_of(at, name, path);
    if (ours) existed = !stat(path, &status);
    int file = ((int (*)(int, const char *, int, ...))real(call))(at, name, flags, mode);
    if (ours && file >= 0) {
        fstat(file, &status);
        if ((flags & O_TMPFILE) == O_TMPFILE) put('c', 0, 0, status.st_ino, 0, 0, 0);
        else if (!existed) put('c', path, 0, status.st_ino, 0, 0, 0);
        else if (flags & O_TRUNC) put('t', 0, 0, status.st_ino, 0, 0, 0);
    }
    END
    return file;
}

#define MODE va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
int open(const char *name, int flags, ...) { MODE return opened("openat", AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened("openat64", AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE return opened("openat", at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE return opened("openat64", at, name, flags, mode); }

static void wrote(int file, const void *data, ssize_t size, off_t place) {
    uint64_t number = number_of(file);
    if (size > 0 && number) put('w', 0, 0, number, place, data, size);
}

ssize_t write(int file, const void *data, size_t size) {
    BEGIN
    off_t place = NOTED ? lseek(file, 0, SEEK_CUR) : -1;
    if (place >= 0 && (fcntl(file, F_GETFL) & O_APPEND)) place = lseek(file, 0, SEEK_END);
    ssize_t done = REAL(write)(file, data, size);
    if (place >= 0) wrote(file, data, done, place);
    END
    return done;
}

#define PWRITE(name, type) \
    ssize_t name(int file, const void *data, size_t size, type place) { \
        BEGIN \
        ssize_t done = REAL(name)(file, data, size, place); \
        if (NOTED) wrote(file, data, done, place); \
        END \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, type) \
    int name(int file, type size) { \
        BEGIN \
        int done = REAL(name)(file, size); \
        uint64_t number = NOTED && !done ? number_of(file) : 0; \
        if (number) put('t', 0, 0, number, size, 0, 0); \
        END \
        return done; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name) \
    int name(int file) { \
        BEGIN \
        int done = REAL(name)(file); \
        char link[64], path[PATH_MAX]; \
        struct stat status; \
        uint64_t number = NOTED && !done ? number_of(file) : 0; \
        if (number && !fstat(file, &status) && S_ISDIR(status.st_mode)) { \
            snprintf(link, sizeof link, "/proc/self/fd/%d", file); \
            ssize_t n = readlink(link, path, sizeof path - 1); \
            path[n < 0 ? 0 : n] = 0; \
            put('d', path, 0, number, 0, 0, 0); \
        } else if (number) put('s', 0, 0, number, 0, 0, 0); \
        END \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

static int moved(char kind, int done, int noted, int at, const char *old, int to, const char *new) {
    char a[PATH_MAX], b[PATH_MAX];
    struct stat status;
    int from = path_of(at, old, a);
    if (!done && noted && path_of(to, new, b) && !lstat(b, &status)) put(kind, from ? a : "", b, status.st_ino, 0, 0, 0);
    return done;
}

int rename(const char *old, const char *new) {
    BEGIN
    int done = moved('r', REAL(rename)(old, new), NOTED, AT_FDCWD, old, AT_FDCWD, new);
    END
    return done;
}

int renameat(int at, const char *old, int to, const char *new) {
    BEGIN
    int done = moved('r', REAL(renameat)(at, old, to, new), NOTED, at, old, to, new);
    END
    return done;
}

int link(const char *old, const char *new) {
    BEGIN
    int done = moved('l', REAL(link)(old, new), NOTED, AT_FDCWD, old, AT_FDCWD, new);
    END
    return done;
}

int linkat(int at, const char *old, int to, const char *new, int flags) {
    BEGIN
    int done = moved('l', REAL(linkat)(at, old, to, new, flags), NOTED, at, old, to, new);
    END
    return done;
}

static void gone(char kind, int done, int noted, int at, const char *name) {
    char path[PATH_MAX];
    if (!done && noted && path_of(at, name, path)) put(kind, path, 0, 0, 0, 0, 0);
}

int unlink(const char *name) {
    BEGIN
    int done = REAL(unlink)(name);
    gone('u', done, NOTED, AT_FDCWD, name);
    END
    return done;
}

int unlinkat(int at, const char *name, int flags) {
    BEGIN
    int done = REAL(unlinkat)(at, name, flags);
    gone(flags & AT_REMOVEDIR ? 'x' : 'u', done, NOTED, at, name);
    END
    return done;
}

int rmdir(const char *name) {
    BEGIN
    int done = REAL(rmdir)(name);
    gone('x', done, NOTED, AT_FDCWD, name);
    END
    return done;
}

int mkdir(const char *name, mode_t mode) {
    char path[PATH_MAX];
    BEGIN
    int done = REAL(mkdir)(name, mode);
    if (!done && NOTED && path_of(AT_FDCWD, name, path)) put('m', path, 0, 0, 0, 0, 0);
    END
    return done;
}

/* For the recorded program itself: a mark in the log, so that a test knows what had happened by then. */
void crash_mark(const char *text) {
    BEGIN
    if (NOTED) put('n', text, 0, 0, 0, 0, 0);
    END
}
