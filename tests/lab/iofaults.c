/* Records, or lets fail, what a process does to the files below one folder.
 *
 * Compiled by nuvom.testing.iofaults and preloaded (LD_PRELOAD). NUVOM_IO_ROOT names the folder.
 * With NUVOM_IO_LOG everything that changes it is appended to that file, in the order in which it
 * happened, for nuvom.testing.powercut. nuvom_io_fail() chooses the calls that fail, and how.
 *
 * A record: kind (1 byte), number (8), offset (8), length (4), then the data. Any number of
 * processes append to one log, each record in one write. Numbers are little-endian, as on the
 * machines that this is used on.
 *
 *   O  a file or folder was opened: its inode number, flags (1 cut to nothing, 2 a folder), path
 *   W  inode number, offset, data written       T  inode number, new length
 *   F  inode number, thread: a flush begins     S, X  the same: it ended well, or failed
 *   D  path of a folder that was made           U  path of a file that was removed
 *   R  two paths, a NUL between: renamed        L  the same: linked
 *   A  text of nuvom_io_mark()
 *
 * Memory maps are not seen, nor what another process does that has no such library.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 65536
#define MOST_PATH 4096
#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (!real)                                                                                     \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

enum { WRITES = 1, FLUSHES = 2, READS = 4, CUTS = 8 };
enum { TRUNCATED = 1, FOLDER = 2 };

static char root[MOST_PATH];
static size_t root_length;
static int log_file = -1;
static char is_ours[MOST_FILES]; /* whether a descriptor is of something below root */

static long calls, first_failing, last_failing;
static int fail_errno, fail_kinds;

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("NUVOM_IO_ROOT"), *log = getenv("NUVOM_IO_LOG");
    if (!folder || strlen(folder) >= sizeof root)
        return;
    strcpy(root, folder);
    root_length = strlen(root);
    if (log)
        log_file = (int)syscall(SYS_openat, AT_FDCWD, log,
                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* Let the calls numbered first to last from now on fail, counted from 1; 0 lets none fail. */
void nuvom_io_fail(long first, long last, int error, int kinds)
{
    fail_kinds = 0;
    fail_errno = error;
    first_failing = first;
    last_failing = last;
    if (first)
        calls = 0;
    fail_kinds = kinds;
}

/* How many calls of the chosen kinds there were since. */
long nuvom_io_calls(void) { return calls; }

static int fails(int kind)
{
    if (!(fail_kinds & kind))
        return 0;
    long number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (number < first_failing || number > last_failing)
        return 0;
    errno = fail_errno;
    return 1;
}

/* ---- the log --------------------------------------------------------------------------------- */

static void put(char kind, uint64_t number, uint64_t offset, const void *data, size_t length)
{
    char head[21];
    uint32_t size = (uint32_t)length;
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, length}};
    int before = errno;
    if (log_file < 0)
        return;
    head[0] = kind;
    memcpy(head + 1, &number, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &size, 4);
    syscall(SYS_writev, log_file, parts, length ? 2 : 1);
    errno = before;
}

/* Note that the program has come to some point; what was acknowledged, for example. */
void nuvom_io_mark(const char *text) { put('A', 0, 0, text, strlen(text)); }

static const char *whole(const char *path, char *room)
{
    if (path[0] == '/')
        return path;
    if (!getcwd(room, MOST_PATH) || strlen(room) + strlen(path) + 2 > MOST_PATH)
        return "";
    strcat(room, "/");
    return strcat(room, path);
}

static int is_below(int folder, const char *path)
{
    char room[MOST_PATH];
    if (!root_length || !path || (folder != AT_FDCWD && path[0] != '/'))
        return 0;
    path = whole(path, room);
    return strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == 0);
}

static void put_paths(char kind, const char *first, const char *second)
{
    char both[2 * MOST_PATH], room[MOST_PATH];
    size_t length = strlen(strcpy(both, whole(first, room)));
    if (second) {
        strcpy(both + length + 1, whole(second, room));
        length += 1 + strlen(both + length + 1);
    }
    put(kind, 0, 0, both, length);
}

static uint64_t inode_of(int file, int *is_folder)
{
    struct stat found = {0};
    fstat(file, &found);
    if (is_folder)
        *is_folder = S_ISDIR(found.st_mode);
    return found.st_ino;
}

static int known(int file) { return file >= 0 && file < MOST_FILES && is_ours[file]; }

/* ---- opening and closing --------------------------------------------------------------------- */

static int opens(const char *path, int flags, mode_t mode)
{
    char room[MOST_PATH];
    int is_folder;
    if ((flags & O_CREAT) && access(path, F_OK) != 0 && fails(WRITES))
        return -1;
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (file < 0 || file >= MOST_FILES)
        return file;
    is_ours[file] = 1;
    path = whole(path, room);
    uint64_t inode = inode_of(file, &is_folder);
    put('O', inode, (flags & O_TRUNC ? TRUNCATED : 0) | (is_folder ? FOLDER : 0), path,
        strlen(path));
    return file;
}

#define MODE_OF(flags)                                                                             \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        REAL(name);                                                                                \
        MODE_OF(flags)                                                                             \
        return is_below(AT_FDCWD, path) ? opens(path, flags, mode) : real(path, flags, mode);      \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
    int name(int folder, const char *path, int flags, ...)                                         \
    {                                                                                              \
        REAL(name);                                                                                \
        MODE_OF(flags)                                                                             \
        return is_below(folder, path) ? opens(path, flags, mode)                                   \
                                      : real(folder, path, flags, mode);                           \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int file)
{
    REAL(close);
    if (known(file))
        is_ours[file] = 0;
    return real(file);
}

