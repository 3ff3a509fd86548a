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

/* The call's answer, 0 or one of these; any other ends the program with a sentence. */
#define MAY(call, ...) one_of((int)(call), (struct answers){{__VA_ARGS__}}, #call, __FILE__, __LINE__)

#endif
