/* SPDX-License-Identifier: MIT */
/*
 * Names under several processes at once, some of which are killed at any moment: whatever happens, the pool is in order
 * after recovery; a name that is only ever replaced is never missing; of several renames of one name one is done; a
 * listing shows each entry that stays exactly once.  Seeds are printed; CXLSHM_SEED sets them, CXLSHM_ONLY
 * names a test.
 */
#include "length.h"
#include "names_pool.h"

#include <signal.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ok(call) assert_int_equal(call, 0)
#define WORKERS 4
#define PATIENCE 20	/* seconds more, on a slow machine */

/* What the processes of one test share, next to the pool. */
struct board {
	volatile int stop;
	volatile uint64_t done[WORKERS];	/* in all lives of it */
	volatile uint64_t wrong[WORKERS];	/* line of the first thing that must not be */
};

struct worker {
	struct cxlshm_client *c;
	struct board *board;
	int me;
	uint64_t random;
};

typedef void work(struct worker *w);

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t seed(void)
{
	const char *text = getenv("CXLSHM_SEED");
	uint64_t value = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();

	print_message("  CXLSHM_SEED=%llu\n", (unsigned long long)value);
	return value | 1;
}

static double seconds(void)
{
	return by_length(1, 2, 20);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define MUST(w, condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition) && !(w)->board->wrong[(w)->me])                                                       \
			(w)->board->wrong[(w)->me] = __LINE__;                                                         \
	} while (0)

static struct board *board_new(void)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(board != MAP_FAILED);
	return board;
}

static pid_t start(struct names_pool *p, struct board *board, work *run, int me, uint64_t random)
{
	struct worker w = {.board = board, .me = me, .random = random | 1};
	struct cxlshm_pool *pool;
	struct cxlshm_error error;
	pid_t pid = fork();
	int rc;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	if (cxlshm_pool_open(p->dir, 0, &pool, &error))
		_exit(90);
	/* Slots of the dead may be many for a moment. */
	while ((rc = cxlshm_join(pool, "worker", 0, &w.c)) == -EUSERS)
		usleep(1000);
	if (rc)
		_exit(91);
	run(&w);
	cxlshm_leave(w.c);
	_exit(0);
}

static void no_worker_complained(const struct board *board)
{
	for (int i = 0; i < WORKERS; i++)
		if (board->wrong[i])
			fail_msg("worker %d: line %llu", i, (unsigned long long)board->wrong[i]);
}

static int all_did_something(const struct board *board)
{
	for (int i = 0; i < WORKERS; i++)
		if (!board->done[i])
			return 0;
	return 1;
}

/*
 * Run the workers until time is up; kill: one of them is killed every few milliseconds and started again.  Each must do
 * something, however slow the machine, and somebody must have been killed who had.
 */
static void crowd(struct names_pool *p, struct board *board, work *run, uint64_t random, int kill_them)
{
	double end = now() + seconds();
	pid_t pid[WORKERS];
	uint64_t before[WORKERS] = {0};
	unsigned kills = 0, busy = 0;
	int status;

	for (int i = 0; i < WORKERS; i++)
		pid[i] = start(p, board, run, i, next_random(&random));
	while (now() < end || (kill_them && !busy && now() < end + PATIENCE)) {
		int i = (int)(next_random(&random) % WORKERS);

		usleep((useconds_t)(next_random(&random) % 8000));
		if (!kill_them)
			continue;
		kill(pid[i], SIGKILL);
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFSIGNALED(status));
		kills++;
		busy += board->done[i] != before[i];
		before[i] = board->done[i];
		/* Sometimes the others go on beside a dead one for a while. */
		if (next_random(&random) % 3)
			ok(cxlshm_recover(p->pool, NULL));
		pid[i] = start(p, board, run, i, next_random(&random));
	}
	while (!all_did_something(board) && now() < end + 2 * PATIENCE)
		usleep(1000);
	board->stop = 1;
	for (int i = 0; i < WORKERS; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	ok(cxlshm_recover(p->pool, NULL));
	if (kill_them)
		print_message("  %u killed, %u of them at work\n", kills, busy);
	assert_true(all_did_something(board));
	assert_true(busy || !kill_them);
	no_worker_complained(board);
	munmap(board, sizeof(*board));
	names_check(p);
}

/* ---- anything goes ---- */

static int is_one_of(int rc, const int *errors)
{
	if (!rc)
		return 1;
	for (; *errors; errors++)
		if (rc == -*errors)
			return 1;
	return 0;
}

