/* SPDX-License-Identifier: MIT */
/*
 * Area attr: attributes of a, a fifo, each a word of its own or half of one; and the size of f, a file, which is its extent's.
 * All hold both; f has a name, too, and goes with the last of these.
 *
 * Of each attribute it is noted when somebody has set it.  Who looks from then on finds something that was set.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "interleave.h"

#define REF_A 0u
#define REF_F 1u
#define FIRST_BYTES 4096u
#define GROWN_BYTES 12288u	/* + 4096 * who sets it */
#define RESERVED_BYTES 20480u
#define VALUE 300u	/* + who sets it */

enum field { FIELD_MODE, FIELD_UID, FIELD_GID, FIELD_ATIME, FIELD_MTIME, FIELD_CTIME, FIELD_SIZE };	/* rows of v.token */

static void prepare(struct world *w)
{
	cxlshm_ref *a = &w->v.ref[OBSERVER][REF_A], f;
	struct cxlshm_stat st = {0};

	MUST(cxlshm_mknod(actor(w, OBSERVER), 0, "a", S_IFIFO, a));
	MUST(cxlshm_setattr(actor(w, OBSERVER), *a, &st, CXLSHM_SET_UID | CXLSHM_SET_GID | CXLSHM_SET_ATIME |
			    CXLSHM_SET_MTIME | CXLSHM_SET_CTIME));
	MUST(cxlshm_create(actor(w, OBSERVER), 0, "f", FIRST_BYTES, 0600, &f));
	for (unsigned i = 0; i < w->actors; i++) {
		w->v.ref[i][REF_A] = hand_over(w, OBSERVER, *a, i);
		w->v.ref[i][REF_F] = hand_over(w, OBSERVER, f, i);
	}
	MUST(cxlshm_release(actor(w, OBSERVER), f));
}

/* ---- a ---- */

static void must_be_set(struct world *w, const char *what, uint64_t was_set, uint64_t value)
{
	if (value ? value - VALUE >= ACTORS_MAX : was_set)
		world_fail(w, "%s is %llu%s", what, (unsigned long long)value, was_set ? ", and was set" : "");
}

static void stat_a(struct world *w, unsigned me)
{
	uint64_t set[FIELD_SIZE + 1];
	struct cxlshm_stat st;

	for (unsigned i = 0; i <= FIELD_SIZE; i++)
		set[i] = w->v.token[i];
	if (gone(w, me) || expect(w, "stat", cxlshm_stat(actor(w, me), w->v.ref[me][REF_A], &st), 0))
		return;
	must_be_set(w, "uid", set[FIELD_UID], st.uid);
	must_be_set(w, "gid", set[FIELD_GID], st.gid);
	must_be_set(w, "mode", set[FIELD_MODE], st.mode & 07777);
	must_be_set(w, "atime", set[FIELD_ATIME], (uint64_t)st.atime.tv_sec);
	must_be_set(w, "mtime", set[FIELD_MTIME], (uint64_t)st.mtime.tv_sec);
	if (!S_ISFIFO(st.mode) || st.links != 1 || st.atime.tv_nsec || st.mtime.tv_nsec)
		world_fail(w, "mode %o, %llu links", st.mode, (unsigned long long)st.links);
	if (!st.ctime.tv_sec && set[FIELD_CTIME])
		world_fail(w, "ctime is as it was");
}

static void set_a(struct world *w, unsigned me, unsigned mask)
{
	static const enum field field[] = {FIELD_MODE, FIELD_UID, FIELD_GID, FIELD_ATIME, FIELD_MTIME};
	const unsigned value = VALUE + me;
	struct cxlshm_stat st = {.mode = value, .uid = value, .gid = value, .atime.tv_sec = value, .mtime.tv_sec = value};

	if (gone(w, me) || expect(w, "setattr", cxlshm_setattr(actor(w, me), w->v.ref[me][REF_A], &st, mask), 0))
		return;
	for (unsigned i = 0; i < sizeof(field) / sizeof(*field); i++)
		if (mask & 1u << i)
			w->v.token[field[i]] = 1;
	w->v.token[FIELD_CTIME] = 1;
}

static void set_mode(struct world *w, unsigned me)
{
	set_a(w, me, CXLSHM_SET_MODE);
}

static void set_uid(struct world *w, unsigned me)
{
	set_a(w, me, CXLSHM_SET_UID);
}

