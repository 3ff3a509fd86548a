/* SPDX-License-Identifier: MIT */
/*
 * Extents: file objects without a mount.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "fixture.h"
#include "small_tmpfs.h"

static int files(struct fixture *f)
{
	char path[80];
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/x", f->dir);
	dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void bytes_are_mapped_and_go_with_the_object(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	struct cxlshm_client *other;
	void *one, *two;
	cxlshm_ref ref, theirs;
	uint64_t token;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	assert_int_equal(cxlshm_alloc_with(f->client, 10000, 0, CXLSHM_EXTENT, &ref), 0);
	assert_int_equal(files(f), 1);
	assert_int_equal(cxlshm_size(f->client, ref), 10000);
	assert_null(cxlshm_ptr(f->client, ref));
	assert_int_equal(cxlshm_attach(f->client, ref, &theirs), 0);
	assert_int_equal(cxlshm_export(f->client, theirs, &token), 0);
	assert_int_equal(cxlshm_import(other, token, &theirs), 0);
	assert_int_equal(cxlshm_map(f->client, ref, 0, 8192, PROT_READ | PROT_WRITE, &one), 0);
	assert_int_equal(cxlshm_map(other, theirs, 0, 8192, PROT_READ, &two), 0);
	strcpy(one, "seen at once");
	assert_string_equal(two, "seen at once");
	assert_int_equal(cxlshm_extent_busy(f->client, ref), 1);
	assert_int_equal(cxlshm_release(other, theirs), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_int_equal(files(f), 1);	/* the mappings hold it */
	fixture_check(f);
	assert_int_equal(cxlshm_unmap(f->client, one), 0);
	assert_int_equal(files(f), 1);
	assert_int_equal(cxlshm_unmap(other, two), 0);
	assert_int_equal(files(f), 0);
	assert_int_equal(cxlshm_unmap(other, two), -EINVAL);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

/* Somebody was stopped in the middle of the same question. */
static void asking_who_uses_an_extent_waits_for_nobody(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	cxlshm_ref ref;
	char path[80];
	int ready[2];
	pid_t pid;
	char byte;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 100, 0, CXLSHM_EXTENT, &ref), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		DIR *dir;
		struct dirent *e;
		int fd = -1;

		signal(SIGIO, SIG_IGN);
		snprintf(path, sizeof(path), "%s/x", f->dir);
		dir = opendir(path);
		while (dir && fd < 0 && (e = readdir(dir)))
			if (e->d_name[0] != '.')
				fd = openat(dirfd(dir), e->d_name, O_RDONLY);
		if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	alarm(20);	/* the kernel takes a lease away after 45 s */
	assert_int_equal(cxlshm_extent_busy(f->client, ref), 1);
	alarm(0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(cxlshm_extent_busy(f->client, ref), 0);
	close(ready[0]);
	close(ready[1]);
	fixture_free(f);
}

static void sizes_change_and_are_reserved(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	struct cxlshm_stat st;
	cxlshm_ref ref;
	char byte = 1;
	void *map;
	int fd;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 0, 0, CXLSHM_EXTENT, &ref), 0);
	assert_int_equal(cxlshm_resize(f->client, ref, 1 << 20), 0);
	assert_int_equal(cxlshm_stat(f->client, ref, &st), 0);
	assert_int_equal(st.size_bytes, 1 << 20);
	assert_true(st.used_bytes >= 1 << 20);
	assert_int_equal(cxlshm_resize(f->client, ref, 5000), 0);
	assert_int_equal(cxlshm_size(f->client, ref), 5000);
	assert_int_equal(cxlshm_resize(f->client, ref, 9000), 0);
	fd = cxlshm_extent_open(f->client, ref, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(cxlshm_extent_busy(f->client, ref), 1);
	assert_int_equal(pread(fd, &byte, 1, 8999), 1);
	assert_int_equal(byte, 0);
	close(fd);
	assert_int_equal(cxlshm_extent_busy(f->client, ref), 0);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	assert_int_equal(cxlshm_size(f->client, ref), 9000);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
	assert_int_equal(cxlshm_size(f->client, ref), 9000);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE, 4096, 8192), 0);
	assert_int_equal(cxlshm_size(f->client, ref), 12288);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_PUNCH_HOLE, 0, 4096), -EOPNOTSUPP);
	/* What the kernel refuses stays refused: no zeroes in its stead. */
	assert_int_equal(cxlshm_map(f->client, ref, 0, 4096, PROT_READ | PROT_WRITE, &map), 0);
	strcpy(map, "important");
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_string_equal(map, "important");
	assert_int_equal(cxlshm_unmap(f->client, map), 0);
	assert_int_equal(cxlshm_reserve(f->client, ref, 0, 0, 0), -EINVAL);
	assert_int_equal(cxlshm_resize(f->client, ref, UINT64_MAX), -EFBIG);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

