/* SPDX-License-Identifier: MIT */
/*
 * inode: the objects that names stand for: files, directories, symlinks, special nodes, and the inodes of named heap
 * objects.  Their attributes, and making them.
 *
 *   call               excludes                    progress
 *   inode_make_*       nothing                     as alloc.h
 *   inode_stat         nothing                     wait-free
 *   inode_set, _touch  nothing: each word alone    lock-free
 *
 * `off` is always an object that the caller holds.
 */
#ifndef CXLSHM_INODE_H
#define CXLSHM_INODE_H

#include <sys/stat.h>

#include "cell.h"
#include "extent.h"

#define INODE_TARGET_MAX 4095u	/* bytes of a symlink's target */

static inline int inode_is(enum object_kind kind)
{
	return kind == OBJECT_FILE || kind == OBJECT_DIRECTORY || kind == OBJECT_SYMLINK || kind == OBJECT_SPECIAL ||
	       kind == OBJECT_NAMED;
}

/* Cells of an inode of that kind: its attributes are behind them. */
static inline uint32_t inode_cells(enum object_kind kind)
{
	return kind == OBJECT_DIRECTORY ? DIR_CELLS : kind == OBJECT_NAMED ? NAMED_CELLS : PLAIN_CELLS;
}

/* Where the attributes of an inode of that kind are: an offset from its header. */
static inline uint64_t inode_attr_at(enum object_kind kind)
{
	return sizeof(struct object_fmt) + sizeof(struct cell_fmt) * inode_cells(kind);
}

/* Offset of its count of names. */
static inline uint64_t inode_links_off(uint64_t off, enum object_kind kind)
{
	return off + inode_attr_at(kind) + offsetof(struct attr_fmt, links);
}

/* The attributes of an inode, its kind in *kind (may be NULL); NULL if the object is none. */
struct attr_fmt *inode_attr(const struct client *c, uint64_t off, enum object_kind *kind);

/* The extent id of the file object at off; 0 if it is none, or damaged. */
uint64_t inode_extent(const struct client *c, uint64_t off);

enum cxlshm_kind inode_public_kind(enum object_kind kind);

/* A private inode without a name: mode with the S_IFMT bits, owned by the caller's effective user. */
int inode_make(struct client *c, enum object_kind kind, uint32_t mode, struct root_fmt **row);

/* A FILE with an extent of that many zero bytes; mode: permission bits. */
int inode_make_file(struct client *c, uint64_t bytes, mode_t mode, struct root_fmt **row);

/* -ENAMETOOLONG, -EINVAL (empty). */
int inode_make_symlink(struct client *c, const char *target, struct root_fmt **row);

/* The inode of a DATA or QUEUE object. */
int inode_make_named(struct client *c, uint64_t data, mode_t mode, struct root_fmt **row);

/* A DIRECTORY in the directory `parent`. */
int inode_make_directory(struct client *c, uint64_t parent, mode_t mode, struct root_fmt **row);

/* Of any object: what there is. */
int inode_stat(struct client *c, uint64_t off, struct cxlshm_stat *st);

/* CXLSHM_SET_*.  -EINVAL: no inode, or a time before 1970.
 * Crash: some are set, in the order mode, uid, gid, atime, mtime, ctime; of a file, atime and mtime together before all that. */
int inode_set(struct client *c, uint64_t off, const struct cxlshm_stat *st, unsigned mask);

#define INODE_MTIME 1u
#define INODE_CTIME 2u

/* Set times to now.  Crash: none, or the first, or both are. */
void inode_touch(struct client *c, uint64_t off, unsigned times);

/* The target, cut to size and NUL-terminated; its whole length. */
int64_t inode_readlink(struct client *c, uint64_t off, char *target, size_t size);

#endif
