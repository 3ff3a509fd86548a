/* SPDX-License-Identifier: MIT */
/*
 * What the checker reported: how many lines of each severity, and how many findings with the words wanted.
 */
#ifndef TESTS_CHECK_LINES_H
#define TESTS_CHECK_LINES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "check.h"

struct lines {
	const char *want;
	int wanted;	/* lines that have it */
	unsigned count[3];
	int loud;
};

static inline void collect(void *arg, int severity, const char *line)
{
	struct lines *lines = arg;

	lines->count[severity]++;
	if (severity && lines->want && strstr(line, lines->want))
		lines->wanted++;
	if (lines->loud)
		print_message("%d %s\n", severity, line);
}

#endif
