/* SPDX-License-Identifier: MIT */
/*
 * A pool's directory, lock, superblock and mapping: what is refused, with which errno, and that the
 * sentence names the directory.  The root directory object is not made here: pools are sealed with a
 * plausible offset.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool.h"

#define MIB (1ull << 20)

static char dir[64];	/* of the running test */

static struct cxlshm_error err;

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static struct cxlshm_pool *public(struct pool *pool)
{
	return (struct cxlshm_pool *)pool;
}

static int setup(void **state)
{
	const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	(void)state;
	snprintf(dir, sizeof(dir), "%s/cxlshm-test-pool-XXXXXX", tmp);
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static struct cxlshm_pool_options options(uint64_t size_bytes)
{
	return (struct cxlshm_pool_options){ .size_bytes = size_bytes, .uid = (uid_t)-1, .gid = (gid_t)-1 };
}

static int make_with(const struct cxlshm_pool_options *o)
{
	struct pool *pool;
	int rc = pool_make(dir, o, &pool, &err);

	if (rc)
		return rc;
	rc = pool_seal(pool, ((uint64_t)pool->first_segment << pool->segment_shift) + (1u << pool->page_shift));
	pool_unmap(pool);
	return rc;
}

static int make(uint64_t size_bytes)
{
	struct cxlshm_pool_options o = options(size_bytes);

	return make_with(&o);
}

static int open_pool(unsigned flags)
{
	struct pool *pool = NULL;
	int rc = pool_open(dir, flags, &pool, &err);

	if (rc == 0)
		pool_unmap(pool);
	else
		assert_null(pool);
	return rc;
}

/* It failed so, and the sentence names the directory. */
#define assert_refused(call, code)                          \
	do {                                                \
		memset(&err, 0, sizeof(err));               \
		assert_int_equal(call, code);               \
		assert_non_null(strstr(err.text, dir));     \
	} while (0)

static void flip(off_t at, uint8_t bits)
{
	int fd = open(in_dir("heap"), O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= bits;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void read_super(struct super_fmt *super, uint64_t off)
{
	int fd = open(in_dir("heap"), O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, super, sizeof(*super), (off_t)off), sizeof(*super));
	close(fd);
}

/* Both copies, with a checksum that fits. */
static void write_super(struct super_fmt *super)
{
	int fd = open(in_dir("heap"), O_RDWR);

	super->checksum = pool_super_checksum(super);
	assert_true(fd >= 0);
	assert_int_equal(pool_super_write(fd, super), 0);
	close(fd);
}

/* ---------------------------------------------------------------- making */

static void made_pool_opens(void **state)
{
	struct cxlshm_pool_space space;
	struct cxlshm_pool_info info;
	struct pool *p;
	struct stat st;

	(void)state;
	assert_int_equal(make(64 * MIB), 0);
	assert_int_equal(pool_open(dir, 0, &p, &err), 0);
	assert_int_equal(cxlshm_pool_info(public(p), &info), 0);
	assert_int_equal(info.size_bytes, 64 * MIB);
	assert_int_equal(info.segment_bytes, MIB);
	assert_int_equal(info.page_bytes, 16384);
	assert_int_equal(info.segments, 64);
	assert_in_range(info.client_slots, 8, 1024);
	assert_int_equal(strlen(info.uuid), 36);
	assert_true((uint64_t)info.client_slots * info.client_slots * 8 <= info.size_bytes / 100);
	assert_int_equal(cxlshm_pool_space(public(p), &space), 0);
	assert_int_equal(space.size_bytes, 64 * MIB);
	assert_in_range(space.free_bytes, 60 * MIB, 64 * MIB);
	assert_int_equal(space.files, 0);
	/* Nothing but superblock, hints and segment table has memory. */
	assert_int_equal(stat(in_dir("heap"), &st), 0);
	assert_int_equal(st.st_size, 64 * MIB);
	assert_in_range(st.st_blocks * 512, 1, 64 * 1024);
	for (uint32_t i = 0; i < p->segments; i++) {
		int claimable = i >= p->first_segment;
		uint64_t value = a128_value_relaxed(&p->segment_table[i].word);

		assert_int_equal(a64_load_relaxed(&p->hints[i / 64]) >> i % 64 & 1, claimable);
		assert_int_equal(segment_value_state(value), claimable ? SEGMENT_FREE : SEGMENT_RESERVED);
	}
	pool_unmap(p);
}

static void geometry_fits_every_size(void **state)
{
	static const uint64_t sizes[] = {
		MIB, MIB + 4096, 3 * MIB, 16 * MIB, 100 * MIB + 12288, 256 * MIB, 1ull << 30, 1ull << 40, 1ull << 47,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct super_fmt s = { .pool_bytes = sizes[i] };
		uint64_t segment_bytes;

		s.segment_shift = pool_super_default_shift(sizes[i]);
		s.slots = pool_super_default_slots(sizes[i]);
		assert_int_equal(pool_super_layout(&s), 0);
		segment_bytes = 1ull << s.segment_shift;
		assert_true(s.heap_bytes <= sizes[i] && sizes[i] - s.heap_bytes < segment_bytes);
		assert_true(s.slots_off + s.slots * s.slot_stride_bytes <= s.first_segment * segment_bytes);
		assert_true(s.segment_table_off + s.segments * sizeof(struct segment_fmt) <= s.slots_off);
		assert_true(s.first_segment + POOL_SEGMENTS_MIN <= s.segments);
		/* Metadata: an eighth in the smallest pools, then less. */
		assert_true(s.slots_off + s.slots * s.slot_stride_bytes <= sizes[i] / 7);
	}
}

static void bad_options_are_refused(void **state)
{
	struct cxlshm_pool_options o;
	struct pool *pool;
	struct stat st;

	(void)state;
	assert_refused(make(0), -EINVAL);
	assert_refused(make(MIB - 1), -EINVAL);
	assert_refused(make((1ull << 47) + 1), -EINVAL);
	o = options(64 * MIB);
	o.client_slots = 3;
	assert_refused(make_with(&o), -EINVAL);
	o.client_slots = SLOTS_MAX + 1;
	assert_refused(make_with(&o), -EINVAL);
	o = options(2 * MIB);
	o.client_slots = 500;
	assert_refused(make_with(&o), -EINVAL);
	assert_non_null(strstr(err.text, "--clients"));
	o = options(64 * MIB);
	o.failure_domain = 2;
	assert_refused(make_with(&o), -EINVAL);
	o = options(64 * MIB);
	o.mode = 0777;
	assert_refused(make_with(&o), -EINVAL);
	o.mode = 0440;
	assert_refused(make_with(&o), -EINVAL);
	assert_int_equal(pool_make(dir, NULL, &pool, &err), -EINVAL);
	assert_int_equal(pool_make("", &o, &pool, &err), -EINVAL);
	assert_int_equal(pool_make(NULL, &o, &pool, &err), -EINVAL);
	/* None of them left anything. */
	assert_int_equal(stat(in_dir("heap"), &st), -1);
	assert_int_equal(rmdir(dir), 0);
	assert_refused(make(64 * MIB), -ENOENT);
}

static void numa_policies_are_checked(void **state)
{
	static const char *const bad[] = {
		"bind", "bind:", "bind:x", "bind:0,", "bind:-1", "bind:0-", "bind:1-0", "bind:4000", "bind:99999999999",
		"interleave:", "preferred:", "local", "Bind:0", " bind:0", "bind:0 ", "bind:all", "bind:!0",
		"a policy that is much longer than the sixty-three bytes that the superblock has",
	};
	struct cxlshm_pool_options o = options(8 * MIB);
	char option[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		o.numa = bad[i];
		err.text[0] = 0;
		assert_int_equal(make_with(&o), -EINVAL);
		assert_non_null(strstr(err.text, "NUMA policy"));
		assert_int_equal(numa_mount_option(bad[i], option, sizeof(option)), -EINVAL);
	}
	assert_int_equal(numa_mount_option("", option, sizeof(option)), 0);
	assert_string_equal(option, "");
	if (numa_check("bind:0", NULL) == 0) {
		assert_int_equal(numa_mount_option("bind:0", option, sizeof(option)), 0);
		assert_string_equal(option, "mpol=bind=static:0");
		assert_int_equal(numa_mount_option("preferred:0", option, sizeof(option)), 0);
		assert_string_equal(option, "mpol=prefer=static:0");
		assert_int_equal(numa_mount_option("bind:0", option, 5), -ENAMETOOLONG);
		o.numa = "interleave:0-0,0";
		assert_int_equal(make_with(&o), 0);
		assert_int_equal(open_pool(0), 0);
	}
}

static void mode_and_group_are_applied(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	mode_t before = umask(077);
	struct stat st;

	(void)state;
	o.gid = getgid();
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(stat(in_dir("heap"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(stat(in_dir("x"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 02770);
	o.mode = 0644;
	o.force = 1;
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(stat(in_dir("heap"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(stat(in_dir("x"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 02755);
	if (geteuid() == 0) {
		o.uid = o.gid = 12345;
		assert_int_equal(make_with(&o), 0);
		assert_int_equal(stat(in_dir("heap"), &st), 0);
		assert_true(st.st_uid == 12345 && st.st_gid == 12345);
		assert_int_equal(stat(in_dir("x"), &st), 0);
		assert_true(st.st_uid == 12345 && st.st_gid == 12345);
	}
	umask(before);
}

static void making_again_needs_force(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct super_fmt first, second;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	read_super(&first, SUPER_OFF);
	fd = open(in_dir("x/17"), O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_refused(make(8 * MIB), -EEXIST);
	assert_int_equal(open_pool(0), 0);
	o.force = 1;
	assert_int_equal(make_with(&o), 0);
	read_super(&second, SUPER_OFF);
	assert_memory_not_equal(first.uuid, second.uuid, 16);
	assert_int_equal(stat(in_dir("x/17"), &st), -1);
}

static void other_files_are_left_alone(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	char text[9000];
	struct stat st;
	int fd;

	(void)state;
	o.force = 1;
	fd = open(in_dir("thesis.tex"), O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_refused(make_with(&o), -ENOTEMPTY);
	assert_non_null(strstr(err.text, "thesis.tex"));
	assert_int_equal(unlink(in_dir("thesis.tex")), 0);
	/* Somebody else's file that happens to be called heap. */
	fd = open(in_dir("heap"), O_CREAT | O_RDWR, 0600);
	memset(text, 'a', sizeof(text));
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	close(fd);
	assert_refused(make_with(&o), -ENOTEMPTY);
	assert_refused(cxlshm_pool_remove(dir, &err), -ENOTEMPTY);
	assert_refused(open_pool(0), -EUCLEAN);
	assert_int_equal(stat(in_dir("heap"), &st), 0);
	assert_int_equal(unlink(in_dir("heap")), 0);
	/* ... or a directory. */
	assert_int_equal(mkdir(in_dir("heap"), 0700), 0);
	assert_refused(make_with(&o), -EISDIR);
	assert_refused(open_pool(CXLSHM_READONLY), -EUCLEAN);
	assert_int_equal(rmdir(in_dir("heap")), 0);
	/* ... or a link to something precious. */
	assert_int_equal(symlink("/etc/passwd", in_dir("heap")), 0);
	assert_refused(make_with(&o), -EUCLEAN);
	assert_refused(open_pool(0), -EUCLEAN);
	assert_refused(cxlshm_pool_remove(dir, &err), -EUCLEAN);
}

static void unfinished_pool_is_taken_with_force(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct pool *pool;
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0)
		_exit(pool_make(dir, &o, &pool, NULL) ? 1 : 0);	/* dies before pool_seal() */
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_refused(open_pool(0), -EUCLEAN);
	assert_refused(make_with(&o), -EEXIST);
	o.force = 1;
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(open_pool(0), 0);
}

static void discarded_pool_leaves_nothing(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct pool *pool;

	(void)state;
	assert_int_equal(pool_make(dir, &o, &pool, &err), 0);
	assert_refused(open_pool(0), -EBUSY);
	assert_refused(open_pool(CXLSHM_READONLY), -EBUSY);
	pool_discard(pool);
	assert_refused(open_pool(0), -ENOENT);
	assert_int_equal(rmdir(dir), 0);
}

static void full_file_system_is_enospc(void **state)
{
	struct rlimit old, small = { .rlim_cur = MIB, .rlim_max = RLIM_INFINITY };

	(void)state;
	/* The nearest thing without privilege: a limit on the file's length. */
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	assert_refused(make(8 * MIB), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(rmdir(dir), 0);
}

/* ---------------------------------------------------------------- opening */

static void missing_and_foreign_directories(void **state)
{
	struct pool *pool = NULL;
	int fd;

	(void)state;
	assert_int_equal(pool_open(NULL, 0, &pool, &err), -EINVAL);
	assert_int_equal(pool_open("", 0, &pool, &err), -EINVAL);
	assert_int_equal(pool_open("/nonexistent/pool", 0, &pool, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/pool"));
	assert_int_equal(pool_open("/etc/passwd", 0, &pool, &err), -ENOTDIR);
	assert_int_equal(pool_open("/nonexistent/pool", 0, &pool, NULL), -ENOENT);
	assert_null(pool);
	assert_refused(open_pool(0), -ENOENT);	/* an empty directory */
	assert_non_null(strstr(err.text, "mkfs.cxlshm"));
	fd = open(in_dir("heap"), O_CREAT | O_RDWR, 0600);
	assert_refused(open_pool(0), -EUCLEAN);	/* an empty heap */
	assert_int_equal(ftruncate(fd, 64 * MIB), 0);
	assert_refused(open_pool(0), -EUCLEAN);	/* zeros */
	close(fd);
	assert_refused(open_pool(0x80), -EINVAL);
	assert_refused(open_pool(POOL_USE_COPY), -EINVAL);
}

static void truncated_heap_is_euclean(void **state)
{
	static const off_t lengths[] = {
		0, 1, 7, 8, 100, 495, 496, 4096, 8192, 8300, 8688, 12288, 65536, 1 << 20, (8 << 20) - 4096, (8 << 20) - 1,
		(8 << 20) + 1, 16 << 20,
	};

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(open_pool(0), 0);
	/* Longest first, so that the shorter ones have the bytes of the longer. */
	for (size_t i = sizeof(lengths) / sizeof(lengths[0]); i-- > 0;) {
		if (truncate(in_dir("heap"), lengths[i]) != 0)
			fail();
		assert_refused(open_pool(0), -EUCLEAN);
		assert_refused(open_pool(CXLSHM_READONLY), -EUCLEAN);
		if (lengths[i] < 8688)
			assert_refused(pool_super_repair(dir, &err), -EUCLEAN);
	}
}

static void missing_folder_is_euclean(void **state)
{
	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(rmdir(in_dir("x")), 0);
	assert_refused(open_pool(0), -EUCLEAN);
}

static void each_flipped_byte_is_seen(void **state)
{
	static const uint8_t bits[] = { 0x01, 0x80, 0xff };

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	for (off_t at = 0; at < (off_t)sizeof(struct super_fmt); at++) {
		for (size_t i = 0; i < sizeof(bits); i++) {
			flip((off_t)SUPER_OFF + at, bits[i]);
			assert_refused(open_pool(0), -EUCLEAN);	/* the copy is good, so it is damage */
			assert_non_null(strstr(err.text, "fsck.cxlshm --repair"));
			flip((off_t)SUPER_COPY_OFF + at, bits[i]);
			memset(&err, 0, sizeof(err));
			assert_true(open_pool(0) != 0);	/* both: damaged, or of another version */
			flip((off_t)SUPER_OFF + at, bits[i]);
			assert_int_equal(open_pool(0), 0);	/* the copy alone does no harm */
			flip((off_t)SUPER_COPY_OFF + at, bits[i]);
		}
	}
	assert_int_equal(open_pool(0), 0);
}

static void unknown_version_and_features(void **state)
{
	struct super_fmt good, s;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	read_super(&good, SUPER_OFF);
	s = good;
	s.version = FORMAT_VERSION + 1;
	write_super(&s);
	assert_refused(open_pool(0), -ENOTSUP);
	s = good;
	s.incompat = 1ull << 40;
	write_super(&s);
	assert_refused(open_pool(0), -ENOTSUP);
	assert_non_null(strstr(err.text, "0x10000000000"));
	s = good;
	s.fingerprint ^= 1;
	write_super(&s);
	assert_refused(open_pool(0), -ENOTSUP);
	s = good;
	s.compat = ~0ull;	/* may be ignored */
	write_super(&s);
	assert_int_equal(open_pool(0), 0);
	assert_int_equal(pool_super_repair(dir, &err), 0);
}

/* Geometry that lies, with a checksum that fits. */
static void lying_superblock_is_euclean(void **state)
{
	struct super_fmt good, s;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	read_super(&good, SUPER_OFF);
#define LIE(change)                                    \
	do {                                           \
		s = good;                              \
		change;                                \
		write_super(&s);                       \
		assert_refused(open_pool(0), -EUCLEAN); \
	} while (0)
	LIE(s.heap_bytes *= 2);
	LIE(s.heap_bytes = 0);
	LIE(s.pool_bytes *= 2);
	LIE(s.pool_bytes = ~0ull);
	LIE(s.pool_bytes = 0);
	LIE(s.segment_shift = 22);
	LIE(s.segment_shift = 63);
	LIE(s.page_shift = 4);
	LIE(s.segments += 1);
	LIE(s.first_segment = 0);
	LIE(s.segment_table_off = ~0ull << 12);
	LIE(s.slots_off += 4096);
	LIE(s.slot_stride_bytes = 0);
	LIE(s.era_row_off = 1ull << 40);
	LIE(s.roots_off = 8);
	LIE(s.slots = 0);
	LIE(s.slots = 4096);
	LIE(s.slots += 512);
	LIE(s.failure_domain = 7);
	LIE(s.root_dir = 0);
	LIE(s.root_dir = s.heap_bytes);
	LIE(s.root_dir |= 8);
	LIE(s.root_dir = (uint64_t)s.first_segment << s.segment_shift);
	LIE(memset(s.numa, 'n', sizeof(s.numa)));
	LIE(s.zero[255] = 1);
#undef LIE
	write_super(&good);
	assert_int_equal(open_pool(0), 0);
}

static void superblock_is_repaired_from_its_copy(void **state)
{
	struct pool *pool;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(pool_super_repair(dir, &err), 0);
	flip(60, 4);
	assert_refused(pool_open_exclusive(dir, 0, &pool, &err), -EUCLEAN);
	assert_int_equal(pool_open_exclusive(dir, POOL_USE_COPY, &pool, &err), 0);
	assert_refused(pool_super_repair(dir, &err), -EBUSY);
	pool_unmap(pool);
	assert_int_equal(pool_super_repair(dir, &err), 1);
	assert_string_equal(err.text, "");
	assert_int_equal(open_pool(0), 0);
	flip((off_t)SUPER_COPY_OFF + 300, 1);
	assert_int_equal(pool_super_repair(dir, &err), 1);
	assert_int_equal(pool_super_repair(dir, &err), 0);
	flip(60, 4);
	flip((off_t)SUPER_COPY_OFF + 300, 1);
	assert_refused(pool_super_repair(dir, &err), -EUCLEAN);
}

static void readonly_maps_readonly(void **state)
{
	struct pool *pool;
	pid_t child;
	int status;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(pool_open(dir, CXLSHM_READONLY, &pool, &err), 0);
	child = fork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		*(volatile char *)pool->base = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	pool_unmap(pool);
}

static void pool_beyond_the_address_space_is_enomem(void **state)
{
	struct rlimit old, small = { .rlim_cur = 1ull << 32 };

	(void)state;
	assert_int_equal(make(1ull << 36), 0);	/* sparse */
	getrlimit(RLIMIT_AS, &old);
	small.rlim_max = old.rlim_max;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	setrlimit(RLIMIT_AS, &small);
	assert_refused(open_pool(0), -ENOMEM);
	setrlimit(RLIMIT_AS, &old);
#endif
	assert_int_equal(open_pool(0), 0);
}

/* ---------------------------------------------------------------- in use */

static void pool_in_use_is_busy(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct pool *first, *second;
	struct pool *pool;

	(void)state;
	o.force = 1;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(pool_open(dir, 0, &first, &err), 0);
	assert_int_equal(pool_open(dir, CXLSHM_READONLY, &second, &err), 0);
	pool_unmap(first);
	assert_refused(make_with(&o), -EBUSY);
	assert_refused(cxlshm_pool_remove(dir, &err), -EBUSY);
	assert_refused(pool_super_repair(dir, &err), -EBUSY);
	assert_refused(pool_open_exclusive(dir, 0, &pool, &err), -EBUSY);
	pool_unmap(second);
	assert_int_equal(pool_open_exclusive(dir, 0, &pool, &err), 0);
	assert_refused(open_pool(0), -EBUSY);
	pool_unmap(pool);
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
	assert_refused(cxlshm_pool_remove(dir, &err), -ENOENT);
	assert_int_equal(rmdir(dir), 0);
}

static void sealed_handle_is_an_open_one(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct pool *pool;

	(void)state;
	assert_int_equal(pool_make(dir, &o, &pool, &err), 0);
	assert_int_equal(pool_seal(pool, ((uint64_t)pool->first_segment + 1) << pool->segment_shift |
				   1u << pool->page_shift), 0);
	assert_int_equal(open_pool(0), 0);
	assert_refused(cxlshm_pool_remove(dir, &err), -EBUSY);
	pool_unmap(pool);
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
}

/* ---------------------------------------------------------------- fork */

static void child_of_fork_has_no_lock(void **state)
{
	struct cxlshm_pool_space space;
	struct pool *pool;
	int to_child[2], from_child[2], status;
	pid_t child;
	char c;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(pool_open(dir, 0, &pool, &err), 0);
	assert_int_equal(pool_lock(pool->heap_fd, F_WRLCK, LOCK_SLOT(3)), 0);
	assert_int_equal(pipe(to_child), 0);
	assert_int_equal(pipe(from_child), 0);
	child = fork();
	if (child == 0) {
		close(to_child[1]);
		if (write(from_child[1], "", 1) != 1)
			_exit(4);
		if (!pool->forked || pool->heap_fd != -1 || cxlshm_pool_space(public(pool), &space) != -EOWNERDEAD)
			_exit(1);
		if (pthread_mutex_lock(&pool->own_lock) != 0 || read(to_child[0], &c, 1) != 0)
			_exit(2);
		pthread_mutex_unlock(&pool->own_lock);
		pool_unmap(pool);
		_exit(open_pool(0) == -ENOENT ? 0 : 3);
	}
	/* The parent is as it was; when it lets go, the child's mapping keeps no lock alive. */
	assert_int_equal(cxlshm_pool_space(public(pool), &space), 0);
	assert_refused(cxlshm_pool_remove(dir, &err), -EBUSY);
	pool_unmap(pool);
	assert_int_equal(read(from_child[0], &c, 1), 1);	/* fork() has returned in the child, too */
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
	close(to_child[0]);
	close(to_child[1]);
	close(from_child[0]);
	close(from_child[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void *open_and_close(void *arg)
{
	struct pool *pool;

	for (int i = 0; i < 300; i++)
		if (pool_open(arg, 0, &pool, NULL) == 0)
			pool_unmap(pool);
	return NULL;
}

/* A fork() at any moment of another thread's open leaves no lock behind. */
static void fork_beside_opening_threads(void **state)
{
	pid_t children[50];
	pthread_t thread;
	int gate[2], ready[2];
	char c;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(pipe(gate), 0);
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pthread_create(&thread, NULL, open_and_close, dir), 0);
	for (size_t i = 0; i < 50; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			close(gate[1]);
			_exit(write(ready[1], "", 1) == 1 && read(gate[0], &c, 1) == 0 ? 0 : 1);
		}
	}
	pthread_join(thread, NULL);
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
	close(gate[1]);
	close(gate[0]);
	close(ready[0]);
	close(ready[1]);
	for (size_t i = 0; i < 50; i++)
		waitpid(children[i], NULL, 0);
}

static void descriptors_are_given_back(void **state)
{
	int before = dup(0), after;

	(void)state;
	close(before);
	assert_int_equal(make(8 * MIB), 0);
	assert_int_equal(open_pool(0), 0);
	assert_refused(open_pool(0x80), -EINVAL);
	assert_int_equal(truncate(in_dir("heap"), 0), 0);
	assert_refused(open_pool(0), -EUCLEAN);
	assert_int_equal(pool_super_repair(dir, &err), -EUCLEAN);
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(made_pool_opens),
		T(geometry_fits_every_size),
		T(bad_options_are_refused),
		T(numa_policies_are_checked),
		T(mode_and_group_are_applied),
		T(making_again_needs_force),
		T(other_files_are_left_alone),
		T(unfinished_pool_is_taken_with_force),
		T(discarded_pool_leaves_nothing),
		T(full_file_system_is_enospc),
		T(missing_and_foreign_directories),
		T(truncated_heap_is_euclean),
		T(missing_folder_is_euclean),
		T(each_flipped_byte_is_seen),
		T(unknown_version_and_features),
		T(lying_superblock_is_euclean),
		T(superblock_is_repaired_from_its_copy),
		T(readonly_maps_readonly),
		T(pool_beyond_the_address_space_is_enomem),
		T(pool_in_use_is_busy),
		T(sealed_handle_is_an_open_one),
		T(child_of_fork_has_no_lock),
		T(fork_beside_opening_threads),
		T(descriptors_are_given_back),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
