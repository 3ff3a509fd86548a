/* SPDX-License-Identifier: MIT */
/*
 * fsck.cxlshm's command line, for fuzz_options.c: its program whole, run to its end, with a check that looks at nothing.
 */
#include "options_programs.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* The fuzzer keeps its signals, and waits for nobody. */
#define sigaction(number, action, old) ((void)(action))
#define nanosleep(pause, left) ((void)(pause))
#define main fsck_cxlshm_main
int fsck_cxlshm_main(int argc, char **argv);
#include "fsck.cxlshm.c"
#undef main
#undef nanosleep
#undef sigaction

static const char *checked;
static unsigned checked_flags;

/* What it finds goes by the name of the pool. */
int cxlshm_check(const char *path, unsigned flags, void (*tell)(void *arg, int severity, const char *line), void *arg,
		 struct cxlshm_check_result *result, struct cxlshm_error *error)
{
	static const int answers[] = {0, 0, 0, 0, -EBUSY, -EUCLEAN, -ENOENT, -EACCES};
	unsigned how = (unsigned char)path[0];
	int rc = answers[how % 8];

	checked = path;
	checked_flags = flags;
	if (rc) {
		snprintf(error->text, sizeof(error->text), "%s", how & 8 ? path : "");
		return rc;
	}
	for (int severity = -1; severity <= 3; severity++)
		tell(arg, severity, path);
	result->problems = how / 8 % 4;
	result->repaired = flags & CXLSHM_CHECK_REPAIR ? how / 32 % 4 : 0;
	return 0;
}

/* Some argument could be an option with that letter: one of its own, or the first of a long one. */
static int has_letter(int argc, char **argv, const char *letters)
{
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == '-' && strpbrk(argv[i] + 1, letters))
			return 1;
	return 0;
}

void options_fsck(int argc, char **argv)
{
	int status;

	checked = NULL;
	checked_flags = 0;
	status = fsck_cxlshm_main(argc, argv);
	if (status != EXIT_CLEAN && status != EXIT_REPAIRED && status != EXIT_UNREPAIRED && status != EXIT_OPERATION &&
	    status != EXIT_USAGE)
		abort();
	/* Nothing is repaired for who did not ask, and nothing checked behind an error. */
	if ((checked && status == EXIT_USAGE) || (!checked && status != EXIT_USAGE && status != EXIT_CLEAN) ||
	    (!checked && status == EXIT_CLEAN && !has_letter(argc, argv, "hVv")) ||
	    (checked_flags & CXLSHM_CHECK_REPAIR && !has_letter(argc, argv, "yapr")))
		abort();
	if (status == EXIT_REPAIRED && !(checked_flags & CXLSHM_CHECK_REPAIR))
		abort();
}
