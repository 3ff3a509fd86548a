/* SPDX-License-Identifier: MIT */
/*
 * bench_files: the same file operations in several directories, interleaved: a mounted pool, the tmpfs itself,
 * a minimal passthrough daemon (fuse_min), libfuse's passthrough_ll; by name also its passthrough.
 *
 * usage: bench_files [options] [+]LABEL=DIRECTORY...
 *
 * A target with a + has part in operations by name only.  With BENCH_UNPINNED set, for processes that are not
 * pinned to one processor, there is one case, open+close.
 *
 *   mapped ...        a 64 MiB file, mapped shared: all lines read, all written; at random addresses, each 64 bits:
 *                     loads and exchanges (xchg) that wait for the one before, and plain stores, which do not
 *   first touch       of the pages of a new, sized file; and with its create, truncate, unlink
 *   stat, open, ...   by path, of files right in the directory; create and unlink as a pair, and each by itself
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#define DATA_BYTES (64u << 20)
#define IO_BYTES (8u << 20)	/* read and written over and over: stays in the cache */
#define FRESH_BYTES (16u << 20)
#define PAGE 4096u
#define TARGETS_MAX 8	/* bench_case() takes no more variants */

struct target {
	char label[32];
	const char *dir;
	char data[300], other[300], name[300], names_dir[300];
	int fd;
	char *map;
	char *buffer;
	size_t io_bytes;
	uint64_t names;
	uint64_t seed;
	unsigned used;	/* samples taken of the data file */
	int names_only;
};

static double bytes_per_ns(uint64_t bytes, uint64_t ns)	/* GB/s */
{
	return (double)bytes / (double)(ns ? ns : 1);
}

/*
 * Every fifth sample the data file gets other pages: which physical pages a file happens to have makes a
 * great difference in a virtual machine, and is nobody's merit.
 */
static int renew(struct target *t)
{
	if (++t->used % 5)
		return 0;
	if (ftruncate(t->fd, 0))
		return -errno;
	for (off_t at = 0; at < DATA_BYTES; at += 1 << 20)
		if (pwrite(t->fd, t->buffer, 1 << 20, at) != 1 << 20)
			return -EIO;
	if (t->map == MAP_FAILED)
		return 0;
	munmap(t->map, DATA_BYTES);
	t->map = mmap(NULL, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, t->fd, 0);
	return t->map == MAP_FAILED ? -errno : 0;
}

/* ---- mapped ---- */

static double load_latency(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t x = t->seed, t0;
	int rc = renew(t);

	if (rc)
		return rc;
	t0 = bench_ns();
	for (uint64_t i = 0; i < n; i++) {	/* the address depends on what was loaded: always 0 */
		uint64_t at = (bench_random(&x) & (DATA_BYTES - 64)) / 8;

		x ^= ((volatile uint64_t *)(void *)t->map)[at];
	}
	t->seed = x;
	return (double)(bench_ns() - t0) / (double)n;
}

static double store_random(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t x = t->seed, t0;
	int rc = renew(t);

	if (rc)
		return rc;
	t0 = bench_ns();
	for (uint64_t i = 0; i < n; i++)
		((volatile uint64_t *)(void *)t->map)[(bench_random(&x) & (DATA_BYTES - 64)) / 8] = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);	/* the last of them are out, too */
	t->seed = x;
	return (double)(bench_ns() - t0) / (double)n;
}

/* A store that must have its line before the next one can begin. */
static double exchange_latency(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t x = t->seed, t0;
	int rc = renew(t);

	if (rc)
		return rc;
	t0 = bench_ns();
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = (bench_random(&x) & (DATA_BYTES - 64)) / 8;

		x ^= __atomic_exchange_n((uint64_t *)(void *)t->map + at, 0, __ATOMIC_RELAXED);
	}
	t->seed = x;
	return (double)(bench_ns() - t0) / (double)n;
}

static double load_bandwidth(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0, sum = 0;
	int rc = renew(t);

	if (rc)
		return rc;
	t0 = bench_ns();
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t *p = (const uint64_t *)(const void *)t->map;

		for (size_t k = 0; k < DATA_BYTES / 8; k += 8)
			sum += p[k] + p[k + 1] + p[k + 2] + p[k + 3] + p[k + 4] + p[k + 5] + p[k + 6] + p[k + 7];
		BENCH_KEEP(sum);
	}
	return bytes_per_ns(n * DATA_BYTES, bench_ns() - t0);
}

static double store_bandwidth(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0;
	int rc = renew(t);

	if (rc)
		return rc;
	t0 = bench_ns();
	for (uint64_t i = 0; i < n; i++) {
		memset(t->map, 0, DATA_BYTES);
		BENCH_KEEP(t->map);
	}
	return bytes_per_ns(n * DATA_BYTES, bench_ns() - t0);
}

