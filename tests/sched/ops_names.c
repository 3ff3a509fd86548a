/* SPDX-License-Identifier: MIT */
/*
 * Areas names, across, nodes, frozen and files.  In the root directory: a (a fifo), d (a directory that everybody holds); b and c are free, and
 * share the first edge with a (the hash key is chosen so), so that creating them splits it.  x is in d.
 * Area across: x is a fifo; directory e has another one, y; directory f is empty, z would be in it.
 *
 * A tag stands for an inode: of a fifo its permission bits.
 */
#include <errno.h>
#include <sys/stat.h>

#include "../lib/frozen.h"
#include "interleave.h"

#define DIR_D ROW_DIRS
#define DIR_E (ROW_DIRS + 1)
#define DIR_F (ROW_DIRS + 2)
#define TAG_A 1
#define TAG_LINK 2	/* of the heap object that link() names */

static const char *const text[] = {"a", "b", "c", "d", "x", "e", "f", "y", "z"};

static const uint8_t row_of[DIRS] = {DIR_D, DIR_E, DIR_F};

static cxlshm_ref dir_of(struct world *w, unsigned me, enum name_id name)
{
	uint32_t dir = name_dir(name);

	return dir < DIRS ? w->v.ref[me][row_of[dir]] : 0;
}

static void prepare(struct world *w)
{
	cxlshm_ref *d = &w->v.ref[OBSERVER][DIR_D];

	MUST(cxlshm_mknod(actor(w, OBSERVER), 0, "a", S_IFIFO | TAG_A, NULL));
	MUST(cxlshm_mkdir(actor(w, OBSERVER), 0, "d", TAG_DIR, d));
	for (unsigned i = 0; i < w->actors; i++)
		w->v.ref[i][DIR_D] = hand_over(w, OBSERVER, *d, i);
	w->v.history.start[NAME_A] = TAG_A;
	w->v.history.start[NAME_D] = TAG_DIR;
	w->v.history.start[NAMES_MAX + NAME_A] = 255;
	w->v.history.start[NAMES_MAX + NAME_D] = 255;
}

/* ---- one call, one event ---- */

static void end(struct world *w, uint32_t e, int rc)
{
	history_end(&w->v.history, e, rc, 0);
	/* Everything else is for the specification to say. */
	if (rc == -EUCLEAN || rc == -EAGAIN || rc == -EBADF || rc == -EOWNERDEAD || rc == -ENOSPC || rc == -EOVERFLOW)
		world_fail(w, "an operation on names says: %s", strerror(-rc));
}

static uint32_t begin(struct world *w, unsigned me, enum event_op op, enum name_id a, enum name_id b, int arg)
{
	uint32_t e = history_begin(&w->v.history, me, op);

	w->v.history.event[e].a = (uint8_t)a;
	w->v.history.event[e].b = (uint8_t)b;
	w->v.history.event[e].arg = arg;
	return e;
}

static void create(struct world *w, unsigned me, enum name_id name)
{
	int tag = (int)(10 * (me + 1) + w->v.made[me]++);
	uint32_t e;

	if (gone(w, me))
		return;
	e = begin(w, me, OP_CREATE, name, 0, tag);
	end(w, e, cxlshm_mknod(actor(w, me), dir_of(w, me, name), text[name], S_IFIFO | (mode_t)tag, NULL));
}

static void make_dir(struct world *w, unsigned me, enum name_id name)
{
	int tag = (int)(TAG_NEW_DIR + 10 * me + w->v.made[me]++);
	uint32_t e;

	if (gone(w, me))
		return;
	e = begin(w, me, OP_CREATE, name, 0, tag);
	end(w, e, cxlshm_mkdir(actor(w, me), dir_of(w, me, name), text[name], (mode_t)tag, NULL));
}

static void unlink_name(struct world *w, unsigned me, enum name_id name)
{
	uint32_t e;

	if (gone(w, me))
		return;
	e = begin(w, me, OP_UNLINK, name, 0, 0);
	end(w, e, cxlshm_unlink(actor(w, me), dir_of(w, me, name), text[name]));
}

static void remove_dir(struct world *w, unsigned me, enum name_id name)
{
	uint32_t e;

	if (gone(w, me))
		return;
	e = begin(w, me, OP_RMDIR, name, 0, 0);
	end(w, e, cxlshm_rmdir(actor(w, me), dir_of(w, me, name), text[name]));
}

