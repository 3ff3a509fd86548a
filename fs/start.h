/* SPDX-License-Identifier: MIT */
/*
 * start.h: a daemon put together up to its mount, and taken apart.
 */
#ifndef CXLSHMFS_START_H
#define CXLSHMFS_START_H

#include "inode.h"

struct start_failure {
	int status;	/* OPTIONS_EXIT_*: what a daemon exits with */
	char text[600];	/* a sentence for people */
};

/*
 * Open the pool, join it, make the session; passthrough_mount() and the session loop are the caller's.
 * Owns: *fs is the caller's: lane_stop(), then start_undo().  options must outlive it.
 * Errors: as cxlshm_pool_open() and cxlshm_join(), -ENOMEM; *failure says the rest.
 */
int start_fs(const struct options *options, struct fs **fs, struct start_failure *failure);

/* Destroy the session, if fs->session is not NULL; close the pool; free fs. */
void start_undo(struct fs *fs);

#endif
