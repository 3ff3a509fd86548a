/* SPDX-License-Identifier: MIT */
/*
 * What all work on, and what the stopped client was doing.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "../lib/frozen.h"
#include "wait.h"

static cxlshm_ref give(struct stage *s, cxlshm_ref ref, uint64_t token[2])
{
	for (int i = 0; i < 2; i++) {
		cxlshm_ref copy;

		MUST(cxlshm_attach(s->neighbour, ref, &copy));
		MUST(cxlshm_export(s->neighbour, copy, &token[i]));
	}
	return ref;
}

void stage_prepare(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;

	MUST(cxlshm_alloc_with(n, 64, 2, CXLSHM_CELLS | CXLSHM_ZERO, &s->held[HOLDER]));
	MUST(cxlshm_alloc_with(n, 64, 1, CXLSHM_ZERO, &s->held[SHARED]));
	MUST(cxlshm_cell_store(n, s->held[HOLDER], 0, s->held[SHARED]));
	MUST(cxlshm_queue_create(n, QUEUE_PLACES, 0, &s->held[QUEUE]));
	MUST(cxlshm_queue_create(n, QUEUE_PLACES, CXLSHM_SPSC, &s->held[SPSC]));
	MUST(cxlshm_alloc(n, 40, &s->held[PLAIN]));
	MUST(cxlshm_mkdir(n, 0, "d", 0700, &s->held[DIRECTORY]));
	MUST(cxlshm_mknod(n, 0, "a", S_IFIFO | 0600, NULL));
	MUST(cxlshm_create(n, 0, "f", 8192, 0600, NULL));
	/* Somebody seems to wait on the queue. */
	REQUIRE(cxlshm_queue_receive_wait(n, s->held[QUEUE], &ref, 1000000) == -ETIMEDOUT);
	for (int i = 0; i < STAGE_REFS; i++)
		give(s, s->held[i], s->token[i]);
}

static struct cxlshm_client *join(struct cxlshm_pool *pool)
{
	struct cxlshm_client *c;

	MUST(cxlshm_join(pool, "stopped", 0, &c));
	return c;
}

static cxlshm_ref take(struct stage *s, struct cxlshm_client *c, int which)
{
	cxlshm_ref ref;

	MUST(cxlshm_import(c, s->token[which][0], &ref));
	return ref;
}

/* ---- actions ---- */

static void act_refs(struct stage *s, struct cxlshm_pool *pool)
{
	static const size_t sizes[] = {1, 500, 3000, 9000, 60000};
	struct cxlshm_client *c = join(pool);
	cxlshm_ref ref[5], shared, copy, parent;

	for (int i = 0; i < 5; i++)
		MUST(cxlshm_alloc(c, sizes[i], &ref[i]));
	shared = take(s, c, SHARED);
	MUST(cxlshm_attach(c, shared, &copy));
	MUST(cxlshm_alloc_with(c, 32, 2, CXLSHM_ZERO, &parent));
	MUST(cxlshm_field_store(c, parent, 0, shared));
	MUST(cxlshm_field_swap(c, parent, 1, &ref[0]));
	MUST(cxlshm_release(c, parent));
	for (int i = 1; i < 5; i++)
		MUST(cxlshm_release(c, ref[i]));
	MUST(cxlshm_release(c, copy));
	MUST(cxlshm_leave(c));
}

static void act_cells(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref holder = take(s, c, HOLDER), mine, ref;

	MUST(cxlshm_cell_load(c, holder, 0, &ref));
	MUST(cxlshm_alloc(c, 48, &mine));
	MUST(cxlshm_cell_cas(c, holder, 0, ref, &mine));
	MUST(cxlshm_cell_store(c, holder, 1, ref));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_cell_swap(c, holder, 1, &mine));
	MUST(cxlshm_release(c, mine));
	MUST(cxlshm_leave(c));
}

/* Two clients of one process: blocks freed across, segments left behind and adopted. */
static void act_memory(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *a = join(pool), *b = join(pool);
	cxlshm_ref ref[3], other[3], span;
	uint64_t token;

	(void)s;
	for (int i = 0; i < 3; i++) {
		MUST(cxlshm_alloc(a, 40, &ref[i]));
		MUST(cxlshm_export(a, ref[i], &token));
		MUST(cxlshm_import(b, token, &other[i]));
	}
	MUST(cxlshm_release(b, other[0]));
	MUST(cxlshm_alloc(a, 600000, &span));
	MUST(cxlshm_release(a, span));
	MUST(cxlshm_leave(a));
	MUST(cxlshm_alloc(b, 60000, &ref[0]));
	MUST(cxlshm_release(b, other[1]));
	MUST(cxlshm_release(b, ref[0]));
	MUST(cxlshm_leave(b));
	b = join(pool);
	MUST(cxlshm_alloc(b, 60000, &ref[0]));
	MUST(cxlshm_leave(b));
}

