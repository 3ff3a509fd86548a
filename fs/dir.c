/* SPDX-License-Identifier: MIT */
/*
 * dir.c: entries: looking them up, making, removing, renaming and listing them.
 *
 * Owns nothing but the handles of open directories.  Every operation is one call of the library on the
 * names lane, with the parent's reference; the library makes it happen as a whole or not at all.  Moving
 * a directory to another parent may have to wait for another client, so that goes to a side lane.
 *
 * Listing is stateless: the offset of an entry is its position in the library's order plus
 * OFFSET_SHIFT, and the lock is given up between entries.
 * Threads: any; see inode.h for the lock.
 */
#include "dir.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "idle.h"

#define OFFSET_DOT 1
#define OFFSET_DOT_DOT 2
#define OFFSET_CONTROL 3
#define OFFSET_SHIFT 3	/* of the library's positions, which start above 0 */

int dir_lookup(struct fs *fs, struct inode *parent, const char *name, struct fuse_entry_param *entry)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	cxlshm_ref ref;
	int rc = cxlshm_lookup(client, parent->ref, name, CXLSHM_INODE, &ref);

	if (!rc)
		rc = inode_entry(fs, ref, entry);
	if (!rc)
		inode_hint(fs, entry, parent, name);
	lane_unlock(&fs->lanes);
	return rc;
}

void dir_undo(struct fs *fs, const struct fuse_entry_param *entry)
{
	inode_forget(fs, inode_of(fs, entry->ino), 1);
}

/* The new object of that kind, owned by the daemon and without privileges.  Locked. */
static int make_object(struct cxlshm_client *client, cxlshm_ref parent, const char *name, mode_t mode,
		       const char *target, cxlshm_ref *ref)
{
	mode_t permissions = mode & 0777;

	if (target)
		return cxlshm_symlink(client, target, parent, name, ref);
	switch (mode & S_IFMT) {
	case S_IFREG:
		return cxlshm_create(client, parent, name, 0, permissions, ref);
	case S_IFDIR:
		return cxlshm_mkdir(client, parent, name, permissions, ref);
	case S_IFIFO:
	case S_IFSOCK:
		return cxlshm_mknod(client, parent, name, (mode & S_IFMT) | permissions, ref);
	default:
		return -EPERM;	/* device nodes have no place in a pool */
	}
}

/*
 * Give a new object its owner, and only then setuid, setgid and sticky bits.  Locked.
 * Crash before: the object is the daemon's user's, without privileges.
 */
static int set_owner(struct cxlshm_client *client, cxlshm_ref ref, mode_t mode,
		     const struct dir_owner *owner)
{
	struct cxlshm_stat st = {.uid = owner->uid, .gid = owner->gid};
	unsigned mask = 0;
	int rc = 0;

	if (owner->uid != geteuid())
		mask |= CXLSHM_SET_UID;
	if (owner->gid != getegid())
		mask |= CXLSHM_SET_GID;
	if (mask)
		rc = cxlshm_setattr(client, ref, &st, mask);
	if (!rc && mode & 07000) {
		st.mode = mode;
		rc = cxlshm_setattr(client, ref, &st, CXLSHM_SET_MODE);
	}
	return rc;
}

int dir_make(struct fs *fs, struct inode *parent, const char *name, mode_t mode, const char *target,
	     const struct dir_owner *asker, struct fuse_entry_param *entry)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	struct dir_owner owner = *asker;
	struct cxlshm_stat folder;
	cxlshm_ref ref;
	int rc = cxlshm_stat(client, parent->ref, &folder);

	if (rc)
		goto unlock;
	if (folder.mode & S_ISGID) {
		owner.gid = folder.gid;
		if (S_ISDIR(mode))
			mode |= S_ISGID;
	}
	rc = make_object(client, parent->ref, name, mode, target, &ref);
	if (rc)
		goto unlock;
	rc = set_owner(client, ref, target ? 0 : mode, &owner);
	if (rc)
		cxlshm_release(client, ref);
	else
		rc = inode_entry(fs, ref, entry);
	if (!rc)
		inode_hint(fs, entry, parent, name);
unlock:
	lane_unlock(&fs->lanes);
	return rc;
}

int dir_link(struct fs *fs, struct inode *inode, struct inode *parent, const char *name,
	     struct fuse_entry_param *entry)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	cxlshm_ref ref;
	int rc = cxlshm_link(client, inode->ref, parent->ref, name, 0);

	if (!rc)
		rc = cxlshm_attach(client, inode->ref, &ref);
	if (!rc)
		rc = inode_entry(fs, ref, entry);
	if (!rc)
		inode_hint(fs, entry, parent, name);
	lane_unlock(&fs->lanes);
	return rc;
}

