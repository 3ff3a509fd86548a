/* SPDX-License-Identifier: MIT */
/*
 * room.c: keeping a plain pool to its size.
 *
 * Owns fs->room_*: what was free when last looked, less what was granted since.  Looking costs a stat(2) for
 * each file of the pool, so it is done when a second has passed, or when the grant would be refused.
 * Threads: any; the lock is taken for the counters, not for the look.
 */
#include "room.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define LOOK_NS 1000000000ull

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void room_start(struct fs *fs)
{
	char above[4096 + 4];
	struct stat pool, parent;

	snprintf(above, sizeof(above), "%s/..", fs->options->pool);
	if (stat(fs->options->pool, &pool) || stat(above, &parent) || pool.st_dev == parent.st_dev)
		fs->room_counted = !fs->options->sparse;
}

/* Take bytes from what is known to be free.  Locked. */
static bool grant(struct fs *fs, uint64_t bytes)
{
	if (fs->room_bytes < bytes)
		return false;
	fs->room_bytes -= bytes;
	return true;
}

int room_take(struct fs *fs, uint64_t bytes)
{
	struct cxlshm_pool_space space;
	uint64_t now;
	bool granted;
	int rc;

	if (!fs->room_counted || !bytes)
		return 0;
	now = now_ns();
	lane_lock(&fs->lanes);
	granted = now - fs->room_looked_ns < LOOK_NS && grant(fs, bytes);
	lane_unlock(&fs->lanes);
	if (granted)
		return 0;
	rc = cxlshm_pool_space(fs->pool, &space);
	if (rc)
		return rc;
	lane_lock(&fs->lanes);
	fs->room_bytes = space.free_bytes;
	fs->room_looked_ns = now;
	granted = grant(fs, bytes);
	lane_unlock(&fs->lanes);
	return granted ? 0 : -ENOSPC;
}
