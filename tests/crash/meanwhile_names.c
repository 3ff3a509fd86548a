/* SPDX-License-Identifier: MIT */
/*
 * What the neighbour does meanwhile: names, directories, inodes, extended attributes.  See meanwhile.c.
 *
 * What lives through all of it: d, which is held[0], and the files keep and d/in (their ids are token[0] and token[1]),
 * which are renamed by everybody but, where a scenario's after() asks for them, removed and replaced by nobody.
 */
#include <sys/stat.h>

#include "meanwhile.h"

/* ---- looking ---- */

unsigned listed(struct stage *s, cxlshm_ref dir, uint64_t id)
{
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	unsigned count = 0;
	int rc;

	while (!(rc = cxlshm_readdir(s->neighbour, dir, &position, &entry, NULL)))
		count += entry.id == id;
	REQUIRE(rc == -ENOENT);
	return count;
}

/* Listings and lookups agree. */
static void agree(struct stage *s, cxlshm_ref dir)
{
	struct cxlshm_client *n = s->neighbour;
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	cxlshm_ref ref;
	int rc;

	while (!(rc = cxlshm_readdir(n, dir, &position, &entry, NULL))) {
		if (MAY(cxlshm_lookup(n, dir, entry.name, CXLSHM_INODE, &ref), -ENOSPC))
			continue;
		REQUIRE(cxlshm_id(n, ref) == entry.id);
		MUST(cxlshm_release(n, ref));
	}
	REQUIRE(rc == -ENOENT);
}

/* 0: there is nothing of that name. */
static uint64_t id_at(struct stage *s, cxlshm_ref dir, const char *name)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	uint64_t id;

	if (MAY(cxlshm_lookup(n, dir, name, CXLSHM_INODE, &ref), -ENOENT))
		return 0;
	id = cxlshm_id(n, ref);
	MUST(cxlshm_release(n, ref));
	return id;
}

/* Who is renaming a directory, or died over it. */
static uint32_t mover(const struct stage *s)
{
	return (uint32_t)a128_load_acquire(&((struct client *)s->neighbour)->pool->shared->dir_move).value;
}

/* One who is being recovered just now is waited for like one who is alive. */
static int may_move(const struct stage *s)
{
	return !mover(s) || !client_alive(((struct client *)s->neighbour)->pool, mover(s));
}

/* ---- changing ---- */

/* The answer is true at once: nobody else moves. */
static void make_file(struct stage *s, cxlshm_ref dir, const char *name, uint64_t bytes)
{
	uint64_t before = id_at(s, dir, name);
	int rc = MAY(cxlshm_create(s->neighbour, dir, name, bytes, 0640, NULL), -EEXIST, -ENOSPC);

	REQUIRE(rc == -EEXIST ? before != 0 : !before);
	REQUIRE(rc == -ENOSPC || id_at(s, dir, name));
}

static void take_away(struct stage *s, cxlshm_ref dir, const char *name)
{
	uint64_t before = id_at(s, dir, name);
	int rc = MAY(cxlshm_unlink(s->neighbour, dir, name), -ENOENT);

	REQUIRE(!rc == (before != 0) && !id_at(s, dir, name));
}

/* Rename without replacing. */
static void move(struct stage *s, const char *from, const char *to)
{
	uint64_t old = id_at(s, 0, from), new = id_at(s, 0, to);
	int rc = MAY(cxlshm_rename(s->neighbour, 0, from, 0, to, CXLSHM_NOREPLACE), -ENOENT, -EEXIST, -ENOSPC);

	REQUIRE(rc == -ENOENT ? !old : old != 0);
	REQUIRE(rc == -EEXIST ? new != 0 : rc || !new);
	if (!rc)
		REQUIRE(!id_at(s, 0, from) && id_at(s, 0, to) == old);
}

