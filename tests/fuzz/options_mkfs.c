/* SPDX-License-Identifier: MIT */
/*
 * mkfs.cxlshm's command line, for fuzz_options.c: its program whole, of which only the parser is called.
 */
#include "options_programs.h"

#include <stdlib.h>

#define main mkfs_cxlshm_main
int mkfs_cxlshm_main(int argc, char **argv);
#include "mkfs.cxlshm.c"
#undef main

/* What would act.  Reading a command line does not. */
int cxlshm_pool_create(const char *path, const struct cxlshm_pool_options *options, struct cxlshm_error *error)
{
	(void)path;
	(void)options;
	(void)error;
	abort();
}

int cxlshm_pool_remove(const char *path, struct cxlshm_error *error)
{
	(void)path;
	(void)error;
	abort();
}

int cxlshm_pool_open(const char *path, unsigned flags, struct cxlshm_pool **pool, struct cxlshm_error *error)
{
	(void)path;
	(void)flags;
	(void)pool;
	(void)error;
	abort();
}

void cxlshm_pool_close(struct cxlshm_pool *pool)
{
	(void)pool;
	abort();
}

int cxlshm_pool_info(struct cxlshm_pool *pool, struct cxlshm_pool_info *info)
{
	(void)pool;
	(void)info;
	abort();
}

enum tmpfs_there tmpfs_at(const char *path)
{
	(void)path;
	abort();
}

int tmpfs_mount(const char *path, const struct tmpfs_options *options, int *swappable)
{
	(void)path;
	(void)options;
	(void)swappable;
	abort();
}

void options_mkfs(int argc, char **argv)
{
	struct request r = {.pool = NULL};
	int status = parse(argc, argv, &r);

	if (status < -1 || status > 1)
		abort();
	if (status)
		return;
	if (!r.pool || !*r.pool || r.path || r.made_dir || r.mounted || r.found || (r.if_missing && r.make.force))
		abort();
	if ((r.make.size_bytes && r.make.size_bytes < SIZE_MIN) || (r.make.mode && (r.make.mode & ~0066u) != 0600) ||
	    r.make.failure_domain > CXLSHM_FAILURE_HOST)
		abort();
	/* Whoever takes a pool away asks for nothing else. */
	if (r.remove && (r.plain || r.if_missing || r.make.force || r.make.size_bytes || r.make.client_slots || r.make.mode ||
			 r.make.numa || r.make.failure_domain || r.make.uid != (uid_t)-1 || r.make.gid != (gid_t)-1))
		abort();
}