static void lookup(struct world *w, unsigned me, enum name_id name)
{
	struct cxlshm_stat st;
	cxlshm_ref ref = 0;
	uint32_t e;
	int rc, tag = 0;

	if (gone(w, me))
		return;
	e = begin(w, me, OP_LOOKUP, name, 0, 0);
	rc = cxlshm_lookup(actor(w, me), dir_of(w, me, name), text[name], CXLSHM_INODE, &ref);
	if (!rc) {
		expect(w, "stat", cxlshm_stat(actor(w, me), ref, &st), 0);
		tag = (int)(st.mode & 07777);
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
	}
	end(w, e, rc);
	w->v.history.event[e].result = tag;
}

static void rename_to(struct world *w, unsigned me, enum name_id a, enum name_id b, unsigned flags)
{
	uint32_t e;

	if (gone(w, me))
		return;
	e = begin(w, me, flags & CXLSHM_EXCHANGE ? OP_EXCHANGE : OP_RENAME, a, b, 0);
	w->v.history.event[e].expected = flags & CXLSHM_NOREPLACE ? 1 : 0;
	end(w, e, cxlshm_rename(actor(w, me), dir_of(w, me, a), text[a], dir_of(w, me, b), text[b], flags));
}

/* Was it there from the start, and has nobody begun to take it away?  (What changes places with it, or replaces it, is there.) */
static int stays(const struct history *h, enum name_id name)
{
	for (uint32_t i = 0; i < h->count; i++) {
		const struct event *e = &h->event[i];

		if (e->a == name && (e->op == OP_UNLINK || e->op == OP_RMDIR || e->op == OP_RENAME))
			return 0;
	}
	return h->start[name] != 0;
}

/* What is there throughout is met once, nothing twice, nothing in the wrong place. */
static void list(struct world *w, unsigned me, uint32_t dir)
{
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	unsigned seen[NAMES_MAX] = {0};
	int rc;

	if (gone(w, me))
		return;
	while (!(rc = cxlshm_readdir(actor(w, me), dir < DIRS ? w->v.ref[me][row_of[dir]] : 0, &position, &entry, NULL)))
		for (enum name_id n = NAME_A; n < NAMES_MAX; n++)
			seen[n] += !strcmp(entry.name, text[n]);
	if (rc != -ENOENT)
		world_fail(w, "readdir: %s", strerror(-rc));
	for (enum name_id n = NAME_A; n < NAMES_MAX; n++)
		if (name_dir(n) != dir ? seen[n] : seen[n] > 1 || (!seen[n] && stays(&w->v.history, n)))
			world_fail(w, "a listing has %s %u times", text[n], seen[n]);
}

/* ---- operations ---- */

#define OP(name, call)                                                                             \
	static void name##_op(struct world *w, unsigned me)                                        \
	{                                                                                          \
		call;                                                                              \
	}

OP(mk_a, create(w, me, NAME_A))
OP(mk_b, create(w, me, NAME_B))
OP(mk_x, create(w, me, NAME_X))
OP(mkdir_b, make_dir(w, me, NAME_B))
OP(mkdir_d, make_dir(w, me, NAME_D))
OP(mkdir_x, make_dir(w, me, NAME_X))
OP(rm_a, unlink_name(w, me, NAME_A))
OP(rm_b, unlink_name(w, me, NAME_B))
OP(rm_x, unlink_name(w, me, NAME_X))
OP(rmdir_d, remove_dir(w, me, NAME_D))
OP(rmdir_b, remove_dir(w, me, NAME_B))
OP(look_a, lookup(w, me, NAME_A))
OP(look_b, lookup(w, me, NAME_B))
OP(look_d, lookup(w, me, NAME_D))
OP(mv_ab, rename_to(w, me, NAME_A, NAME_B, 0))
OP(mv_ba, rename_to(w, me, NAME_B, NAME_A, 0))
OP(mv_ac, rename_to(w, me, NAME_A, NAME_C, 0))
OP(mv_ax, rename_to(w, me, NAME_A, NAME_X, 0))
OP(mv_xa, rename_to(w, me, NAME_X, NAME_A, 0))
OP(mv_db, rename_to(w, me, NAME_D, NAME_B, 0))
OP(mv_bd, rename_to(w, me, NAME_B, NAME_D, 0))
OP(xch_ad, rename_to(w, me, NAME_A, NAME_D, CXLSHM_EXCHANGE))
OP(xch_ab, rename_to(w, me, NAME_A, NAME_B, CXLSHM_EXCHANGE))
OP(list, list(w, me, DIRS))
OP(list_d, list(w, me, 0))
OP(list_e, list(w, me, 1))

