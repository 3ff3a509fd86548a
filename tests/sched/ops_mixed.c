/* SPDX-License-Identifier: MIT */
/*
 * Area mixed: operations of the other areas against one another, over objects that they share.
 *
 *   file      a in the root directory, with a size, an owner and an extended attribute; its names and its two holders keep it
 *   d         an empty directory in the root directory, for x
 *   shared    one object that is in the queue, in the cell, exported by each, and in everybody's hand, who sends it, too
 *   freed     a block of the one's that the other alone holds
 *
 * What an operation is, is written down in the area that it is of; here the files' sizes and owners, exports and frees are put
 * together anew.  The cell, the queue and the names have an order each; of the rest it is looked at what was found.
 */
#include <errno.h>

#include "interleave.h"

#define SHARED ROW_MIXED
#define FREED (ROW_MIXED + 1)	/* the last item of the next actor, which that one has not any more */
#define ITEM (ROW_QUEUE + 1)
#define LAST_ITEM (ROW_QUEUE + 7)
#define FILE_A (ROW_FILES + 1)
#define TAG_SHARED 1
#define FIRST_BYTES 4096u
#define GROWN_BYTES 8192u	/* + 4096 * who sets it */
#define FIRST_OWNER 7u
#define OWNER 300u	/* + who sets it */

enum {	/* rows of v.token; those of each actor up to 2 are area join's */
	TOKEN_FIRST = ACTORS_MAX,	/* of each actor's export from the start */
	TOKEN_SECOND = 2 * ACTORS_MAX,	/* of the one it makes */
	TOKEN_FILE = 3 * ACTORS_MAX,	/* and of that of the file */
	TOKEN_TAKEN = 4 * ACTORS_MAX,	/* how often the first was imported */
	TOKEN_SIZE = 5 * ACTORS_MAX, TOKEN_OWNER, TOKEN_SHARED_ID, TOKEN_FILE_ID, TOKENS
};
_Static_assert(TOKENS <= REFS, "v.token has no room for all");

static unsigned next(struct world *w, unsigned me)
{
	return (me + 1) % w->actors;
}

/* An operation of another area. */
static void borrow(struct world *w, unsigned me, const struct area *area, const char *name)
{
	const struct op *op = area->ops;

	while (op->name && strcmp(op->name, name))
		op++;
	REQUIRE(op->name);
	op->act(w, me);
}

/* ---- preparing ---- */

/* As it begins in that area.  What the history begins with is that of one of its parts. */
static void prepare_as(struct world *w, const struct area *area)
{
	struct history *h = &w->v.history;

	area->prepare(w);
	memcpy(h->part[area->kind], h->start, STATE_BYTES);
	memset(h->start, 0, STATE_BYTES);
}

static void prepare_file(struct world *w)
{
	const cxlshm_ref d = w->v.ref[OBSERVER][ROW_DIRS];
	struct cxlshm_stat st = {.uid = FIRST_OWNER, .gid = FIRST_OWNER};
	mode_t tag = w->v.history.part[SPEC_NAMES][NAME_A];
	cxlshm_ref a;

	REQUIRE(d && tag);
	MUST(cxlshm_unlink(actor(w, OBSERVER), 0, "a"));
	MUST(cxlshm_create(actor(w, OBSERVER), 0, "a", FIRST_BYTES, tag, &a));
	MUST(cxlshm_setattr(actor(w, OBSERVER), a, &st, CXLSHM_SET_UID | CXLSHM_SET_GID));
	MUST(cxlshm_setxattr(actor(w, OBSERVER), a, "user.k", "0", 1, 0));
	w->v.token[TOKEN_FILE_ID] = cxlshm_id(actor(w, OBSERVER), a);
	for (unsigned i = 0; i < w->actors; i++)
		w->v.ref[i][FILE_A] = hand_over(w, OBSERVER, a, i);
	MUST(cxlshm_release(actor(w, OBSERVER), a));
}

static void prepare_shared(struct world *w)
{
	cxlshm_ref shared = tagged(w, OBSERVER, TAG_SHARED, 40), out = 0, copy;

	w->v.token[TOKEN_SHARED_ID] = cxlshm_id(actor(w, OBSERVER), shared);
	for (unsigned i = 0; i < w->actors; i++) {
		w->v.ref[i][SHARED] = hand_over(w, OBSERVER, shared, i);
		MUST(cxlshm_attach(actor(w, i), w->v.ref[i][SHARED], &copy));
		MUST(cxlshm_export(actor(w, i), copy, &w->v.token[TOKEN_FIRST + i]));
		w->v.ref[i][FREED] = hand_over(w, next(w, i), w->v.ref[next(w, i)][LAST_ITEM], i);
	}
	for (unsigned i = 0; i < w->actors; i++) {
		MUST(cxlshm_release(actor(w, i), w->v.ref[i][LAST_ITEM]));
		MUST(cxlshm_release(actor(w, i), w->v.ref[i][ITEM]));
		w->v.ref[i][LAST_ITEM] = w->v.ref[i][ITEM] = 0;
	}
	/* What is in the cell and in the queue has the same tag. */
	MUST(cxlshm_cell_store(actor(w, OBSERVER), w->v.ref[OBSERVER][ROW_CELL], 0, shared));
	MUST(cxlshm_queue_receive(actor(w, OBSERVER), w->v.ref[OBSERVER][ROW_QUEUE], &out));
	MUST(cxlshm_release(actor(w, OBSERVER), out));
	MUST(cxlshm_queue_send(actor(w, OBSERVER), w->v.ref[OBSERVER][ROW_QUEUE], shared));
	REQUIRE(w->v.history.part[SPEC_CELL][0] == TAG_SHARED && w->v.history.part[SPEC_QUEUE][1] == TAG_SHARED);
}