static void exchange(struct stage *s, const char *one, const char *other)
{
	uint64_t a = id_at(s, 0, one), b = id_at(s, 0, other);
	int rc = MAY(cxlshm_rename(s->neighbour, 0, one, 0, other, CXLSHM_EXCHANGE), -ENOENT, -ENOSPC);

	if (rc == -ENOENT)
		REQUIRE(!a || !b);
	if (!rc)
		REQUIRE(id_at(s, 0, one) == b && id_at(s, 0, other) == a);
}

/* Put names into a directory and take them out, in another order: its inner nodes come and go. */
static void churn(struct stage *s, const char *dir, uint32_t names)
{
	struct cxlshm_client *n = s->neighbour;
	char name[32], target[8];
	cxlshm_ref ref;

	for (uint32_t i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "%s/%u", dir, (s->turn * 7 + i * 5) % names);
		if (!MAY(cxlshm_symlink(n, "x", 0, name, NULL), -EEXIST, -ENOENT, -ENOSPC)) {
			MUST(cxlshm_lookup(n, 0, name, 0, &ref));
			REQUIRE(cxlshm_readlink(n, ref, target, sizeof(target)) == 1 && target[0] == 'x');
			MUST(cxlshm_release(n, ref));
		}
		snprintf(name, sizeof(name), "%s/%u", dir, (s->turn * 11 + i * 3) % names);
		take_away(s, 0, name);
	}
}

/* ---- one for each kind of scenario ---- */

void meanwhile_create(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;

	REQUIRE(id_at(s, 0, "keep") == s->token[0]);
	agree(s, 0);
	agree(s, s->held[0]);
	switch (s->turn % 5) {
	case 0:
		make_file(s, 0, "new", 8192);
		break;
	case 1:
		if (!MAY(cxlshm_lookup(n, 0, "new", 0, &ref), -ENOENT)) {
			(void)MAY(cxlshm_link(n, ref, 0, "d/hard", 0), -EEXIST, -ENOSPC);
			REQUIRE(id_at(s, 0, "d/hard"));
			MUST(cxlshm_release(n, ref));
		}
		take_away(s, 0, "new");
		break;
	case 2:
		if (!MAY(cxlshm_alloc(n, 100, &ref), -ENOSPC)) {
			(void)MAY(cxlshm_link(n, ref, 0, "heap", 0600), -EEXIST, -ENOSPC);
			MUST(cxlshm_release(n, ref));
		}
		if (!MAY(cxlshm_lookup(n, 0, "heap", 0, &ref), -ENOENT)) {
			REQUIRE(cxlshm_size(n, ref) == 100);
			MUST(cxlshm_release(n, ref));
		}
		break;
	case 3:
		take_away(s, 0, "d/hard");
		(void)MAY(cxlshm_symlink(n, "d", 0, "soft2", NULL), -EEXIST, -ENOSPC);
		(void)MAY(cxlshm_mknod(n, 0, "fifo", S_IFIFO | 0600, NULL), -EEXIST, -ENOSPC);
		break;
	case 4:
		take_away(s, 0, "heap");
		take_away(s, 0, "soft2");
		take_away(s, 0, "fifo");
		break;
	}
}

void meanwhile_rename(struct stage *s)
{
	/* Both names may show while it is renamed, never neither.  (What an exchange displaces may show nowhere for a moment.) */
	REQUIRE(listed(s, 0, s->token[0]) + listed(s, s->held[0], s->token[0]));
	switch (s->turn % 6) {
	case 0:
		move(s, "kept", "keep");
		break;
	case 1:
		move(s, "d/kept", "kept");
		break;
	case 2:
		exchange(s, "two", "d/in");
		break;
	case 3:
		move(s, "keep", "d/kept");
		break;
	case 4:
		move(s, "two", "keep");
		move(s, "d/in", "two");
		break;
	case 5:
		make_file(s, 0, "d/kept", 100);
		if (id_at(s, 0, "kept") != s->token[0] && id_at(s, 0, "kept") != s->token[1])
			take_away(s, 0, "kept");
		break;
	}
	REQUIRE(listed(s, 0, s->token[0]) + listed(s, s->held[0], s->token[0]));
	agree(s, 0);
	agree(s, s->held[0]);
}

