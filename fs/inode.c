/* SPDX-License-Identifier: MIT */
/*
 * inode.c: the table of inodes, and their attributes.
 *
 * Owns: a chained hash table from object id to struct inode.  An inode is made by the first lookup of an
 * object and holds one reference to it; it goes when the kernel has forgotten all lookups, nothing has
 * it open and no mapping holds it on.  As long as it is in the table its object lives, so its id can not
 * become another object's.
 * Threads: everything under the names lane's mutex (see inode.h).
 */
#include "inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 1024

/* Ids are offsets of blocks: the low bits are always zero. */
static size_t bucket_of(const struct fs *fs, uint64_t id)
{
	return (size_t)((id * 0x9e3779b97f4a7c15ull) >> 20) & (fs->bucket_count - 1);
}

/* Twice the buckets, if there is memory for them. */
static void grow(struct fs *fs)
{
	size_t old_count = fs->bucket_count;
	struct inode **old = fs->buckets;
	struct inode **buckets = calloc(2 * old_count, sizeof(struct inode *));

	if (!buckets)
		return;
	fs->buckets = buckets;
	fs->bucket_count = 2 * old_count;
	for (size_t i = 0; i < old_count; i++) {
		struct inode *inode = old[i];

		while (inode) {
			struct inode *next = inode->next;
			struct inode **head = &buckets[bucket_of(fs, inode->id)];

			inode->next = *head;
			*head = inode;
			inode = next;
		}
	}
	free(old);
}

static struct inode *insert(struct fs *fs, uint64_t id)
{
	struct inode *inode = calloc(1, sizeof(*inode));
	struct inode **head;

	if (!inode)
		return NULL;
	if (fs->inode_count >= fs->bucket_count)
		grow(fs);
	inode->id = id;
	inode->generation = ++fs->next_generation;
	head = &fs->buckets[bucket_of(fs, id)];
	inode->next = *head;
	*head = inode;
	fs->inode_count++;
	return inode;
}

static void take_out(struct fs *fs, struct inode *inode)
{
	struct inode **link = &fs->buckets[bucket_of(fs, inode->id)];

	while (*link != inode)
		link = &(*link)->next;
	*link = inode->next;
	fs->inode_count--;
}

static void free_inode(struct inode *inode)
{
	free(inode->hint_name);
	free(inode);
}

struct inode *inode_find(struct fs *fs, uint64_t id)
{
	struct inode *inode = fs->buckets[bucket_of(fs, id)];

	while (inode && inode->id != id)
		inode = inode->next;
	return inode;
}

int inode_start(struct fs *fs)
{
	struct fuse_entry_param entry;
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	cxlshm_ref ref;
	int rc;

	fs->bucket_count = BUCKETS_MIN;
	fs->buckets = calloc(BUCKETS_MIN, sizeof(struct inode *));
	rc = fs->buckets ? cxlshm_lookup(client, 0, "", CXLSHM_INODE, &ref) : -ENOMEM;
	if (rc == -ENOTDIR)
		rc = -EUCLEAN;	/* the root is no directory */
	if (!rc)
		rc = inode_entry(fs, ref, &entry);
	if (!rc)
		fs->root = inode_of(fs, entry.ino);
	if (rc == -ENOTDIR || (!rc && !S_ISDIR(entry.attr.st_mode)))
		rc = -EUCLEAN;	/* the root itself */
	lane_unlock(&fs->lanes);
	return rc;
}

void inode_stop(struct fs *fs)
{
	for (size_t i = 0; fs->buckets && i < fs->bucket_count; i++) {
		while (fs->buckets[i]) {
			struct inode *inode = fs->buckets[i];

			fs->buckets[i] = inode->next;
			free_inode(inode);
		}
	}
	free(fs->buckets);
	fs->buckets = NULL;
}

