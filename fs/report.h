/* SPDX-License-Identifier: MIT */
/*
 * report.h: what the files under .cxlshm/ and the user.cxlshm.* attributes say.
 *
 * All calls: without the names lane locked; any thread.  They may read much of the pool, and disturb
 * nobody: the library's looking calls take no references and no client.
 */
#ifndef CXLSHMFS_REPORT_H
#define CXLSHMFS_REPORT_H

#include "inode.h"

/* Write the text of one file to a malloc'ed buffer, the caller's to free.  Returns 0 or -errno. */
int report_text(struct fs *fs, enum control_kind kind, uint64_t object_id, char **text, size_t *size);

/* The attribute names, in order; NULL ends them. */
extern const char *const report_attributes[];

/* The value of user.cxlshm.NAME for an inode in the pool.  Returns its length, or -ENODATA. */
int report_attribute(struct fs *fs, struct inode *inode, const char *name, char *value, size_t size);

#endif
