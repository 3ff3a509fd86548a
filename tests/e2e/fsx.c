/* SPDX-License-Identifier: MIT */
/*
 * fsx: random file operations, checked against a model in memory after each one.
 *
 *   fsx [-s SEED] [-n OPERATIONS] [-l LENGTH] [-m] [-z] PATH [PATH2]
 *
 * PATH and PATH2 are the same file through two mounts: each operation goes to one of them, drawn by
 * the seed, and the next one checks what it did through either.  -l is the longest the file gets, -m leaves shared
 * mappings out (for mounts without passthrough), -z FALLOC_FL_ZERO_RANGE (tmpfs has none).  A disagreement prints the last operations, the first
 * wrong byte and the command that repeats it; exit status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define HISTORY 24

struct view {
	const char *path;
	int fd;
	char *map;	/* the whole length, mapped from the start on, or NULL */
};

struct fsx {
	struct view views[2];
	unsigned view_count;
	uint64_t seed, random;
	uint64_t op, ops;
	size_t length;	/* the longest the file gets */
	int no_maps, no_zero;
	char *model, *got;
	size_t size;	/* of the model */
	char history[HISTORY][120];
};

static uint64_t draw(struct fsx *f, uint64_t below)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return (f->random * 0x2545f4914f6cdd1dull >> 11) % below;
}

static void record(struct fsx *f, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(f->history[f->op % HISTORY], sizeof(f->history[0]), format, args);
	va_end(args);
}

static void wrong(struct fsx *f, const char *format, ...)
{
	va_list args;
	uint64_t first = f->op >= HISTORY ? f->op - HISTORY + 1 : 0;
	for (uint64_t i = first; i <= f->op; i++)
		printf("  %" PRIu64 ": %s\n", i, f->history[i % HISTORY]);
	printf("fsx: operation %" PRIu64 ": ", f->op);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\nrepeat with: fsx -s %" PRIu64 " -n %" PRIu64 " -l %zu %s%s%s %s\n", f->seed, f->op + 1,
	       f->length, f->no_maps ? "-m " : "", f->no_zero ? "-z " : "", f->views[0].path,
	       f->view_count > 1 ? f->views[1].path : "");
	exit(1);
}

static void compare(struct fsx *f, const char *got, size_t offset, size_t length, const char *how)
{
	if (!memcmp(got, f->model + offset, length))
		return;
	size_t i = 0;
	while (got[i] == f->model[offset + i])
		i++;
	wrong(f, "%s: byte %zu is 0x%02x, should be 0x%02x (size %zu)", how, offset + i,
	      (unsigned char)got[i], (unsigned char)f->model[offset + i], f->size);
}

static void set_size(struct fsx *f, size_t size)
{
	if (size > f->size)
		memset(f->model + f->size, 0, size - f->size);
	f->size = size;
}

/* Random bytes into the model, ready to be written out of it. */
static void scribble(struct fsx *f, size_t offset, size_t length)
{
	if (offset > f->size)
		memset(f->model + f->size, 0, offset - f->size);
	uint64_t word = draw(f, UINT64_MAX) | 1;
	for (size_t i = 0; i < length; i++) {
		word = word * 6364136223846793005ull + 1442695040888963407ull;
		f->model[offset + i] = (char)(word >> 56);
	}
	if (offset + length > f->size)
		f->size = offset + length;
}

static void reopen(struct fsx *f, struct view *v, int flags)
{
	if (v->fd >= 0 && close(v->fd))
		wrong(f, "close: %s", strerror(errno));
	v->fd = open(v->path, O_RDWR | O_CLOEXEC | flags, 0600);
	if (v->fd < 0)
		wrong(f, "open %s: %s", v->path, strerror(errno));
}

static void check_sizes(struct fsx *f)
{
	for (unsigned i = 0; i < f->view_count; i++) {
		struct stat by_fd, by_path;
		if (fstat(f->views[i].fd, &by_fd) || stat(f->views[i].path, &by_path))
			wrong(f, "stat %s: %s", f->views[i].path, strerror(errno));
		if ((size_t)by_fd.st_size != f->size || (size_t)by_path.st_size != f->size)
			wrong(f, "view %u: fstat says %lld bytes, stat %lld, should be %zu", i,
			      (long long)by_fd.st_size, (long long)by_path.st_size, f->size);
	}
}

static void check_all(struct fsx *f)
{
	for (unsigned i = 0; i < f->view_count; i++) {
		ssize_t n = pread(f->views[i].fd, f->got, f->length + 1, 0);
		if (n < 0 || (size_t)n != f->size)
			wrong(f, "view %u: read of all gives %zd, size is %zu", i, n, f->size);
		compare(f, f->got, 0, f->size, "read of all");
	}
	check_sizes(f);
}

static void op_read(struct fsx *f, struct view *v)
{
	size_t offset = draw(f, f->length), length = draw(f, 65536) + 1;
	size_t want = offset >= f->size ? 0 : f->size - offset < length ? f->size - offset : length;
	record(f, "read %s %zu+%zu", v->path, offset, length);
	ssize_t n = pread(v->fd, f->got, length, (off_t)offset);
	if (n < 0 || (size_t)n != want)
		wrong(f, "read gives %zd, should give %zu: %s", n, want, n < 0 ? strerror(errno) : "");
	compare(f, f->got, offset, want, "read");
}

