/* SPDX-License-Identifier: MIT */
/*
 * Included first by the compiler (-include) in the library of crash-host: what it writes back, and what it gives back to the
 * system, is told to host.c.
 */
#ifndef TESTS_CRASH_WRITEBACK_H
#define TESTS_CRASH_WRITEBACK_H

#include <fcntl.h>

#include "arch.h"

void writeback_line(const void *p);
int writeback_fallocate(int fd, int mode, off_t offset, off_t length);

#ifndef WRITEBACK_ITSELF
#define arch_write_back(p) writeback_line(p)
#define arch_write_back_fence() ((void)0)
#define arch_can_write_back() 1
#define fallocate(fd, mode, offset, length) writeback_fallocate(fd, mode, offset, length)
#endif

#endif
