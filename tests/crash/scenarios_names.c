/* SPDX-License-Identifier: MIT */
/*
 * Crash scenarios: names, directories, inodes, extended attributes.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "../lib/frozen.h"
#include "crash.h"

/* The neighbour made: a file keep, a directory d with d/in in it, an empty directory e, a symlink, a file two. */
static void prepare_names(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;

	cxlshm_ref ref;

	MUST(cxlshm_create(n, 0, "keep", 4096, 0644, &ref));
	s->token[0] = cxlshm_id(n, ref);	/* an id: nothing is exported here */
	MUST(cxlshm_release(n, ref));
	MUST(cxlshm_create(n, 0, "two", 0, 0644, NULL));
	MUST(cxlshm_mkdir(n, 0, "d", 0755, &s->held[0]));
	MUST(cxlshm_create(n, s->held[0], "in", 0, 0644, &ref));
	s->token[1] = cxlshm_id(n, ref);
	MUST(cxlshm_release(n, ref));
	MUST(cxlshm_mkdir(n, 0, "e", 0755, NULL));
	MUST(cxlshm_symlink(n, "keep", 0, "soft", NULL));
}

/* Whatever became of the rest: listings and lookups agree, and names can be made and removed. */
static void after_names(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	struct cxlshm_dirent entry;
	cxlshm_ref ref, got;
	uint64_t position = 0;
	unsigned count = 0;
	int rc;

	while (!(rc = cxlshm_readdir(n, 0, &position, &entry, &got))) {
		MUST(cxlshm_lookup(n, 0, entry.name, CXLSHM_INODE, &ref));
		REQUIRE(cxlshm_id(n, ref) == cxlshm_id(n, got));
		MUST(cxlshm_release(n, ref));
		MUST(cxlshm_release(n, got));
		count++;
	}
	REQUIRE(rc == -ENOENT);
	REQUIRE(count >= 1);
	MUST(cxlshm_lookup(n, s->held[0], "", CXLSHM_INODE, &ref));
	MUST(cxlshm_release(n, ref));
	MUST(cxlshm_create(n, 0, "after", 100, 0600, NULL));
	MUST(cxlshm_mkdir(n, 0, "after-d", 0700, NULL));
	MUST(cxlshm_rename(n, 0, "after", 0, "after-d/moved", 0));
	MUST(cxlshm_unlink(n, 0, "after-d/moved"));
	MUST(cxlshm_rmdir(n, 0, "after-d"));
}

static struct cxlshm_client *join(struct cxlshm_pool *pool)
{
	struct cxlshm_client *c;

	MUST(cxlshm_join(pool, "victim", 0, &c));
	return c;
}

static void act_create(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref data, ref;

	(void)s;
	MUST(cxlshm_create(c, 0, "new", 8192, 0644, &ref));
	MUST(cxlshm_link(c, ref, 0, "d/hard", 0));
	MUST(cxlshm_unlink(c, 0, "new"));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_alloc(c, 100, &data));
	MUST(cxlshm_link(c, data, 0, "heap", 0640));
	MUST(cxlshm_release(c, data));
	MUST(cxlshm_lookup(c, 0, "heap", 0, &data));
	MUST(cxlshm_release(c, data));
	MUST(cxlshm_symlink(c, "d", 0, "soft2", NULL));
	MUST(cxlshm_mknod(c, 0, "fifo", S_IFIFO | 0600, NULL));
	REQUIRE(cxlshm_create(c, 0, "keep", 0, 0644, NULL) == -EEXIST);
	MUST(cxlshm_unlink(c, 0, "heap"));
	MUST(cxlshm_leave(c));
}

static void act_rename(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);

	(void)s;
	MUST(cxlshm_rename(c, 0, "keep", 0, "kept", 0));
	MUST(cxlshm_rename(c, 0, "kept", 0, "d/kept", 0));
	MUST(cxlshm_rename(c, 0, "d/kept", 0, "two", 0));
	REQUIRE(cxlshm_rename(c, 0, "two", 0, "soft", CXLSHM_NOREPLACE) == -EEXIST);
	MUST(cxlshm_rename(c, 0, "two", 0, "d/in", CXLSHM_EXCHANGE));
	MUST(cxlshm_leave(c));
}