static void set_gid(struct world *w, unsigned me)
{
	set_a(w, me, CXLSHM_SET_GID);
}

static void set_times(struct world *w, unsigned me)
{
	set_a(w, me, CXLSHM_SET_ATIME | CXLSHM_SET_MTIME);
}

static void set_all(struct world *w, unsigned me)
{
	set_a(w, me, CXLSHM_SET_MODE | CXLSHM_SET_UID | CXLSHM_SET_GID | CXLSHM_SET_ATIME | CXLSHM_SET_MTIME);
}

/* ---- f ---- */

static int has_f(struct world *w, unsigned me)
{
	return !gone(w, me) && w->v.ref[me][REF_F];
}

static void stat_f(struct world *w, unsigned me)
{
	uint64_t set = w->v.token[FIELD_SIZE], bytes;
	struct cxlshm_stat st;

	if (!has_f(w, me) || expect(w, "stat", cxlshm_stat(actor(w, me), w->v.ref[me][REF_F], &st), 0))
		return;
	bytes = st.size_bytes;
	if (st.links > 1 || bytes & 4095 || bytes > RESERVED_BYTES || (bytes == FIRST_BYTES && set))
		world_fail(w, "%llu bytes, %llu links", (unsigned long long)bytes, (unsigned long long)st.links);
}

/* Who holds it finds its extent. */
static void resize_to(struct world *w, unsigned me, uint64_t bytes)
{
	if (has_f(w, me) && !expect(w, "resize", cxlshm_resize(actor(w, me), w->v.ref[me][REF_F], bytes), 0))
		w->v.token[FIELD_SIZE] = 1;
}

static void grow(struct world *w, unsigned me)
{
	resize_to(w, me, GROWN_BYTES + 4096 * me);
}

static void cut(struct world *w, unsigned me)
{
	resize_to(w, me, 0);
}

static void reserve(struct world *w, unsigned me)
{
	if (has_f(w, me) &&
	    !expect(w, "reserve", cxlshm_reserve(actor(w, me), w->v.ref[me][REF_F], 0, 4096, RESERVED_BYTES - 4096), 0))
		w->v.token[FIELD_SIZE] = 1;
}

static void unlink_f(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "unlink", cxlshm_unlink(actor(w, me), 0, "f"), -ENOENT);
}

static void drop_f(struct world *w, unsigned me)
{
	cxlshm_ref ref = w->v.ref[me][REF_F];

	w->v.ref[me][REF_F] = 0;
	if (!gone(w, me) && ref)
		expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

/* The last reference but for others' in hand. */
static void drop_all_f(struct world *w, unsigned me)
{
	unlink_f(w, me);
	drop_f(w, me);
}

/* By its name, which another one may take away. */
static void find_f(struct world *w, unsigned me)
{
	struct cxlshm_stat st;
	cxlshm_ref ref = 0;

	if (gone(w, me) || expect(w, "lookup", cxlshm_lookup(actor(w, me), 0, "f", 0, &ref), -ENOENT))
		return;
	expect(w, "stat", cxlshm_stat(actor(w, me), ref, &st), 0);
	expect(w, "resize", cxlshm_resize(actor(w, me), ref, GROWN_BYTES), 0);
	w->v.token[FIELD_SIZE] = 1;
	expect(w, "release", cxlshm_release(actor(w, me), ref), 0);
}

static void leave(struct world *w, unsigned me)
{
	if (!gone(w, me))
		expect(w, "leave", cxlshm_leave(actor(w, me)), 0);
}

static const struct op ops[] = {
	{"stat", stat_a}, {"mode", set_mode}, {"uid", set_uid}, {"gid", set_gid}, {"times", set_times}, {"all", set_all},
	{"stat_f", stat_f}, {"grow", grow}, {"cut", cut}, {"reserve", reserve}, {"unlink", unlink_f}, {"drop", drop_f},
	{"drop_all", drop_all_f}, {"find", find_f}, {"leave", leave}, {NULL, NULL},
};

static void observe(struct world *w)
{
	stat_a(w, OBSERVER);
	for (unsigned i = 0; i < w->actors; i++)
		if (!(w->who_died & 1u << i))
			stat_f(w, i);
}

const struct area area_attr = {
	.name = "attr", .extents = 1, .prepare = prepare, .observe = observe, .ops = ops,
};
