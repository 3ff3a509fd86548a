/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes; see xattr.h.
 *
 * All of an inode's attributes are one immutable object behind the INODE_XATTRS cell: item after item, each a struct
 * item, the name, the value.  A change makes a new object and exchanges the cell; if somebody else did first, again.
 * Death leaves the old object or the new one, and the other to recovery.
 */
#include "xattr.h"

#include <sys/xattr.h>

struct item {	/* unaligned in the object: copied out and in */
	uint32_t name_bytes;
	uint32_t value_bytes;
};

struct blob {
	const char *bytes;
	uint64_t size;
};

static struct cell_fmt *cell_of(struct client *c, uint64_t inode)
{
	return inode_attr(c, inode, NULL) ? object_cell(off_object(c->pool, inode), INODE_XATTRS) : NULL;
}

/* The name's length, or -ERANGE. */
static int name_length(const char *name)
{
	size_t n = strnlen(name, XATTR_NAME_BYTES_MAX + 1);

	return !n || n > XATTR_NAME_BYTES_MAX ? -ERANGE : (int)n;
}

/* The item at *at, which moves behind it.  0: no more; 1; -EUCLEAN. */
static int next_item(const struct blob *b, uint64_t *at, struct item *item, const char **name)
{
	if (*at == b->size)
		return 0;
	if (b->size - *at < sizeof(*item))
		return -EUCLEAN;
	memcpy(item, b->bytes + *at, sizeof(*item));
	*at += sizeof(*item);
	if (!item->name_bytes || item->name_bytes > XATTR_NAME_BYTES_MAX ||
	    (uint64_t)item->name_bytes + item->value_bytes > b->size - *at)
		return -EUCLEAN;
	*name = b->bytes + *at;
	*at += (uint64_t)item->name_bytes + item->value_bytes;
	return 1;
}

/* The attributes that the row refers to: none if it is empty. */
static int blob_of(const struct client *c, const struct root_fmt *row, struct blob *b)
{
	uint64_t off = a64_load_relaxed(&row->object);
	uint64_t header;

	*b = (struct blob){.bytes = "", .size = 0};
	if (!off)
		return 0;
	header = a128_value_relaxed(&off_object(c->pool, off)->word);
	b->bytes = object_payload(off_object(c->pool, off));
	b->size = alloc_size(c, off, header);
	return object_kind(header) != OBJECT_XATTRS || b->size > XATTR_BYTES_MAX ||
			       !off_in_heap(c->pool, off, sizeof(struct object_fmt) + b->size)
		       ? -EUCLEAN
		       : 0;
}

/* A row with a reference to the attributes as they are now, or an empty one. */
static int load(struct client *c, uint64_t inode, struct root_fmt **out, struct blob *b)
{
	struct cell_fmt *cell = cell_of(c, inode);
	struct root_fmt *row;
	int rc;

	if (!cell)
		return -EINVAL;
	rc = root_take(c, &row);
	if (rc)
		return rc;
	rc = cell_load(c, cell, row);
	if (!rc)
		rc = blob_of(c, row, b);
	if (rc)
		ref_drop_row(c, row);
	else
		*out = row;
	return rc;
}

int64_t xattr_get(struct client *c, uint64_t inode, const char *name, void *value, size_t size)
{
	int length = name_length(name);
	struct root_fmt *row;
	const char *found;
	struct item item;
	uint64_t at = 0;
	struct blob b;
	int64_t rc;
	int more;

	if (length < 0)
		return length;
	rc = load(c, inode, &row, &b);
	if (rc)
		return rc;
	while ((more = next_item(&b, &at, &item, &found)) > 0)
		if (item.name_bytes == (uint32_t)length && !memcmp(found, name, item.name_bytes))
			break;
	if (more < 0)
		rc = more;
	else if (!more)
		rc = -ENODATA;
	else if (size && size < item.value_bytes)
		rc = -ERANGE;
	else
		rc = item.value_bytes;
	if (rc > 0 && size)
		memcpy(value, found + item.name_bytes, item.value_bytes);
	ref_drop_row(c, row);
	return rc;
}

int64_t xattr_list(struct client *c, uint64_t inode, char *list, size_t size)
{
	struct root_fmt *row;
	const char *name;
	struct item item;
	uint64_t at = 0;
	size_t used = 0;
	struct blob b;
	int64_t rc;
	int more;

	rc = load(c, inode, &row, &b);
	if (rc)
		return rc;
	while ((more = next_item(&b, &at, &item, &name)) > 0) {
		if (size && item.name_bytes + 1 > size - used) {
			more = -ERANGE;
			break;
		}
		if (size) {
			memcpy(list + used, name, item.name_bytes);
			list[used + item.name_bytes] = 0;
		}
		used += item.name_bytes + 1;
	}
	ref_drop_row(c, row);
	return more < 0 ? more : (int64_t)used;
}