static void act_many_roots(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref plain = take(s, c, PLAIN), copy;

	for (int i = 0; i < 300; i++)
		MUST(cxlshm_attach(c, plain, &copy));
	/* It leaves with all of them held; while it is stopped before, the neighbour's recovery drops them. */
	MUST(cxlshm_leave(c));
}

static void act_trim(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref plain = take(s, c, PLAIN), copy[300];

	for (int i = 0; i < 300; i++)
		MUST(cxlshm_attach(c, plain, &copy[i]));
	for (int i = 0; i < 300; i++)
		MUST(cxlshm_release(c, copy[i]));
	MUST(cxlshm_trim(c));
	MUST(cxlshm_leave(c));
}

static void act_queues(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool), *d = join(pool);
	cxlshm_ref queue = take(s, c, QUEUE), spsc = take(s, c, SPSC), ref, at;
	uint64_t token;

	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
	MUST(cxlshm_queue_receive(c, queue, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, spsc, ref));
	MUST(cxlshm_attach(c, spsc, &at));
	MUST(cxlshm_export(c, at, &token));
	MUST(cxlshm_import(d, token, &at));
	MUST(cxlshm_queue_receive(d, at, &ref));
	REQUIRE(cxlshm_queue_receive_wait(d, at, &ref, 1000000) == -ETIMEDOUT);
	MUST(cxlshm_leave(d));
	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, spsc, ref));
	MUST(cxlshm_leave(c));
}

static void act_names(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref dir = take(s, c, DIRECTORY), plain = take(s, c, PLAIN), ref;
	char name[16];

	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "b%d", i);
		MUST(cxlshm_mknod(c, 0, name, S_IFIFO | 0600, NULL));
	}
	MUST(cxlshm_lookup(c, 0, "b1", CXLSHM_INODE, &ref));
	MUST(cxlshm_link(c, ref, dir, "linked", 0));
	MUST(cxlshm_link(c, plain, dir, "named", 0600));
	MUST(cxlshm_symlink(c, "b1", dir, "s", NULL));
	MUST(cxlshm_setxattr(c, ref, "user.x", "y", 1, 0));
	MUST(cxlshm_rename(c, 0, "b2", 0, "b3", 0));
	MUST(cxlshm_rename(c, 0, "b4", dir, "moved", 0));
	MUST(cxlshm_rename(c, 0, "b5", 0, "b6", CXLSHM_EXCHANGE));
	MUST(cxlshm_unlink(c, dir, "moved"));
	MUST(cxlshm_unlink(c, 0, "a"));
	MUST(cxlshm_create(c, 0, "g", 4096, 0600, NULL));
	MUST(cxlshm_unlink(c, 0, "g"));
	MUST(cxlshm_leave(c));
}

/* The file that the neighbour uses, too. */
static void act_file(struct stage *s, struct cxlshm_pool *pool)
{
	const struct cxlshm_stat st = {.mode = 0640, .atime = {1000, 0}, .mtime = {2000, 0}};
	struct cxlshm_client *c = join(pool);
	void *address;
	cxlshm_ref f;

	(void)s;
	MUST(cxlshm_lookup(c, 0, "f", 0, &f));
	MUST(cxlshm_resize(c, f, 16384));
	MUST(cxlshm_map(c, f, 0, 8192, 3, &address));
	memset(address, 5, 8192);
	MUST(cxlshm_unmap(c, address));
	MUST(cxlshm_reserve(c, f, 0, 16384, 4096));
	MUST(cxlshm_reserve(c, f, FALLOC_FL_ZERO_RANGE, 1000, 12000));
	MUST(cxlshm_setattr(c, f, &st, CXLSHM_SET_MODE | CXLSHM_SET_ATIME | CXLSHM_SET_MTIME));
	MUST(cxlshm_leave(c));
}

static void act_directories(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref dir = take(s, c, DIRECTORY);

	MUST(cxlshm_mkdir(c, 0, "e", 0700, NULL));
	MUST(cxlshm_mkdir(c, dir, "g", 0700, NULL));
	MUST(cxlshm_rename(c, dir, "g", 0, "h", 0));
	MUST(cxlshm_rename(c, 0, "h", 0, "e", 0));
	MUST(cxlshm_rename(c, 0, "e", 0, "d", CXLSHM_EXCHANGE));
	MUST(cxlshm_rmdir(c, 0, "d"));
	MUST(cxlshm_rmdir(c, 0, "e"));
	MUST(cxlshm_leave(c));
}

