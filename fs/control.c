/* SPDX-License-Identifier: MIT */
/*
 * control.c: the .cxlshm/ tree at the root, and extended attributes.
 *
 * Owns the tree: a fixed folder of read-only files, and one file for each object under objects/.  Its
 * nodes are inodes like others in the table, without a reference.  The text of a file is made when it is
 * opened and does not change under its reader; like those of /proc, the files show a size of 0.
 *
 * The name .cxlshm in the root is the tree's: an object that native code gave that name is not seen.
 * Threads: any; see inode.h for the lock.
 */
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "report.h"

#define PREFIX "user.cxlshm."

static const struct control_name {
	const char *name;
	enum control_kind kind;
} control_names[] = {
	{"pool", CONTROL_POOL},		{"clients", CONTROL_CLIENTS}, {"stats", CONTROL_STATS},
	{"metrics", CONTROL_METRICS},	{"version", CONTROL_VERSION}, {"objects", CONTROL_OBJECTS},
};

#define CONTROL_NAMES (sizeof(control_names) / sizeof(control_names[0]))

bool control_is_name(const struct fs *fs, const struct inode *parent, const char *name)
{
	return parent == fs->root && !strcmp(name, ".cxlshm");
}

static void fill_attr(const struct fs *fs, enum control_kind kind, uint64_t ino, struct stat *out)
{
	memset(out, 0, sizeof(*out));
	out->st_ino = ino;
	out->st_uid = fs->options->show_uid ? fs->options->uid : geteuid();
	out->st_gid = fs->options->show_gid ? fs->options->gid : getegid();
	out->st_blksize = 4096;
	out->st_nlink = 1;
	out->st_mode = kind == CONTROL_FOLDER || kind == CONTROL_OBJECTS ? S_IFDIR | 0555 : S_IFREG | 0444;
	/* One that stands still: tar(1) fails when a file's time moves under it. */
	out->st_mtim.tv_sec = fs->started;
	out->st_atim = out->st_ctim = out->st_mtim;
}

void control_attr(const struct fs *fs, const struct inode *inode, struct stat *out)
{
	fill_attr(fs, inode->control, inode->id, out);
}

/* A decimal number without leading zeros. */
static bool parse_id(const char *name, uint64_t *id)
{
	char again[24];

	*id = strtoull(name, NULL, 10);
	snprintf(again, sizeof(again), "%" PRIu64, *id);
	return !strcmp(name, again);
}

int control_lookup(struct fs *fs, struct inode *parent, const char *name, struct fuse_entry_param *entry)
{
	enum control_kind kind = CONTROL_NONE;
	struct cxlshm_object_info info;
	uint64_t id = 0;
	int rc;

	if (parent == fs->root) {
		kind = CONTROL_FOLDER;
	} else if (parent->control == CONTROL_FOLDER) {
		for (size_t i = 0; i < CONTROL_NAMES; i++)
			if (!strcmp(name, control_names[i].name))
				kind = control_names[i].kind;
	} else if (parent->control == CONTROL_OBJECTS) {
		if (parse_id(name, &id) && !cxlshm_object_info(fs->pool, id, &info))
			kind = CONTROL_OBJECT;
	} else {
		return -ENOTDIR;
	}
	if (kind == CONTROL_NONE)
		return -ENOENT;
	lane_lock(&fs->lanes);
	rc = inode_control_entry(fs, kind, id, entry);
	lane_unlock(&fs->lanes);
	if (!rc)
		fill_attr(fs, kind, inode_of(fs, entry->ino)->id, &entry->attr);
	return rc;
}

/* The ids of all objects, growing. */
struct id_list {
	uint64_t *ids;
	size_t count, room;
};

static int list_id(void *arg, const struct cxlshm_object_info *info)
{
	struct id_list *list = arg;

	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 1024;
		uint64_t *ids = realloc(list->ids, room * sizeof(*ids));

		if (!ids)
			return -ENOMEM;
		list->ids = ids;
		list->room = room;
	}
	list->ids[list->count++] = info->id;
	return 0;
}