const char *where_d_is(struct stage *s)
{
	static const char *const names[] = {"d", "n/d", "e/d"};

	for (int i = 0; i < 3; i++)
		if (id_at(s, 0, names[i]) == cxlshm_id(s->neighbour, s->held[0]))
			return names[i];
	return NULL;
}

void meanwhile_directories(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	const char *d = where_d_is(s);
	int rc;

	REQUIRE(d && id_at(s, s->held[0], "in") == s->token[1]);
	if (d[1]) {	/* moved in the last round; back, if no one has to be waited for */
		if (!may_move(s) || MAY(cxlshm_rename(n, 0, d, 0, "d", 0), -ENOSPC))
			return;
		REQUIRE(!strcmp(where_d_is(s), "d"));
	}
	agree(s, 0);
	agree(s, s->held[0]);
	switch (s->turn % 8) {
	case 0:
		(void)MAY(cxlshm_mkdir(n, 0, "n", 0700, NULL), -EEXIST, -ENOSPC);
		REQUIRE(cxlshm_rmdir(n, 0, "d") == -ENOTEMPTY);
		break;
	case 1:
		if (may_move(s))
			(void)MAY(cxlshm_rename(n, 0, "n", 0, "d/n", 0), -ENOENT, -ENOTEMPTY, -ENOSPC);
		break;
	case 2:
		/* With a dead one's rename to be completed first, n may no more be below d by then, and the last one is none of a
		 * directory into itself. */
		if (may_move(s))
			(void)MAY(cxlshm_rename(n, 0, "d/n", 0, "e", 0), -ENOENT, -ENOTEMPTY, -ENOSPC);
		if (!mover(s)) {
			rc = cxlshm_rename(n, 0, "d", 0, "d/n/d", 0);
			REQUIRE(rc == -EINVAL || rc == -ENOENT || rc == -ENOSPC);
		}
		break;
	case 3:
		churn(s, "e", 3);
		churn(s, "d/n", 3);
		break;
	case 4:
		for (int i = 0; i < 3; i++) {
			take_away(s, 0, (const char *[]){"e/0", "e/1", "e/2"}[i]);
			take_away(s, 0, (const char *[]){"d/n/0", "d/n/1", "d/n/2"}[i]);
		}
		(void)MAY(cxlshm_rmdir(n, 0, "e"), -ENOENT, -ENOTEMPTY);
		break;
	case 5:
		(void)MAY(cxlshm_rmdir(n, 0, "d/n"), -ENOENT, -ENOTEMPTY);
		(void)MAY(cxlshm_mkdir(n, 0, "e", 0700, NULL), -EEXIST, -ENOSPC);
		break;
	case 6:
		if (may_move(s))
			(void)MAY(cxlshm_rename(n, 0, "d/n", 0, "e", CXLSHM_EXCHANGE), -ENOENT, -ENOSPC);
		break;
	case 7:	/* into what the dead may have been moving into d: a loop, if both come to pass */
		if (may_move(s))
			(void)MAY(cxlshm_rename(n, 0, "d", 0, s->turn & 8 ? "n/d" : "e/d", 0), -ENOENT, -EINVAL, -ENOSPC);
		break;
	}
}