static void prepare(struct world *w)
{
	prepare_as(w, &area_cell);
	prepare_as(w, &area_queue);
	prepare_as(w, &area_names);
	prepare_file(w);
	prepare_shared(w);
}

/* ---- the file ---- */

/* What was set, by anybody, or as it was, if nobody had done so before. */
static void check_file(struct world *w, unsigned me)
{
	uint64_t size_set = w->v.token[TOKEN_SIZE], owner_set = w->v.token[TOKEN_OWNER];
	struct cxlshm_stat st;

	if (gone(w, me) || !w->v.ref[me][FILE_A] ||
	    expect(w, "stat", cxlshm_stat(actor(w, me), w->v.ref[me][FILE_A], &st), 0))
		return;
	if (st.size_bytes == FIRST_BYTES ? size_set != 0 : (st.size_bytes - GROWN_BYTES) / 4096 >= ACTORS_MAX)
		world_fail(w, "the file has %llu bytes%s", (unsigned long long)st.size_bytes, size_set ? ", and was set" : "");
	if ((st.uid == FIRST_OWNER ? owner_set != 0 : st.uid - OWNER >= ACTORS_MAX) ||
	    (st.gid == FIRST_OWNER ? owner_set != 0 : st.gid - OWNER >= ACTORS_MAX))
		world_fail(w, "the file is %u's and %u's%s", st.uid, st.gid, owner_set ? ", and was set" : "");
	/* A rename has both names for a moment, and so has one that died, until it is recovered. */
	if (st.links > 2 || !st.refs)
		world_fail(w, "the file has %llu names, %llu references", (unsigned long long)st.links, (unsigned long long)st.refs);
}

static void attr_op(struct world *w, unsigned me)
{
	struct cxlshm_stat st = {.uid = OWNER + me, .gid = OWNER + me};

	if (!gone(w, me) && w->v.ref[me][FILE_A] &&
	    !expect(w, "setattr", cxlshm_setattr(actor(w, me), w->v.ref[me][FILE_A], &st, CXLSHM_SET_UID | CXLSHM_SET_GID), 0))
		w->v.token[TOKEN_OWNER] = 1;
}

static void resize_op(struct world *w, unsigned me)
{
	if (!gone(w, me) && w->v.ref[me][FILE_A] &&
	    !expect(w, "resize", cxlshm_resize(actor(w, me), w->v.ref[me][FILE_A], GROWN_BYTES + 4096 * me), 0))
		w->v.token[TOKEN_SIZE] = 1;
}

static void setx_op(struct world *w, unsigned me)
{
	if (!gone(w, me) && w->v.ref[me][FILE_A])
		borrow(w, me, &area_files, "setx");
}

/* By name, then what the handle leads to. */
static void open_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_names, "look_a");
	check_file(w, me);
	if (!gone(w, me) && w->v.ref[me][FILE_A])
		borrow(w, me, &area_files, "getx");
}

/* With the handle: when all do that, the file goes. */
static void unlink_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_names, "rm_a");
	drop_row(w, me, FILE_A);
}

static void rename_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_names, "mv_ax");
}

static void make_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_names, "mk_x");
}

static void rmdir_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_names, "rmdir_d");
}

/* ---- shared and items ---- */

/* One more reference to it, which is then the queue's. */
static void send_op(struct world *w, unsigned me)
{
	cxlshm_ref *item = &w->v.ref[me][ITEM];

	if (!gone(w, me) && !*item && w->v.ref[me][SHARED])
		expect(w, "attach", cxlshm_attach(actor(w, me), w->v.ref[me][SHARED], item), 0);
	borrow(w, me, &area_queue, "send");
}

static void receive_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_queue, "receive");
}

static void swap_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_cell, "swap");
}

static void export(struct world *w, unsigned me, uint32_t row, uint32_t token_row)
{
	cxlshm_ref copy = 0;
	uint64_t token;

	if (gone(w, me) || !w->v.ref[me][row] ||
	    expect(w, "attach", cxlshm_attach(actor(w, me), w->v.ref[me][row], &copy), 0))
		return;
	if (!expect(w, "export", cxlshm_export(actor(w, me), copy, &token), 0))
		w->v.token[token_row + me] = token;
}