int control_open(struct fs *fs, struct inode *inode, struct handle **out)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	struct id_list list = {0};
	int rc = 0;

	if (!handle)
		return -ENOMEM;
	handle->inode = inode;
	handle->fd = -1;
	handle->kind = HANDLE_FOLDER;
	if (inode->control == CONTROL_OBJECTS) {
		rc = cxlshm_each_object(fs->pool, list_id, &list);
		handle->ids = list.ids;
		handle->size = list.count;
	} else if (inode->control != CONTROL_FOLDER) {
		handle->kind = HANDLE_TEXT;
		rc = report_text(fs, inode->control, inode->object_id, &handle->data, &handle->size);
	}
	if (rc) {
		free(list.ids);
		free(handle);
		return rc;
	}
	lane_lock(&fs->lanes);
	inode->handles++;
	fs->handle_count++;
	lane_unlock(&fs->lanes);
	*out = handle;
	return 0;
}

void control_release(struct fs *fs, struct handle *handle)
{
	lane_lock(&fs->lanes);
	handle->inode->handles--;
	fs->handle_count--;
	inode_unref(fs, handle->inode);
	lane_unlock(&fs->lanes);
	free(handle->data);
	free(handle->ids);
	free(handle);
}

/* Entry number index (0 and 1 are the dots) of an open folder; false at the end. */
static bool name_at(const struct fs *fs, const struct handle *handle, uint64_t index, char *name,
		    size_t size, struct stat *attr)
{
	bool objects = handle->inode->control == CONTROL_OBJECTS;
	enum control_kind kind = CONTROL_FOLDER;
	uint64_t ino = CONTROL_INO(CONTROL_FOLDER);

	if (index < 2) {
		snprintf(name, size, "%s", index ? ".." : ".");
		if (index == !objects)
			ino = objects ? handle->inode->id : fs->root->id;
	} else if (objects) {
		if (index - 2 >= handle->size)
			return false;
		kind = CONTROL_OBJECT;
		ino = CONTROL_OBJECT_INO(handle->ids[index - 2]);
		snprintf(name, size, "%" PRIu64, handle->ids[index - 2]);
	} else {
		if (index - 2 >= CONTROL_NAMES)
			return false;
		kind = control_names[index - 2].kind;
		ino = CONTROL_INO(kind);
		snprintf(name, size, "%s", control_names[index - 2].name);
	}
	fill_attr(fs, kind, ino, attr);
	return true;
}

ssize_t control_read_folder(struct fs *fs, fuse_req_t req, struct handle *handle, char *buffer, size_t size,
			    uint64_t offset, bool plus)
{
	struct fuse_entry_param entry = {0};	/* ino 0: the kernel looks it up when it needs it */
	size_t used = 0, bytes;
	char name[32];

	for (; name_at(fs, handle, offset, name, sizeof(name), &entry.attr); offset++) {
		off_t next = (off_t)offset + 1;

		if (plus)
			bytes = fuse_add_direntry_plus(req, buffer + used, size - used, name, &entry, next);
		else
			bytes = fuse_add_direntry(req, buffer + used, size - used, name, &entry.attr, next);
		if (bytes > size - used)
			break;
		used += bytes;
	}
	return (ssize_t)used;
}

/*
 * 0 if it is in a name space whose attributes are kept, else -errno.  Access control lists (system.) are not, and saying so
 * lets programs fall back to the mode.
 */
static int check_name(const char *name)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};

	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
		if (!strncmp(name, spaces[i], strlen(spaces[i])))
			return name[strlen(spaces[i])] ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

/* Ours to say. */
static bool is_made_up(const char *name)
{
	return !strncmp(name, PREFIX, sizeof(PREFIX) - 1);
}

/*
 * A change of one that is made up.  One that is there stays as it is, and no error is told: programs that copy attributes
 * set all of them at the copy, or first remove those that the original has not, and fail where that fails.  Others there
 * will never be.
 */
