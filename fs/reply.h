/* SPDX-License-Identifier: MIT */
/*
 * reply.h: the one place where a result (0 or -errno) becomes a FUSE reply.
 *
 * Owns the translation of error numbers: what the library says and what a program that called open(2)
 * can make sense of are not always the same.
 * Threads: any; a request is replied to by the thread that decoded it, exactly once.
 */
#ifndef CXLSHMFS_REPLY_H
#define CXLSHMFS_REPLY_H

#include <errno.h>
#include <fuse_lowlevel.h>

/*
 * The positive errno to send for rc.  -ENOSYS would make the kernel never ask again, -EBADF would blame
 * the program's descriptor for our bad reference, -EMFILE its own open files for ours, and EOWNERDEAD, EUSERS are not
 * errors of a file.
 */
static inline int reply_errno(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case -ENOSYS:
		return EOPNOTSUPP;
	case -EBADF:
	case -EOWNERDEAD:
		return EIO;
	case -EUSERS:
		return ENOSPC;
	case -EMFILE:
		return ENFILE;
	default:
		return rc < 0 && rc > -512 ? -rc : EIO;
	}
}

static inline void reply_result(fuse_req_t req, int rc)
{
	fuse_reply_err(req, reply_errno(rc));
}

#endif
