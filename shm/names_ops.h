/* SPDX-License-Identifier: MIT */
/*
 * names_ops: operations on names: what several transactions make of the trie (names.h) and the counts (names_todo.h).
 *
 *   call                      commits by                            excludes                    progress
 *   put (create, mkdir, ...)  CAS on the edge                       nothing                     lock-free
 *   unlink                    CAS on the edge                       nothing                     lock-free
 *   rmdir                     CAS on the directory's count          nothing                     lock-free
 *   rename                    CAS on the new name's edge            of directories: other such  lock-free; of directories
 *                                                                   renames                     it waits for a living one
 *
 * Directories are given by offset; the caller holds them (the root directory holds itself).
 */
#ifndef CXLSHM_NAMES_OPS_H
#define CXLSHM_NAMES_OPS_H

#include "names_todo.h"

/* Where a path ends: the directory of its last component, and that. */
struct names_place {
	uint64_t dir;
	struct root_fmt *row;	/* holds dir, if the walk took it; NULL: the caller does */
	struct names_key key;	/* bytes 0: the path is empty, and means dir itself */
};

/* Follow all but the last component.  Give the place back with names_leave().
 * -ENOENT, -ENOTDIR, -ENAMETOOLONG, -EINVAL ("." or ".."). */
int names_walk(struct client *c, uint64_t dir, const char *path, struct names_place *at);
void names_leave(struct client *c, struct names_place *at);

/* Give a new, private inode its first name.  -EEXIST, -ENOENT (the directory is removed), -ENOSPC. */
int names_put_new(struct client *c, const struct names_place *at, struct root_fmt *inode);

/* Give the inode, which the caller holds, one more name.  Errors as above. */
int names_put_link(struct client *c, const struct names_place *at, uint64_t inode);

/* -ENOENT, -EISDIR. */
int names_unlink(struct client *c, const struct names_place *at);

/* -ENOENT, -ENOTDIR, -ENOTEMPTY; -EBUSY: no entry is left, but somebody is just adding, removing or renaming. */
int names_rmdir(struct client *c, const struct names_place *at);

/* names_rename.c; flags: CXLSHM_NOREPLACE, CXLSHM_EXCHANGE.  As rename(2); -EOWNERDEAD: a dead client is renaming a
 * directory, recover it and try again; -EBUSY as names_rmdir(), for a directory to be replaced. */
int names_rename(struct client *c, const struct names_place *from, const struct names_place *to, unsigned flags);

/* Counts say that there are entries: is there really one? */
int names_has_entries(struct client *c, uint64_t dir);

#endif
