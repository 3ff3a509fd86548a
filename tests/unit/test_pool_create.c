/* SPDX-License-Identifier: MIT */
/*
 * Making and removing pools: geometry, options, owner and modes, other people's files, unfinished pools.
 */
#include "pool_fixture.h"

static void touch(const char *name)
{
	int fd = open(in_dir(name), O_CREAT | O_RDWR, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static int is_there(const char *name)
{
	struct stat st;

	return lstat(in_dir(name), &st) == 0;
}

static void wipe(void)
{
	int fd = open(in_dir("heap"), O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pool_super_wipe(fd), 0);
	close(fd);
}

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

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	read_super(&first, SUPER_OFF);
	touch("x/0000000000000017");
	assert_refused(make(8 * MIB), -EEXIST);
	assert_int_equal(open_pool(0), 0);
	o.force = 1;
	assert_int_equal(make_with(&o), 0);
	read_super(&second, SUPER_OFF);
	assert_memory_not_equal(first.uuid, second.uuid, 16);
	assert_int_equal(stat(in_dir("x/0000000000000017"), &st), -1);
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

/* x/ without a heap is what is left of a pool; it may be empty, or hold extents, which are not ours without force. */
static void leftover_folder_is_taken(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);

	(void)state;
	assert_int_equal(mkdir(in_dir("x"), 0700), 0);
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
	assert_int_equal(mkdir(in_dir("x"), 0700), 0);
	touch("x/00000000000000af");
	assert_refused(make_with(&o), -ENOTEMPTY);
	assert_true(is_there("x/00000000000000af"));
	assert_false(is_there("heap"));
	o.force = 1;
	assert_int_equal(make_with(&o), 0);
	assert_false(is_there("x/00000000000000af"));
	assert_int_equal(open_pool(0), 0);
}

/* Whatever the heap is: what has no extent's name, or is no file, stops everything before anything is deleted. */
static void other_files_in_x_are_left_alone(void **state)
{
	static const char *const names[] = {
		"x/letter", "x/17", "x/00000000000000AF", "x/00000000000000af.jpg", "x/00000000000000ag",
	};
	struct cxlshm_pool_options o = options(8 * MIB);

	(void)state;
	o.force = 1;
	for (int heap = 0; heap < 4; heap++) {	/* none, empty, without superblock, whole */
		if (heap >= 2) {
			assert_int_equal(make(8 * MIB), 0);
		} else {
			assert_int_equal(mkdir(in_dir("x"), 0700), 0);
		}
		if (heap == 1)
			touch("heap");
		if (heap == 2)
			wipe();
		touch("x/00000000000000af");
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) + 2; i++) {
			const char *name = i < sizeof(names) / sizeof(names[0]) ? names[i] : "x/00000000000000b0";

			if (i < sizeof(names) / sizeof(names[0]))
				touch(name);
			else if (i == sizeof(names) / sizeof(names[0]))
				assert_int_equal(mkdir(in_dir(name), 0700), 0);
			else
				assert_int_equal(symlink("/etc/passwd", in_dir(name)), 0);
			assert_refused(make_with(&o), -ENOTEMPTY);
			assert_non_null(strstr(err.text, name));
			if (heap)
				assert_refused(cxlshm_pool_remove(dir, &err), -ENOTEMPTY);
			assert_true(is_there(name) && is_there("x/00000000000000af"));
			assert_int_equal(is_there("heap"), heap > 0);
			assert_int_equal(remove(in_dir(name)), 0);
		}
		if (heap == 3)
			assert_int_equal(open_pool(0), 0);
		if (heap == 0) {
			assert_int_equal(unlink(in_dir("x/00000000000000af")), 0);
			assert_int_equal(rmdir(in_dir("x")), 0);
		} else {
			assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
			assert_false(is_there("x") || is_there("heap"));
		}
	}
	/* x itself may be somebody's file, or lead to somebody's folder. */
	touch("x");
	assert_refused(make_with(&o), -ENOTEMPTY);
	assert_true(is_there("x") && !is_there("heap"));
	assert_int_equal(unlink(in_dir("x")), 0);
	assert_int_equal(symlink("/etc", in_dir("x")), 0);
	assert_refused(make_with(&o), -ENOTEMPTY);
	assert_true(is_there("x") && !is_there("heap"));
}