/* A new file, sized, mapped, every page written.  whole: with all of that, else the writing only. */
static double fresh(struct target *t, uint64_t n, int whole)
{
	uint64_t ns = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t t0 = bench_ns(), t1, t2;
		int fd = open(t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		char *p = MAP_FAILED;

		if (fd >= 0 && !ftruncate(fd, FRESH_BYTES))
			p = mmap(NULL, FRESH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED) {
			int error = errno;

			if (fd >= 0) {
				close(fd);
				unlink(t->name);
			}
			return -error;
		}
		t1 = bench_ns();
		for (size_t k = 0; k < FRESH_BYTES; k += PAGE)
			*(volatile char *)(p + k) = 1;
		t2 = bench_ns();
		munmap(p, FRESH_BYTES);
		close(fd);
		unlink(t->name);
		ns += whole ? bench_ns() - t0 : t2 - t1;
	}
	return (double)ns / (double)n / (FRESH_BYTES / PAGE);
}

static double first_touch(void *arg, uint64_t n)
{
	return fresh(arg, n, 0);
}

static double whole_file(void *arg, uint64_t n)
{
	return fresh(arg, n, 1);
}

static double map_touch_unmap(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);

		if (p == MAP_FAILED)
			return -errno;
		*(volatile char *)p = 0;
		munmap(p, PAGE);
	}
	return (double)(bench_ns() - t0) / (double)n;
}

/* ---- read and write ---- */

static double transfer(struct target *t, uint64_t n, int writing)
{
	size_t bytes = t->io_bytes;
	off_t at = 0;
	uint64_t t0;
	int rc = renew(t);

	if (rc)
		return rc;
	t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		ssize_t got = writing ? pwrite(t->fd, t->buffer, bytes, at) : pread(t->fd, t->buffer, bytes, at);

		if (got != (ssize_t)bytes)
			return got < 0 ? -errno : -EIO;
		at = (at + (off_t)bytes) & (IO_BYTES - 1);
	}
	t0 = bench_ns() - t0;
	return bytes == PAGE ? (double)t0 / (double)n : bytes_per_ns(n * bytes, t0);
}

static double read_measure(void *arg, uint64_t n)
{
	return transfer(arg, n, 0);
}

static double write_measure(void *arg, uint64_t n)
{
	return transfer(arg, n, 1);
}

/* ---- names ---- */

static double open_close(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		int fd = open(t->other, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		close(fd);
	}
	return (double)(bench_ns() - t0) / (double)n;
}

static double stat_path(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns();
	struct stat st;

	for (uint64_t i = 0; i < n; i++)
		if (stat(t->other, &st))
			return -errno;
	return (double)(bench_ns() - t0) / (double)n;
}

static double create_unlink(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++) {
		int fd = open(t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0)
			return -errno;
		close(fd);
		if (unlink(t->name))
			return -errno;
	}
	return (double)(bench_ns() - t0) / (double)n;
}

/* A few created, then removed; one of both is counted. */
#define FEW 16

static double apart(struct target *t, uint64_t n, int creating)
{
	char names[FEW][320];
	uint64_t ns = 0, done = 0;

	for (int i = 0; i < FEW; i++)
		snprintf(names[i], sizeof names[i], "%s%d", t->name, i);
	for (; done < n; done += FEW) {
		uint64_t t0 = bench_ns(), t1;

		for (int i = 0; i < FEW; i++) {
			int fd = open(names[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

			if (fd < 0)
				return -errno;
			close(fd);
		}
		t1 = bench_ns();
		for (int i = 0; i < FEW; i++)
			if (unlink(names[i]))
				return -errno;
		ns += creating ? t1 - t0 : bench_ns() - t1;
	}
	return (double)ns / (double)done;
}

static double create_close(void *arg, uint64_t n)
{
	return apart(arg, n, 1);
}

static double unlink_only(void *arg, uint64_t n)
{
	return apart(arg, n, 0);
}

static double mkdir_rmdir(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++)
		if (mkdir(t->name, 0700) || rmdir(t->name))
			return -errno;
	return (double)(bench_ns() - t0) / (double)n;
}

static double rename_back(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns();

	for (uint64_t i = 0; i < n; i++)
		if (rename(t->other, t->name) || rename(t->name, t->other))
			return -errno;
	return (double)(bench_ns() - t0) / (double)n;
}

static double list_names(void *arg, uint64_t n)
{
	struct target *t = arg;
	uint64_t t0 = bench_ns(), seen = 0;

	for (uint64_t i = 0; i < n; i++) {
		DIR *d = opendir(t->names_dir);

		if (!d)
			return -errno;
		while (readdir(d))
			seen++;
		closedir(d);
	}
	t0 = bench_ns() - t0;
	if (seen != n * (t->names + 2))
		return -EPROTO;
	return (double)t0 / (double)n / 1e3;
}

/* ---- */

static int write_file(const char *path, const char *buffer, size_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < bytes) {
		size_t some = bytes - done > 1u << 20 ? 1u << 20 : bytes - done;
		ssize_t put = pwrite(fd, buffer, some, (off_t)done);

		if (put <= 0) {
			int rc = put < 0 ? -errno : -EIO;

			close(fd);
			return rc;
		}
		done += (size_t)put;
	}
	return fd;
}

