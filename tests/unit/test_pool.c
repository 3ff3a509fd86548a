/* SPDX-License-Identifier: MIT */
/*
 * Opening a pool: what is refused, with which errno, and that the sentence names the directory; locks; fork().
 */
#include "pool_fixture.h"

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
	static const struct CMUnitTest tests[] = {
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
