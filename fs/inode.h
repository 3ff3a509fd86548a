/* SPDX-License-Identifier: MIT */
/*
 * inode.h: the file system's state, its table of inodes, and their attributes.
 *
 * A FUSE node id is the address of a struct inode (the root has FUSE_ROOT_ID).  The kernel uses a node id
 * only between the reply that gave it out and the FORGET that takes it back, so an operation may use
 * the inode it was called for without a lock until it replies, and must not touch it afterwards.
 *
 * Locking: the names lane's mutex (lane.h) guards the table, every field marked L below, and the client.
 * "Locked" means the caller holds it.  No function here or in dir.h, file.h returns with it held.
 *
 * | call                                             | lock       |
 * | inode_of, inode_node_id                          | any        |
 * | inode_entry, inode_control_entry, inode_find,    | locked     |
 * | inode_hint, inode_look, inode_unref,             |            |
 * | inode_kill_privileges                            |            |
 * | inode_getattr, inode_setattr, inode_forget, inode_target | not locked |
 */
#ifndef CXLSHMFS_INODE_H
#define CXLSHMFS_INODE_H

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "cxlshm.h"
#include "lane.h"
#include "options.h"
#include "passthrough.h"

/* What a node of the .cxlshm/ tree is; CONTROL_NONE for everything in the pool. */
enum control_kind {
	CONTROL_NONE,
	CONTROL_FOLDER,
	CONTROL_POOL,
	CONTROL_CLIENTS,
	CONTROL_STATS,
	CONTROL_METRICS,
	CONTROL_VERSION,
	CONTROL_OBJECTS,
	CONTROL_OBJECT,
};

/* Inode numbers of that tree; ids of objects are offsets in the heap, far below. */
#define CONTROL_INO(kind) ((1ull << 63) | (kind))
#define CONTROL_OBJECT_INO(id) ((3ull << 62) | (id))

#define OPENERS 4	/* of an inode are remembered, to see them die */

struct inode {
	struct inode *next;	/* L: in its hash chain */
	uint64_t id;	/* the object's, or CONTROL_*INO; constant */
	uint64_t generation;	/* constant */
	enum cxlshm_kind kind;	/* constant */
	enum control_kind control;	/* constant */
	bool queue;	/* constant: a named queue: what is in it are references, and no bytes for anybody */
	uint64_t object_id;	/* CONTROL_OBJECT: which; constant */
	cxlshm_ref ref;	/* L: on the names lane; 0 in the .cxlshm/ tree */
	uint64_t lookups;	/* L: what the kernel will forget */
	uint32_t handles;	/* L: open handles of any sort */
	uint32_t backed_opens;	/* L: of them, those that use backing_id */
	int backing_id;	/* L: 0: none.  One for all opens, as the kernel demands */
	uint64_t size_bytes;	/* L: when last looked at */
	uint64_t hint_parent;	/* L: node id of the directory it was last looked up in (prune.c) */
	uint64_t hint_parent_id;	/* L: and that directory's id; 0: not known */
	char *hint_name;	/* L: and its name there; NULL: not known */

	/* After its last close: closing is put off a moment, and a mapping may hold it on (idle.c). */
	cxlshm_ref idle_ref;	/* L: 0: not idle */
	bool mapped;	/* L: seen busy after the last close */
	bool watched;	/* L: and the monitor has been told of its openers */
	pid_t openers[OPENERS];	/* L: threads that opened it last, or 0 */
	uint32_t opener_next;	/* L: which is replaced next */
	uint32_t idle_wait_ms;	/* L */
	uint64_t idle_due_ns;	/* L */
	struct inode *idle_next;	/* L */
	struct inode **idle_link;	/* L */
};

enum handle_kind { HANDLE_PASSTHROUGH, HANDLE_EXTENT, HANDLE_MEMORY, HANDLE_TEXT, HANDLE_FOLDER };

