/* SPDX-License-Identifier: MIT */
/*
 * lane.h: the daemon's clients in the pool, each with the mutex that makes it one thread's at a time.
 *
 * The names lane holds the references of every inode and open file.  Its mutex is also the lock of the
 * inode table (inode.h): an operation on names takes it once, for a few microseconds.  Whatever can take
 * long runs on a side lane, with a reference of its own to the object, so that nobody waits for it:
 * reserving or giving back gigabytes, dropping the last reference to something large, and moving a
 * directory, which may have to wait for another client's move.
 *
 * | call                              | with the names lane |
 * | lane_lock, lane_unlock            | takes, gives back   |
 * | lane_side_begin, _end, _drop      | not locked          |
 * | lane_trim                         | not locked          |
 *
 * Progress: a side lane is never waited for with the names lane locked.
 */
#ifndef CXLSHMFS_LANE_H
#define CXLSHMFS_LANE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cxlshm.h"

#define LANE_SIDE_MAX 3

/* What takes longer than this many bytes' worth of work goes to a side lane. */
#define LANE_LONG_BYTES (4ull << 20)

struct lane {
	pthread_mutex_t mutex;
	struct cxlshm_client *client;	/* W, R: under mutex; of a side lane NULL until first used */
};

struct lanes {
	struct cxlshm_pool *pool;
	struct lane names;
	unsigned side_count;
	_Atomic unsigned next_side;
	struct lane side[LANE_SIDE_MAX];
};

/* Join the pool; threads is how many requests are served at once.  Returns 0 or -errno. */
int lane_start(struct lanes *lanes, struct cxlshm_pool *pool, unsigned threads);

/* Leave the pool, dropping every reference.  No lane may be in use. */
void lane_stop(struct lanes *lanes);

/* Give back the memory that the lanes which nobody uses just now hold nothing in. */
void lane_trim(struct lanes *lanes);

struct cxlshm_client *lane_lock(struct lanes *lanes);
void lane_unlock(struct lanes *lanes);

/*
 * Lock a side lane and put a reference on it to what ref refers to on the names lane; with ref2 (not
 * 0) a second one.
 * Owns: until lane_side_end(), which drops the references.
 * Errors: -EAGAIN, -EUSERS, -ENOSPC: no side lane to be had just now; do it on the names lane.
 */
int lane_side_begin(struct lanes *lanes, cxlshm_ref ref, cxlshm_ref ref2, struct lane **lane,
		    cxlshm_ref *side_ref, cxlshm_ref *side_ref2);
void lane_side_end(struct lane *lane, cxlshm_ref side_ref, cxlshm_ref side_ref2);

/* Drop an exported reference on a side lane, or on the names lane if there is no other. */
void lane_side_drop(struct lanes *lanes, uint64_t token);

#endif