static void export_op(struct world *w, unsigned me)
{
	export(w, me, SHARED, TOKEN_SECOND);
	export(w, me, FILE_A, TOKEN_FILE);
}

/* 1 if it was there. */
static int import(struct world *w, unsigned me, uint64_t token, uint32_t id_row)
{
	cxlshm_ref ref = 0;

	if (!token || expect(w, "import", cxlshm_import(actor(w, me), token, &ref), -ENOENT))
		return 0;
	if (cxlshm_id(actor(w, me), ref) != w->v.token[id_row])
		world_fail(w, "the import gave another object");
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	return 1;
}

/* Both that were there from the start, and what the other one has put up meanwhile. */
static void import_op(struct world *w, unsigned me)
{
	for (unsigned k = 0; k < w->actors && !gone(w, me); k++) {
		unsigned i = (next(w, me) + k) % w->actors;

		if (import(w, me, w->v.token[TOKEN_FIRST + i], TOKEN_SHARED_ID) && w->v.token[TOKEN_TAKEN + i]++)
			world_fail(w, "an export was imported twice");
	}
	if (gone(w, me))
		return;
	(void)import(w, me, w->v.token[TOKEN_SECOND + next(w, me)], TOKEN_SHARED_ID);
	(void)import(w, me, w->v.token[TOKEN_FILE + next(w, me)], TOKEN_FILE_ID);
}

static void free_op(struct world *w, unsigned me)
{
	drop_row(w, me, FREED);
	drop_row(w, me, SHARED);
}

static void alloc_op(struct world *w, unsigned me)
{
	cxlshm_ref ref[2] = {0};

	if (gone(w, me))
		return;
	ref[0] = tagged(w, me, 31, 40);
	ref[1] = tagged(w, me, 32, 3000);
	for (unsigned k = 0; k < 2; k++)
		expect(w, "release", cxlshm_release(actor(w, me), ref[k]), 0);
}

/* ---- clients, and who looks ---- */

/* What fills segments comes and goes, and they are given back, unless somebody may be reading in them. */
static void trim_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_look, "span");
}

static void leave_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_cell, "leave");
}

/* Another one comes, recovers who is dead, and goes. */
static void join_op(struct world *w, unsigned me)
{
	borrow(w, me, &area_join, "join_leave");
}

static int visit_holder(void *arg, const struct cxlshm_holder *holder)
{
	struct world *w = arg;

	/* In hand, twice exported, and one or two on the way. */
	if (holder->client < 1 || holder->client > SLOTS || holder->references > 5)
		world_fail(w, "client %u has %llu references", holder->client, (unsigned long long)holder->references);
	return 0;
}

static void look_op(struct world *w, unsigned me)
{
	struct cxlshm_pool *pool = (struct cxlshm_pool *)w->pool[me];
	const uint64_t file = w->v.token[TOKEN_FILE_ID], shared = w->v.token[TOKEN_SHARED_ID];
	struct cxlshm_object_info info = {0};
	struct cxlshm_counters n;

	if (!expect(w, "object_info", cxlshm_object_info(pool, shared, &info), -ENOENT) && (info.id != shared || !info.refs))
		world_fail(w, "object %llx has %u references", (unsigned long long)info.id, info.refs);
	if (!expect(w, "object_info", cxlshm_object_info(pool, file, &info), -ENOENT) && (info.id != file || !info.refs))
		world_fail(w, "the file's object is %llx, and has %u references", (unsigned long long)info.id, info.refs);
	expect(w, "each_client_holder", cxlshm_each_client_holder(pool, shared, visit_holder, w), 0);
	if (!expect(w, "counters", cxlshm_counters(pool, &n), 0) && (n.clients < 1 || n.clients > SLOTS || n.extents > 1))
		world_fail(w, "%u clients, %llu extents", n.clients, (unsigned long long)n.extents);
}

static void observe(struct world *w)
{
	area_names.observe(w);
	area_cell.observe(w);
	area_queue.observe(w);
	for (unsigned i = 0; i < w->actors; i++) {
		if (w->who_died & 1u << i || gone(w, i))
			continue;
		check_file(w, i);
		if (w->v.ref[i][SHARED] && tag_of(w, i, w->v.ref[i][SHARED]) != TAG_SHARED)
			world_fail(w, "what is held is another object");
	}
}

static const struct op ops[] = {
	{"attr", attr_op}, {"resize", resize_op}, {"setx", setx_op}, {"open", open_op}, {"unlink", unlink_op},
	{"rename", rename_op}, {"make", make_op}, {"rmdir", rmdir_op}, {"send", send_op}, {"receive", receive_op},
	{"swap", swap_op}, {"export", export_op}, {"import", import_op}, {"free", free_op}, {"alloc", alloc_op},
	{"trim", trim_op}, {"leave", leave_op}, {"join", join_op}, {"look", look_op}, {NULL, NULL},
};

const struct area area_mixed = {
	.name = "mixed", .kind = SPEC_MIXED, .extents = 1, .may_wait = 1, .prepare = prepare, .observe = observe, .ops = ops,
};