static int target_open(struct target *t, char *argument, uint64_t names)
{
	char *equals = strchr(argument, '='), path[320];
	int rc;

	if (!equals)
		return -EINVAL;
	*equals = 0;
	t->names_only = *argument == '+';
	argument += t->names_only;
	snprintf(t->label, sizeof t->label, "%s", argument);
	t->dir = equals + 1;
	snprintf(t->data, sizeof t->data, "%.250s/data", t->dir);
	snprintf(t->other, sizeof t->other, "%.250s/other", t->dir);
	snprintf(t->name, sizeof t->name, "%.250s/fresh", t->dir);
	snprintf(t->names_dir, sizeof t->names_dir, "%.250s/names", t->dir);
	t->seed = 88172645463325252u;
	t->names = names;
	t->buffer = bench_shared(1u << 20);
	rc = write_file(t->other, t->buffer, PAGE);
	if (rc < 0)
		return rc;
	close(rc);
	t->fd = write_file(t->data, t->buffer, DATA_BYTES);
	if (t->fd < 0)
		return t->fd;
	t->map = mmap(NULL, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, t->fd, 0);
	if (mkdir(t->names_dir, 0700))
		return -errno;
	for (uint64_t i = 0; i < names; i++) {
		snprintf(path, sizeof path, "%s/name%07llu", t->names_dir, (unsigned long long)i);
		rc = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (rc < 0)
			return -errno;
		close(rc);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *unit;
		double (*measure)(void *, uint64_t);
		size_t io_bytes;	/* 0, or of one read or write */
		int mapped;
		int by_name;
	} cases[] = {
		{"mapped load, random", "ns", load_latency, 0, 1, 0},
		{"mapped store, random", "ns", store_random, 0, 1, 0},
		{"mapped exchange, random", "ns", exchange_latency, 0, 1, 0},
		{"mapped load, bandwidth", "GB/s", load_bandwidth, 0, 1, 0},
		{"mapped store, bandwidth", "GB/s", store_bandwidth, 0, 1, 0},
		{"first touch of a page", "ns", first_touch, 0, 1, 0},
		{"new 16 MiB file mapped and filled, a page", "ns", whole_file, 0, 1, 0},
		{"mmap+touch+munmap", "ns", map_touch_unmap, 0, 1, 0},
		{"read 4 KiB", "ns", read_measure, 4096, 0, 0},
		{"write 4 KiB", "ns", write_measure, 4096, 0, 0},
		{"read 128 KiB", "GB/s", read_measure, 131072, 0, 0},
		{"write 128 KiB", "GB/s", write_measure, 131072, 0, 0},
		{"read 1 MiB", "GB/s", read_measure, 1 << 20, 0, 0},
		{"write 1 MiB", "GB/s", write_measure, 1 << 20, 0, 0},
		{"open+close", "ns", open_close, 0, 0, 1},
		{"stat", "ns", stat_path, 0, 0, 1},
		{"create+close+unlink", "ns", create_unlink, 0, 0, 1},
		{"create+close", "ns", create_close, 0, 0, 1},
		{"unlink", "ns", unlink_only, 0, 0, 1},
		{"mkdir+rmdir", "ns", mkdir_rmdir, 0, 0, 1},
		{"rename there and back", "ns", rename_back, 0, 0, 1},
		{"readdir of 10000 names", "us", list_names, 0, 0, 0},
	};
	static struct target targets[TARGETS_MAX];
	struct bench b;
	int n = 0, unpinned = getenv("BENCH_UNPINNED") != NULL;

	bench_start(&b, "files", argc, argv);
	if (b.argc < 1 || b.argc > TARGETS_MAX) {
		fprintf(stderr, "usage: %s [options] [+]LABEL=DIRECTORY...\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < b.argc; i++) {
		int rc = target_open(&targets[n], b.argv[i], unpinned ? 0 : 10000);

		if (rc < 0)
			bench_skip(&b, "all", 0, targets[n].label, strerror(-rc));
		else
			n++;
	}
	for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
		struct variant v[TARGETS_MAX];
		int k = 0;

		if (unpinned && cases[c].measure != open_close)
			continue;
		for (int i = 0; i < n; i++) {
			if (targets[i].names_only && !cases[c].by_name)
				continue;
			if (cases[c].mapped && targets[i].map == MAP_FAILED) {
				bench_skip(&b, cases[c].name, 0, targets[i].label, "it has no shared mappings");
				continue;
			}
			targets[i].io_bytes = cases[c].io_bytes;
			v[k++] = (struct variant){targets[i].label, cases[c].measure, &targets[i]};
		}
		bench_case(&b, unpinned ? "open+close, any processor" : cases[c].name, 0, cases[c].unit, v, k, 0);
	}
	return bench_end(&b);
}