/* Hints that lead nowhere, as a death behind a claim leaves them, are cleared by who looks for memory. */
static void act_stale_hints(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	const struct a64 *head = &((struct client *)c)->slot->segments_head;
	cxlshm_ref ref;
	uint64_t own;

	(void)s;
	MUST(cxlshm_alloc(c, 600, &ref));
	own = a64_load_relaxed(head);
	a64_or_acq_rel(&((struct pool *)pool)->hints[0], 1ull << own);
	while (a64_load_relaxed(head) == own)
		MUST(cxlshm_alloc(c, 9000, &ref));
	MUST(cxlshm_leave(c));
}

/* Memory comes back while somebody may look at it: kept as it is, and trimmed by who leaves when nobody does any more. */
static void act_give_back(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref big;

	MUST(cxlshm_alloc(c, 600000, &big));
	MUST(cxlshm_release(c, big));
	MUST(cxlshm_leave(c));
	a64_store_release(&((struct client *)s->reader)->slot->reading, 0);
	MUST(cxlshm_leave(join(pool)));
}

static void before_give_back(struct stage *s)
{
	MUST(cxlshm_join(s->pool, "reader", 0, &s->reader));
	a64_store_release(&((struct client *)s->reader)->slot->reading, 1);
}

void stage_reader_end(struct stage *s)
{
	if (!s->reader)
		return;
	a64_store_release(&((struct client *)s->reader)->slot->reading, 0);
	MUST(cxlshm_leave(s->reader));
}

/* ---- those that died before ---- */

/* A bit of everything. */
static void victim_all(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref ref, holder, dir, queue;
	uint64_t token;

	MUST(cxlshm_import(c, s->token[HOLDER][1], &holder));
	MUST(cxlshm_import(c, s->token[DIRECTORY][1], &dir));
	MUST(cxlshm_import(c, s->token[QUEUE][1], &queue));
	for (int i = 0; i < 3; i++) {
		MUST(cxlshm_alloc(c, 40, &ref));
		MUST(cxlshm_export(c, ref, &token));
	}
	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_cell_swap(c, holder, 1, &ref));
	MUST(cxlshm_create(c, 0, "v", 4096, 0600, NULL));
	MUST(cxlshm_mkdir(c, 0, "w", 0700, NULL));
	MUST(cxlshm_rename(c, 0, "w", dir, "w", 0));
	MUST(cxlshm_unlink(c, 0, "v"));
	MUST(cxlshm_import(c, s->token[SPSC][1], &queue));
	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
	abort();
}

/* Both sides of the one-to-one queue. */
static void victim_one_to_one(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref queue, ref;

	MUST(cxlshm_import(c, s->token[SPSC][1], &queue));
	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
	MUST(cxlshm_queue_receive(c, queue, &ref));
	abort();
}

/* Fills the queue, and takes one out. */
static void victim_receive(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref queue, ref;

	MUST(cxlshm_import(c, s->token[QUEUE][1], &queue));
	for (int i = 0; i < 4; i++) {
		MUST(cxlshm_alloc(c, 40, &ref));
		MUST(cxlshm_queue_send(c, queue, ref));
	}
	MUST(cxlshm_queue_receive(c, queue, &ref));
	abort();
}

static void victim_exchange(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);

	(void)s;
	MUST(cxlshm_mkdir(c, 0, "x", 0700, NULL));
	MUST(cxlshm_mknod(c, 0, "y", S_IFIFO | 0600, NULL));
	MUST(cxlshm_rename(c, 0, "y", 0, "x", CXLSHM_EXCHANGE));
	abort();
}

static void victim_rename(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);

	(void)s;
	MUST(cxlshm_mknod(c, 0, "x", S_IFIFO | 0600, NULL));
	MUST(cxlshm_rename(c, 0, "x", 0, "y", 0));
	abort();
}

/* The old name went before the one that died took it away: nothing is left to do of the rename. */
static void before_overtaken(struct stage *s)
{
	MUST(cxlshm_unlink(s->neighbour, 0, "x"));
	MUST(cxlshm_unlink(s->neighbour, 0, "y"));
}

/* Both names of the exchange lead elsewhere now: the directory needs one of its own. */
static void before_displaced(struct stage *s)
{
	MUST(cxlshm_unlink(s->neighbour, 0, "x"));
	MUST(cxlshm_unlink(s->neighbour, 0, "y"));
	MUST(cxlshm_mknod(s->neighbour, 0, "x", S_IFIFO | 0600, NULL));
	MUST(cxlshm_mknod(s->neighbour, 0, "y", S_IFIFO | 0600, NULL));
}

