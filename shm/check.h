/* SPDX-License-Identifier: MIT */
/*
 * check: a walk of every invariant of a pool.  cxlshm_check() is in check.c, too.
 *
 * Everything read is input: an offset is checked before it is followed, every list is bounded, and memory
 * that may be a hole of a full file system is not touched.
 */
#ifndef CXLSHM_CHECK_H
#define CXLSHM_CHECK_H

#include "pool.h"

typedef void check_report(void *arg, int severity, const char *line);

/*
 * Check a mapped pool in which no operation is running; clients may be joined, and dead ones are reported.
 * flags: CXLSHM_CHECK_*; REPAIR needs a pool on which nobody else is (-EBUSY: a client lives).
 * report may be NULL.  Errors: -ENOMEM, -EIO; otherwise 0, and see result.
 */
int check_pool(struct pool *pool, unsigned flags, check_report *report, void *arg,
	       struct cxlshm_check_result *result);

#endif
