/* SPDX-License-Identifier: MIT */
/*
 * For test programs without cmocka: end the process with a sentence and status 3.
 */
#ifndef TESTS_MUST_H
#define TESTS_MUST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ... unless the call gives 0. */
#define MUST(call)                                                                                 \
	do {                                                                                       \
		int must_rc = (int)(call);                                                         \
		if (must_rc) {                                                                     \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,              \
				strerror(must_rc < 0 ? -must_rc : 0));                             \
			exit(3);                                                                   \
		}                                                                                  \
	} while (0)

/* ... unless it is so. */
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			exit(3);                                                                   \
		}                                                                                  \
	} while (0)

#endif
