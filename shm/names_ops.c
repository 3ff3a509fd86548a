/* SPDX-License-Identifier: MIT */
/*
 * Walking paths, and adding and removing names; renaming is in names_rename.c.
 *
 *   add      raise what the new name will need (the directory's entries, a further link's names) and owe it;
 *            CAS the edge, which clears the debts
 *   unlink   CAS the edge, which makes both counts debts; pay
 *   rmdir    CAS the directory's count from 0 to REMOVED, and owe the removal of its name; pay
 *
 * Each debt and each removal still owed is noted in the transaction that causes it, so death at any point leaves what
 * names_settle() finishes.  A removal then takes out the nodes that it left empty.
 */
#include "names_ops.h"

/* ---- paths ---- */

int names_walk(struct client *c, uint64_t dir, const char *path, struct names_place *at)
{
	struct names_place here = {.dir = dir};
	int rc;

	if (!names_is_dir(c, dir))
		return -ENOTDIR;
	for (;;) {
		const char *text = path + strspn(path, "/");
		size_t bytes = strcspn(text, "/");
		const char *rest = text + bytes + strspn(text + bytes, "/");
		struct root_fmt *row;

		rc = 0;
		if (bytes > CXLSHM_NAME_MAX)
			rc = -ENAMETOOLONG;
		else if (bytes && bytes <= 2 && text[0] == '.' && text[bytes - 1] == '.')
			rc = -EINVAL;
		if (rc)
			break;
		here.key = names_key_of(c, text, bytes);
		if (!*rest) {
			*at = here;
			return 0;
		}
		rc = root_take(c, &row);
		if (rc)
			break;
		rc = names_lookup(c, here.dir, &here.key, CXLSHM_INODE, row);
		if (!rc && !names_is_dir(c, a64_load_relaxed(&row->object)))
			rc = -ENOTDIR;
		if (rc) {
			ref_drop_row(c, row);
			break;
		}
		names_leave(c, &here);
		here.row = row;
		here.dir = a64_load_relaxed(&row->object);
		path = rest;
	}
	names_leave(c, &here);
	return rc;
}

void names_leave(struct client *c, struct names_place *at)
{
	if (at->row)
		ref_drop_row(c, at->row);
	at->row = NULL;
}

/* ---- adding ---- */

/*
 * Put the entry in the row where its name belongs.  links: the count that was raised for it and is owed, or 0.
 * On success the row holds what was there: nothing, or the entry of a removed directory, whose remover has not come to
 * taking it away (or died); we do it for him, and owe its count.
 */
static int put_in_window(struct client *c, const struct names_place *at, struct root_fmt *row, uint64_t links)
{
	uint64_t entries = names_entries_off(at->dir);
	struct names_spot s;
	int rc;

	for (;;) {
		struct todo_fmt todo;

		rc = names_find(c, at->dir, &at->key, &s);
		if (rc)
			return rc;
		if (s.found == NAMES_CLASH)
			return -ENOSPC;
		if (s.found == NAMES_SAME && !names_removed(&s))
			return -EEXIST;
		if (s.found == NAMES_OTHER) {
			rc = names_split(c, &s, at->key.hash);
			if (rc && rc != -EAGAIN)
				return rc;
			continue;
		}
		if (s.found == NAMES_EMPTY && !names_owes(c, entries)) {
			rc = names_raise(c, entries);
			if (rc)
				return rc;
			continue;
		}
		if (s.found == NAMES_SAME && names_owes(c, entries)) {
			names_lower(c, entries);
			continue;
		}
		todo = c->slot->todo;
		if (s.found == NAMES_EMPTY)
			names_debt_drop(&todo, entries);
		else
			names_debt_add(&todo, inode_links_off(s.inode, s.kind));
		if (links)
			names_debt_drop(&todo, links);
		/*
		 * Pairs: read_edge().  Crash before: no name, and what was raised is owed.  After: the name is there, and the
		 * record clears the debts.
		 */
		rc = names_exchange(c, &s, row, &todo);
		if (rc != -EAGAIN)
			return rc;
	}
}

static int put(struct client *c, const struct names_place *at, struct root_fmt *row, uint64_t links)
{
	int rc;

	client_read_begin(c);
	rc = put_in_window(c, at, row, links);
	client_read_end(c);
	return rc;
}

/* An empty path is the directory itself, which exists. */
static int put_allowed(const struct names_place *at)
{
	return at->key.bytes ? 0 : -EEXIST;
}

int names_put_new(struct client *c, const struct names_place *at, struct root_fmt *inode)
{
	uint64_t off = a64_load_relaxed(&inode->object);
	struct attr_fmt *attr = inode_attr(c, off, NULL);
	struct root_fmt *row;
	int rc = put_allowed(at);

	if (rc)
		return rc;
	/* Nobody else can see it yet: the name that it gets, or it goes. */
	a128_store_release(&attr->links, (struct stamped){1, 0});
	persist(c->pool, attr, sizeof(*attr));
	rc = names_entry_make(c, &at->key, off, 0, &row);
	if (!rc) {
		rc = put(c, at, row, 0);
		names_settle(c);
		ref_drop_row(c, row);
	}
	if (rc)
		a128_store_release(&attr->links, (struct stamped){0, 0});
	else
		inode_touch(c, at->dir, INODE_MTIME | INODE_CTIME);
	return rc;
}

