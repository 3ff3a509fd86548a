/* SPDX-License-Identifier: MIT */
/*
 * The public interface: names, attributes and extended attributes.  Checks arguments, calls down, and calls again after
 * recovering dead clients when memory is short or a dead client is in the way.
 */
#include <time.h>

#include "api.h"
#include "names_ops.h"
#include "xattr.h"

#define TRIES_BUSY 40u
#define TRIES_OWNER_DEAD 10000u

/* How often an operation has been tried, and for what. */
struct tries {
	unsigned busy, dead;
	struct api_room room;
};

static void pause_briefly(void)
{
	const struct timespec pause = {.tv_nsec = 50000};

	nanosleep(&pause, NULL);
}

/*
 * After rc: try again?  -ENOSPC: if there may be room by now.  -EOWNERDEAD: a dead client is renaming a directory.  -EBUSY: a
 * directory has no entry left, but somebody, perhaps dead, is not done with it.
 */
static int again(struct client *c, int rc, struct tries *tries)
{
	if (rc == -ENOSPC)
		return api_room_again(c, rc, &tries->room);
	if (rc == -EOWNERDEAD && tries->dead++ < TRIES_OWNER_DEAD) {
		api_recover(c, NULL);
		if (tries->dead > 1)
			pause_briefly();
		return 1;
	}
	if (rc == -EBUSY && tries->busy++ < TRIES_BUSY) {
		if (tries->busy == 1)
			api_recover(c, NULL);
		else
			pause_briefly();
		return 1;
	}
	return 0;
}

/* The directory that a path is relative to. */
static int base_dir(const struct client *c, cxlshm_ref dir, uint64_t *off)
{
	struct root_fmt *row;
	int rc = api_usable(c);

	if (!dir || rc) {
		*off = c->pool->super->root_dir;
		return rc;
	}
	rc = api_row(c, dir, &row);
	if (!rc)
		*off = a64_load_relaxed(&row->object);
	return rc;
}

/* Where dir and path lead; to be given back with names_leave(). */
static int place(struct client *c, cxlshm_ref dir, const char *path, struct names_place *at)
{
	struct tries tries = {0};
	uint64_t off;
	int rc;

	if (!c || !path)
		return -EINVAL;
	rc = base_dir(c, dir, &off);
	if (rc)
		return rc;
	do
		rc = names_walk(c, off, path, at);
	while (again(c, rc, &tries));
	return rc;
}

/* The object behind a handle. */
static int object_of(const struct client *c, cxlshm_ref ref, uint64_t *off)
{
	struct root_fmt *row;
	int rc;

	if (!c)
		return -EINVAL;
	rc = api_usable(c);
	if (!rc)
		rc = api_row(c, ref, &row);
	if (!rc)
		*off = a64_load_relaxed(&row->object);
	return rc;
}

/* ---- looking up ---- */

static int lookup_once(struct client *c, const struct names_place *at, unsigned flags, struct root_fmt **out)
{
	struct root_fmt *row;
	int rc = root_take(c, &row);

	if (rc)
		return rc;
	if (at->key.bytes)
		rc = names_lookup(c, at->dir, &at->key, flags, row);
	else
		rc = ref_attach(c, at->dir, row);
	if (rc)
		root_give(c, row);
	else
		*out = row;
	return rc;
}

int cxlshm_lookup(struct cxlshm_client *client, cxlshm_ref dir, const char *path, unsigned flags, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct tries tries = {0};
	struct names_place at;
	struct root_fmt *row = NULL;
	int rc;

	if (!ref || flags & ~CXLSHM_INODE)
		return -EINVAL;
	rc = place(c, dir, path, &at);
	if (rc)
		return rc;
	do
		rc = lookup_once(c, &at, flags, &row);
	while (again(c, rc, &tries));
	names_leave(c, &at);
	if (!rc)
		*ref = root_ref(c, row);
	return rc;
}

/* A damaged entry's may be none: its reader would take it for another, or for a path. */
static int is_name(const struct names_spot *s)
{
	return !memchr(s->name, 0, s->bytes) && !memchr(s->name, '/', s->bytes);
}

int cxlshm_readdir(struct cxlshm_client *client, cxlshm_ref dir, uint64_t *position, struct cxlshm_dirent *entry,
		   cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row = NULL;
	struct names_spot s;
	uint64_t off;
	int rc;

	if (!c || !position || !entry)
		return -EINVAL;
	rc = base_dir(c, dir, &off);
	if (!rc && !names_is_dir(c, off))
		rc = -ENOTDIR;
	if (!rc && ref)
		rc = api_take_row(c, &row);
	if (rc)
		return rc;
	client_read_begin(c);
	do {
		rc = names_next(c, off, *position, &s);
		if (!rc && !is_name(&s))
			rc = -EUCLEAN;
		if (!rc && ref)
			rc = names_take(c, &s, s.inode, row);
	} while (rc == -EAGAIN);
	client_read_end(c);
	if (rc) {
		if (row)
			root_give(c, row);
		return rc;
	}
	entry->id = s.inode;
	entry->position = s.hash + 1;
	entry->kind = inode_public_kind(s.kind);
	entry->mode = s.mode;
	memcpy(entry->name, s.name, s.bytes);
	memset(entry->name + s.bytes, 0, sizeof(entry->name) - s.bytes);
	*position = entry->position;
	if (ref)
		*ref = root_ref(c, row);
	return 0;
}