/* A file of zeros where the first superblock would be, but not where its copy would be, is not ours. */
static void zeros_alone_make_no_heap(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	int fd;

	(void)state;
	touch("heap");
	fd = open(in_dir("heap"), O_RDWR);
	assert_int_equal(pwrite(fd, "precious", 8, SUPER_COPY_OFF), 8);
	close(fd);
	o.force = 1;
	assert_refused(make_with(&o), -ENOTEMPTY);
	assert_refused(cxlshm_pool_remove(dir, &err), -ENOTEMPTY);
	assert_true(is_there("heap"));
}

/* Of two at once one makes the pool, whole.  The window is narrow: without the lock one round in a thousand fails. */
static void two_at_once_make_one_pool(void **state)
{
	struct cxlshm_pool_options o = options(MIB);
	unsigned *round = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(round != MAP_FAILED);
	for (unsigned i = 1; i <= 500; i++) {
		int status, made = 0;
		pid_t child[2];

		fflush(NULL);
		for (int k = 0; k < 2; k++) {
			child[k] = fork();
			if (child[k] == 0) {
				while (__atomic_load_n(round, __ATOMIC_ACQUIRE) < i)
					;
				for (unsigned spin = 0; k && spin < i * 37 % 4000; spin++)
					__asm__ volatile("");
				_exit(make_with(&o) ? 1 : 0);
			}
		}
		__atomic_store_n(round, i, __ATOMIC_RELEASE);
		for (int k = 0; k < 2; k++) {
			assert_int_equal(waitpid(child[k], &status, 0), child[k]);
			made += status == 0;
		}
		assert_in_range(made, 0, 1);
		if (made)
			assert_int_equal(open_pool(0), 0);
		(void)cxlshm_pool_remove(dir, NULL);
	}
	munmap(round, 4096);
}

static void unfinished_pool_is_taken(void **state)
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
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(open_pool(0), 0);
	assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
	/* It died still earlier. */
	touch("heap");
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(open_pool(0), 0);
}

/* A removal that died on its way has wiped the superblock, and may have left extents: those only force gives up. */
static void half_removed_pool_is_taken_with_force(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);

	(void)state;
	for (int remove = 0; remove < 2; remove++) {
		assert_int_equal(make(8 * MIB), 0);
		touch("x/00000000000000af");
		wipe();
		assert_refused(make_with(&o), -EEXIST);
		assert_true(is_there("x/00000000000000af"));
		if (remove) {
			assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
			assert_int_equal(rmdir(dir), 0);
		} else {
			o.force = 1;
			assert_int_equal(make_with(&o), 0);
			o.force = 0;
			assert_int_equal(open_pool(0), 0);
			assert_int_equal(cxlshm_pool_remove(dir, &err), 0);
		}
	}
}

/* Killed behind the superblock's copy, or a removal between the superblock and its copy: all of it is there. */
static void pool_without_its_first_superblock_is_completed(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct super_fmt super, first;
	static const struct super_fmt none;
	int fd;

	(void)state;
	assert_int_equal(make(8 * MIB), 0);
	read_super(&super, SUPER_OFF);
	for (int damaged = 0; damaged < 2; damaged++) {
		fd = open(in_dir("heap"), O_RDWR);
		assert_int_equal(pwrite(fd, &none, sizeof(none), SUPER_OFF), sizeof(none));
		if (damaged)	/* not what a killed one leaves: that is for fsck */
			assert_int_equal(pwrite(fd, "x", 1, SUPER_OFF + 8), 1);
		close(fd);
		assert_refused(open_pool(0), -EUCLEAN);
		assert_refused(make_with(&o), -EEXIST);
		read_super(&first, SUPER_OFF);
		assert_int_equal(!memcmp(&first, &super, sizeof(first)), !damaged);
		if (damaged)
			assert_refused(open_pool(0), -EUCLEAN);
		else
			assert_int_equal(open_pool(0), 0);
	}
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(made_pool_opens),
		T(geometry_fits_every_size),
		T(bad_options_are_refused),
		T(mode_and_group_are_applied),
		T(making_again_needs_force),
		T(other_files_are_left_alone),
		T(leftover_folder_is_taken),
		T(other_files_in_x_are_left_alone),
		T(zeros_alone_make_no_heap),
		T(two_at_once_make_one_pool),
		T(unfinished_pool_is_taken),
		T(half_removed_pool_is_taken_with_force),
		T(pool_without_its_first_superblock_is_completed),
		T(discarded_pool_leaves_nothing),
		T(full_file_system_is_enospc),
	};

	return cmocka_run_group_tests_name("pool_create", tests, NULL, NULL);
}
