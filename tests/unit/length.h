/* SPDX-License-Identifier: MIT */
/*
 * How long a test may take: CXLSHM_TEST_LENGTH, which run.sh sets.  The sanitizers' runs are quick ones.
 */
#ifndef TESTS_UNIT_LENGTH_H
#define TESTS_UNIT_LENGTH_H

#include <stdlib.h>
#include <string.h>

static inline int by_length(int quick, int normal, int long_)
{
	const char *length = getenv("CXLSHM_TEST_LENGTH");

	if (length && !strcmp(length, "quick"))
		return quick;
	return length && !strcmp(length, "long") ? long_ : normal;
}

#endif