/* Any operation on a few names in a few directories; whatever it answers must be what such an operation may answer. */
static void anything(struct worker *w)
{
	static const char *const dirs[] = {"", "d1/", "d2/", "d1/d3/", "d2/d4/"};
	const int usual[] = {ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL, 0};
	struct cxlshm_stat st = {0};
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	char a[64], b[64];
	cxlshm_ref ref;
	int rc;

	while (!w->board->stop) {
		uint64_t r = next_random(&w->random);

		snprintf(a, sizeof(a), "%s%c%d", dirs[r % 5], r >> 8 & 3 ? 'n' : 'd', (int)(r >> 16 & 7));
		snprintf(b, sizeof(b), "%s%c%d", dirs[(r >> 24) % 5], r >> 32 & 3 ? 'n' : 'd', (int)(r >> 40 & 7));
		switch (r >> 48 & 15) {
		case 0:
			rc = cxlshm_create(w->c, 0, a, r & 8191, 0600, NULL);
			break;
		case 1:
		case 2:
			rc = cxlshm_mkdir(w->c, 0, a, 0700, NULL);
			break;
		case 3:
			rc = cxlshm_mknod(w->c, 0, a, S_IFIFO | 0600, NULL);
			break;
		case 4:
			rc = cxlshm_alloc(w->c, 64, &ref);
			MUST(w, !rc);
			rc = cxlshm_link(w->c, ref, 0, a, 0600);
			MUST(w, !cxlshm_release(w->c, ref));
			break;
		case 5:
			rc = cxlshm_unlink(w->c, 0, a);
			break;
		case 6:
			rc = cxlshm_rmdir(w->c, 0, a);
			break;
		case 7:
		case 8:
		case 9:
			rc = cxlshm_rename(w->c, 0, a, 0, b, 0);
			break;
		case 10:
			rc = cxlshm_rename(w->c, 0, a, 0, b, CXLSHM_EXCHANGE);
			break;
		case 11:
			rc = cxlshm_rename(w->c, 0, a, 0, b, CXLSHM_NOREPLACE);
			break;
		case 12:
			rc = cxlshm_lookup(w->c, 0, a, CXLSHM_INODE, &ref);
			if (rc)
				break;
			rc = cxlshm_link(w->c, ref, 0, b, 0);
			if (rc == -EPERM)
				rc = 0;
			MUST(w, !cxlshm_stat(w->c, ref, &st));
			MUST(w, !cxlshm_setattr(w->c, ref, &st, CXLSHM_SET_MTIME));
			MUST(w, !cxlshm_release(w->c, ref));
			break;
		case 13:
			rc = cxlshm_lookup(w->c, 0, a, CXLSHM_INODE, &ref);
			if (rc)
				break;
			rc = cxlshm_setxattr(w->c, ref, b, a, 10, 0);
			MUST(w, !cxlshm_release(w->c, ref));
			break;
		case 14:
			rc = cxlshm_lookup(w->c, 0, a, 0, &ref);
			if (!rc)
				MUST(w, !cxlshm_release(w->c, ref));
			break;
		default:
			rc = cxlshm_readdir(w->c, 0, &position, &entry, r & 1024 ? &ref : NULL);
			if (rc == -ENOENT)
				position = 0;
			else if (r & 1024)
				MUST(w, !cxlshm_release(w->c, ref));
			break;
		}
		MUST(w, is_one_of(rc, usual));
		w->board->done[w->me]++;
	}
}

static void killed_at_any_moment_the_pool_stays_in_order(void **state)
{
	ok(cxlshm_mkdir(((struct names_pool *)*state)->c, 0, "d1", 0700, NULL));
	crowd(*state, board_new(), anything, seed(), 1);
}

static void many_at_once_the_pool_stays_in_order(void **state)
{
	ok(cxlshm_mkdir(((struct names_pool *)*state)->c, 0, "d1", 0700, NULL));
	crowd(*state, board_new(), anything, seed(), 0);
}

/* ---- replacing ---- */