int names_put_link(struct client *c, const struct names_place *at, uint64_t inode)
{
	struct root_fmt *row;
	enum object_kind kind;
	uint64_t links;
	int rc = put_allowed(at);

	if (rc)
		return rc;
	if (!inode_attr(c, inode, &kind))
		return -EINVAL;
	if (kind == OBJECT_DIRECTORY)
		return -EPERM;
	links = inode_links_off(inode, kind);
	rc = names_entry_make(c, &at->key, inode, 0, &row);
	if (rc)
		return rc;
	rc = names_raise(c, links);
	if (!rc)
		rc = put(c, at, row, links);
	names_settle(c);
	ref_drop_row(c, row);
	if (!rc) {
		inode_touch(c, inode, INODE_CTIME);
		inode_touch(c, at->dir, INODE_MTIME | INODE_CTIME);
	}
	return rc;
}

/* ---- removing ---- */

int names_unlink(struct client *c, const struct names_place *at)
{
	struct names_spot s;
	struct root_fmt *row;
	int bare, rc;

	if (!at->key.bytes)
		return -EISDIR;
	rc = root_take(c, &row);
	if (rc)
		return rc;
	client_read_begin(c);
	do {
		struct todo_fmt todo = c->slot->todo;

		rc = names_find(c, at->dir, &at->key, &s);
		if (!rc && !names_present(&s))
			rc = -ENOENT;
		if (!rc && s.kind == OBJECT_DIRECTORY)
			rc = -EISDIR;
		if (rc)
			break;
		names_debt_add(&todo, names_entries_off(at->dir));
		names_debt_add(&todo, inode_links_off(s.inode, s.kind));
		/* Pairs: read_edge().  Crash before: nothing.  After: the row holds the entry, and both counts are owed. */
		rc = cell_exchange(c, s.edge, s.word, row, &todo);
	} while (rc == -EAGAIN);
	if (!rc)
		names_settle(c);
	/* Behind the CAS of the counts, which orders this look after the removal: of two who empty a node one sees it. */
	bare = !rc && names_bare(c, &s);
	client_read_end(c);
	if (!rc) {
		inode_touch(c, s.inode, INODE_CTIME);
		inode_touch(c, at->dir, INODE_MTIME | INODE_CTIME);
	}
	ref_drop_row(c, row);
	if (bare)
		names_prune(c, at->dir, at->key.hash);
	return rc;
}

int names_has_entries(struct client *c, uint64_t dir)
{
	struct names_spot s;

	return names_next(c, dir, 0, &s) != -ENOENT;
}

/* The directory in question, its entry and an empty row, in rows[0..2]. */
static int try_rmdir(struct client *c, const struct names_place *at, struct root_fmt *rows[3])
{
	const struct names_rows at_hand = {.spare = rows[2]};
	struct stamped seen, edge;
	struct attr_fmt *attr;
	struct todo_fmt todo;
	struct names_spot s;
	int rc;

	rc = names_find(c, at->dir, &at->key, &s);
	if (!rc && !names_present(&s))
		rc = -ENOENT;
	if (!rc && s.kind != OBJECT_DIRECTORY)
		rc = -ENOTDIR;
	if (!rc)
		rc = names_take(c, &s, s.inode, rows[0]);
	if (!rc)
		rc = names_take(c, &s, s.entry, rows[1]);
	if (rc)
		return rc;
	attr = inode_attr(c, s.inode, NULL);
	if (!attr)
		return -EUCLEAN;
	seen = a128_load_acquire(&attr->entries);
	/*
	 * A rename raises the directory's count before it touches a name, and lowers it after: while the count is as loaded,
	 * and the name was right after that, it is right.  And what the count says is of this name only while the name is
	 * still as seen: that the directory is removed, too.
	 */
	edge = a128_load_acquire(&s.edge->word);
	if (edge.value != s.word.value || edge.stamp != s.word.stamp)
		return -EAGAIN;
	if (seen.value & COUNTER_REMOVED)
		return seen.value & COUNTER_MASK ? -EBUSY : -ENOENT;
	if (seen.value)
		return names_has_entries(c, s.inode) ? -ENOTEMPTY : -EBUSY;
	todo = c->slot->todo;
	todo.unlink_dir = at->dir;
	todo.unlink_entry = s.entry;
	/* Pairs: names_raise().  Crash before: nothing.  After: removed, and recovery takes the name away. */
	rc = counter_set(c, &attr->entries, seen, COUNTER_REMOVED, &todo);
	if (rc)
		return rc;
	names_settle_with(c, &at_hand);
	return 0;
}

int names_rmdir(struct client *c, const struct names_place *at)
{
	struct root_fmt *rows[3];
	int rc;

	if (!at->key.bytes)
		return -EBUSY;
	do {
		uint32_t n = 0;

		for (rc = 0; !rc && n < 3; n += !rc)
			rc = root_take(c, &rows[n]);
		client_read_begin(c);
		if (!rc)
			rc = try_rmdir(c, at, rows);
		client_read_end(c);
		while (n)
			ref_drop_row(c, rows[--n]);
	} while (rc == -EAGAIN);
	if (!rc) {
		inode_touch(c, at->dir, INODE_MTIME | INODE_CTIME);
		names_prune(c, at->dir, at->key.hash);
	}
	return rc;
}
