/* SPDX-License-Identifier: MIT */
/*
 * What a round may answer.
 */
#ifndef TESTS_CRASH_MEANWHILE_H
#define TESTS_CRASH_MEANWHILE_H

#include <errno.h>

#include "crash.h"

#define ANSWERS_MAX 6

struct answers {
	int rc[ANSWERS_MAX];	/* 0 is always one */
};

static inline int one_of(int rc, struct answers explained, const char *call, const char *file, int line)
{
	for (int i = 0; i < ANSWERS_MAX; i++)
		if (!rc || rc == explained.rc[i])
			return rc;
	fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, strerror(rc < 0 ? -rc : 0));
	exit(3);
}

/* Where a refusal is explained.  In a section of their own, so that the driver can ask whether each has succeeded, too. */
struct may_site {
	const char *file, *call;
	uint32_t line, succeeded;
};

/* The call's answer, 0 or one of these; any other ends the program with a sentence. */
#define MAY(called, ...)                                                                                              \
	({                                                                                                            \
		static struct may_site may_site __attribute__((section("may_sites"), aligned(8), used)) = {           \
			__FILE__, #called, __LINE__, 0};                                                              \
		int may_rc = one_of((int)(called), (struct answers){{__VA_ARGS__}}, #called, __FILE__, __LINE__);     \
		may_site.succeeded |= !may_rc;                                                                        \
		may_rc;                                                                                               \
	})

#endif
