/* SPDX-License-Identifier: MIT */
/*
 * Included first by the compiler (-include) in all code whose accesses are followed: calls that act on something outside
 * memory, or that write memory without the compiler saying so, go to their stand-ins in standins.c and memory.c.
 */
#ifndef TESTS_STANDINS_H
#define TESTS_STANDINS_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void *standin_memset(void *to, int byte, size_t bytes);
void *standin_memcpy(void *to, const void *from, size_t bytes);
ssize_t standin_pread(int fd, void *to, size_t bytes, off_t offset);
void *standin_malloc(size_t bytes);
void *standin_aligned_alloc(size_t alignment, size_t bytes);
void standin_free(void *p);
int standin_fcntl(int fd, int command, void *arg);
int standin_openat(int dir, const char *name, int flags, ...);
int standin_close(int fd);
int standin_fstat(int fd, struct stat *st);
int standin_fstatat(int dir, const char *name, struct stat *st, int flags);
int standin_ftruncate(int fd, off_t bytes);
int standin_fchmod(int fd, mode_t mode);
int standin_unlinkat(int dir, const char *name, int flags);
int standin_fallocate(int fd, int mode, off_t offset, off_t length);
int standin_madvise(void *address, size_t length, int advice);
int standin_clock_gettime(clockid_t clock, struct timespec *now);
int standin_nanosleep(const struct timespec *time, struct timespec *left);
int standin_sched_yield(void);
long standin_syscall(long number, ...);

#ifndef STANDINS_THEMSELVES
#define memset(to, byte, bytes) standin_memset(to, byte, bytes)
#define memcpy(to, from, bytes) standin_memcpy(to, from, bytes)
#define aligned_alloc(alignment, bytes) standin_aligned_alloc(alignment, bytes)
#define pread(fd, to, bytes, offset) standin_pread(fd, to, bytes, offset)
#define malloc(bytes) standin_malloc(bytes)
#define free(p) standin_free(p)
#define fcntl(fd, command, arg) standin_fcntl(fd, command, (void *)(uintptr_t)(arg))
#define openat(...) standin_openat(__VA_ARGS__)
#define close(fd) standin_close(fd)
#define fstat(fd, st) standin_fstat(fd, st)
#define fstatat(dir, name, st, flags) standin_fstatat(dir, name, st, flags)
#define ftruncate(fd, bytes) standin_ftruncate(fd, bytes)
#define fchmod(fd, mode) standin_fchmod(fd, mode)
#define unlinkat(dir, name, flags) standin_unlinkat(dir, name, flags)
#define fallocate(fd, mode, offset, length) standin_fallocate(fd, mode, offset, length)
#define madvise(address, length, advice) standin_madvise(address, length, advice)
#define clock_gettime(clock, now) standin_clock_gettime(clock, now)
#define nanosleep(time, left) standin_nanosleep(time, left)
#define sched_yield() standin_sched_yield()
#define syscall(...) standin_syscall(__VA_ARGS__)
/* A handle is used by one fiber, and an undone step must not leave its lock behind. */
#define pthread_mutex_lock(m) ((void)(m))
#define pthread_mutex_unlock(m) ((void)(m))
#endif

#endif