static void op_write(struct fsx *f, struct view *v)
{
	size_t length = draw(f, 32768) + 1, offset = draw(f, f->length - length);
	int vectored = draw(f, 4) == 0 && length > 2;
	record(f, "%s %s %zu+%zu", vectored ? "writev" : "write", v->path, offset, length);
	scribble(f, offset, length);
	ssize_t n;
	if (vectored) {
		struct iovec parts[2] = {{f->model + offset, length / 2},
					 {f->model + offset + length / 2, length - length / 2}};
		n = pwritev(v->fd, parts, 2, (off_t)offset);
	} else {
		n = pwrite(v->fd, f->model + offset, length, (off_t)offset);
	}
	if (n < 0 || (size_t)n != length)
		wrong(f, "write gives %zd: %s", n, n < 0 ? strerror(errno) : "short");
}

static void op_append(struct fsx *f, struct view *v)
{
	size_t length = draw(f, 8192) + 1, offset = f->size;
	if (f->size + length > f->length)
		return op_read(f, v);
	record(f, "append %s %zu at %zu", v->path, length, offset);
	scribble(f, offset, length);
	int fd = open(v->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, f->model + offset, length);
	if (n < 0 || (size_t)n != length || close(fd))
		wrong(f, "append gives %zd: %s", n, strerror(errno));
}

static void op_map(struct fsx *f, struct view *v, int write)
{
	if (!f->size || f->no_maps)
		return op_read(f, v);
	size_t offset = draw(f, f->size), length = draw(f, 65536) + 1;
	int fresh = draw(f, 2) == 0;
	if (offset + length > f->size)
		length = f->size - offset;
	record(f, "%s %s %s %zu+%zu", fresh ? "map," : "old map,", write ? "store" : "load", v->path, offset, length);
	char *map = v->map;
	size_t start = fresh ? offset & ~4095ul : 0, mapped = offset + length - start;
	if (fresh)
		map = mmap(NULL, mapped, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, v->fd,
			   (off_t)start);
	if (map == MAP_FAILED)
		wrong(f, "mmap: %s", strerror(errno));
	if (write) {
		scribble(f, offset, length);
		memcpy(map + offset - start, f->model + offset, length);
	} else {
		compare(f, map + offset - start, offset, length, "mapping");
		static const char zero[4096];
		size_t tail = -f->size & 4095;
		if (!fresh && memcmp(map + f->size, zero, tail))
			wrong(f, "bytes behind the end (%zu) in its page are not zero", f->size);
	}
	if (fresh && munmap(map, mapped))
		wrong(f, "munmap: %s", strerror(errno));
}

static void op_truncate(struct fsx *f, struct view *v)
{
	size_t size = draw(f, 8) == 0 ? 0 : draw(f, f->length);
	int by_path = draw(f, 2) == 0;
	record(f, "%s %s %zu -> %zu", by_path ? "truncate" : "ftruncate", v->path, f->size, size);
	if (by_path ? truncate(v->path, (off_t)size) : ftruncate(v->fd, (off_t)size))
		wrong(f, "truncate: %s", strerror(errno));
	set_size(f, size);
}