/* What of a library stat a file's user sees, with uid=, gid= and umask= laid over it. */
static void show(const struct fs *fs, const struct inode *inode, const struct cxlshm_stat *st, struct stat *out)
{
	const struct options *options = fs->options;

	memset(out, 0, sizeof(*out));
	out->st_ino = st->id;
	out->st_mode = st->mode;
	out->st_nlink = st->links;
	if (S_ISDIR(st->mode) && st->links)
		out->st_nlink = 1;	/* "unknown" to find(1): subdirectories are not counted */
	out->st_uid = options->show_uid ? options->uid : st->uid;
	out->st_gid = options->show_gid ? options->gid : st->gid;
	if (options->show_umask && !S_ISLNK(st->mode))
		out->st_mode = st->mode & ~options->umask;
	out->st_size = inode->queue ? 0 : (off_t)st->size_bytes;
	out->st_blocks = (blkcnt_t)((st->used_bytes + 511) / 512);
	out->st_blksize = 4096;
	out->st_atim = st->atime;
	out->st_mtim = st->mtime;
	out->st_ctim = st->ctime;
}

int inode_look(struct fs *fs, struct inode *inode, struct stat *out)
{
	struct cxlshm_stat st;
	int rc = cxlshm_stat(fs->lanes.names.client, inode->ref, &st);

	if (rc)
		return rc;
	inode->size_bytes = st.size_bytes;
	show(fs, inode, &st, out);
	return 0;
}

static void fill_entry(const struct fs *fs, const struct inode *inode, struct fuse_entry_param *entry)
{
	entry->ino = inode_node_id(fs, inode);
	entry->generation = inode->generation;
	entry->attr_timeout = fs->options->attr_timeout_s;
	entry->entry_timeout = fs->options->entry_timeout_s;
}

/* Does this inode of a named heap object stand for a queue? */
static bool is_queue(struct cxlshm_client *client, cxlshm_ref ref)
{
	cxlshm_ref object;
	bool answer;

	if (cxlshm_named_object(client, ref, &object))
		return false;
	answer = cxlshm_kind(client, object) == CXLSHM_KIND_QUEUE;
	cxlshm_release(client, object);
	return answer;
}

int inode_entry(struct fs *fs, cxlshm_ref ref, struct fuse_entry_param *entry)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	struct cxlshm_stat st;
	struct inode *inode;
	int rc = cxlshm_stat(client, ref, &st);

	if (rc)
		goto release;
	inode = inode_find(fs, st.id);
	if (!inode) {
		inode = insert(fs, st.id);
		if (!inode) {
			rc = -ENOMEM;
			goto release;
		}
		inode->kind = (enum cxlshm_kind)st.kind;
		inode->queue = st.kind == CXLSHM_KIND_NAMED && is_queue(client, ref);
		inode->ref = ref;
		ref = 0;
	}
	inode->lookups++;
	inode->size_bytes = st.size_bytes;
	memset(entry, 0, sizeof(*entry));
	fill_entry(fs, inode, entry);
	show(fs, inode, &st, &entry->attr);
release:
	cxlshm_release(client, ref);
	return rc;
}

void inode_hint(struct fs *fs, const struct fuse_entry_param *entry, const struct inode *parent,
		const char *name)
{
	struct inode *inode = inode_of(fs, entry->ino);

	inode->hint_parent = inode_node_id(fs, parent);
	inode->hint_parent_id = parent->id;
	if (inode->hint_name && !strcmp(inode->hint_name, name))
		return;
	free(inode->hint_name);
	inode->hint_name = strdup(name);
}

int inode_control_entry(struct fs *fs, enum control_kind kind, uint64_t object_id,
			struct fuse_entry_param *entry)
{
	uint64_t id = kind == CONTROL_OBJECT ? CONTROL_OBJECT_INO(object_id) : CONTROL_INO(kind);
	struct inode *inode = inode_find(fs, id);

	if (!inode) {
		inode = insert(fs, id);
		if (!inode)
			return -ENOMEM;
		inode->control = kind;
		inode->object_id = object_id;
	}
	inode->lookups++;
	memset(entry, 0, sizeof(*entry));
	fill_entry(fs, inode, entry);
	return 0;
}