/*
 * The inode that name leads to, if it is one that was closed a moment ago: its object should go at once
 * when this name does.  Locked.
 */
static struct inode *find_idle(struct fs *fs, struct inode *parent, const char *name)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	struct inode *inode;
	cxlshm_ref ref;

	if (!fs->idle || cxlshm_lookup(client, parent->ref, name, CXLSHM_INODE, &ref))
		return NULL;
	inode = inode_find(fs, cxlshm_id(client, ref));
	cxlshm_release(client, ref);
	return inode && inode->idle_ref ? inode : NULL;
}

int dir_unlink(struct fs *fs, struct inode *parent, const char *name)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	struct inode *idle = find_idle(fs, parent, name);
	uint64_t token = 0;
	int rc = cxlshm_unlink(client, parent->ref, name);

	if (!rc && idle)
		token = idle_settle(fs, idle);
	lane_unlock(&fs->lanes);
	if (token)
		lane_side_drop(&fs->lanes, token);
	return rc;
}

int dir_rmdir(struct fs *fs, struct inode *parent, const char *name)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	int rc = cxlshm_rmdir(client, parent->ref, name);

	lane_unlock(&fs->lanes);
	return rc;
}

/* Is there a directory under that name?  Locked. */
static bool is_directory(struct cxlshm_client *client, struct inode *parent, const char *name)
{
	cxlshm_ref ref;
	bool answer;

	if (cxlshm_lookup(client, parent->ref, name, CXLSHM_INODE, &ref))
		return false;
	answer = cxlshm_kind(client, ref) == CXLSHM_KIND_DIRECTORY;
	cxlshm_release(client, ref);
	return answer;
}

static int rename_directory(struct fs *fs, struct inode *old_parent, const char *old_name,
			    struct inode *new_parent, const char *new_name, unsigned flags)
{
	cxlshm_ref old_ref, new_ref;
	struct lane *lane;
	int rc;

	/* Without a side lane, for want of a client slot say, everybody waits with it. */
	if (lane_side_begin(&fs->lanes, old_parent->ref, new_parent->ref, &lane, &old_ref, &new_ref)) {
		rc = cxlshm_rename(lane_lock(&fs->lanes), old_parent->ref, old_name, new_parent->ref, new_name, flags);
		lane_unlock(&fs->lanes);
		return rc;
	}
	rc = cxlshm_rename(lane->client, old_ref, old_name, new_ref, new_name, flags);
	lane_side_end(lane, old_ref, new_ref);
	return rc;
}

int dir_rename(struct fs *fs, struct inode *old_parent, const char *old_name, struct inode *new_parent,
	       const char *new_name, unsigned rename_flags)
{
	struct cxlshm_client *client;
	struct inode *idle;
	unsigned flags = 0;
	uint64_t token = 0;
	int rc;

	if (rename_flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (rename_flags & RENAME_NOREPLACE)
		flags |= CXLSHM_NOREPLACE;
	if (rename_flags & RENAME_EXCHANGE)
		flags |= CXLSHM_EXCHANGE;
	client = lane_lock(&fs->lanes);
	if (old_parent != new_parent &&
	    (is_directory(client, old_parent, old_name) ||
	     (flags & CXLSHM_EXCHANGE && is_directory(client, new_parent, new_name)))) {
		lane_unlock(&fs->lanes);
		return rename_directory(fs, old_parent, old_name, new_parent, new_name, flags);
	}
	idle = flags & CXLSHM_EXCHANGE ? NULL : find_idle(fs, new_parent, new_name);
	rc = cxlshm_rename(client, old_parent->ref, old_name, new_parent->ref, new_name, flags);
	if (!rc && idle)
		token = idle_settle(fs, idle);
	lane_unlock(&fs->lanes);
	if (token)
		lane_side_drop(&fs->lanes, token);
	return rc;
}

int dir_open(struct fs *fs, struct inode *inode, struct handle **out)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	int rc;

	if (!handle)
		return -ENOMEM;
	handle->kind = HANDLE_FOLDER;
	handle->inode = inode;
	handle->fd = -1;
	rc = cxlshm_attach(lane_lock(&fs->lanes), inode->ref, &handle->ref);
	if (!rc) {
		inode->handles++;
		fs->handle_count++;
	}
	lane_unlock(&fs->lanes);
	if (rc)
		free(handle);
	else
		*out = handle;
	return rc;
}

void dir_release(struct fs *fs, struct handle *handle)
{
	uint64_t token;

	cxlshm_release(lane_lock(&fs->lanes), handle->ref);
	handle->inode->handles--;
	fs->handle_count--;
	token = inode_unref(fs, handle->inode);
	lane_unlock(&fs->lanes);
	if (token)
		lane_side_drop(&fs->lanes, token);
	free(handle);
}