static void op_fallocate(struct fsx *f, struct view *v)
{
	static const struct { int mode; const char *name; } modes[] = {
		{0, "allocate"}, {FALLOC_FL_KEEP_SIZE, "allocate, keep size"},
		{FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch"}, {FALLOC_FL_ZERO_RANGE, "zero"},
		{FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero, keep size"},
	};
	unsigned which = (unsigned)draw(f, f->no_zero ? 3 : 5);
	size_t length = draw(f, 65536) + 1, offset = draw(f, f->length - length);
	record(f, "fallocate %s %s %zu+%zu", modes[which].name, v->path, offset, length);
	if (fallocate(v->fd, modes[which].mode, (off_t)offset, (off_t)length))
		wrong(f, "fallocate: %s", strerror(errno));
	size_t end = offset + length;
	if (!(modes[which].mode & FALLOC_FL_KEEP_SIZE) && end > f->size)
		set_size(f, end);
	if (which >= 2 && offset < f->size)
		memset(f->model + offset, 0, (end < f->size ? end : f->size) - offset);
}

static void op_copy(struct fsx *f, struct view *v)
{
	if (f->size < 2)
		return op_write(f, v);
	struct view *to = &f->views[draw(f, f->view_count)];
	size_t half = f->length / 2, length = draw(f, 32768) + 1;
	size_t from = draw(f, f->size < half ? f->size : half);
	size_t target = half + draw(f, half - length);
	if (from + length > half)
		length = half - from;
	if (from + length > f->size)
		length = f->size - from;
	int send = draw(f, 2) == 0;
	record(f, "%s %s %zu+%zu -> %s %zu", send ? "sendfile" : "copy_file_range", v->path, from, length, to->path,
	       target);
	size_t done = 0;
	off_t in = (off_t)from, out = (off_t)target;
	if (send && lseek(to->fd, out, SEEK_SET) != out)
		wrong(f, "lseek: %s", strerror(errno));
	while (done < length) {
		ssize_t n = send ? sendfile(to->fd, v->fd, &in, length - done) :
				   copy_file_range(v->fd, &in, to->fd, &out, length - done, 0);
		if (n <= 0)
			wrong(f, "copy gives %zd after %zu of %zu: %s", n, done, length, strerror(errno));
		done += (size_t)n;
	}
	if (target > f->size)
		memset(f->model + f->size, 0, target - f->size);
	memcpy(f->model + target, f->model + from, length);
	if (target + length > f->size)
		f->size = target + length;
}

static void op_seek(struct fsx *f, struct view *v)
{
	if (!f->size)
		return op_read(f, v);
	size_t offset = draw(f, f->size);
	record(f, "lseek %s SEEK_DATA and SEEK_HOLE from %zu", v->path, offset);
	off_t data = lseek(v->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		wrong(f, "SEEK_DATA: %s", strerror(errno));
	size_t end = data < 0 ? f->size : (size_t)data;
	if (end < offset || end > f->size)
		wrong(f, "SEEK_DATA gives %zu, size is %zu", end, f->size);
	for (size_t i = offset; i < end; i++)
		if (f->model[i])
			wrong(f, "SEEK_DATA skips byte %zu, which is not zero", i);
	off_t hole = lseek(v->fd, (off_t)offset, SEEK_HOLE);
	if (hole < (off_t)offset || (size_t)hole > f->size)
		wrong(f, "SEEK_HOLE gives %lld, size is %zu", (long long)hole, f->size);
}

static void op_reopen(struct fsx *f, struct view *v)
{
	int cut = draw(f, 6) == 0;
	record(f, "%s %s", cut ? "reopen with O_TRUNC" : "reopen", v->path);
	reopen(f, v, cut ? O_TRUNC : 0);
	if (cut)
		set_size(f, 0);
}

static void op_sync(struct fsx *f, struct view *v)
{
	record(f, "fsync %s", v->path);
	if (fsync(v->fd) || (v->map && msync(v->map, f->length, MS_SYNC)))
		wrong(f, "fsync: %s", strerror(errno));
}

static void step(struct fsx *f)
{
	struct view *v = &f->views[draw(f, f->view_count)];
	uint64_t kind = draw(f, 20);
	static const char what[20] = "rrrwwwwmMMsstffaacdo";
	switch (what[kind]) {
	case 'r': op_read(f, v); break;
	case 'w': op_write(f, v); break;
	case 'm': op_map(f, v, 0); break;
	case 'M': op_map(f, v, 1); break;
	case 't': op_truncate(f, v); break;
	case 'f': op_fallocate(f, v); break;
	case 'a': op_append(f, v); break;
	case 'c': op_copy(f, v); break;
	case 'd': op_seek(f, v); break;
	case 'o': op_reopen(f, v); break;
	case 's': draw(f, 4) ? op_map(f, v, 0) : op_sync(f, v); break;
	default: abort();
	}
	check_sizes(f);
	if (f->op % 16 == 15)
		check_all(f);
}

int main(int argc, char **argv)
{
	struct fsx f = {.ops = 5000, .length = 1 << 20, .seed = (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid()};
	int option;
	while ((option = getopt(argc, argv, "s:n:l:mz")) != -1) {
		switch (option) {
		case 's': f.seed = strtoull(optarg, NULL, 0); break;
		case 'n': f.ops = strtoull(optarg, NULL, 0); break;
		case 'l': f.length = strtoull(optarg, NULL, 0); break;
		case 'm': f.no_maps = 1; break;
		case 'z': f.no_zero = 1; break;
		default: return 2;
		}
	}
	if (argc - optind < 1 || argc - optind > 2 || f.length < 262144)
		return fprintf(stderr, "usage: fsx [-s SEED] [-n OPERATIONS] [-l LENGTH] [-m] [-z] PATH [PATH2]\n"), 2;
	f.random = f.seed * 0x9e3779b97f4a7c15ull | 1;
	f.view_count = (unsigned)(argc - optind);
	f.model = calloc(1, f.length + 4096);
	f.got = calloc(1, f.length + 65536);
	if (!f.model || !f.got)
		return perror("fsx"), 2;
	printf("fsx: seed %" PRIu64 "\n", f.seed);
	fflush(stdout);
	for (unsigned i = 0; i < f.view_count; i++) {
		struct view *v = &f.views[i];
		*v = (struct view){.path = argv[optind + (int)i], .fd = -1};
		reopen(&f, v, i ? 0 : O_CREAT | O_TRUNC);
		if (f.no_maps)
			continue;
		v->map = mmap(NULL, f.length, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		if (v->map == MAP_FAILED)
			wrong(&f, "mmap: %s", strerror(errno));
	}
	for (f.op = 0; f.op < f.ops; f.op++)
		step(&f);
	f.op--;
	check_all(&f);
	free(f.model);
	free(f.got);
	printf("fsx: %" PRIu64 " operations, final size %zu, all agree\n", f.ops, f.size);
	return 0;
}