/* An open file or directory; its address is the FUSE file handle. */
struct handle {
	enum handle_kind kind;
	struct inode *inode;
	cxlshm_ref ref;	/* names lane; what this open file holds */
	int fd;	/* HANDLE_EXTENT: the extent; else -1 */
	char *data;	/* HANDLE_MEMORY: live bytes; HANDLE_TEXT: our copy */
	size_t size;	/* of data */
	size_t guard;	/* HANDLE_MEMORY: reference slots at the start, not to be written */
	bool fixed;	/* HANDLE_MEMORY: not writable at all (a queue) */
	uint64_t *ids;	/* HANDLE_FOLDER of .cxlshm/objects: what it lists, size of them */
};

struct fs {
	struct passthrough *passthrough;	/* first: see passthrough.h */
	const struct options *options;
	struct cxlshm_pool *pool;
	struct cxlshm_pool_info info;
	struct fuse_session *session;
	struct lanes lanes;
	struct inode *root;
	time_t started;	/* by the wall clock: the times of its own tree */
	time_t started_monotonic;	/* of CLOCK_MONOTONIC, in seconds */

	struct inode **buckets;	/* L */
	size_t bucket_count;	/* L: a power of two */
	size_t inode_count;	/* L */
	uint64_t next_generation;	/* L */

	bool room_counted;	/* constant: a plain pool (room.c) */
	uint64_t room_bytes, room_looked_ns;	/* L */

	struct inode *idle;	/* L: list of idle inodes */
	uint32_t idle_count, mapped_count;	/* L */
	uint32_t handle_count, backing_count;	/* L */
	int wake_fd;	/* eventfd: tells the monitor's idler that something is due earlier */
	uint64_t hurry_after_ns;	/* W, R: the idler */
	_Atomic uint64_t wake_due_ns;	/* when the idler looks next; W: it, and idle.c lowers it */

	_Atomic uint64_t requests, opens, opens_passthrough;
	_Atomic uint64_t deaths, deaths_references, deaths_ns;	/* W: monitor */
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct inode *inode_of(const struct fs *fs, fuse_ino_t node_id)
{
	return node_id == FUSE_ROOT_ID ? fs->root : (struct inode *)(uintptr_t)node_id;
}

static inline fuse_ino_t inode_node_id(const struct fs *fs, const struct inode *inode)
{
	return inode == fs->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)inode;
}

/* Set up the table and the root.  fs->lanes is started.  Returns 0 or -errno. */
int inode_start(struct fs *fs);

/* Free every inode; the references go with the lanes. */
void inode_stop(struct fs *fs);

/*
 * Reply parameters for the object ref refers to, counting one lookup.  Takes ref over, also on failure.
 * Locked.
 */
int inode_entry(struct fs *fs, cxlshm_ref ref, struct fuse_entry_param *entry);

/* The same for a node of the .cxlshm/ tree; the caller fills in entry->attr.  Locked. */
int inode_control_entry(struct fs *fs, enum control_kind kind, uint64_t object_id,
			struct fuse_entry_param *entry);

/* Remember under which name the kernel knows an inode just given out with inode_entry().  Locked. */
void inode_hint(struct fs *fs, const struct fuse_entry_param *entry, const struct inode *parent,
		const char *name);

/* The inode of object id if the table has it, else NULL.  Locked. */
struct inode *inode_find(struct fs *fs, uint64_t id);

/* Attributes as ls shows them.  Locked. */
int inode_look(struct fs *fs, struct inode *inode, struct stat *out);

/*
 * Free the inode if nothing needs it any more.  Returns a token for lane_side_drop(), to be called
 * without the lock, when dropping its object may take long; else 0.  Locked.
 */
uint64_t inode_unref(struct fs *fs, struct inode *inode);

/* The kernel forgot count lookups. */
void inode_forget(struct fs *fs, struct inode *inode, uint64_t count);

int inode_getattr(struct fs *fs, struct inode *inode, struct stat *out);

/* Change what to_set names, but for the size (file_truncate() does that first). */
int inode_setattr(struct fs *fs, struct inode *inode, const struct stat *attr, int to_set);

/* Clear setuid and setgid after a write, truncate or chown, as the kernel leaves it to us.  Locked. */
void inode_kill_privileges(struct fs *fs, struct inode *inode);

int64_t inode_target(struct fs *fs, struct inode *inode, char *target, size_t size);

#endif