void meanwhile_xattrs(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	char value[8];
	int64_t bytes;

	REQUIRE(id_at(s, 0, "keep") == s->token[0]);
	MUST(cxlshm_lookup(n, 0, "keep", 0, &ref));
	bytes = cxlshm_getxattr(n, ref, "user.a", value, sizeof(value));
	REQUIRE(bytes == -ENODATA || (bytes == 1 && (value[0] == '1' || value[0] == '3')));
	bytes = cxlshm_getxattr(n, ref, "user.b", value, sizeof(value));
	REQUIRE(bytes == -ENODATA || (bytes == 2 && !memcmp(value, "22", 2)) || (bytes == 3 && !memcmp(value, "333", 3)));
	bytes = cxlshm_size(n, ref);
	REQUIRE(bytes == 4096 || bytes == 5000 || bytes == 10000);
	switch (s->turn % 5) {
	case 0:
		if (!MAY(cxlshm_setxattr(n, ref, "user.a", "3", 1, 0), -ENOSPC))
			REQUIRE(cxlshm_getxattr(n, ref, "user.a", value, sizeof(value)) == 1 && value[0] == '3');
		break;
	case 1:
		if (!MAY(cxlshm_setxattr(n, ref, "user.b", "333", 3, 0), -ENOSPC))
			REQUIRE(cxlshm_getxattr(n, ref, "user.b", value, sizeof(value)) == 3);
		break;
	case 2:
		if (MAY(cxlshm_removexattr(n, ref, "user.a"), -ENODATA, -ENOSPC) != -ENOSPC)
			REQUIRE(cxlshm_getxattr(n, ref, "user.a", value, sizeof(value)) == -ENODATA);
		break;
	case 3:
		if (!MAY(cxlshm_resize(n, ref, 5000), -ENOSPC))
			REQUIRE(cxlshm_size(n, ref) == 5000);
		break;
	case 4:
		(void)MAY(cxlshm_removexattr(n, ref, "user.b"), -ENODATA, -ENOSPC);
		if (!MAY(cxlshm_resize(n, ref, 10000), -ENOSPC))
			REQUIRE(cxlshm_size(n, ref) == 10000);
		break;
	}
	MUST(cxlshm_release(n, ref));
}

void meanwhile_many(struct stage *s)
{
	churn(s, "e", 24);
	if (s->turn % 5 == 4)
		(void)MAY(cxlshm_mkdir(s->neighbour, 0, "e", 0700, NULL), -EEXIST, -ENOSPC);
	agree(s, 0);
}

void meanwhile_nodes(struct stage *s)
{
	churn(s, "d", 48);
	agree(s, s->held[0]);
	REQUIRE(id_at(s, 0, "d/in") == s->token[1]);
}

void meanwhile_overtaken(struct stage *s)
{
	agree(s, 0);
	switch (s->turn % 4) {
	case 0:
		make_file(s, 0, "kept", 0);
		break;
	case 1:
		move(s, "kept", "keep");
		break;
	case 2:
		take_away(s, 0, "keep");
		break;
	case 3:
		exchange(s, "two", "kept");
		break;
	}
}

/* Beside an exchange that ends in names which after() looks for: others than "two" and all that begins with d. */
void meanwhile_beside(struct stage *s)
{
	agree(s, 0);
	agree(s, s->held[0]);
	switch (s->turn % 4) {
	case 0:
		move(s, "b", "c");
		make_file(s, s->held[0], "more", 0);
		break;
	case 1:
		move(s, "c", "b");
		take_away(s, s->held[0], "more");
		break;
	case 2:
		exchange(s, "keep", "soft");
		make_file(s, 0, "other", 4096);
		break;
	case 3:
		take_away(s, 0, "other");
		break;
	}
}

/* For the very names that what the exchange displaced might get. */
void meanwhile_contest(struct stage *s)
{
	uint64_t d = cxlshm_id(s->neighbour, s->held[0]);

	REQUIRE(listed(s, 0, d) <= 1);
	switch (s->turn % 6) {
	case 0:
		make_file(s, 0, "two", 0);
		break;
	case 1:
		make_file(s, 0, "d", 0);
		break;
	case 2:
		move(s, "b", "two");
		break;
	case 3:
		if (id_at(s, 0, "two") != d)
			take_away(s, 0, "two");
		break;
	case 4:
		if (id_at(s, 0, "d") != d)
			take_away(s, 0, "d");
		break;
	case 5:
		exchange(s, "keep", "soft");
		break;
	}
	agree(s, 0);
}
