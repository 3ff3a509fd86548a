/* SPDX-License-Identifier: MIT */
/*
 * prune.c: letting go of objects that others deleted while the kernel still remembers them.
 *
 * Owns one thread.  An inode that the kernel has looked up holds a reference to its object.  When the
 * last name is removed through this mount the kernel forgets the inode by itself; when a native client
 * or another mount removes it, the kernel does not know, keeps the name in its cache, and the object
 * would live on in memory that should be free.  So the thread walks the table, a few inodes at a time and
 * RATE in a second at most, and tells the kernel to drop those without a name that nobody has open: by
 * node id where it can (FUSE_NOTIFY_PRUNE, Linux 6.18), else by the directory and name they were last
 * looked up by.  What follows is an ordinary FORGET.
 *
 * Threads: its own.  Telling the kernel by name waits for the directory's lock, which a request may hold
 * that waits for a worker of ours; so no lock of ours is held meanwhile, and nobody waits for this thread
 * but prune_stop().
 */
#include "prune.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_MS 250
#define RATE 10000	/* inodes looked at in a second; each costs about a stat(2) */
#define BATCH 32	/* under one lock */

#define NOTIFY_PRUNE 9	/* FUSE_NOTIFY_PRUNE; not in the oldest linux/fuse.h we compile with */

struct prune_out {	/* struct fuse_notify_prune_out, and the node ids behind it */
	struct fuse_out_header header;
	uint32_t count, padding;
	uint64_t spare;
	uint64_t node_ids[BATCH];
};

/* An inode to be dropped, as the kernel knows it. */
struct victim {
	uint64_t node_id, parent_id;
	char *name;	/* NULL: not known */
};

struct prune {
	struct fs *fs;
	pthread_t thread;
	int wake_fd;	/* eventfd */
	_Atomic bool stop;
	bool by_id;	/* the kernel knows NOTIFY_PRUNE, as far as we know; W, R: the thread */
	size_t bucket;	/* where to go on; W, R: the thread */
};

/* Collect nameless inodes from one bucket.  Returns how many inodes were looked at.  Locked. */
static unsigned look_at(struct fs *fs, struct inode *inode, struct victim *victims, unsigned *count)
{
	struct cxlshm_stat st;
	unsigned looked = 0;

	for (; inode && *count < BATCH; inode = inode->next) {
		if (inode->control || !inode->lookups || inode->handles || inode->idle_ref ||
		    inode == fs->root)
			continue;
		looked++;
		if (cxlshm_stat(fs->lanes.names.client, inode->ref, &st) || st.links)
			continue;
		victims[*count].node_id = inode_node_id(fs, inode);
		victims[*count].parent_id = inode->hint_parent;
		victims[*count].name = inode->hint_name ? strdup(inode->hint_name) : NULL;
		++*count;
	}
	return looked;
}

/* Tell the kernel by number.  false: it does not know how. */
static bool drop_by_id(struct prune *prune, const struct victim *victims, unsigned count)
{
	struct prune_out out = {.count = count};
	size_t length = offsetof(struct prune_out, node_ids) + count * sizeof(uint64_t);

	for (unsigned i = 0; i < count; i++)
		out.node_ids[i] = victims[i].node_id;
	out.header.len = (uint32_t)length;
	out.header.error = NOTIFY_PRUNE;	/* unique is 0: a notification */
	if (write(fuse_session_fd(prune->fs->session), &out, length) == (ssize_t)length)
		return true;
	return errno != EINVAL && errno != ENOSYS;
}

static void drop(struct prune *prune, struct victim *victims, unsigned count)
{
	struct fs *fs = prune->fs;

	if (prune->by_id && count)
		prune->by_id = drop_by_id(prune, victims, count);
	for (unsigned i = 0; i < count; i++) {
		if (!prune->by_id && victims[i].name && !atomic_load(&prune->stop))
			fuse_lowlevel_notify_inval_entry(fs->session, victims[i].parent_id, victims[i].name,
							 strlen(victims[i].name));
		free(victims[i].name);
	}
}

/* One walk, over as much of the table as the rate allows. */
static void walk(struct prune *prune)
{
	struct fs *fs = prune->fs;
	struct victim victims[BATCH];
	unsigned budget = RATE * PERIOD_MS / 1000, looked = 0, count;
	size_t steps = 0, buckets = 1;

	while (looked < budget && steps < buckets && !atomic_load(&prune->stop)) {
		unsigned before = looked;

		count = 0;
		lane_lock(&fs->lanes);
		buckets = fs->bucket_count;
		/* Empty buckets are cheap, but not free. */
		for (unsigned i = 0; i < 1024 && steps < buckets; i++, steps++) {
			if (looked - before >= BATCH || count)
				break;
			prune->bucket = (prune->bucket + 1) & (buckets - 1);
			looked += look_at(fs, fs->buckets[prune->bucket], victims, &count);
		}
		lane_unlock(&fs->lanes);
		drop(prune, victims, count);
	}
}

static void *run(void *arg)
{
	struct prune *prune = arg;
	struct pollfd wake = {.fd = prune->wake_fd, .events = POLLIN};
	struct timespec settle = {.tv_nsec = 5000000};
	eventfd_t value;

	while (!atomic_load(&prune->stop)) {
		if (poll(&wake, 1, PERIOD_MS) == 1) {
			eventfd_read(prune->wake_fd, &value);
			nanosleep(&settle, NULL);	/* at most 200 walks in a second */
		}
		walk(prune);
	}
	return NULL;
}

int prune_start(struct fs *fs, struct prune **out)
{
	struct prune *prune = calloc(1, sizeof(*prune));
	sigset_t all, before;
	int rc;

	if (!prune)
		return -ENOMEM;
	prune->fs = fs;
	prune->by_id = true;
	prune->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (prune->wake_fd < 0) {
		rc = -errno;
		goto free_prune;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = -pthread_create(&prune->thread, NULL, run, prune);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		goto close_wake;
	*out = prune;
	return 0;
close_wake:
	close(prune->wake_fd);
free_prune:
	free(prune);
	return rc;
}

void prune_stop(struct prune *prune)
{
	atomic_store(&prune->stop, true);
	prune_kick(prune);
	pthread_join(prune->thread, NULL);
	close(prune->wake_fd);
	free(prune);
}

void prune_kick(struct prune *prune)
{
	eventfd_write(prune->wake_fd, 1);
}
