/* SPDX-License-Identifier: MIT */
/*
 * Touching a mapping of a file that others may cut off meanwhile: the kernel answers with SIGBUS, which must not end the
 * daemon.
 */
#ifndef CXLSHMFS_SHRINK_H
#define CXLSHMFS_SHRINK_H

#include <stddef.h>

/*
 * From here until shrink_end() this thread reads the mapping; pages that the file no longer has read as zero.
 * Threads: each has one mapping at a time.
 */
void shrink_begin(void *map, size_t bytes);
void shrink_end(void);

/* Once, before threads: 0 or -errno. */
int shrink_start(void);

#endif
