/* SPDX-License-Identifier: MIT */
/*
 * The public interface: pools, clients and recovery.  References are in api_ref.c, extents in api_extent.c, names in
 * api_names.c, queues in api_queue.c; inspect.c and check.c implement their own part.
 */
#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "api.h"

#define TRIM_MOST 32u	/* segments that one cxlshm_trim() gives back, of each kind: 10 ms with 4 KiB pages */
#define WAIT_MOST 20	/* sleeps of 1 ms while a segment is CHANGING, of who would else say that there is no room */

static void count_recoveries(struct client *c, uint32_t clients)
{
	a64_store_relaxed(&c->slot->recoveries, a64_load_relaxed(&c->slot->recoveries) + clients);
}

void api_recover(struct client *c, struct cxlshm_recovery *recovery)
{
	struct cxlshm_recovery done = {0};

	recover_dead(c->pool, &done);
	count_recoveries(c, done.clients);
	if (recovery)
		*recovery = done;
}

/* Give back, or have given back, what nobody needs: of this client, for it may be what an extent wants; of dead ones; and kept
 * for readers that are gone.  Was there any? */
static int make_room(struct client *c)
{
	uint64_t owned = a64_load_relaxed(&c->slot->segments_owned);
	struct cxlshm_recovery recovery;
	uint32_t trimmed;

	page_collect_all(c);
	page_sweep_all(c);
	api_recover(c, &recovery);
	trimmed = segment_trim(c);
	return trimmed || recovery.clients || a64_load_relaxed(&c->slot->segments_owned) < owned;
}

int api_room_again(struct client *c, int rc, struct api_room *room)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int slept = 0;

	if (rc != -ENOSPC || room->last)
		return 0;
	/* Once: what the try has claimed and given up would count as made each time. */
	if (!room->tried++ && make_room(c))
		return 1;
	room->last = 1;
	/* Others may have the last of it in hand, to give it back, and may have done so since the try. */
	for (; slept < WAIT_MOST && segment_any_changing(c); slept++)
		nanosleep(&pause, NULL);
	/* A file takes all there is for a while, before it is refused: not for nothing. */
	return !room->bytes || (slept && slept < WAIT_MOST) || pool_has_room(c->pool->extents_fd, room->bytes);
}

/* ---- pools ---- */

/* The root directory: one reference, the superblock's. */
static int make_root_directory(struct client *c, mode_t mode, uint64_t *off)
{
	const struct alloc_kind kind = {.kind = OBJECT_DIRECTORY, .slots = DIR_CELLS, .cells = 1, .zero = 1};
	struct attr_fmt *attr;
	struct timespec now;
	struct root_fmt *row;
	struct stat st;
	uint64_t ns;
	int rc;

	rc = alloc_object(c, DIR_CELLS * 16 + sizeof(*attr), &kind, &row);
	if (rc)
		return rc;
	*off = a64_load_relaxed(&row->object);
	attr = object_attr(off_object(c->pool, *off), a128_value_relaxed(&off_object(c->pool, *off)->word));
	if (fstat(c->pool->heap_fd, &st) < 0)
		return -errno;
	clock_gettime(CLOCK_REALTIME, &now);
	ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	/* Who may read the heap may list, who may write it may create. */
	a64_store_relaxed(&attr->mode, S_IFDIR | mode | (mode & 0444) >> 2);
	a64_store_relaxed(&attr->owner, st.st_uid | (uint64_t)st.st_gid << 32);
	a64_store_relaxed(&attr->atime_ns, ns);
	a64_store_relaxed(&attr->mtime_ns, ns);
	a64_store_relaxed(&attr->ctime_ns, ns);
	a64_store_relaxed(&attr->btime_ns, ns);
	a128_store_release(&attr->links, (struct stamped){1, 0});
	persist(c->pool, attr, sizeof(*attr));
	ref_expose(c, *off);
	/* The row's reference becomes the superblock's. */
	a64_store_release(&row->object, 0);
	persist(c->pool, row, sizeof(*row));
	root_give(c, row);
	return 0;
}

int cxlshm_pool_create(const char *path, const struct cxlshm_pool_options *options, struct cxlshm_error *error)
{
	struct pool *pool;
	struct client *c;
	uint64_t off = 0;
	int rc;

	if (!path || !options)
		return error_set(error, -EINVAL, "a path and options are needed");
	rc = pool_make(path, options, &pool, error);
	if (rc)
		return rc;
	rc = client_claim(pool, "mkfs", &c);
	if (!rc) {
		rc = make_root_directory(c, options->mode ? options->mode & 0777 : 0660, &off);
		recover_retire(c);
	}
	if (rc)
		error_set(error, rc, "%s: no memory for the root directory: %s", path, strerror(-rc));
	else if ((rc = pool_seal(pool, off)))
		error_set(error, rc, "%s: cannot write the superblock: %s", path, strerror(-rc));
	if (rc)
		pool_discard(pool);
	else
		pool_unmap(pool);
	return rc;
}

/* A thread that joined with CXLSHM_JOIN_THREAD, perhaps more than once, exits. */
static void leave_at_exit(void *client)
{
	for (struct client *c = client, *next; c; c = next) {
		next = c->thread_next;
		cxlshm_leave((struct cxlshm_client *)c);
	}
}

