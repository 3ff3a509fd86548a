/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: command lines.  The input is arguments with NULs between them, given to the parsers of the daemon,
 * mkfs.cxlshm, fsck.cxlshm and mount.cxlshm.  The latter are static in their programs, which are therefore included whole
 * (options_mkfs.c, options_fsck.c, and here).
 */
#include "options.h"
#include "options_programs.h"

#include <getopt.h>

#define CXLSHM_VERSION "fuzz"
#include <errno.h>
#include <sched.h>
#include <unistd.h>

/* The fuzzer stays in its namespace.  The program would end here; it goes on, without that descriptor. */
static int no_setns(int fd, int kind)
{
	(void)kind;
	close(fd);
	errno = EPERM;
	return -1;
}

#define main mount_cxlshm_main
#define setns no_setns
int mount_cxlshm_main(int argc, char **argv);
#include "mount.cxlshm.c"
#undef setns
#undef main

#define ARGUMENTS_MAX 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A fresh copy: the parsers cut their arguments to pieces.  argv[0] is ours. */
static int split(const uint8_t *data, size_t size, char *copy, char **argv)
{
	int argc = 0;

	memcpy(copy, data, size);
	copy[size] = 0;
	argv[argc++] = (char *)"fuzz";
	for (size_t at = 0; at < size && argc < ARGUMENTS_MAX; at += strlen(copy + at) + 1)
		argv[argc++] = copy + at;
	argv[argc] = NULL;
	return argc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *argv[ARGUMENTS_MAX + 1], *copy = malloc(size + 1);
	struct request request = {0};
	struct options options;
	int argc, status;

	if (!copy)
		return 0;
	argc = split(data, size, copy, argv);
	optind = 0;
	status = options_parse(&options, argc, argv);
	if (status < 0 && (!options.pool || !options.mountpoint))
		abort();
	options_free(&options);

	argc = split(data, size, copy, argv);
	optind = 0;
	options_mkfs(argc, argv);

	argc = split(data, size, copy, argv);
	optind = 0;
	options_fsck(argc, argv);

	argc = split(data, size, copy, argv);
	optind = 0;
	status = parse(argc, argv, &request);
	if (status < 0 && (!request.source || !request.target || !request.options))
		abort();
	free(request.options);
	free(copy);
	return 0;
}
