/* SPDX-License-Identifier: MIT */
/*
 * idle.c: inodes of file objects after their last close, and mappings that hold them on.
 *
 * Owns the list of idle inodes.
 *
 * RELEASE comes when the last descriptor is closed, even if a mapping lives on, and nothing tells us when
 * that one goes.  So at the last close the inode becomes idle: its handle's reference is kept, and the
 * monitor looks after it (idle_work): it closes the backing file and asks the library whether
 * the extent is still in use; if so the inode counts as mapped and is looked at again with growing
 * pauses, and at once when a process dies that had opened it (holders.c).  While a file has a name the first
 * look waits IDLE_MS, so that a program which opens the same file over and over pays for the backing file
 * once; without a name it comes at once, so that what is deleted is free at once.
 *
 * Threads: any; the lock is the names lane's (inode.h).  The list is walked by the monitor, a few inodes at a time.
 */
#include "idle.h"

#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define MS 1000000ull
#define IDLE_MS 5	/* from the last close to the first look */
#define IDLE_MAX_MS 25	/* between looks at a mapped inode, as long as they are few */
#define IDLE_GRID_MS 10	/* where they are longer, some inodes are looked at together */
#define IDLE_FEW 400	/* above this many, the pauses grow with their number: looks of 2.4 us take 5 % of a core */
#define IDLE_LOOK_NS 2400ull	/* what one look takes, about, */
#define IDLE_PASS_NS 10ull	/* and passing by */
#define IDLE_BATCH 32	/* inodes looked at under one lock */

