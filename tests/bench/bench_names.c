/* SPDX-License-Identifier: MIT */
/*
 * bench_names: names of heap objects in one directory of 100, 10 000 and 1 000 000 (quick: 100 000): look up,
 * create and unlink (a pair, and each by itself), rename there and back, list; beside the same in a directory of
 * the tmpfs that the pool lies in (stat, open O_CREAT + close + unlink, rename, readdir).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

struct side {	/* a directory with n names in it: ours, or (client NULL) of the tmpfs */
	const char *name;
	struct bench_pool pool;
	struct cxlshm_client *client;
	cxlshm_ref dir, object;
	char path[256];
	int fd;
	uint64_t n, seed;
};

static void name_of(char out[16], uint64_t i)
{
	out[10] = 0;
	for (int k = 9; k > 0; k--, i /= 10)
		out[k] = (char)('0' + i % 10);
	out[0] = 'n';
}

static int add(struct side *s, const char *name)
{
	int fd;

	if (s->client)
		return cxlshm_link(s->client, s->object, s->dir, name, 0600);
	fd = openat(s->fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : close(fd);
}

static int fill(struct side *s, uint64_t n)
{
	char name[16];
	int rc = 0;

	for (; s->n < n && !rc; s->n += !rc) {
		name_of(name, s->n);
		rc = add(s, name);
	}
	return rc;
}

static double lookup_measure(void *arg, uint64_t n)
{
	struct side *s = arg;
	uint64_t t0 = bench_ns();
	char name[16];

	for (uint64_t i = 0; i < n; i++) {
		name_of(name, bench_random(&s->seed) % s->n);
		if (s->client) {
			cxlshm_ref ref;
			int rc = cxlshm_lookup(s->client, s->dir, name, 0, &ref);

			if (rc)
				return rc;
			cxlshm_release(s->client, ref);
		} else {
			struct stat st;

			if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW))
				return -errno;
		}
	}
	return (double)(bench_ns() - t0) / (double)n;
}

/* A new heap object, named, forgotten. */
static int create_one(struct side *s, const char *name)
{
	cxlshm_ref ref;
	int rc;

	if (!s->client)
		return add(s, name);
	rc = cxlshm_alloc(s->client, 64, &ref);
	if (!rc)
		rc = cxlshm_link(s->client, ref, s->dir, name, 0600);
	return rc ? rc : cxlshm_release(s->client, ref);
}

/* The object goes with its name. */
static int unlink_one(struct side *s, const char *name)
{
	if (s->client)
		return cxlshm_unlink(s->client, s->dir, name);
	return unlinkat(s->fd, name, 0) ? -errno : 0;
}

static double create_unlink_measure(void *arg, uint64_t n)
{
	struct side *s = arg;
	uint64_t t0 = bench_ns();
	char name[16];

	for (uint64_t i = 0; i < n; i++) {
		int rc;

		name_of(name, 900000000 + i % 1000000);
		rc = create_one(s, name);
		if (!rc)
			rc = unlink_one(s, name);
		if (rc)
			return rc;
	}
	return (double)(bench_ns() - t0) / (double)n;
}

/* A few at a time, so that the directory stays as large as it is: created, then removed; one of both is counted. */
#define FEW 32u

static double apart(struct side *s, uint64_t n, int creating)
{
	char names[FEW][16];
	uint64_t ns = 0, done = 0;

	for (; done < n; done += FEW) {
		uint64_t t0, t1;
		int rc = 0;

		for (uint64_t i = 0; i < FEW; i++)
			name_of(names[i], 900000000 + (done + i) % 1000000);
		t0 = bench_ns();
		for (unsigned i = 0; i < FEW && !rc; i++)
			rc = create_one(s, names[i]);
		t1 = bench_ns();
		for (unsigned i = 0; i < FEW && !rc; i++)
			rc = unlink_one(s, names[i]);
		if (rc)
			return rc;
		ns += creating ? t1 - t0 : bench_ns() - t1;
	}
	return (double)ns / (double)done;
}

static double create_measure(void *arg, uint64_t n)
{
	return apart(arg, n, 1);
}

static double unlink_measure(void *arg, uint64_t n)
{
	return apart(arg, n, 0);
}

static int rename_one(struct side *s, const char *from, const char *to)
{
	if (s->client)
		return cxlshm_rename(s->client, s->dir, from, s->dir, to, 0);
	return renameat(s->fd, from, s->fd, to) ? -errno : 0;
}