/* Two replace "t" and "e" by rename, two look. */
static void replace_or_look(struct worker *w)
{
	struct cxlshm_dirent entry;
	char name[32];
	cxlshm_ref ref;

	snprintf(name, sizeof(name), "new-%d", w->me);
	while (!w->board->stop) {
		if (w->me < 2) {
			int rc = cxlshm_mknod(w->c, 0, name, S_IFIFO | 0600, NULL);

			MUST(w, !rc || rc == -EEXIST);	/* killed before it renamed the last one */
			MUST(w, !cxlshm_rename(w->c, 0, name, 0, "t", 0));
			rc = cxlshm_mkdir(w->c, 0, name, 0700, NULL);
			MUST(w, !rc || rc == -EEXIST);
			if (rc)
				continue;
			MUST(w, !cxlshm_rename(w->c, 0, name, 0, "e", 0));
		} else {
			uint64_t position = 0;
			int seen = 0;

			MUST(w, !cxlshm_lookup(w->c, 0, "t", 0, &ref) && !cxlshm_release(w->c, ref));
			MUST(w, !cxlshm_lookup(w->c, 0, "e", 0, &ref) && !cxlshm_release(w->c, ref));
			while (!cxlshm_readdir(w->c, 0, &position, &entry, NULL))
				seen += !strcmp(entry.name, "t") + !strcmp(entry.name, "e");
			MUST(w, seen == 2);
		}
		w->board->done[w->me]++;
	}
}

static void a_replaced_name_is_never_missing(void **state)
{
	struct names_pool *p = *state;

	ok(cxlshm_mknod(p->c, 0, "t", S_IFIFO | 0600, NULL));
	ok(cxlshm_mkdir(p->c, 0, "e", 0700, NULL));
	crowd(p, board_new(), replace_or_look, seed(), 0);
}

/* Killed between making a name and renaming it, a worker finds a directory where it makes a fifo: that is fine here. */
static void replace_and_die(struct worker *w)
{
	char name[32];
	cxlshm_ref ref;

	snprintf(name, sizeof(name), "new-%d", w->me);
	while (!w->board->stop) {
		if (w->me < 2) {
			int made = cxlshm_mkdir(w->c, 0, name, 0700, NULL);
			int rc = cxlshm_rename(w->c, 0, name, 0, "e", 0);

			/* It was there: its maker died in the rename, and another worker's recovery may just have finished that. */
			MUST(w, !rc || (made == -EEXIST && rc == -ENOENT));
			if (rc && w->board->wrong[w->me])
				fprintf(stderr, "mkdir %d, rename %d\n", made, rc);
		} else {
			MUST(w, !cxlshm_lookup(w->c, 0, "e", 0, &ref) && !cxlshm_release(w->c, ref));
		}
		w->board->done[w->me]++;
	}
}

static void a_replaced_directory_is_never_missing_though_replacers_die(void **state)
{
	struct names_pool *p = *state;

	ok(cxlshm_mkdir(p->c, 0, "e", 0700, NULL));
	crowd(p, board_new(), replace_and_die, seed(), 1);
}

/* ---- claiming by rename ---- */

#define CLAIMS 3000

static void claim(struct worker *w)
{
	char from[32], to[32];

	while (!w->board->stop)
		;
	for (int i = 0; i < CLAIMS; i++) {
		int rc;

		snprintf(from, sizeof(from), "new/%d", i);
		snprintf(to, sizeof(to), "cur%d/%d", w->me & 1, i);
		if (w->me & 2)
			snprintf(to, sizeof(to), "cur%d/%d-%d", w->me & 1, i, w->me);
		rc = cxlshm_rename(w->c, 0, from, 0, to, w->me == 3 ? CXLSHM_NOREPLACE : 0);
		MUST(w, !rc || rc == -ENOENT);
		w->board->done[w->me] += !rc;
	}
}

static void of_many_renames_of_one_name_one_is_done(void **state)
{
	struct board *board = board_new();
	struct names_pool *p = *state;
	uint64_t won = 0, left = 0;
	const char *dirs[] = {"new", "cur0", "cur1"};
	pid_t pid[WORKERS];
	char name[32];
	int status;

	for (int i = 0; i < 3; i++)
		ok(cxlshm_mkdir(p->c, 0, dirs[i], 0700, NULL));
	for (int i = 0; i < CLAIMS; i++) {
		snprintf(name, sizeof(name), "new/%d", i);
		ok(cxlshm_mknod(p->c, 0, name, S_IFIFO | 0600, NULL));
	}
	for (int i = 0; i < WORKERS; i++)
		pid[i] = start(p, board, claim, i, 1);
	usleep(50000);
	board->stop = 1;
	for (int i = 0; i < WORKERS; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
		won += board->done[i];
	}
	no_worker_complained(board);
	for (int i = 0; i < 3; i++) {
		struct cxlshm_stat st;
		cxlshm_ref ref;

		ok(cxlshm_lookup(p->c, 0, dirs[i], 0, &ref));
		ok(cxlshm_stat(p->c, ref, &st));
		ok(cxlshm_release(p->c, ref));
		left += st.size_bytes;
		assert_true(i || !st.size_bytes);
	}
	assert_int_equal(won, CLAIMS);
	assert_int_equal(left, CLAIMS);
	munmap(board, sizeof(*board));
}