static void act_recover(struct stage *s, struct cxlshm_pool *pool)
{
	(void)s;
	MUST(cxlshm_recover(pool, NULL));
}

static void send_one(struct stage *s, struct cxlshm_pool *pool, int which)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref queue = take(s, c, which), ref;

	MUST(cxlshm_alloc(c, 40, &ref));
	MUST(cxlshm_queue_send(c, queue, ref));
	MUST(cxlshm_leave(c));
}

/* The sender died before it filled the place it had begun: who takes its role settles that. */
static void act_succeed(struct stage *s, struct cxlshm_pool *pool)
{
	send_one(s, pool, SPSC);
}

/* The receiver died before it emptied the place it had begun. */
static void act_succeed_receiver(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref queue = take(s, c, SPSC), ref;

	MUST(cxlshm_queue_receive(c, queue, &ref));
	MUST(cxlshm_leave(c));
}

/* The queue's counters were left behind by who died: whoever comes next moves them on. */
static void act_send(struct stage *s, struct cxlshm_pool *pool)
{
	send_one(s, pool, QUEUE);
}

static void act_receive(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref queue = take(s, c, QUEUE), ref;

	MUST(cxlshm_queue_receive(c, queue, &ref));
	MUST(cxlshm_leave(c));
}

/* In the root there are inner nodes, and who was taking them out has died. */
static void before_nodes(struct stage *s)
{
	struct client *n = (struct client *)s->neighbour;
	char name[16];

	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		MUST(cxlshm_mknod(s->neighbour, 0, name, S_IFIFO | 0600, NULL));
	}
	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		MUST(frozen_make(n, n->pool->super->root_dir, name));
	}
}

static void act_nodes(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	char name[16];

	(void)s;
	for (int i = 24, n = 0; n < 3; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		if (!frozen_meets((struct client *)c, ((struct client *)c)->pool->super->root_dir, name))
			continue;
		MUST(cxlshm_mknod(c, 0, name, S_IFIFO | 0600, NULL));
		MUST(cxlshm_unlink(c, 0, name));
		n++;
	}
	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		MUST(cxlshm_unlink(c, 0, name));
	}
	MUST(cxlshm_leave(c));
}

const struct scenario scenarios[] = {
	{.name = "refs", .act = act_refs},
	{.name = "cells", .act = act_cells},
	{.name = "memory", .act = act_memory},
	{.name = "stale_hints", .act = act_stale_hints},
	{.name = "give_back", .act = act_give_back, .before = before_give_back},
	{.name = "roots", .act = act_many_roots},
	{.name = "trim", .act = act_trim},
	{.name = "queues", .act = act_queues},
	{.name = "names", .act = act_names},
	{.name = "nodes", .act = act_nodes, .before = before_nodes},
	{.name = "file", .act = act_file},
	{.name = "directories", .act = act_directories, .moves = 1},
	{.name = "succeed", .act = act_succeed, .victim = victim_all, .dead_at = CRASH_queue_send_begun},
	{.name = "succeed_receiver", .act = act_succeed_receiver, .victim = victim_one_to_one,
	 .dead_at = CRASH_queue_receive_begun},
	{.name = "send", .act = act_send, .victim = victim_receive, .dead_at = CRASH_queue_receive_swapped},
	{.name = "receive", .act = act_receive, .victim = victim_all, .dead_at = CRASH_queue_send_swapped},
	{.name = "recover_alloc", .act = act_recover, .victim = victim_all, .dead_at = CRASH_alloc_rooted},
	{.name = "recover_send", .act = act_recover, .victim = victim_all, .dead_at = CRASH_queue_send_swapped},
	{.name = "recover_role", .act = act_recover, .victim = victim_all, .dead_at = CRASH_queue_send_begun},
	{.name = "recover_move", .act = act_recover, .victim = victim_all, .dead_at = CRASH_names_move_taken, .moves = 1},
	{.name = "recover_unlink", .act = act_recover, .victim = victim_all, .dead_at = CRASH_extent_deleted},
	{.name = "recover_overtaken", .act = act_recover, .victim = victim_rename, .dead_at = CRASH_names_renamed,
	 .before = before_overtaken},
	{.name = "recover_exchange", .act = act_recover, .victim = victim_exchange, .dead_at = CRASH_names_renamed,
	 .before = before_displaced, .moves = 1},
	{.name = NULL},
};