struct appending {
	int fd;
	uint32_t stop;
	uint32_t lost;	/* bytes written that the file has no more */
};

static void *append(void *arg)
{
	struct appending *a = arg;
	off_t size = 0;
	struct stat st;

	while (!__atomic_load_n(&a->stop, __ATOMIC_ACQUIRE)) {
		if (pwrite(a->fd, "x", 1, size) != 1 || fstat(a->fd, &st))
			return arg;
		size++;
		a->lost += st.st_size < size;
		size = st.st_size;
		if (size >= 4096 && ftruncate(a->fd, size = 0))
			return arg;
	}
	return NULL;
}

/* Somebody else's writes may make the file longer while a call finds out that there is no room. */
static void a_size_that_has_no_room_takes_nothing_away(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct appending a = {0};
	pthread_t thread;
	cxlshm_ref ref;
	void *rc;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 0, 0, CXLSHM_EXTENT, &ref), 0);
	a.fd = cxlshm_extent_open(f->client, ref, O_RDWR);
	assert_true(a.fd >= 0);
	assert_int_equal(pthread_create(&thread, NULL, append, &a), 0);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(cxlshm_resize(f->client, ref, 1ull << 45), -ENOSPC);
	__atomic_store_n(&a.stop, 1, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(thread, &rc), 0);
	assert_null(rc);
	assert_int_equal(a.lost, 0);
	close(a.fd);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

#define ZERO_BYTES (1 << 20)

/* Bytes from..to of the file that differ from want. */
static int others_than(int fd, int from, int to, char want)
{
	static char bytes[4 * ZERO_BYTES];
	int n = 0;

	if (pread(fd, bytes, (size_t)(to - from), from) != to - from)
		return -1;
	for (int i = 0; i < to - from; i++)
		n += bytes[i] != want;
	return n;
}

static int fill(int fd, int bytes)
{
	static char x[ZERO_BYTES];

	memset(x, 'x', sizeof(x));
	return pwrite(fd, x, (size_t)bytes, 0) == bytes;
}

/* A file of 1 MiB of x and a hole of as much behind it, and no room to fill that. */
static int zero_without_room(struct cxlshm_client *c, const char *dir)
{
	struct stat before, after;
	cxlshm_ref ref;
	int fd;

	SMALL_REQUIRE(!cxlshm_alloc_with(c, 0, 0, CXLSHM_EXTENT, &ref));
	fd = cxlshm_extent_open(c, ref, O_RDWR);
	SMALL_REQUIRE(fd >= 0 && fill(fd, ZERO_BYTES) && !ftruncate(fd, 2 * ZERO_BYTES) && !fstat(fd, &before));
	SMALL_REQUIRE(small_tmpfs_fill(dir, ZERO_BYTES / 2));
	for (int mode = FALLOC_FL_ZERO_RANGE;; mode |= FALLOC_FL_KEEP_SIZE) {
		SMALL_REQUIRE(cxlshm_reserve(c, ref, mode, 0, 4 * ZERO_BYTES) == -ENOSPC);
		SMALL_REQUIRE(!fstat(fd, &after));
		SMALL_REQUIRE(after.st_size == before.st_size && after.st_blocks == before.st_blocks);
		SMALL_REQUIRE(!others_than(fd, 0, ZERO_BYTES, 'x'));
		if (mode & FALLOC_FL_KEEP_SIZE)
			break;
	}
	/* What it has it can zero, with no room at all. */
	SMALL_REQUIRE(small_tmpfs_fill(dir, 0));
	SMALL_REQUIRE(!cxlshm_reserve(c, ref, FALLOC_FL_ZERO_RANGE, 5000, ZERO_BYTES - 10000));
	SMALL_REQUIRE(!fstat(fd, &after) && after.st_blocks == before.st_blocks);
	SMALL_REQUIRE(!others_than(fd, 0, 5000, 'x') && !others_than(fd, 5000, ZERO_BYTES - 5000, 0) &&
		      !others_than(fd, ZERO_BYTES - 5000, ZERO_BYTES, 'x'));
	return 0;
}

static void zeroing_without_room_changes_nothing(void **state)
{
	(void)state;
	small_tmpfs_run(8, 4 << 20, zero_without_room);
}