static void act_directories(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);

	(void)s;
	MUST(cxlshm_mkdir(c, 0, "n", 0755, NULL));
	REQUIRE(cxlshm_rmdir(c, 0, "d") == -ENOTEMPTY);
	MUST(cxlshm_rename(c, 0, "n", 0, "d/n", 0));
	REQUIRE(cxlshm_rename(c, 0, "d", 0, "d/n/d", 0) == -EINVAL);
	MUST(cxlshm_rename(c, 0, "d/n", 0, "e", 0));
	MUST(cxlshm_rmdir(c, 0, "e"));
	MUST(cxlshm_leave(c));
}

static void act_xattrs(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref ref;

	(void)s;
	MUST(cxlshm_lookup(c, 0, "keep", 0, &ref));
	MUST(cxlshm_setxattr(c, ref, "user.a", "1", 1, 0));
	MUST(cxlshm_setxattr(c, ref, "user.b", "22", 2, 0));
	MUST(cxlshm_removexattr(c, ref, "user.a"));
	MUST(cxlshm_resize(c, ref, 10000));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_leave(c));
}

static const struct cxlshm_stat changed = {
	.mode = 0700, .uid = 12345, .gid = 23456, .atime = {1000, 1}, .mtime = {2000, 2}, .ctime = {3000, 3}};

#define CHANGES (CXLSHM_SET_MODE | CXLSHM_SET_UID | CXLSHM_SET_GID | CXLSHM_SET_ATIME | CXLSHM_SET_MTIME | CXLSHM_SET_CTIME)

static void act_attributes(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	cxlshm_ref ref;

	(void)s;
	MUST(cxlshm_lookup(c, 0, "e", 0, &ref));
	MUST(cxlshm_setattr(c, ref, &changed, CHANGES));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_lookup(c, 0, "keep", 0, &ref));
	MUST(cxlshm_setattr(c, ref, &changed, CHANGES));
	MUST(cxlshm_leave(c));
}

static int same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* How many of the words have changed: those that come first, none behind one that has not. */
static unsigned words_changed(struct stage *s, const char *name)
{
	struct cxlshm_stat st;
	cxlshm_ref ref;
	unsigned words, done = 0;
	int now[6];

	MUST(cxlshm_lookup(s->neighbour, 0, name, 0, &ref));
	MUST(cxlshm_stat(s->neighbour, ref, &st));
	MUST(cxlshm_release(s->neighbour, ref));
	now[0] = (st.mode & 07777) == changed.mode;
	now[1] = st.uid == changed.uid;
	now[2] = st.gid == changed.gid;
	now[3] = same_time(&st.atime, &changed.atime);
	now[4] = same_time(&st.mtime, &changed.mtime);
	now[5] = same_time(&st.ctime, &changed.ctime);
	words = st.kind == CXLSHM_KIND_FILE ? 3 : 6;	/* a file's times are its extent's */
	for (unsigned i = 0; i < words; i++) {
		REQUIRE(!now[i] || done == i);
		done += (unsigned)now[i];
	}
	return done;
}

static void after_attributes(struct stage *s)
{
	unsigned e = words_changed(s, "e");

	REQUIRE(!words_changed(s, "keep") || e == 6);
	after_names(s);
}

/* Looking changes nothing; what it sets itself is another's. */
static void meanwhile_attributes(struct stage *s)
{
	struct cxlshm_stat st = {.mode = 0600 | (s->turn & 077)}, seen;
	unsigned e = words_changed(s, "e");
	cxlshm_ref ref;

	REQUIRE(!words_changed(s, "keep") || e == 6);
	MUST(cxlshm_lookup(s->neighbour, s->held[0], "in", 0, &ref));
	MUST(cxlshm_setattr(s->neighbour, ref, &st, CXLSHM_SET_MODE));
	MUST(cxlshm_stat(s->neighbour, ref, &seen));
	REQUIRE((seen.mode & 07777) == st.mode);
	MUST(cxlshm_release(s->neighbour, ref));
}