/* ---- listing ---- */

#define STAY 500

static void change_or_list(struct worker *w)
{
	struct cxlshm_dirent entry;
	char name[32];
	cxlshm_ref ref;

	while (!w->board->stop) {
		uint64_t r = next_random(&w->random);

		snprintf(name, sizeof(name), "go%d", (int)(r >> 16) & 1023);
		if (w->me < 2) {
			if (r & 1)
				(void)cxlshm_mknod(w->c, 0, name, S_IFIFO | 0600, NULL);
			else
				(void)cxlshm_unlink(w->c, 0, name);
		} else {
			char seen[STAY] = {0};
			uint64_t position = 0;

			while (!cxlshm_readdir(w->c, 0, &position, &entry, w->me == 3 ? &ref : NULL)) {
				if (w->me == 3)
					MUST(w, !cxlshm_release(w->c, ref));
				if (!strncmp(entry.name, "stay", 4))
					seen[atoi(entry.name + 4)]++;
			}
			for (int i = 0; i < STAY; i++)
				MUST(w, seen[i] == 1);
		}
		w->board->done[w->me]++;
	}
}

static void a_listing_shows_what_stays_exactly_once(void **state)
{
	struct names_pool *p = *state;
	char name[32];

	for (int i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "stay%d", i);
		ok(cxlshm_mknod(p->c, 0, name, S_IFIFO | 0600, NULL));
	}
	crowd(p, board_new(), change_or_list, seed(), 0);
}

/* ---- size ---- */

static double look_up_some(struct names_pool *p, int names)
{
	uint64_t random = 88172645463325252ull;
	double begin = now();
	char name[32];
	cxlshm_ref ref;

	for (int i = 0; i < 200000; i++) {
		snprintf(name, sizeof(name), "name-%d", (int)(next_random(&random) % (unsigned)names));
		ok(cxlshm_lookup(p->c, 0, name, CXLSHM_INODE, &ref));
		ok(cxlshm_release(p->c, ref));
	}
	return (now() - begin) / 200000 * 1e9;
}

static void a_directory_takes_a_million_names(void **state)
{
	const int names = 1000000;
	struct cxlshm_dirent entry;
	struct names_pool *p = *state;
	struct names_pool big;
	uint64_t position = 0;
	cxlshm_ref inode;
	double begin, few;
	char name[32];
	int n;

	(void)p;
	ok(names_open(&big, 1u << 30));
	ok(cxlshm_mknod(big.c, 0, "name-0", S_IFIFO | 0600, &inode));
	for (n = 1; n < 100; n++) {
		snprintf(name, sizeof(name), "name-%d", n);
		ok(cxlshm_link(big.c, inode, 0, name, 0));
	}
	few = look_up_some(&big, 100);
	begin = now();
	for (; n < names; n++) {
		snprintf(name, sizeof(name), "name-%d", n);
		ok(cxlshm_link(big.c, inode, 0, name, 0));
	}
	print_message("  insert %.0f ns", (now() - begin) / names * 1e9);
	print_message(", look up among 100 %.0f ns, among a million %.0f ns", few, look_up_some(&big, names));
	begin = now();
	for (n = 0; !cxlshm_readdir(big.c, 0, &position, &entry, NULL); n++)
		;
	assert_int_equal(n, names);
	print_message(", list %.0f ns", (now() - begin) / names * 1e9);
	ok(cxlshm_release(big.c, inode));
	begin = now();
	for (n = 0; n < names; n++) {
		snprintf(name, sizeof(name), "name-%d", n);
		ok(cxlshm_unlink(big.c, 0, name));
	}
	print_message(", remove %.0f ns each\n", (now() - begin) / names * 1e9);
	names_check(&big);
	names_close(&big);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names_setup, names_teardown)
	const struct CMUnitTest tests[] = {
		TEST(many_at_once_the_pool_stays_in_order),
		TEST(killed_at_any_moment_the_pool_stays_in_order),
		TEST(a_replaced_name_is_never_missing),
		TEST(a_replaced_directory_is_never_missing_though_replacers_die),
		TEST(of_many_renames_of_one_name_one_is_done),
		TEST(a_listing_shows_what_stays_exactly_once),
		TEST(a_directory_takes_a_million_names),
	};

	if (getenv("CXLSHM_ONLY"))
		cmocka_set_test_filter(getenv("CXLSHM_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