/* May dropping the last reference take long: much to free, or a whole graph of objects behind it. */
static bool is_heavy(const struct inode *inode)
{
	return inode->kind == CXLSHM_KIND_NAMED || inode->size_bytes > LANE_LONG_BYTES;
}

uint64_t inode_unref(struct fs *fs, struct inode *inode)
{
	uint64_t token = 0;

	if (inode->lookups || inode->handles || inode->idle_ref || inode == fs->root)
		return 0;
	take_out(fs, inode);
	if (inode->ref) {
		struct cxlshm_client *client = fs->lanes.names.client;

		if (!is_heavy(inode) || cxlshm_export(client, inode->ref, &token)) {
			cxlshm_release(client, inode->ref);
			token = 0;
		}
	}
	free_inode(inode);
	return token;
}

void inode_forget(struct fs *fs, struct inode *inode, uint64_t count)
{
	uint64_t token;

	lane_lock(&fs->lanes);
	inode->lookups -= count < inode->lookups ? count : inode->lookups;
	token = inode_unref(fs, inode);
	lane_unlock(&fs->lanes);
	if (token)
		lane_side_drop(&fs->lanes, token);
}

int inode_getattr(struct fs *fs, struct inode *inode, struct stat *out)
{
	int rc;

	lane_lock(&fs->lanes);
	rc = inode_look(fs, inode, out);
	lane_unlock(&fs->lanes);
	return rc;
}

/* Setgid without group execute is not a privilege (it once meant mandatory locking). */
static uint32_t without_privileges(uint32_t mode)
{
	mode &= ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

void inode_kill_privileges(struct fs *fs, struct inode *inode)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	struct cxlshm_stat st;

	if (cxlshm_stat(client, inode->ref, &st) || !S_ISREG(st.mode) ||
	    without_privileges(st.mode) == st.mode)
		return;
	st.mode = without_privileges(st.mode);
	cxlshm_setattr(client, inode->ref, &st, CXLSHM_SET_MODE);
}

int inode_setattr(struct fs *fs, struct inode *inode, const struct stat *attr, int to_set)
{
	struct cxlshm_client *client;
	struct cxlshm_stat st = {0};
	struct timespec now;
	unsigned mask = 0;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	if (to_set & FUSE_SET_ATTR_MODE) {
		st.mode = attr->st_mode;
		mask |= CXLSHM_SET_MODE;
	}
	if (to_set & FUSE_SET_ATTR_UID) {
		st.uid = attr->st_uid;
		mask |= CXLSHM_SET_UID;
	}
	if (to_set & FUSE_SET_ATTR_GID) {
		st.gid = attr->st_gid;
		mask |= CXLSHM_SET_GID;
	}
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		st.atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : attr->st_atim;
		mask |= CXLSHM_SET_ATIME;
	}
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		st.mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : attr->st_mtim;
		mask |= CXLSHM_SET_MTIME;
	}
	if (to_set & FUSE_SET_ATTR_CTIME) {
		st.ctime = attr->st_ctim;
		mask |= CXLSHM_SET_CTIME;
	}
	client = lane_lock(&fs->lanes);
	/* Privileges go before a new owner comes, so that nobody gets somebody else's setuid bit. */
	if (mask & (CXLSHM_SET_UID | CXLSHM_SET_GID) && !(mask & CXLSHM_SET_MODE))
		inode_kill_privileges(fs, inode);
	if (mask)
		rc = cxlshm_setattr(client, inode->ref, &st, mask);
	lane_unlock(&fs->lanes);
	return rc;
}

int64_t inode_target(struct fs *fs, struct inode *inode, char *target, size_t size)
{
	struct cxlshm_client *client = lane_lock(&fs->lanes);
	int64_t length = cxlshm_readlink(client, inode->ref, target, size);

	lane_unlock(&fs->lanes);
	return length;
}
