/* SPDX-License-Identifier: MIT */
/*
 * passthrough.h: mounting, and letting the kernel read, write and map extents without the daemon.
 *
 * One interface over two ways to get there: libfuse from 3.17 on negotiates passthrough itself; for
 * older ones the INIT reply is patched on its way to the kernel (see passthrough.c).
 *
 * | call                          | when                                                  |
 * | passthrough_mount             | once, before the session loop                         |
 * | passthrough_init              | from the session's init handler                       |
 * | passthrough_ready, _why       | any thread, once the mount has answered a request     |
 * | passthrough_backing_*, _reply_* | any thread, while the session lives                 |
 * | passthrough_unmount           | once, after the session loop                          |
 */
#ifndef CXLSHMFS_PASSTHROUGH_H
#define CXLSHMFS_PASSTHROUGH_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

#include "options.h"

struct passthrough;

/* Owns: the caller frees it with passthrough_free(), after the session is destroyed. */
struct passthrough *passthrough_new(void);
void passthrough_free(struct passthrough *pt);

/*
 * Mount, as options say, and tie the mount to the session.  The session's userdata must point at a
 * struct whose first member is this struct passthrough *.
 * Prints what went wrong to stderr.  Returns 0 or -errno.
 */
int passthrough_mount(struct passthrough *pt, struct fuse_session *session, const struct options *options);

/* Unmount, unless that has happened already, whatever is mounted there now. */
void passthrough_unmount(struct passthrough *pt, struct fuse_session *session);

/* Choose what to ask the kernel for. */
void passthrough_init(struct passthrough *pt, struct fuse_conn_info *conn);

/* Does the kernel take backing files?  Settled for good by the INIT exchange or the first call. */
bool passthrough_ready(struct passthrough *pt, struct fuse_session *session);

/* Why it does not: half a sentence for people. */
const char *passthrough_why(struct passthrough *pt);

/*
 * Register an open file as a backing file; fd may be closed afterwards.  The kernel leaves setuid bits
 * to us while passthrough is on (see inode_kill_privileges()).
 * Returns its id (1 upwards), or -errno.
 */
int passthrough_backing_open(struct passthrough *pt, struct fuse_session *session, int fd);
void passthrough_backing_close(struct passthrough *pt, struct fuse_session *session, int backing_id);

/* As fuse_reply_open() and fuse_reply_create(), with the backing file to use. */
int passthrough_reply_open(fuse_req_t req, struct fuse_file_info *fi, int backing_id);
int passthrough_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			     struct fuse_file_info *fi, int backing_id);

#endif