static void leave_op(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "leave", cxlshm_leave(actor(w, me)), 0);
}

/* Every name must lead to something live, or nowhere. */
static void observe(struct world *w)
{
	for (enum name_id n = NAME_A; n <= NAME_X; n++)
		lookup(w, OBSERVER, n);
}

static const struct op ops[] = {
	{"mk_a", mk_a_op}, {"mk_b", mk_b_op}, {"mk_x", mk_x_op}, {"mkdir_b", mkdir_b_op}, {"mkdir_d", mkdir_d_op},
	{"mkdir_x", mkdir_x_op}, {"rm_a", rm_a_op}, {"rm_b", rm_b_op}, {"rm_x", rm_x_op}, {"rmdir_d", rmdir_d_op},
	{"rmdir_b", rmdir_b_op}, {"look_a", look_a_op}, {"look_b", look_b_op}, {"look_d", look_d_op},
	{"mv_ab", mv_ab_op}, {"mv_ba", mv_ba_op}, {"mv_ac", mv_ac_op}, {"mv_ax", mv_ax_op}, {"mv_xa", mv_xa_op},
	{"mv_db", mv_db_op}, {"mv_bd", mv_bd_op}, {"xch_ad", xch_ad_op}, {"xch_ab", xch_ab_op},
	{"list", list_op}, {"list_d", list_d_op}, {"leave", leave_op}, {NULL, NULL},
};

const struct area area_names = {
	.name = "names", .kind = SPEC_NAMES, .may_wait = 1, .prepare = prepare, .observe = observe, .ops = ops,
};

/* ---- across: what changes places, or moves, between directories ---- */

static void across_prepare(struct world *w)
{
	static const struct {
		enum name_id name;
		uint32_t row;
	} dirs[] = {{NAME_E, DIR_E}, {NAME_F, DIR_F}};
	static const enum name_id fifos[] = {NAME_X, NAME_Y};

	prepare(w);
	for (unsigned k = 0; k < 2; k++) {
		int tag = TAG_DIR + (int)k + 1;
		cxlshm_ref *d = &w->v.ref[OBSERVER][dirs[k].row];

		MUST(cxlshm_mkdir(actor(w, OBSERVER), 0, text[dirs[k].name], (mode_t)tag, d));
		for (unsigned i = 0; i < w->actors; i++)
			w->v.ref[i][dirs[k].row] = hand_over(w, OBSERVER, *d, i);
		w->v.history.start[dirs[k].name] = (uint8_t)tag;
		w->v.history.start[NAMES_MAX + dirs[k].name] = 255;
	}
	for (unsigned k = 0; k < 2; k++) {
		mode_t tag = TAG_A + 2 + k;

		MUST(cxlshm_mknod(actor(w, OBSERVER), dir_of(w, OBSERVER, fifos[k]), text[fifos[k]], S_IFIFO | tag, NULL));
		w->v.history.start[fifos[k]] = (uint8_t)tag;
		w->v.history.start[NAMES_MAX + fifos[k]] = 255;
	}
}

static void across_observe(struct world *w)
{
	for (enum name_id n = NAME_A; n < NAMES_MAX; n++)
		lookup(w, OBSERVER, n);
}