static double rename_measure(void *arg, uint64_t n)
{
	struct side *s = arg;
	uint64_t t0 = bench_ns();
	char from[16], to[16];

	for (uint64_t i = 0; i < n; i++) {
		uint64_t k = bench_random(&s->seed) % s->n;
		int rc;

		name_of(from, k);
		name_of(to, 900000000 + k);
		rc = rename_one(s, from, to);
		if (!rc)
			rc = rename_one(s, to, from);
		if (rc)
			return rc;
	}
	return (double)(bench_ns() - t0) / (double)n / 2;
}

/* The whole directory; ns an entry. */
static double list_measure(void *arg, uint64_t n)
{
	struct side *s = arg;
	uint64_t t0 = bench_ns(), seen = 0;

	for (uint64_t i = 0; i < n; i++) {
		if (s->client) {
			struct cxlshm_dirent e;
			uint64_t position = 0;
			int rc;

			while (!(rc = cxlshm_readdir(s->client, s->dir, &position, &e, NULL)))
				seen++;
			if (rc != -ENOENT)
				return rc;
		} else {
			DIR *d = opendir(s->path);

			if (!d)
				return -errno;
			while (readdir(d))
				seen++;
			closedir(d);
		}
	}
	return (double)(bench_ns() - t0) / (double)(seen ? seen : 1);
}

static int ours_open(struct bench *b, struct side *s, const char *name, uint32_t domain)
{
	s->name = name;
	s->seed = 88172645463325252u;
	if (bench_pool(b, &s->pool, 3ull << 30, 0, domain))
		return -1;
	BENCH_OK(cxlshm_join(s->pool.pool, "bench", 0, &s->client));
	BENCH_OK(cxlshm_alloc(s->client, 64, &s->object));
	return 0;
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = {100, 10000, 1000000};
	static struct side all[3];
	struct side *sides[3];
	struct bench b;
	int n = 0;

	bench_start(&b, "names", argc, argv);
	if (!ours_open(&b, &all[0], "cxlshm", CXLSHM_FAILURE_PROCESS))
		sides[n++] = &all[0];
	if (!ours_open(&b, &all[1], "cxlshm host", CXLSHM_FAILURE_HOST))
		sides[n++] = &all[1];
	all[2].name = "tmpfs";
	all[2].seed = all[0].seed;
	sides[n++] = &all[2];

	for (size_t k = 0; k < 3; k++) {
		uint64_t size = b.quick && sizes[k] > 100000 ? 100000 : sizes[k];
		static const struct {
			const char *name;
			double (*measure)(void *, uint64_t);
		} cases[] = {{"lookup+drop, names", lookup_measure},
			     {"create+unlink, names", create_unlink_measure},
			     {"create, names", create_measure},
			     {"unlink, names", unlink_measure},
			     {"rename, names", rename_measure},
			     {"list, an entry, names", list_measure}};

		for (int i = 0; i < n; i++) {
			struct side *s = sides[i];
			char dir[16];
			uint64_t t0;
			double each;
			int rc;

			s->n = 0;
			name_of(dir, size);
			if (s->client) {
				BENCH_OK(cxlshm_mkdir(s->client, 0, dir, 0700, &s->dir));
			} else {
				BENCH_OK(bench_dir(&b, s->path));
				s->fd = open(s->path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
			}
			t0 = bench_ns();
			rc = fill(s, size);
			each = (double)(bench_ns() - t0) / (double)size;
			if (rc)
				bench_skip(&b, "fill, a name, names", (double)size, s->name, strerror(-rc));
			else
				bench_report(&b, "fill, a name, names", (double)size, s->name, "ns", &each, 1);
		}
		for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
			struct variant v[3];

			for (int i = 0; i < n; i++)
				v[i] = (struct variant){sides[i]->name, cases[c].measure, sides[i]};
			/* A list of a million takes half a second: few of those. */
			bench_case(&b, cases[c].name, (double)size, "ns", v, n,
				   cases[c].measure == list_measure && size >= 1000000);
		}
		for (int i = 0; i < n; i++) {
			if (sides[i]->client)
				cxlshm_release(sides[i]->client, sides[i]->dir);
			else
				close(sides[i]->fd);
		}
	}
	for (int i = 0; i < 2; i++)
		if (all[i].client)
			bench_pool_gone(&b, &all[i].pool);
	return bench_end(&b);
}
