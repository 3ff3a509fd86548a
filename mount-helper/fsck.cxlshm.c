/* SPDX-License-Identifier: MIT */
/*
 * fsck.cxlshm: check a pool that nobody uses, and repair it.  The work is cxlshm_check()'s; here are the
 * options that fsck(8) hands down, the report, and fsck(8)'s exit status.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cxlshm.h"

enum {	/* fsck(8) */
	EXIT_CLEAN = 0,
	EXIT_REPAIRED = 1,
	EXIT_UNREPAIRED = 4,
	EXIT_OPERATION = 8,
	EXIT_USAGE = 16,
	EXIT_CANCELLED = 32
};

static void usage(FILE *to)
{
	fputs("usage: fsck.cxlshm [-q] [-v] [--repair | -n] POOL\n"
	      "\n"
	      "Check the pool in directory POOL: every count against the references found, every list,\n"
	      "every extent.  Nobody may use it meanwhile.\n"
	      "\n"
	      "  --repair, -y, -a, -p, -r  repair what is wrong: recover dead clients, rebuild counts,\n"
	      "                            free what nothing refers to\n"
	      "  -n                        only look (the default)\n"
	      "  -v, --verbose             tell what is fine, too\n"
	      "  -q, --quiet               tell nothing but what is wrong\n"
	      "  -f, -T, -C[FD]            ignored, for fsck(8)\n"
	      "  -h, --help                this text\n"
	      "  -V, --version\n"
	      "\n"
	      "Exit status: 0 clean, 1 repaired, 4 wrong and not repaired, 8 could not check, 16 usage,\n"
	      "32 interrupted.\n", to);
}

static void cancel(int signal)
{
	static const char text[] = "fsck.cxlshm: interrupted\n";

	(void)signal;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(EXIT_CANCELLED);
}

/* A check may be interrupted.  A repair runs to its end: half of one is worse than either. */
static void signals(int repair)
{
	struct sigaction action = { .sa_handler = repair ? SIG_IGN : cancel };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

#define BUSY_TRIES 40	/* of 25 ms */

struct output {
	const char *path;
	int quiet;
};

static void report(void *arg, int severity, const char *line)
{
	static const char *const words[] = { "", "problem: ", "repaired: " };
	const struct output *output = arg;

	if (severity < 0 || severity > 2)
		severity = 1;
	if (severity == 0 && output->quiet)
		return;
	printf("%s: %s%s\n", output->path, words[severity], line);
}

static int summary(const struct output *output, const struct cxlshm_check_result *r)
{
	uint64_t left = r->problems > r->repaired ? r->problems - r->repaired : 0;

	if (!output->quiet || left)
		printf("%s: %s: %" PRIu64 " problem%s, %" PRIu64 " repaired; %" PRIu64 " objects, %" PRIu64
		       " references, %" PRIu64 " segments, %" PRIu64 " extents\n", output->path,
		       left ? "NOT CLEAN" : r->problems ? "repaired" : "clean", r->problems,
		       r->problems == 1 ? "" : "s", r->repaired, r->objects, r->references, r->segments,
		       r->extents);
	return left ? EXIT_UNREPAIRED : r->problems ? EXIT_REPAIRED : EXIT_CLEAN;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "repair", no_argument, NULL, 'y' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct cxlshm_check_result result = { 0 };
	struct output output = { .quiet = 0 };
	int repair = 0, look = 0, verbose = 0, c, rc = 0;
	struct cxlshm_error error = { "" };

	while ((c = getopt_long(argc, argv, "yaprnvqfTC::hV", options, NULL)) != -1) {
		switch (c) {
		case 'y':
		case 'a':
		case 'p':
		case 'r':
			repair = 1;
			break;
		case 'n':
			look = 1;
			break;
		case 'v':
			verbose = 1;
			break;
		case 'q':
			output.quiet = 1;
			break;
		case 'f':
		case 'T':
		case 'C':
			break;
		case 'h':
			usage(stdout);
			return EXIT_CLEAN;
		case 'V':
			printf("fsck.cxlshm %d.%d.%d\n", CXLSHM_VERSION_MAJOR, CXLSHM_VERSION_MINOR,
			       CXLSHM_VERSION_PATCH);
			return EXIT_CLEAN;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc) {
		fputs(optind == argc ? "fsck.cxlshm: which POOL?\n" : "fsck.cxlshm: one POOL at a time\n", stderr);
		usage(stderr);
		return EXIT_USAGE;
	}
	if (repair && look) {
		fputs("fsck.cxlshm: -n and --repair (-y, -a, -p, -r) contradict each other\n", stderr);
		return EXIT_USAGE;
	}
	output.path = argv[optind];
	signals(repair);
	/* A daemon that was just unmounted is still leaving: umount(8) does not wait for it, we do, for a second. */
	for (int i = 0; i < BUSY_TRIES; i++) {
		struct timespec pause = { .tv_nsec = 25000000 };

		rc = cxlshm_check(output.path, (repair ? CXLSHM_CHECK_REPAIR : 0) | (verbose ? CXLSHM_CHECK_VERBOSE : 0),
				  report, &output, &result, &error);
		if (rc != -EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	if (rc) {
		fprintf(stderr, "fsck.cxlshm: %s\n", error.text[0] ? error.text : strerror(-rc));
		/* Damaged beyond looking at; everything else is not the pool's fault. */
		return rc == -EUCLEAN ? EXIT_UNREPAIRED : EXIT_OPERATION;
	}
	rc = summary(&output, &result);
	return fflush(stdout) ? EXIT_OPERATION : rc;
}