/* Of a batch of looks. */
struct idle_found {
	uint64_t tokens[IDLE_BATCH];
	pid_t openers[IDLE_BATCH * OPENERS];
	unsigned tokens_count, openers_count;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static void idle_remove(struct fs *fs, struct inode *inode)
{
	*inode->idle_link = inode->idle_next;
	if (inode->idle_next)
		inode->idle_next->idle_link = inode->idle_link;
	fs->idle_count--;
	if (inode->mapped)
		fs->mapped_count--;
	inode->mapped = inode->watched = false;
}

void idle_backing_drop(struct fs *fs, struct inode *inode)
{
	if (!inode->backing_id)
		return;
	passthrough_backing_close(fs->passthrough, fs->session, inode->backing_id);
	inode->backing_id = 0;
	fs->backing_count--;
}

/* Let go of an idle inode that nothing maps.  Returns a token as inode_unref().  Locked. */
static uint64_t idle_end(struct fs *fs, struct inode *inode)
{
	idle_remove(fs, inode);
	cxlshm_release(fs->lanes.names.client, inode->idle_ref);
	inode->idle_ref = 0;
	return inode_unref(fs, inode);
}

/*
 * The pauses of few end together, so that there are not more of them than one has.  Those of many are spread out: of those
 * that one process holds, one is looked at soon whenever it dies (idle_hurry).
 */
static uint64_t idle_due_at(const struct inode *inode, uint64_t now)
{
	uint64_t pause = inode->idle_wait_ms * MS, due = now + pause;

	if (inode->idle_wait_ms < IDLE_MAX_MS)
		return due;
	if (inode->idle_wait_ms == IDLE_MAX_MS)
		return due - due % pause;
	due -= (((inode->id ^ now) * 0x9e3779b97f4a7c15u) >> 32) % (pause / 2);
	return due - due % (IDLE_GRID_MS * MS) + IDLE_GRID_MS * MS;
}

/*
 * Look whether an idle inode's extent is in use, and end its idleness if not.  Returns true if it is;
 * else the inode may be gone, and *token is as inode_unref() gave it.  Locked.
 */
static bool idle_look(struct fs *fs, struct inode *inode, uint64_t now, uint64_t *token)
{
	uint64_t most = IDLE_MAX_MS;

	idle_backing_drop(fs, inode);
	if (cxlshm_extent_busy(fs->lanes.names.client, inode->idle_ref) != 1) {
		*token = idle_end(fs, inode);
		return false;
	}
	if (!inode->mapped) {
		inode->mapped = true;
		inode->idle_wait_ms = 1;
		fs->mapped_count++;
	}
	if (fs->mapped_count > IDLE_FEW)
		most = IDLE_MAX_MS * fs->mapped_count / IDLE_FEW;
	inode->idle_due_ns = idle_due_at(inode, now);
	inode->idle_wait_ms = 2 * inode->idle_wait_ms < most ? 2 * inode->idle_wait_ms : (uint32_t)most;
	return true;
}

/* Tell the monitor, unless it comes in time anyway. */
static void wake(struct fs *fs, uint64_t due_ns)
{
	if (due_ns >= atomic_load(&fs->wake_due_ns))
		return;
	atomic_store(&fs->wake_due_ns, due_ns);
	eventfd_write(fs->wake_fd, 1);
}

uint64_t idle_begin(struct fs *fs, struct inode *inode, cxlshm_ref ref)
{
	uint64_t now = now_ns(), token = 0;
	struct cxlshm_stat st;
	int rc;

	inode->idle_ref = ref;
	inode->idle_due_ns = now + IDLE_MS * MS;
	inode->idle_next = fs->idle;
	if (fs->idle)
		fs->idle->idle_link = &inode->idle_next;
	inode->idle_link = &fs->idle;
	fs->idle = inode;
	fs->idle_count++;
	rc = cxlshm_stat(fs->lanes.names.client, ref, &st);
	/* It may have grown past us, and its size decides where it is freed. */
	if (!rc)
		inode->size_bytes = st.size_bytes;
	if ((rc || !st.links) && !idle_look(fs, inode, now, &token))
		return token;
	wake(fs, inode->idle_due_ns);
	return 0;
}

uint64_t idle_settle(struct fs *fs, struct inode *inode)
{
	uint64_t token = 0;

	if (!inode->idle_ref || inode->mapped)
		return 0;
	if (idle_look(fs, inode, now_ns(), &token))
		wake(fs, inode->idle_due_ns);
	return token;
}

void idle_opened(struct inode *inode, pid_t thread)
{
	if (!thread)
		return;
	for (unsigned i = 0; i < OPENERS; i++)
		if (inode->openers[i] == thread)
			return;
	inode->openers[inode->opener_next++ % OPENERS] = thread;
}

void idle_cancel(struct fs *fs, struct inode *inode)
{
	if (!inode->idle_ref)
		return;
	idle_remove(fs, inode);
	cxlshm_release(fs->lanes.names.client, inode->idle_ref);
	inode->idle_ref = 0;
}

/* Mapped inodes that one of these threads has opened are due; returns how many.  Locked. */
static unsigned idle_hurry(struct fs *fs, const pid_t *threads, unsigned count)
{
	unsigned hurried = 0;

	for (struct inode *inode = fs->idle; inode; inode = inode->idle_next)
		for (unsigned i = 0; inode->mapped && inode->idle_due_ns && i < OPENERS * count; i++)
			if (inode->openers[i % OPENERS] && inode->openers[i % OPENERS] == threads[i / OPENERS]) {
				inode->idle_due_ns = 0;
				hurried++;
			}
	return hurried;
}

/* The inode's mapping has gone.  Who had it may have died, with others: as where a child has its parent's mappings.  So
 * others that the same threads opened are looked at, as often as takes a twentieth of a core.  Locked. */
static void idle_gone(struct fs *fs, const pid_t *openers, uint64_t now)
{
	if (now < fs->hurry_after_ns)
		return;
	fs->hurry_after_ns = now + 20 * (IDLE_PASS_NS * fs->idle_count + IDLE_LOOK_NS * idle_hurry(fs, openers, OPENERS));
}

/* Look at inodes that are due, up to a batch of them; tells who opened those that were found to be mapped, and what is to be
 * dropped.  Returns false when there are no more.  Locked. */
static bool idle_batch(struct fs *fs, uint64_t now, struct idle_found *found)
{
	struct inode *inode, *following;
	unsigned looked = 0;

	found->tokens_count = found->openers_count = 0;
	for (inode = fs->idle; inode && looked < IDLE_BATCH; inode = following) {
		bool mapped = inode->mapped;
		pid_t openers[OPENERS];

		following = inode->idle_next;
		if (inode->idle_due_ns > now)
			continue;
		looked++;
		memcpy(openers, inode->openers, sizeof(openers));
		found->tokens[found->tokens_count] = 0;
		if (!idle_look(fs, inode, now, &found->tokens[found->tokens_count])) {
			found->tokens_count += found->tokens[found->tokens_count] != 0;
			if (mapped)
				idle_gone(fs, openers, now);
		} else if (!inode->watched) {
			inode->watched = true;
			memcpy(found->openers + found->openers_count, openers, sizeof(openers));
			found->openers_count += OPENERS;
		}
	}
	return inode != NULL;
}

uint64_t idle_work(struct fs *fs, struct holders *holders, const pid_t *dead, unsigned dead_count)
{
	uint64_t now = now_ns(), next = UINT64_MAX;
	struct idle_found found;
	bool again, mapped;

	atomic_store(&fs->wake_due_ns, UINT64_MAX);
	do {
		next = UINT64_MAX;
		lane_lock(&fs->lanes);
		if (dead_count)
			idle_hurry(fs, dead, dead_count);
		dead_count = 0;
		again = idle_batch(fs, now, &found);
		if (!again)
			for (const struct inode *inode = fs->idle; inode; inode = inode->idle_next)
				next = inode->idle_due_ns < next ? inode->idle_due_ns : next;
		mapped = fs->mapped_count;
		lane_unlock(&fs->lanes);
		while (found.tokens_count)
			lane_side_drop(&fs->lanes, found.tokens[--found.tokens_count]);
		while (holders && found.openers_count)
			holders_watch(holders, found.openers[--found.openers_count]);
		if (holders && !mapped)
			holders_forget(holders);
	} while (again);
	return next;
}