OP(xch_ax, rename_to(w, me, NAME_A, NAME_X, CXLSHM_EXCHANGE))
OP(xch_xa, rename_to(w, me, NAME_X, NAME_A, CXLSHM_EXCHANGE))
OP(xch_xy, rename_to(w, me, NAME_X, NAME_Y, CXLSHM_EXCHANGE))
OP(xch_xe, rename_to(w, me, NAME_X, NAME_E, CXLSHM_EXCHANGE))
OP(xch_fx, rename_to(w, me, NAME_F, NAME_X, CXLSHM_EXCHANGE))
OP(xch_dy, rename_to(w, me, NAME_D, NAME_Y, CXLSHM_EXCHANGE))
OP(mv_df, rename_to(w, me, NAME_D, NAME_F, 0))
OP(mv_dz, rename_to(w, me, NAME_D, NAME_Z, 0))
OP(mv_xb, rename_to(w, me, NAME_X, NAME_B, CXLSHM_NOREPLACE))
OP(mk_z, create(w, me, NAME_Z))
OP(rm_y, unlink_name(w, me, NAME_Y))
OP(rmdir_f, remove_dir(w, me, NAME_F))
OP(look_x, lookup(w, me, NAME_X))
OP(look_f, lookup(w, me, NAME_F))
OP(clear, unlink_name(w, me, NAME_A); unlink_name(w, me, NAME_X); remove_dir(w, me, NAME_D))
/* Both names of an exchange of a and x, so that what goes is seen elsewhere: what is displaced must have a name. */
OP(take, unlink_name(w, me, NAME_A); rename_to(w, me, NAME_X, NAME_B, 0))

static const struct op across_ops[] = {
	{"xch_ax", xch_ax_op}, {"xch_xa", xch_xa_op}, {"xch_xy", xch_xy_op}, {"xch_xe", xch_xe_op}, {"xch_fx", xch_fx_op},
	{"xch_dy", xch_dy_op}, {"mv_df", mv_df_op}, {"mv_dz", mv_dz_op},
	{"mv_ab", mv_ab_op}, {"mv_xb", mv_xb_op}, {"mk_x", mk_x_op}, {"mk_z", mk_z_op}, {"rm_a", rm_a_op}, {"rm_x", rm_x_op},
	{"rm_y", rm_y_op}, {"rmdir_f", rmdir_f_op}, {"look_a", look_a_op}, {"look_x", look_x_op}, {"look_f", look_f_op},
	{"clear", clear_op}, {"take", take_op}, {"list", list_op}, {"list_d", list_d_op}, {"list_e", list_e_op}, {"leave", leave_op}, {NULL, NULL},
};

const struct area area_across = {
	.name = "across", .kind = SPEC_NAMES, .leading = 8, .may_wait = 1, .prepare = across_prepare, .observe = across_observe,
	.ops = across_ops,
};

/* ---- nodes: a alone in an inner node, which goes with it, or gets more; frozen: the node's empty edges are ---- */

static void nodes_prepare(struct world *w)
{
	prepare(w);
	MUST(cxlshm_mknod(actor(w, OBSERVER), 0, "b", S_IFIFO | TAG_A, NULL));
	MUST(cxlshm_unlink(actor(w, OBSERVER), 0, "b"));
}

/* As it is left by somebody who died while he took out the node, and somebody who put a there. */
static void frozen_prepare(struct world *w)
{
	struct client *c = w->client[OBSERVER];

	nodes_prepare(w);
	MUST(frozen_make(c, c->pool->super->root_dir, "a"));
}

OP(mk_c, create(w, me, NAME_C))
OP(mk_rm_b, create(w, me, NAME_B); unlink_name(w, me, NAME_B))

static const struct op node_ops[] = {
	{"rm_a", rm_a_op}, {"mk_a", mk_a_op}, {"mk_b", mk_b_op}, {"mk_c", mk_c_op}, {"mk_rm_b", mk_rm_b_op}, {"mv_ab", mv_ab_op},
	{"mv_ac", mv_ac_op}, {"look_a", look_a_op}, {"look_b", look_b_op}, {"list", list_op}, {NULL, NULL},
};

const struct area area_nodes = {
	.name = "nodes", .kind = SPEC_NAMES, .prepare = nodes_prepare, .observe = observe, .ops = node_ops,
};

const struct area area_frozen = {
	.name = "frozen", .kind = SPEC_NAMES, .prepare = frozen_prepare, .observe = observe, .ops = node_ops,
};

/* ---- files: their extents come and go with them; hard links ---- */

#define FILES_HEAP ROW_FILES
#define FILES_A (ROW_FILES + 1)