/* Enough names for inner nodes. */
static void act_many(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	char name[16];

	(void)s;
	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "e/%d", i);
		MUST(cxlshm_symlink(c, "x", 0, name, NULL));
	}
	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "e/%d", i);
		MUST(cxlshm_unlink(c, 0, name));
	}
	MUST(cxlshm_rmdir(c, 0, "e"));
	MUST(cxlshm_leave(c));
}

/* In d there are inner nodes, and who was taking them out has died: the edges that hold nothing are frozen. */
static void prepare_nodes(struct stage *s)
{
	struct client *c = (struct client *)s->neighbour;
	char name[16];

	prepare_names(s);
	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "%d", i);
		MUST(cxlshm_symlink(s->neighbour, "x", s->held[0], name, NULL));
	}
	for (int i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "%d", i);
		MUST(frozen_make(c, cxlshm_id(s->neighbour, s->held[0]), name));
	}
}

static void act_nodes(struct stage *s, struct cxlshm_pool *pool)
{
	struct cxlshm_client *c = join(pool);
	char name[16];
	cxlshm_ref d;
	int put[3];

	(void)s;
	MUST(cxlshm_lookup(c, 0, "d", CXLSHM_INODE, &d));
	for (int i = 24, n = 0; n < 3; i++) {
		snprintf(name, sizeof(name), "%d", i);
		if (!frozen_meets((struct client *)c, cxlshm_id(c, d), name))
			continue;
		MUST(cxlshm_symlink(c, "x", d, name, NULL));
		put[n++] = i;
	}
	for (int i = 0; i < 27; i++) {
		snprintf(name, sizeof(name), "%d", i < 3 ? put[i] : i - 3);
		MUST(cxlshm_unlink(c, d, name));
	}
	MUST(cxlshm_leave(c));
}

static void rename_keep(struct stage *s, struct cxlshm_client *c)
{
	(void)s;
	MUST(cxlshm_rename(c, 0, "keep", 0, "kept", 0));
}

/* Somebody died with both names showing, and then the old one went: the rename came too late and is undone. */
static void prepare_overtaken(struct stage *s)
{
	prepare_names(s);
	die_at(s, CRASH_names_renamed, rename_keep, 0);
	MUST(cxlshm_unlink(s->neighbour, 0, "keep"));
}

/* And then the new one went, too: nothing is left to do for who recovers. */
static void prepare_renamed(struct stage *s)
{
	prepare_names(s);
	die_at(s, CRASH_names_renamed, rename_keep, 0);
	MUST(cxlshm_unlink(s->neighbour, 0, "keep"));
	MUST(cxlshm_unlink(s->neighbour, 0, "kept"));
}

static void exchange_two_d(struct stage *s, struct cxlshm_client *c)
{
	(void)s;
	MUST(cxlshm_rename(c, 0, "two", 0, "d", CXLSHM_EXCHANGE));
}

/* Somebody died in the middle of an exchange, and then both names went: d, which shows nowhere, must not be lost. */
static void prepare_exchange(struct stage *s)
{
	prepare_names(s);
	die_at(s, CRASH_names_renamed, exchange_two_d, 0);
	MUST(cxlshm_rename(s->neighbour, 0, "d", 0, "b", 0));
	MUST(cxlshm_unlink(s->neighbour, 0, "two"));
}

/* The old name is somebody else's meanwhile. */
static void prepare_old_taken(struct stage *s)
{
	prepare_exchange(s);
	MUST(cxlshm_create(s->neighbour, 0, "two", 0, 0644, NULL));
}

/* Both names are. */
static void prepare_both_taken(struct stage *s)
{
	prepare_old_taken(s);
	MUST(cxlshm_create(s->neighbour, 0, "d", 0, 0644, NULL));
}