int cxlshm_named_object(struct cxlshm_client *client, cxlshm_ref inode, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	enum object_kind kind;
	uint64_t off;
	int rc = object_of(c, inode, &off);

	if (rc)
		return rc;
	if (!ref || !inode_attr(c, off, &kind) || kind != OBJECT_NAMED)
		return -EINVAL;
	rc = api_take_row(c, &row);
	if (rc)
		return rc;
	rc = cell_load(c, object_cell(off_object(c->pool, off), NAMED_DATA), row);
	if (!rc && !a64_load_relaxed(&row->object))
		rc = -EUCLEAN;
	if (rc)
		root_give(c, row);
	else
		*ref = root_ref(c, row);
	return rc;
}

/* ---- making ---- */

struct make {	/* what is to be made */
	enum object_kind kind;
	mode_t mode;
	uint64_t bytes;	/* FILE */
	uint64_t data;	/* NAMED */
	const char *target;	/* SYMLINK */
};

static int make_once(struct client *c, const struct names_place *at, const struct make *make, struct root_fmt **out)
{
	struct names_spot s;
	struct root_fmt *row = NULL;
	int rc;

	if (!at->key.bytes)
		return -EEXIST;
	/* Not worth making, then. */
	rc = names_find(c, at->dir, &at->key, &s);
	if (rc || names_present(&s))
		return rc ? rc : -EEXIST;
	switch (make->kind) {
	case OBJECT_FILE:
		rc = inode_make_file(c, make->bytes, make->mode, &row);
		break;
	case OBJECT_DIRECTORY:
		rc = inode_make_directory(c, at->dir, make->mode, &row);
		break;
	case OBJECT_SYMLINK:
		rc = inode_make_symlink(c, make->target, &row);
		break;
	case OBJECT_NAMED:
		rc = inode_make_named(c, make->data, make->mode, &row);
		break;
	default:
		rc = inode_make(c, make->kind, make->mode, &row);
		break;
	}
	if (rc)
		return rc;
	rc = names_put_new(c, at, row);
	if (rc)
		ref_drop_row(c, row);
	else
		*out = row;
	return rc;
}

static int make_at(struct client *c, cxlshm_ref dir, const char *path, const struct make *make, cxlshm_ref *ref)
{
	struct tries tries = {.room.bytes = make->bytes};
	struct names_place at;
	struct root_fmt *row = NULL;
	int rc = place(c, dir, path, &at);

	if (rc)
		return rc;
	do
		rc = make_once(c, &at, make, &row);
	while (again(c, rc, &tries));
	names_leave(c, &at);
	if (rc)
		return rc;
	if (ref)
		*ref = root_ref(c, row);
	else
		ref_drop_row(c, row);
	return 0;
}

int cxlshm_create(struct cxlshm_client *client, cxlshm_ref dir, const char *path, uint64_t size_bytes, mode_t mode,
		  cxlshm_ref *ref)
{
	const struct make make = {.kind = OBJECT_FILE, .mode = mode, .bytes = size_bytes};

	return make_at(api_client(client), dir, path, &make, ref);
}

int cxlshm_mkdir(struct cxlshm_client *client, cxlshm_ref dir, const char *path, mode_t mode, cxlshm_ref *ref)
{
	const struct make make = {.kind = OBJECT_DIRECTORY, .mode = mode};

	return make_at(api_client(client), dir, path, &make, ref);
}

int cxlshm_symlink(struct cxlshm_client *client, const char *target, cxlshm_ref dir, const char *path, cxlshm_ref *ref)
{
	const struct make make = {.kind = OBJECT_SYMLINK, .target = target};

	return target ? make_at(api_client(client), dir, path, &make, ref) : -EINVAL;
}