static void a_range_is_zeroed_and_reserved(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	struct stat st;
	cxlshm_ref ref;
	int fd;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 10000, 0, CXLSHM_EXTENT, &ref), 0);
	fd = cxlshm_extent_open(f->client, ref, O_RDWR);
	assert_true(fd >= 0);
	assert_true(fill(fd, 10000));
	/* Over the end, which stays. */
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 9000, 91000), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 10000);
	assert_true(st.st_blocks * 512 >= 100000);
	assert_int_equal(others_than(fd, 0, 9000, 'x'), 0);
	assert_int_equal(others_than(fd, 9000, 10000, 0), 0);
	/* Over the end, which moves; and all of it behind the end. */
	assert_true(fill(fd, 10000));
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE, 1, 20000), 0);
	assert_int_equal(cxlshm_size(f->client, ref), 20001);
	assert_int_equal(others_than(fd, 0, 1, 'x'), 0);
	assert_int_equal(others_than(fd, 1, 20001, 0), 0);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE, 300000, 100000), 0);
	assert_int_equal(cxlshm_size(f->client, ref), 400000);
	assert_int_equal(others_than(fd, 20001, 400000, 0), 0);
	close(fd);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

/* In a plain directory, where the file system has more than the pool may have. */
static void no_file_outgrows_the_pool(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	const uint64_t pool = 4 << 20;
	cxlshm_ref ref, other;
	int fd;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, pool + 1, 0, CXLSHM_EXTENT, &ref), -ENOSPC);
	assert_int_equal(cxlshm_alloc_with(f->client, 3 << 20, 0, CXLSHM_EXTENT, &ref), 0);
	assert_int_equal(cxlshm_resize(f->client, ref, pool + 4096), -ENOSPC);
	assert_int_equal(cxlshm_reserve(f->client, ref, 0, 2 << 20, 3 << 20), -ENOSPC);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_ZERO_RANGE, 0, pool + 1), -ENOSPC);
	assert_int_equal(cxlshm_size(f->client, ref), 3 << 20);
	assert_int_equal(cxlshm_reserve(f->client, ref, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 30), 0);
	/* One with a hole in it may be longer. */
	assert_int_equal(cxlshm_alloc_with(f->client, 0, 0, CXLSHM_EXTENT, &other), 0);
	fd = cxlshm_extent_open(f->client, other, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "x", 1, 1 << 30), 1);
	close(fd);
	assert_int_equal(cxlshm_resize(f->client, other, (1 << 30) + 8192), 0);
	assert_int_equal(cxlshm_reserve(f->client, other, 0, 1 << 20, 4096), 0);
	assert_int_equal(cxlshm_release(f->client, other), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

static void other_objects_have_no_extent(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	cxlshm_ref ref;
	void *address;

	(void)state;
	assert_int_equal(cxlshm_alloc(f->client, 5000, &ref), 0);
	assert_int_equal(cxlshm_resize(f->client, ref, 1), -EINVAL);
	assert_int_equal(cxlshm_map(f->client, ref, 0, 4096, PROT_READ, &address), -EINVAL);
	assert_int_equal(cxlshm_extent_open(f->client, ref, O_RDONLY), -EINVAL);
	assert_int_equal(cxlshm_extent_busy(f->client, ref), -EINVAL);
	fixture_free(f);
}

/* The attributes are behind the cells: a header that says too many leads out of the pool, and is not followed. */
static void a_damaged_header_has_no_extent(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	struct pool *pool = (struct pool *)f->pool;
	struct object_fmt *object;
	uint64_t value;
	cxlshm_ref ref;
	void *address;

	(void)state;
	assert_int_equal(cxlshm_create(f->client, 0, "/file", 8192, 0600, &ref), 0);
	object = off_object(pool, cxlshm_id(f->client, ref));
	value = a128_value_relaxed(&object->word);
	a128_store_value_release(&object->word, value ^ 0xffull << 56);
	assert_int_equal(cxlshm_map(f->client, ref, 0, 4096, PROT_READ, &address), -EUCLEAN);
	assert_int_equal(cxlshm_resize(f->client, ref, 4096), -EUCLEAN);
	assert_int_equal(cxlshm_extent_busy(f->client, ref), -EUCLEAN);
	assert_int_equal(cxlshm_size(f->client, ref), -EUCLEAN);
	a128_store_value_release(&object->word, value);
	assert_int_equal(cxlshm_size(f->client, ref), 8192);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

static void die_once_made(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	(void)c;
	if (point == CRASH_extent_created)
		raise(SIGKILL);
}

/* As user uid of the pool's group: make a file and die, or recover.  Its wait status. */
static int user_does(const struct fixture *f, uid_t uid, gid_t gid, int makes)
{
	struct cxlshm_client *c;
	struct cxlshm_pool *mine;
	cxlshm_ref ref;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		alarm(60);
		if (setgid(gid) || setuid(uid) || cxlshm_pool_open(f->dir, 0, &mine, NULL))
			_exit(1);
		((struct pool *)mine)->crash_hook = die_once_made;
		if (!makes)
			_exit(cxlshm_recover(mine, NULL) ? 2 : 0);
		_exit(cxlshm_join(mine, "doomed", 0, &c) || cxlshm_alloc_with(c, 4096, 0, CXLSHM_EXTENT, &ref) ? 3 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* The file has the pool's mode only once its maker has come so far. */
static void anybody_of_the_group_recovers_a_maker(void **state)
{
	struct cxlshm_pool_options options = {
		.size_bytes = 4 << 20, .client_slots = 4, .mode = 0660, .uid = 1001, .gid = 2000};
	struct cxlshm_check_result result;
	struct fixture f = {.dir = "/dev/shm/cxlshm-unit-XXXXXX"};

	(void)state;
	SKIP_IF_ONE_PROCESS();
	if (geteuid())
		skip();
	assert_non_null(mkdtemp(f.dir));
	assert_int_equal(chmod(f.dir, 0755), 0);
	assert_int_equal(cxlshm_pool_create(f.dir, &options, NULL), 0);
	assert_int_equal(user_does(&f, 1001, 2000, 1), SIGKILL);
	assert_int_equal(files(&f), 1);
	assert_int_equal(user_does(&f, 1002, 2000, 0), 0);
	assert_int_equal(files(&f), 0);
	assert_int_equal(cxlshm_check(f.dir, 0, fixture_report, NULL, &result, NULL), 0);
	assert_int_equal(result.problems, 0);
	assert_int_equal(cxlshm_pool_remove(f.dir, NULL), 0);
	assert_int_equal(rmdir(f.dir), 0);
}

/* Who may open the heap may open its extents, whatever their maker's umask is. */
static void an_extent_has_the_mode_of_the_heap(void **state)
{
	struct cxlshm_pool_options options = {
		.size_bytes = 4 << 20, .client_slots = 4, .mode = 0660, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct stat heap, extent;
	char path[100];
	cxlshm_ref ref;
	mode_t was;
	int fd;

	(void)state;
	assert_non_null(f);
	strcpy(f->dir, "/dev/shm/cxlshm-unit-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(cxlshm_pool_create(f->dir, &options, NULL), 0);
	assert_int_equal(cxlshm_pool_open(f->dir, 0, &f->pool, NULL), 0);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &f->client), 0);
	was = umask(077);
	assert_int_equal(cxlshm_alloc_with(f->client, 4096, 0, CXLSHM_EXTENT, &ref), 0);
	umask(was);
	snprintf(path, sizeof(path), "%s/heap", f->dir);
	assert_int_equal(stat(path, &heap), 0);
	assert_int_equal(heap.st_mode & 0777, 0660);
	fd = cxlshm_extent_open(f->client, ref, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &extent), 0);
	close(fd);
	assert_int_equal(extent.st_mode & 0777, 0660);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

static void leaving_unmaps(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	struct cxlshm_client *other;
	void *address;
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	assert_int_equal(cxlshm_alloc_with(other, 4096, 0, CXLSHM_EXTENT, &ref), 0);
	assert_int_equal(cxlshm_map(other, ref, 0, 4096, PROT_READ | PROT_WRITE, &address), 0);
	assert_int_equal(cxlshm_map(other, ref, 4095, 4096, PROT_READ, &address), -EINVAL);
	assert_int_equal(cxlshm_leave(other), 0);
	assert_int_equal(files(f), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_mapped_and_go_with_the_object),
		cmocka_unit_test(asking_who_uses_an_extent_waits_for_nobody),
		cmocka_unit_test(sizes_change_and_are_reserved),
		cmocka_unit_test(a_size_that_has_no_room_takes_nothing_away),
		cmocka_unit_test(zeroing_without_room_changes_nothing),
		cmocka_unit_test(a_range_is_zeroed_and_reserved),
		cmocka_unit_test(no_file_outgrows_the_pool),
		cmocka_unit_test(other_objects_have_no_extent),
		cmocka_unit_test(a_damaged_header_has_no_extent),
		cmocka_unit_test(anybody_of_the_group_recovers_a_maker),
		cmocka_unit_test(an_extent_has_the_mode_of_the_heap),
		cmocka_unit_test(leaving_unmaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