static void leads_to(struct stage *s, const char *name, uint64_t id)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	char path[64];

	MUST(cxlshm_lookup(n, 0, name, CXLSHM_INODE, &ref));
	REQUIRE(cxlshm_id(n, ref) == id);
	MUST(cxlshm_release(n, ref));
	snprintf(path, sizeof(path), "%s/in", name);
	MUST(cxlshm_lookup(n, 0, path, CXLSHM_INODE, &ref));
	MUST(cxlshm_release(n, ref));
}

static void after_exchange(struct stage *s)
{
	leads_to(s, "two", cxlshm_id(s->neighbour, s->held[0]));
	after_names(s);
}

/* A name of its own: d.ID, or d.ID.N where another name was in the way in the directory's trie. */
static void after_both_taken(struct stage *s)
{
	uint64_t id = cxlshm_id(s->neighbour, s->held[0]);
	char name[48];
	cxlshm_ref ref;
	int bytes = snprintf(name, sizeof(name), "d.%" PRIx64, id);

	for (unsigned n = 1; cxlshm_lookup(s->neighbour, 0, name, CXLSHM_INODE, &ref); n++) {
		REQUIRE(n < 64);
		snprintf(name + bytes, sizeof(name) - (size_t)bytes, ".%x", n);
	}
	MUST(cxlshm_release(s->neighbour, ref));
	leads_to(s, name, id);
	after_names(s);
}

/* Its own again; but where "two" came into the place of d in the trie, recovery, which has no memory for a node, cannot. */
static void after_old_taken(struct stage *s)
{
	cxlshm_ref ref;

	if (cxlshm_lookup(s->neighbour, 0, "d", CXLSHM_INODE, &ref)) {
		after_both_taken(s);
		return;
	}
	MUST(cxlshm_release(s->neighbour, ref));
	leads_to(s, "d", cxlshm_id(s->neighbour, s->held[0]));
	after_names(s);
}

/* keep and d/in were renamed by both, and removed or replaced by nobody. */
static void after_rename(struct stage *s)
{
	for (int i = 0; i < 2; i++)
		REQUIRE(listed(s, 0, s->token[i]) + listed(s, s->held[0], s->token[i]));
	after_names(s);
}

static void after_directories(struct stage *s)
{
	REQUIRE(where_d_is(s));
	after_names(s);
}

/* Both names were fought for: it has one, whichever. */
static void after_contest(struct stage *s)
{
	REQUIRE(listed(s, 0, cxlshm_id(s->neighbour, s->held[0])) == 1);
	after_names(s);
}

static void act_join(struct stage *s, struct cxlshm_pool *pool)
{
	(void)s;
	MUST(cxlshm_leave(join(pool)));
}

const struct scenario names_scenarios[] = {
	{"names-create", 2u << 20, prepare_names, act_create, after_names, meanwhile_create},
	{"names-rename", 2u << 20, prepare_names, act_rename, after_rename, meanwhile_rename},
	{"names-directories", 2u << 20, prepare_names, act_directories, after_directories, meanwhile_directories},
	{"names-xattrs", 2u << 20, prepare_names, act_xattrs, after_names, meanwhile_xattrs},
	{"names-attributes", 2u << 20, prepare_names, act_attributes, after_attributes, meanwhile_attributes},
	{"names-many", 2u << 20, prepare_names, act_many, after_names, meanwhile_many},
	{"names-nodes", 2u << 20, prepare_nodes, act_nodes, after_names, meanwhile_nodes},
	{"names-overtaken", 2u << 20, prepare_overtaken, act_join, after_names, meanwhile_overtaken},
	{"names-exchange-overtaken", 2u << 20, prepare_exchange, act_join, after_exchange, meanwhile_beside},
	{"names-exchange-old-taken", 2u << 20, prepare_old_taken, act_join, after_old_taken, meanwhile_beside},
	{"names-exchange-both-taken", 2u << 20, prepare_both_taken, act_join, after_both_taken, meanwhile_beside},
	{"names-renamed", 2u << 20, prepare_renamed, act_join, after_names, meanwhile_overtaken},
	{"names-exchange-contested", 2u << 20, prepare_exchange, act_join, after_contest, meanwhile_contest},
	{NULL, 0, NULL, NULL, NULL, NULL},
};