int cxlshm_mknod(struct cxlshm_client *client, cxlshm_ref dir, const char *path, mode_t mode, cxlshm_ref *ref)
{
	const struct make make = {.kind = OBJECT_SPECIAL, .mode = mode & (S_IFMT | 07777)};

	if (!S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EINVAL;
	return make_at(api_client(client), dir, path, &make, ref);
}

int cxlshm_link(struct cxlshm_client *client, cxlshm_ref ref, cxlshm_ref dir, const char *path, mode_t mode)
{
	struct client *c = api_client(client);
	struct make make = {.kind = OBJECT_NAMED, .mode = mode};
	struct tries tries = {0};
	struct names_place at;
	enum object_kind kind;
	int rc = object_of(c, ref, &make.data);

	if (rc)
		return rc;
	kind = object_kind(a128_value_relaxed(&off_object(c->pool, make.data)->word));
	if (kind == OBJECT_DIRECTORY)
		return -EPERM;
	if (kind == OBJECT_DATA || kind == OBJECT_QUEUE)
		return make_at(c, dir, path, &make, NULL);
	if (!inode_is(kind))
		return -EINVAL;
	rc = place(c, dir, path, &at);
	if (rc)
		return rc;
	do
		rc = names_put_link(c, &at, make.data);
	while (again(c, rc, &tries));
	names_leave(c, &at);
	return rc;
}

/* ---- removing, renaming ---- */

int cxlshm_unlink(struct cxlshm_client *client, cxlshm_ref dir, const char *path)
{
	struct client *c = api_client(client);
	struct tries tries = {0};
	struct names_place at;
	int rc = place(c, dir, path, &at);

	if (rc)
		return rc;
	do
		rc = names_unlink(c, &at);
	while (again(c, rc, &tries));
	names_leave(c, &at);
	return rc;
}

int cxlshm_rmdir(struct cxlshm_client *client, cxlshm_ref dir, const char *path)
{
	struct client *c = api_client(client);
	struct tries tries = {0};
	struct names_place at;
	int rc = place(c, dir, path, &at);

	if (rc)
		return rc;
	rc = -EBUSY;
	if (at.key.bytes) {	/* else the directory itself, which the caller uses */
		do
			rc = names_rmdir(c, &at);
		while (again(c, rc, &tries));
		if (rc == -EBUSY)
			rc = -ENOTEMPTY;
	}
	names_leave(c, &at);
	return rc;
}

int cxlshm_rename(struct cxlshm_client *client, cxlshm_ref old_dir, const char *old_path, cxlshm_ref new_dir,
		  const char *new_path, unsigned flags)
{
	struct client *c = api_client(client);
	struct names_place from, to;
	struct tries tries = {0};
	int rc;

	if (flags & ~(CXLSHM_NOREPLACE | CXLSHM_EXCHANGE) || flags == (CXLSHM_NOREPLACE | CXLSHM_EXCHANGE))
		return -EINVAL;
	rc = place(c, old_dir, old_path, &from);
	if (rc)
		return rc;
	rc = place(c, new_dir, new_path, &to);
	if (rc)
		goto leave_from;
	rc = -EBUSY;
	if (from.key.bytes && to.key.bytes) {
		do
			rc = names_rename(c, &from, &to, flags);
		while (again(c, rc, &tries));
		if (rc == -EBUSY)
			rc = -ENOTEMPTY;
	}
	names_leave(c, &to);
leave_from:
	names_leave(c, &from);
	return rc;
}

/* ---- attributes ---- */

int64_t cxlshm_readlink(struct cxlshm_client *client, cxlshm_ref ref, char *target, size_t size)
{
	struct client *c = api_client(client);
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	return size && !target ? -EINVAL : inode_readlink(c, off, target, size);
}

int cxlshm_stat(struct cxlshm_client *client, cxlshm_ref ref, struct cxlshm_stat *st)
{
	struct client *c = api_client(client);
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	return st ? inode_stat(c, off, st) : -EINVAL;
}

int cxlshm_setattr(struct cxlshm_client *client, cxlshm_ref ref, const struct cxlshm_stat *st, unsigned mask)
{
	struct client *c = api_client(client);
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	if (!st || mask & ~(CXLSHM_SET_MODE | CXLSHM_SET_UID | CXLSHM_SET_GID | CXLSHM_SET_ATIME | CXLSHM_SET_MTIME |
			    CXLSHM_SET_CTIME))
		return -EINVAL;
	return inode_set(c, off, st, mask);
}

int64_t cxlshm_getxattr(struct cxlshm_client *client, cxlshm_ref ref, const char *name, void *value, size_t size)
{
	struct client *c = api_client(client);
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	return !name || (size && !value) ? -EINVAL : xattr_get(c, off, name, value, size);
}

int64_t cxlshm_listxattr(struct cxlshm_client *client, cxlshm_ref ref, char *list, size_t size)
{
	struct client *c = api_client(client);
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	return size && !list ? -EINVAL : xattr_list(c, off, list, size);
}

int cxlshm_setxattr(struct cxlshm_client *client, cxlshm_ref ref, const char *name, const void *value, size_t size,
		    int flags)
{
	struct client *c = api_client(client);
	struct tries tries = {0};
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	if (!name || (size && !value))
		return -EINVAL;
	do
		rc = xattr_set(c, off, name, value, size, flags);
	while (again(c, rc, &tries));
	return rc;
}

int cxlshm_removexattr(struct cxlshm_client *client, cxlshm_ref ref, const char *name)
{
	struct client *c = api_client(client);
	struct tries tries = {0};
	uint64_t off;
	int rc = object_of(c, ref, &off);

	if (rc)
		return rc;
	if (!name)
		return -EINVAL;
	do
		rc = xattr_remove(c, off, name);
	while (again(c, rc, &tries));
	return rc;
}