/* ---- changing ---- */

/* What is to become of one name. */
struct change {
	const char *name;
	uint32_t name_bytes;
	const void *value;	/* NULL: to be removed */
	uint32_t value_bytes;
	int flags;
};

static char *put_item(char *to, const struct item *item, const char *name, const void *value)
{
	memcpy(to, item, sizeof(*item));
	memcpy(to + sizeof(*item), name, item->name_bytes);
	if (item->value_bytes)
		memcpy(to + sizeof(*item) + item->name_bytes, value, item->value_bytes);
	return to + sizeof(*item) + item->name_bytes + item->value_bytes;
}

/* Bytes that the attributes will take, in *size; is the change allowed? */
static int measure(const struct blob *b, const struct change *change, uint64_t *size)
{
	uint64_t at = 0, total = 0;
	const char *name;
	struct item item;
	int found = 0;
	int more;

	while ((more = next_item(b, &at, &item, &name)) > 0) {
		if (item.name_bytes == change->name_bytes && !memcmp(name, change->name, item.name_bytes))
			found = 1;
		else
			total += sizeof(item) + item.name_bytes + item.value_bytes;
	}
	if (more < 0)
		return more;
	if (found && change->flags & XATTR_CREATE)
		return -EEXIST;
	if (!found && (change->flags & XATTR_REPLACE || !change->value))
		return -ENODATA;
	if (change->value)
		total += sizeof(item) + change->name_bytes + change->value_bytes;
	*size = total;
	return total > XATTR_BYTES_MAX ? -ENOSPC : 0;
}

/* A new object with the old attributes, changed. */
static int build(struct client *c, const struct blob *b, const struct change *change, uint64_t size,
		 struct root_fmt **row)
{
	const struct alloc_kind kind = {.kind = OBJECT_XATTRS};
	const struct item added = {change->name_bytes, change->value_bytes};
	uint64_t at = 0;
	const char *name;
	struct item item;
	char *start, *to;
	int rc;

	rc = alloc_object(c, size, &kind, row);
	if (rc)
		return rc;
	start = to = object_payload(off_object(c->pool, a64_load_relaxed(&(*row)->object)));
	while (next_item(b, &at, &item, &name) > 0)
		if (item.name_bytes != change->name_bytes || memcmp(name, change->name, item.name_bytes))
			to = put_item(to, &item, name, name + item.name_bytes);
	if (change->value)
		put_item(to, &added, change->name, change->value);
	persist(c->pool, start, size);
	/* Crash: a private object, dropped with its root. */
	CRASH_POINT(c, xattr, built);
	return 0;
}

static int try_change(struct client *c, uint64_t inode, const struct change *change)
{
	struct cell_fmt *cell = cell_of(c, inode);
	struct root_fmt *old, *row = NULL;
	struct stamped seen;
	uint64_t size;
	struct blob b;
	int rc;

	if (!cell)
		return -EINVAL;
	seen = a128_load_acquire(&cell->word);
	rc = load(c, inode, &old, &b);
	if (rc)
		return rc;
	/* If the cell has changed since, b is not what `seen` refers to, and the exchange below fails. */
	rc = measure(&b, change, &size);
	if (!rc)
		rc = size ? build(c, &b, change, size, &row) : root_take(c, &row);
	/* Pairs: cell_load() by readers.  Crash before: the old ones, after: the new ones. */
	if (!rc)
		rc = cell_exchange(c, cell, seen, row, NULL);
	if (row)
		ref_drop_row(c, row);
	ref_drop_row(c, old);
	return rc;
}

static int apply(struct client *c, uint64_t inode, const struct change *change)
{
	int rc;

	do
		rc = try_change(c, inode, change);
	while (rc == -EAGAIN);
	if (!rc)
		inode_touch(c, inode, INODE_CTIME);
	return rc;
}

int xattr_set(struct client *c, uint64_t inode, const char *name, const void *value, size_t size, int flags)
{
	int length = name_length(name);
	struct change change = {.name = name, .value = size ? value : "", .flags = flags};

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE) || flags == (XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (length < 0)
		return length;
	if (size > XATTR_BYTES_MAX)
		return -E2BIG;
	change.name_bytes = (uint32_t)length;
	change.value_bytes = (uint32_t)size;
	return apply(c, inode, &change);
}

int xattr_remove(struct client *c, uint64_t inode, const char *name)
{
	int length = name_length(name);
	struct change change = {.name = name};

	if (length < 0)
		return length;
	change.name_bytes = (uint32_t)length;
	return apply(c, inode, &change);
}