/* A buffer of directory entries being filled. */
struct filler {
	fuse_req_t req;
	char *at;
	size_t left;
	bool plus;
};

static size_t bytes_for(const struct filler *filler, const char *name)
{
	return filler->plus ? fuse_add_direntry_plus(filler->req, NULL, 0, name, NULL, 0)
			    : fuse_add_direntry(filler->req, NULL, 0, name, NULL, 0);
}

/* There is room.  With entry->ino 0 the kernel takes the name only. */
static void add(struct filler *filler, const char *name, const struct fuse_entry_param *entry,
		uint64_t offset)
{
	size_t bytes;

	if (filler->plus)
		bytes = fuse_add_direntry_plus(filler->req, filler->at, filler->left, name, entry,
					       (off_t)offset);
	else
		bytes = fuse_add_direntry(filler->req, filler->at, filler->left, name, &entry->attr,
					  (off_t)offset);
	filler->at += bytes;
	filler->left -= bytes;
}

/*
 * The entries that are not in the pool; .. is where the directory was last looked up.  Returns false if the buffer is full.
 * Locked.
 */
static bool add_fixed(struct fs *fs, struct filler *filler, const struct inode *inode, uint64_t *offset)
{
	static const char *const names[] = {".", "..", ".cxlshm"};

	for (; *offset < (inode == fs->root ? OFFSET_CONTROL : OFFSET_DOT_DOT); ++*offset) {
		struct fuse_entry_param entry = {.attr.st_mode = S_IFDIR};

		entry.attr.st_ino = *offset == 2 ? CONTROL_INO(CONTROL_FOLDER) :
				    *offset == 1 && inode->hint_parent_id ? inode->hint_parent_id : inode->id;
		if (bytes_for(filler, names[*offset]) > filler->left)
			return false;
		add(filler, names[*offset], &entry, *offset + 1);
	}
	return true;
}

/*
 * The next entry behind *position.  Returns 1, 0 if the buffer is full, -ENOENT at the end, or another
 * -errno.  Locked.
 */
static int add_next(struct fs *fs, struct filler *filler, const struct inode *inode, cxlshm_ref folder,
		    uint64_t *position)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	struct fuse_entry_param entry = {0};
	struct cxlshm_dirent dirent;
	uint64_t next = *position;
	cxlshm_ref ref = 0;
	int rc = cxlshm_readdir(client, folder, &next, &dirent, filler->plus ? &ref : NULL);

	if (rc)
		return rc;
	if (inode == fs->root && !strcmp(dirent.name, ".cxlshm")) {
		cxlshm_release(client, ref);
		*position = next;
		return 1;
	}
	if (bytes_for(filler, dirent.name) > filler->left) {
		cxlshm_release(client, ref);
		return 0;
	}
	if (!ref || inode_entry(fs, ref, &entry)) {
		memset(&entry, 0, sizeof(entry));
		entry.attr.st_ino = dirent.id;
		entry.attr.st_mode = dirent.mode;
	} else {
		inode_hint(fs, &entry, inode, dirent.name);
	}
	add(filler, dirent.name, &entry, next + OFFSET_SHIFT);
	*position = next;
	return 1;
}

ssize_t dir_read(struct fs *fs, fuse_req_t req, struct handle *handle, char *buffer, size_t size,
		 uint64_t offset, bool plus)
{
	struct filler filler = {.req = req, .at = buffer, .left = size, .plus = plus};
	uint64_t position;
	int rc = 1;

	if (offset <= OFFSET_CONTROL) {
		bool all;

		lane_lock(&fs->lanes);
		all = add_fixed(fs, &filler, handle->inode, &offset);
		lane_unlock(&fs->lanes);
		if (!all)
			return (ssize_t)(size - filler.left);
	}
	position = offset > OFFSET_SHIFT ? offset - OFFSET_SHIFT : 0;
	while (rc == 1) {
		lane_lock(&fs->lanes);
		rc = add_next(fs, &filler, handle->inode, handle->ref, &position);
		lane_unlock(&fs->lanes);
	}
	if (rc < 0 && rc != -ENOENT && filler.left == size)
		return rc;
	return (ssize_t)(size - filler.left);
}

void dir_undo_plus(struct fs *fs, const char *buffer, size_t used)
{
	while (used >= FUSE_NAME_OFFSET_DIRENTPLUS) {
		const struct fuse_direntplus *entry = (const struct fuse_direntplus *)buffer;
		size_t bytes = FUSE_DIRENTPLUS_SIZE(entry);

		if (entry->entry_out.nodeid)
			inode_forget(fs, inode_of(fs, entry->entry_out.nodeid), 1);
		buffer += bytes;
		used -= bytes;
	}
}