static void files_prepare(struct world *w)
{
	cxlshm_ref ref;

	MUST(cxlshm_alloc(actor(w, OBSERVER), 40, &ref));
	for (unsigned i = 0; i < w->actors; i++)
		w->v.ref[i][FILES_HEAP] = hand_over(w, OBSERVER, ref, i);
	MUST(cxlshm_link(actor(w, OBSERVER), ref, 0, "named", TAG_LINK));
	MUST(cxlshm_mknod(actor(w, OBSERVER), 0, "a", S_IFIFO | TAG_A, &ref));
	for (unsigned i = 0; i < w->actors; i++)
		w->v.ref[i][FILES_A] = hand_over(w, OBSERVER, ref, i);
}

static void must_be(struct world *w, const char *what, int rc, int also, int third)
{
	if (rc && rc != also && rc != third)
		world_fail(w, "%s: %s", what, strerror(-rc));
}

static void file_make(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "create", cxlshm_create(actor(w, me), 0, "f", 4096, 0600, NULL), -EEXIST, 0);
}

static void file_remove(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "unlink", cxlshm_unlink(actor(w, me), 0, "f"), -ENOENT, 0);
}

static void link_fifo(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "link", cxlshm_link(actor(w, me), w->v.ref[me][FILES_A], 0, "b", 0), -EEXIST, 0);
}

static void link_heap(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "link", cxlshm_link(actor(w, me), w->v.ref[me][FILES_HEAP], 0, "b", 7), -EEXIST, 0);
}

static void unlink_b(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "unlink", cxlshm_unlink(actor(w, me), 0, "b"), -ENOENT, 0);
}

static void unlink_a(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "unlink", cxlshm_unlink(actor(w, me), 0, "a"), -ENOENT, 0);
}

static void look_named(struct world *w, unsigned me)
{
	cxlshm_ref ref = 0;

	if (gone(w, me) || expect(w, "lookup", cxlshm_lookup(actor(w, me), 0, "named", 0, &ref), -ENOENT))
		return;
	if (cxlshm_kind(actor(w, me), ref) != CXLSHM_KIND_HEAP)
		world_fail(w, "the name of a heap object leads to something else");
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

static void unlink_named(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "unlink", cxlshm_unlink(actor(w, me), 0, "named"), -ENOENT, 0);
}

/* Extended attributes of a: another object each time, that a cell of the inode holds. */
static void set_xattr(struct world *w, unsigned me)
{
	char value = (char)('0' + me);

	if (!gone(w, me))
		must_be(w, "setxattr", cxlshm_setxattr(actor(w, me), w->v.ref[me][FILES_A], "user.k", &value, 1, 0), 0, 0);
}

static void add_xattr(struct world *w, unsigned me)
{
	char name[] = {'u', 's', 'e', 'r', '.', (char)('0' + me), 0}, value = 0;

	if (gone(w, me))
		return;
	must_be(w, "setxattr", cxlshm_setxattr(actor(w, me), w->v.ref[me][FILES_A], name, name, 1, 0), 0, 0);
	/* Nobody else touches this one. */
	if (cxlshm_getxattr(actor(w, me), w->v.ref[me][FILES_A], name, &value, 1) != 1 || value != name[0])
		world_fail(w, "an attribute that was set is lost");
}

static void get_xattr(struct world *w, unsigned me)
{
	char value = 0;
	int64_t bytes;

	if (gone(w, me))
		return;
	bytes = cxlshm_getxattr(actor(w, me), w->v.ref[me][FILES_A], "user.k", &value, 1);
	if (bytes != -ENODATA && (bytes != 1 || value < '0' || value >= (char)('0' + ACTORS_MAX)))
		world_fail(w, "an attribute is %lld bytes, the first %d", (long long)bytes, value);
}

static void remove_xattr(struct world *w, unsigned me)
{
	if (!gone(w, me))
		must_be(w, "removexattr", cxlshm_removexattr(actor(w, me), w->v.ref[me][FILES_A], "user.k"), -ENODATA, 0);
}

static const struct op file_ops[] = {
	{"setx", set_xattr}, {"addx", add_xattr}, {"getx", get_xattr}, {"rmx", remove_xattr}, {"create", file_make}, {"unlink", file_remove}, {"link", link_fifo}, {"link_heap", link_heap},
	{"unlink_b", unlink_b}, {"unlink_a", unlink_a}, {"look_named", look_named}, {"unlink_named", unlink_named},
	{NULL, NULL},
};

const struct area area_files = {
	.name = "files", .extents = 1, .prepare = files_prepare, .ops = file_ops,
};
