/* SPDX-License-Identifier: MIT */
/*
 * extent: the files in x/ that hold the bytes of file objects.
 *
 * An extent is named by a number that is never used again: the stamp of the era in which it was made.  It belongs to the
 * object whose attr.extent says so.  Everything about extents is behind these calls, so that a pool of fixed, ready-made
 * extents can take their place.
 *
 * Threads: any, on different extents; on one extent the kernel's own rules.
 */
#ifndef CXLSHM_EXTENT_H
#define CXLSHM_EXTENT_H

#include <sys/stat.h>

#include "era.h"
#include "redo.h"

/* Make an empty extent and store its id in *owner, a word of an object that only this client can reach.
 * Errors: as open(2).  Crash: recovery drops it with its object. */
int extent_make(struct client *c, struct a64 *owner);

int extent_apply_make(struct client *c, const struct redo_fmt *r);

/* Delete an extent; gone already is fine. */
void extent_reclaim(struct client *c, uint64_t id);

/* A descriptor, close-on-exec, or -errno. */
int extent_open(const struct pool *pool, uint64_t id, int flags);

/* Set the size; growing reserves, unless the pool is sparse.  -ENOSPC leaves the size as it was.
 * Crash: the old size or the new one. */
int extent_resize(struct client *c, uint64_t id, uint64_t bytes);

/* As fallocate(2).  Crash: done or not; FALLOC_FL_ZERO_RANGE: any part of it. */
int extent_reserve(struct client *c, uint64_t id, int mode, uint64_t offset, uint64_t length);

int extent_stat(const struct pool *pool, uint64_t id, struct stat *st);

/* As utimensat(2).  Crash: set or not. */
int extent_set_times(struct client *c, uint64_t id, const struct timespec times[2]);

/* 1: mapped or open somewhere, if only by somebody else who looks; 0: not; or -errno.  Waits for nobody. */
int extent_busy(const struct pool *pool, uint64_t id);

#endif