/* The client leaves before its thread exits. */
static void forget_at_exit(struct client *c)
{
	struct client *first = pthread_getspecific(c->pool->thread_key), **link = &first;

	while (*link && *link != c)
		link = &(*link)->thread_next;
	if (!*link)
		return;
	*link = c->thread_next;
	pthread_setspecific(c->pool->thread_key, first);
}

int cxlshm_pool_open(const char *path, unsigned flags, struct cxlshm_pool **handle, struct cxlshm_error *error)
{
	struct pool *pool;
	int rc;

	if (!handle)
		return error_set(error, -EINVAL, "no place for the handle given");
	rc = pool_open(path, flags, &pool, error);
	if (rc)
		return rc;
	rc = -pthread_key_create(&pool->thread_key, leave_at_exit);
	if (rc) {
		pool_unmap(pool);
		return error_set(error, rc, "%s: too many pools or other users of thread keys in this process", path);
	}
	*handle = (struct cxlshm_pool *)pool;
	return 0;
}

void cxlshm_pool_close(struct cxlshm_pool *handle)
{
	struct pool *pool = api_pool(handle);

	if (!pool)
		return;
	for (uint32_t cid = 1; cid <= pool->slots; cid++)
		if (pool->own && pool->own[cid])
			cxlshm_leave((struct cxlshm_client *)pool->own[cid]);
	pthread_key_delete(pool->thread_key);
	pool_unmap(pool);
}

/* ---- clients ---- */

int cxlshm_join(struct cxlshm_pool *handle, const char *name, unsigned flags, struct cxlshm_client **client)
{
	struct pool *pool = api_pool(handle);
	struct cxlshm_recovery recovery = {0};
	struct client *c;
	int rc;

	if (!pool || !client || flags & ~CXLSHM_JOIN_THREAD)
		return -EINVAL;
	if (pool->forked)
		return -EOWNERDEAD;
	if (pool->flags & CXLSHM_READONLY)
		return -EROFS;
	recover_dead(pool, &recovery);
	rc = client_claim(pool, name, &c);
	if (rc)
		return rc;
	count_recoveries(c, recovery.clients);
	if (flags & CXLSHM_JOIN_THREAD) {
		c->thread_next = pthread_getspecific(pool->thread_key);
		rc = pthread_setspecific(pool->thread_key, c);
		if (rc) {
			recover_retire(c);
			return -rc;
		}
	}
	a32_add_acq_rel(&pool->shared->clients_sequence, 1);
	syscall(SYS_futex, a32_address(&pool->shared->clients_sequence), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	*client = (struct cxlshm_client *)c;
	return 0;
}

int cxlshm_leave(struct cxlshm_client *client)
{
	struct client *c = api_client(client);

	if (!c)
		return -EINVAL;
	api_unmap_all(c);
	forget_at_exit(c);
	if (api_usable(c)) {	/* what was in the slot is somebody else's, or gone */
		client_abandon(c);
		return 0;
	}
	recover_retire(c);
	return 0;
}

int cxlshm_trim(struct cxlshm_client *client)
{
	struct client *c = api_client(client);
	int rc = c ? api_usable(c) : -EINVAL;

	if (rc)
		return rc;
	root_trim(c);
	page_collect_all(c);
	if (c->tidy || c->trim_more || c->span_kept != SEGMENT_NONE || c->idle > c->trim_max)
		page_sweep_trim(c, TRIM_MOST);
	segment_trim_hinted(c, TRIM_MOST);
	return 0;
}

uint32_t cxlshm_client_id(const struct cxlshm_client *client)
{
	return client ? api_client_const(client)->cid : 0;
}

struct cxlshm_pool *cxlshm_client_pool(const struct cxlshm_client *client)
{
	return client ? (struct cxlshm_pool *)api_client_const(client)->pool : NULL;
}

int cxlshm_recover(struct cxlshm_pool *pool, struct cxlshm_recovery *recovery)
{
	struct cxlshm_recovery done = {0};
	int rc;

	if (!pool)
		return -EINVAL;
	rc = recover_dead(api_pool(pool), &done);
	if (!rc && recovery)
		*recovery = done;
	return rc;
}

int cxlshm_wait_clients(struct cxlshm_pool *handle, uint32_t *sequence, int64_t timeout_ns)
{
	struct pool *pool = api_pool(handle);
	struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
	struct a32 *word;
	uint32_t now;

	if (!pool || !sequence)
		return -EINVAL;
	if (pool->forked)
		return -EOWNERDEAD;
	word = &pool->shared->clients_sequence;
	now = a32_load_acquire(word);
	if (now == *sequence) {
		/* Pairs: the adds in join and leave, followed by a wake. */
		if (syscall(SYS_futex, a32_address(word), FUTEX_WAIT, now, timeout_ns < 0 ? NULL : &timeout, NULL, 0) &&
		    errno != EAGAIN)
			return -errno;
		now = a32_load_acquire(word);
	}
	*sequence = now;
	return 0;
}

void cxlshm_write_back(struct cxlshm_pool *pool, const void *address, size_t bytes)
{
	if (pool)
		persist(api_pool(pool), address, bytes);
}