static int change_made_up(const char *name, int flags)
{
	for (const char *const *known = report_attributes; *known; known++)
		if (!strcmp(name + sizeof(PREFIX) - 1, *known))
			return flags & XATTR_CREATE ? -EEXIST : 0;
	return -EOPNOTSUPP;
}

int64_t control_getxattr(struct fs *fs, struct inode *inode, const char *name, char *value, size_t size)
{
	int64_t length = check_name(name);
	char made_up[1024];

	if (length)
		return length;
	if (!is_made_up(name)) {
		length = cxlshm_getxattr(lane_lock(&fs->lanes), inode->ref, name, value, size);
		lane_unlock(&fs->lanes);
		return length;
	}
	length = report_attribute(fs, inode, name + sizeof(PREFIX) - 1, made_up, sizeof(made_up));
	if (length < 0 || !size)
		return length;
	if ((size_t)length > size)
		return -ERANGE;
	memcpy(value, made_up, (size_t)length);
	return length;
}

/* As cxlshm_listxattr(), but trusted.* is not for everybody (xattr(7)), and the kernel does not look. */
static int64_t list_kept(struct fs *fs, struct inode *inode, bool privileged, char *list, size_t size)
{
	char *all = privileged ? NULL : malloc(XATTR_LIST_MAX);
	int64_t length, kept = 0;
	size_t bytes;

	if (!privileged && !all)
		return -ENOMEM;
	length = cxlshm_listxattr(lane_lock(&fs->lanes), inode->ref, all ? all : list, all ? XATTR_LIST_MAX : size);
	lane_unlock(&fs->lanes);
	for (int64_t at = 0; all && at < length; at += (int64_t)bytes) {
		bytes = strlen(all + at) + 1;
		if (!strncmp(all + at, "trusted.", 8))
			continue;
		if (size && bytes > size - (size_t)kept) {
			kept = -ERANGE;
			break;
		}
		if (size)
			memcpy(list + kept, all + at, bytes);
		kept += (int64_t)bytes;
	}
	free(all);
	return privileged || length < 0 ? length : kept;
}

/* user.* of anything but files and directories the kernel lets nobody read (xattr(7)): what is listed must be there. */
static bool has_made_up(const struct inode *inode)
{
	return inode->kind != CXLSHM_KIND_SYMLINK && inode->kind != CXLSHM_KIND_SPECIAL;
}

int64_t control_listxattr(struct fs *fs, struct inode *inode, bool privileged, char *list, size_t size)
{
	size_t own = 0, left;
	int64_t length;

	for (const char *const *name = report_attributes; *name && has_made_up(inode); name++) {
		size_t bytes = sizeof(PREFIX) + strlen(*name);

		if (size) {
			if (bytes > size - own)
				return -ERANGE;
			memcpy(list + own, PREFIX, sizeof(PREFIX) - 1);
			strcpy(list + own + sizeof(PREFIX) - 1, *name);
		}
		own += bytes;
	}
	left = size > own ? size - own : 0;
	/* Asking with no room left must not look like asking for the size. */
	length = list_kept(fs, inode, privileged, left ? list + own : NULL, left);
	if (length < 0)
		return length;
	if (size && (size_t)length > left)
		return -ERANGE;
	return (int64_t)own + length;
}

int control_setxattr(struct fs *fs, struct inode *inode, const char *name, const char *value, size_t size,
		     int flags)
{
	int rc = check_name(name);

	if (rc)
		return rc;
	if (is_made_up(name))
		return change_made_up(name, flags);
	rc = cxlshm_setxattr(lane_lock(&fs->lanes), inode->ref, name, value, size, flags);
	lane_unlock(&fs->lanes);
	return rc;
}

int control_removexattr(struct fs *fs, struct inode *inode, const char *name)
{
	int rc = check_name(name);

	if (rc)
		return rc;
	if (is_made_up(name))
		return change_made_up(name, 0);
	rc = cxlshm_removexattr(lane_lock(&fs->lanes), inode->ref, name);
	lane_unlock(&fs->lanes);
	return rc;
}