/* ---- contents -------------------------------------------------------------------------------- */

static void put_written(int file, uint64_t offset, const void *data, ssize_t done)
{
    if (done > 0)
        put('W', inode_of(file, NULL), offset, data, (size_t)done);
}

/* A call that fails has written the first half, as where a disk fills up in the middle. */
ssize_t write(int file, const void *data, size_t length)
{
    REAL(write);
    if (!known(file))
        return real(file, data, length);
    int is_failing = fails(WRITES), error = errno;
    ssize_t done = real(file, data, is_failing ? length / 2 : length);
    put_written(file, (uint64_t)(lseek(file, 0, SEEK_CUR) - (done > 0 ? done : 0)), data, done);
    if (!is_failing)
        return done;
    errno = error;
    return -1;
}

#define PWRITE(name, offset_type)                                                                  \
    ssize_t name(int file, const void *data, size_t length, offset_type offset)                    \
    {                                                                                              \
        REAL(name);                                                                                \
        if (!known(file))                                                                          \
            return real(file, data, length, offset);                                               \
        int is_failing = fails(WRITES), error = errno;                                             \
        ssize_t done = real(file, data, is_failing ? length / 2 : length, offset);                 \
        put_written(file, (uint64_t)offset, data, done);                                           \
        if (!is_failing)                                                                           \
            return done;                                                                           \
        errno = error;                                                                             \
        return -1;                                                                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int file, const struct iovec *parts, int count)
{
    REAL(writev);
    if (!known(file))
        return real(file, parts, count);
    ssize_t done = 0;
    for (int i = 0; i < count; i++) {
        ssize_t more = write(file, parts[i].iov_base, parts[i].iov_len);
        if (more < 0)
            return done ? done : -1;
        done += more;
        if ((size_t)more < parts[i].iov_len)
            break;
    }
    return done;
}

ssize_t read(int file, void *data, size_t length)
{
    REAL(read);
    return known(file) && fails(READS) ? -1 : real(file, data, length);
}

#define PREAD(name, offset_type)                                                                   \
    ssize_t name(int file, void *data, size_t length, offset_type offset)                          \
    {                                                                                              \
        REAL(name);                                                                                \
        return known(file) && fails(READS) ? -1 : real(file, data, length, offset);                \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define TRUNCATE(name, offset_type)                                                                \
    int name(int file, offset_type length)                                                         \
    {                                                                                              \
        REAL(name);                                                                                \
        if (!known(file))                                                                          \
            return real(file, length);                                                             \
        if (fails(CUTS))                                                                           \
            return -1;                                                                             \
        int result = real(file, length);                                                           \
        if (result == 0)                                                                           \
            put('T', inode_of(file, NULL), (uint64_t)length, NULL, 0);                             \
        return result;                                                                             \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* What was written before the flush began is on the device when it has ended, and no more. */
#define FLUSH(name)                                                                                \
    int name(int file)                                                                             \
    {                                                                                              \
        REAL(name);                                                                                \
        if (!known(file))                                                                          \
            return real(file);                                                                     \
        uint64_t inode = inode_of(file, NULL), thread = (uint64_t)syscall(SYS_gettid);             \
        put('F', inode, thread, NULL, 0);                                                          \
        int result = fails(FLUSHES) ? -1 : real(file);                                             \
        put(result == 0 ? 'S' : 'X', inode, thread, NULL, 0);                                      \
        return result;                                                                             \
    }
FLUSH(fsync)
FLUSH(fdatasync)

/* ---- names ----------------------------------------------------------------------------------- */

#define DONE(kind, first, second, call)                                                            \
    int result = call;                                                                             \
    if (result == 0)                                                                               \
        put_paths(kind, first, second);                                                            \
    return result

int unlink(const char *path)
{
    REAL(unlink);
    if (!is_below(AT_FDCWD, path))
        return real(path);
    if (fails(CUTS))
        return -1;
    DONE('U', path, NULL, real(path));
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat);
    if ((flags & AT_REMOVEDIR) || !is_below(folder, path))
        return real(folder, path, flags);
    return unlink(path);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    if (!is_below(AT_FDCWD, path))
        return real(path, mode);
    if (access(path, F_OK) != 0 && fails(WRITES))
        return -1;
    DONE('D', path, NULL, real(path, mode));
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    REAL(mkdirat);
    return is_below(folder, path) ? mkdir(path, mode) : real(folder, path, mode);
}

#define TWO_PATHS(name, kind)                                                                      \
    int name(const char *first, const char *second)                                                \
    {                                                                                              \
        REAL(name);                                                                                \
        if (!is_below(AT_FDCWD, second))                                                           \
            return real(first, second);                                                            \
        if (fails(WRITES))                                                                         \
            return -1;                                                                             \
        DONE(kind, first, second, real(first, second));                                            \
    }
TWO_PATHS(rename, 'R')
TWO_PATHS(link, 'L')

int renameat(int from, const char *first, int to, const char *second)
{
    REAL(renameat);
    if (is_below(from, first) && is_below(to, second))
        return rename(first, second);
    return real(from, first, to, second);
}

int linkat(int from, const char *first, int to, const char *second, int flags)
{
    REAL(linkat);
    if (is_below(from, first) && is_below(to, second))
        return link(first, second);
    return real(from, first, to, second, flags);
}
