/* SPDX-License-Identifier: MIT */
/*
 * Two operations on names, one within the other: whenever client A comes to a given point, client B does something, and
 * A goes on.  So each of these interleavings is tried in every run, however narrow it is.
 */
#include "names_pool.h"

#include "names_ops.h"

#define ok(call) assert_int_equal(call, 0)
#define fails(call, error) assert_int_equal(call, -(error))
#define EVERY CRASH_POINT_COUNT

struct between {
	struct names_pool *p;
	struct cxlshm_client *b;
	unsigned point;	/* at which B acts, or EVERY */
	unsigned skip;	/* times that A passes it before */
	unsigned fired;
	uint64_t dir;
	void (*act)(struct between *t);
};

static void hook(void *arg, struct client *c, unsigned point)
{
	struct between *t = arg;

	if (c != (struct client *)t->p->c || (t->point != EVERY && (point != t->point || t->fired)) || !t->act)
		return;
	if (t->skip) {
		t->skip--;
		return;
	}
	t->fired++;
	t->act(t);
}

static void begin(void **state, struct between *t, unsigned point, unsigned skip, void (*act)(struct between *t))
{
	struct pool *pool;

	memset(t, 0, sizeof(*t));
	t->p = *state;
	t->point = point;
	t->skip = skip;
	ok(cxlshm_join(t->p->pool, "b", 0, &t->b));
	pool = (struct pool *)t->p->pool;
	pool->crash_arg = t;
	pool->crash_hook = hook;
	t->act = act;
}

static void end(struct between *t)
{
	assert_true(t->fired > 0);
	((struct pool *)t->p->pool)->crash_hook = NULL;
	ok(cxlshm_leave(t->b));
}

static uint64_t id_of(struct cxlshm_client *c, const char *path)
{
	cxlshm_ref ref;
	uint64_t id;

	if (cxlshm_lookup(c, 0, path, 0, &ref))
		return 0;
	id = cxlshm_id(c, ref);
	ok(cxlshm_release(c, ref));
	return id;
}

static uint64_t make(struct names_pool *p, const char *path)
{
	ok(cxlshm_mknod(p->c, 0, path, S_IFIFO | 0600, NULL));
	return id_of(p->c, path);
}

static uint64_t make_dir(struct names_pool *p, const char *path)
{
	ok(cxlshm_mkdir(p->c, 0, path, 0700, NULL));
	return id_of(p->c, path);
}

/* ---- a rename whose old name goes ---- */

static void b_unlinks_a(struct between *t)
{
	assert_true(id_of(t->b, "a") != 0 && id_of(t->b, "a") == id_of(t->b, "b"));
	ok(cxlshm_unlink(t->b, 0, "a"));
}

static void an_unlinked_file_is_not_renamed(void **state)
{
	struct between t;

	make(*state, "a");
	begin(state, &t, CRASH_names_renamed, 0, b_unlinks_a);
	fails(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0), ENOENT);
	assert_int_equal(id_of(t.b, "b"), 0);
	end(&t);
}

static void what_it_would_have_replaced_comes_back(void **state)
{
	uint64_t old;
	struct between t;

	make(*state, "a");
	old = make(*state, "b");
	begin(state, &t, CRASH_names_renamed, 0, b_unlinks_a);
	fails(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0), ENOENT);
	assert_int_equal(id_of(t.b, "b"), old);
	end(&t);
}

static void b_unlinks_old(struct between *t)
{
	ok(cxlshm_unlink(t->b, 0, "a"));
}

static void an_exchange_with_a_directory_is_taken_back(void **state)
{
	uint64_t old;
	struct between t;

	make(*state, "a");
	make_dir(*state, "e");
	old = make_dir(*state, "e/b");
	begin(state, &t, CRASH_names_renamed, 0, b_unlinks_old);
	fails(cxlshm_rename(t.p->c, 0, "a", 0, "e/b", CXLSHM_EXCHANGE), ENOENT);
	assert_int_equal(id_of(t.b, "e/b"), old);
	end(&t);
	ok(cxlshm_mkdir(t.p->c, 0, "e/b/c", 0700, NULL));
}

static void b_takes_all_of_an_exchange(struct between *t)
{
	ok(cxlshm_unlink(t->b, 0, "d/x"));
	/* What was d/x shows nowhere, and d is where it goes when its new name is taken. */
	fails(cxlshm_rmdir(t->b, 0, "d"), ENOTEMPTY);
	ok(cxlshm_unlink(t->b, 0, "a"));
	ok(cxlshm_mknod(t->b, 0, "a", S_IFIFO | 0600, NULL));
	t->dir = id_of(t->b, "a");
}

static void what_an_exchange_displaced_keeps_its_directory(void **state)
{
	uint64_t x;
	struct between t;

	make(*state, "a");
	make_dir(*state, "d");
	x = make(*state, "d/x");
	begin(state, &t, CRASH_names_renamed, 0, b_takes_all_of_an_exchange);
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "d/x", CXLSHM_EXCHANGE));	/* with the other a */
	assert_int_equal(id_of(t.b, "a"), x);
	assert_int_equal(id_of(t.b, "d/x"), t.dir);
	end(&t);
}

static void b_renames_a_to_c(struct between *t)
{
	ok(cxlshm_rename(t->b, 0, "a", 0, "c", 0));
}

static void of_two_renames_the_first_to_take_the_old_name_is_done(void **state)
{
	struct between t;
	uint64_t a = make(*state, "a");

	begin(state, &t, CRASH_names_renamed, 0, b_renames_a_to_c);
	fails(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0), ENOENT);
	assert_int_equal(id_of(t.b, "b"), 0);
	assert_int_equal(id_of(t.b, "c"), a);
	end(&t);
}

static void b_renames_x_to_a(struct between *t)
{
	ok(cxlshm_rename(t->b, 0, "x", 0, "a", 0));
}

static void a_new_old_name_is_renamed_instead(void **state)
{
	struct between t;
	uint64_t x;

	make(*state, "a");
	x = make(*state, "x");
	begin(state, &t, CRASH_names_renamed, 0, b_renames_x_to_a);
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0));
	assert_int_equal(id_of(t.b, "b"), x);
	assert_int_equal(id_of(t.b, "a"), 0);
	end(&t);
}

static void b_takes_both_names(struct between *t)
{
	ok(cxlshm_rename(t->b, 0, "b", 0, "d", 0));
	ok(cxlshm_unlink(t->b, 0, "a"));
}

static void a_new_name_that_went_on_is_left_alone(void **state)
{
	struct between t;
	uint64_t a = make(*state, "a");

	begin(state, &t, CRASH_names_renamed, 0, b_takes_both_names);
	fails(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0), ENOENT);
	assert_int_equal(id_of(t.b, "d"), a);
	end(&t);
}

/* ---- a directory is renamed and removed ---- */

static void b_removes_both(struct between *t)
{
	fails(cxlshm_rmdir(t->b, 0, "a"), ENOTEMPTY);
	fails(cxlshm_rmdir(t->b, 0, "b"), ENOTEMPTY);
}

static void a_directory_being_renamed_cannot_be_removed(void **state)
{
	struct between t;
	uint64_t a = make_dir(*state, "a");

	begin(state, &t, CRASH_names_renamed, 0, b_removes_both);
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0));
	assert_int_equal(id_of(t.b, "b"), a);
	end(&t);
	ok(cxlshm_mkdir(t.p->c, 0, "b/c", 0700, NULL));
}

static void b_renames_the_directory(struct between *t)
{
	ok(cxlshm_rename(t->b, 0, "a", 0, "b", 0));
}

/* rmdir takes two references, then loads the count: a rename right before that, and one right after. */
static void rmdir_removes_no_directory_of_another_name(void **state)
{
	struct between t;
	uint64_t a = make_dir(*state, "a");

	begin(state, &t, CRASH_ref_attach_rooted, 1, b_renames_the_directory);
	fails(cxlshm_rmdir(t.p->c, 0, "a"), ENOENT);
	assert_int_equal(id_of(t.b, "b"), a);
	end(&t);
	ok(cxlshm_rename(t.p->c, 0, "b", 0, "a", 0));
	begin(state, &t, CRASH_redo_sealed, 2, b_renames_the_directory);
	fails(cxlshm_rmdir(t.p->c, 0, "a"), ENOENT);
	assert_int_equal(id_of(t.b, "b"), a);
	end(&t);
	ok(cxlshm_mkdir(t.p->c, 0, "b/c", 0700, NULL));
}

static void b_makes_it_anew(struct between *t)
{
	assert_int_equal(id_of(t->b, "a"), 0);
	fails(cxlshm_unlink(t->b, 0, "a"), ENOENT);
	fails(cxlshm_rmdir(t->b, 0, "a"), ENOENT);
	ok(cxlshm_mkdir(t->b, 0, "a", 0700, NULL));
	ok(cxlshm_mkdir(t->b, 0, "a/b", 0700, NULL));
}

static void who_removes_a_directory_is_not_waited_for(void **state)
{
	struct between t;

	make_dir(*state, "a");
	begin(state, &t, CRASH_cell_count_todo, 0, b_makes_it_anew);
	ok(cxlshm_rmdir(t.p->c, 0, "a"));
	assert_true(id_of(t.b, "a/b") != 0);
	end(&t);
}

static void b_renames_a_file_over_it(struct between *t)
{
	ok(cxlshm_rename(t->b, 0, "f", 0, "a", CXLSHM_NOREPLACE));
}

static void nor_by_who_renames_over_it(void **state)
{
	struct between t;
	uint64_t f = make(*state, "f");

	make_dir(*state, "a");
	begin(state, &t, CRASH_cell_count_todo, 0, b_renames_a_file_over_it);
	ok(cxlshm_rmdir(t.p->c, 0, "a"));
	assert_int_equal(id_of(t.b, "a"), f);
	end(&t);
}

static void b_adds_an_entry(struct between *t)
{
	ok(cxlshm_mkdir(t->b, 0, "a/b", 0700, NULL));
}

static void an_entry_added_first_keeps_the_directory(void **state)
{
	struct between t;

	make_dir(*state, "a");
	begin(state, &t, CRASH_redo_sealed, 2, b_adds_an_entry);
	fails(cxlshm_rmdir(t.p->c, 0, "a"), ENOTEMPTY);
	assert_true(id_of(t.b, "a/b") != 0);
	end(&t);
}

/* ---- death in between ---- */

static jmp_buf died;

static void a_dies(struct between *t)
{
	t->act = NULL;
	longjmp(died, 1);
}

/* The third count that it changes: marked as about to be replaced. */
static void a_directory_that_was_to_be_replaced_lives_on(void **state)
{
	struct between t;
	uint64_t a = make_dir(*state, "a"), b = make_dir(*state, "b");

	begin(state, &t, CRASH_cell_count_todo, 2, a_dies);
	if (!setjmp(died)) {
		(void)cxlshm_rename(t.p->c, 0, "a", 0, "b", 0);
		fail();
	}
	assert_int_equal(id_of(t.b, "b"), b);
	fails(cxlshm_mkdir(t.b, 0, "b/c", 0700, NULL), ENOENT);
	client_abandon((struct client *)t.p->c);
	ok(cxlshm_recover(t.p->pool, NULL));
	ok(cxlshm_mkdir(t.b, 0, "b/c", 0700, NULL));
	assert_int_equal(id_of(t.b, "a"), a);
	assert_int_equal(id_of(t.b, "b"), b);
	ok(cxlshm_join(t.p->pool, "test", 0, &t.p->c));
	end(&t);
}

static void a_name_half_removed_goes_with_recovery(void **state)
{
	struct between t;

	make_dir(*state, "a");
	begin(state, &t, CRASH_cell_count_todo, 0, a_dies);
	if (!setjmp(died)) {
		(void)cxlshm_rmdir(t.p->c, 0, "a");
		fail();
	}
	assert_int_equal(id_of(t.b, "a"), 0);
	client_abandon((struct client *)t.p->c);
	ok(cxlshm_recover(t.p->pool, NULL));
	ok(cxlshm_mkdir(t.b, 0, "a", 0700, NULL));
	ok(cxlshm_join(t.p->pool, "test", 0, &t.p->c));
	end(&t);
}

static void rmdir_ends_and_b_unlinks_a(struct between *t)
{
	ok(cxlshm_recover(t->p->pool, NULL));
	ok(cxlshm_unlink(t->b, 0, "a"));
}

/* A rename put its entry over a directory just being removed, and is taken back when that is gone. */
static void a_removed_directory_does_not_come_back(void **state)
{
	struct cxlshm_client *renamer;
	struct between t;

	make(*state, "a");
	make_dir(*state, "d");
	begin(state, &t, CRASH_cell_count_todo, 0, a_dies);
	ok(cxlshm_join(t.p->pool, "renamer", 0, &renamer));	/* before: who joins recovers the dead */
	if (!setjmp(died)) {
		(void)cxlshm_rmdir(t.p->c, 0, "d");
		fail();
	}
	client_abandon((struct client *)t.p->c);
	t.p->c = renamer;
	t.fired = 0;
	t.point = CRASH_names_renamed;
	t.act = rmdir_ends_and_b_unlinks_a;
	fails(cxlshm_rename(t.p->c, 0, "a", 0, "d", 0), ENOENT);
	assert_int_equal(id_of(t.b, "d"), 0);
	end(&t);
	names_check(t.p);	/* no name leads to it */
}

/* A client that died with dir_move in hand, and with an entry raised, is recovered by who needs it. */
static void the_dead_are_in_nobodys_way(void **state)
{
	struct between t;

	make_dir(*state, "a");
	make_dir(*state, "b");
	begin(state, &t, CRASH_names_move_taken, 0, a_dies);
	if (!setjmp(died)) {
		(void)cxlshm_rename(t.p->c, 0, "a", 0, "c", 0);
		fail();
	}
	client_abandon((struct client *)t.p->c);
	ok(cxlshm_rename(t.b, 0, "b", 0, "a/b", 0));
	ok(cxlshm_join(t.p->pool, "test", 0, &t.p->c));
	t.skip = 0;
	t.fired = 0;
	t.point = CRASH_cell_count_todo;
	t.act = a_dies;
	if (!setjmp(died)) {
		(void)cxlshm_mkdir(t.p->c, 0, "a/b/c", 0700, NULL);
		fail();
	}
	client_abandon((struct client *)t.p->c);
	ok(cxlshm_rmdir(t.b, 0, "a/b"));
	ok(cxlshm_join(t.p->pool, "test", 0, &t.p->c));
	end(&t);
}

/* ---- what shows at every step ---- */

/* Is the name there?  Changes nothing: at every step of A, a reference taken and dropped would fail every CAS of A. */
static int shows(struct between *t, uint64_t dir, const char *name)
{
	struct client *b = (struct client *)t->b;
	struct names_key key = names_key_of(b, name, strlen(name));
	struct names_spot s;

	ok(names_find(b, dir ? dir : b->pool->super->root_dir, &key, &s));
	return names_present(&s);
}

static void one_of_both_shows(struct between *t)
{
	assert_true(shows(t, 0, "a") || shows(t, t->dir, "b"));
}

static void while_a_rename_runs_a_name_shows(void **state)
{
	struct between t;

	uint64_t d = make_dir(*state, "d");

	make(*state, "a");
	begin(state, &t, EVERY, 0, NULL);
	t.dir = d;
	t.act = one_of_both_shows;
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "d/b", 0));
	t.act = NULL;
	ok(cxlshm_unlink(t.p->c, 0, "d/b"));
	make_dir(*state, "a");
	t.act = one_of_both_shows;
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "d/b", 0));
	end(&t);
}

static void b_shows(struct between *t)
{
	assert_true(shows(t, 0, "b"));
}

static void a_name_that_is_replaced_or_exchanged_always_shows(void **state)
{
	struct between t;

	make(*state, "a");
	make(*state, "b");
	begin(state, &t, EVERY, 0, b_shows);
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0));
	ok(cxlshm_create(t.p->c, 0, "a", 0, 0600, NULL));
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "b", CXLSHM_EXCHANGE));
	t.act = NULL;
	ok(cxlshm_unlink(t.p->c, 0, "a"));
	ok(cxlshm_unlink(t.p->c, 0, "b"));
	make_dir(*state, "a");
	make_dir(*state, "a/c");
	make_dir(*state, "b");
	t.act = b_shows;
	ok(cxlshm_rename(t.p->c, 0, "a", 0, "b", 0));
	assert_true(id_of(t.b, "b/c") != 0);
	end(&t);
}

/* The names stay in the directory while their edges become nodes. */
static const char *const some[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

static void all_show(struct between *t)
{
	for (unsigned i = 0; i < 10; i++)
		assert_true(shows(t, 0, some[i]));
}

static void making_room_hides_nobody(void **state)
{
	struct between t;
	char name[16];

	for (unsigned i = 0; i < 10; i++)
		make(*state, some[i]);
	begin(state, &t, EVERY, 0, all_show);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "new%u", i);
		ok(cxlshm_mknod(t.p->c, 0, name, S_IFIFO | 0600, NULL));
	}
	end(&t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names_setup, names_teardown)
	const struct CMUnitTest tests[] = {
		TEST(an_unlinked_file_is_not_renamed),
		TEST(what_it_would_have_replaced_comes_back),
		TEST(an_exchange_with_a_directory_is_taken_back),
		TEST(what_an_exchange_displaced_keeps_its_directory),
		TEST(of_two_renames_the_first_to_take_the_old_name_is_done),
		TEST(a_new_old_name_is_renamed_instead),
		TEST(a_new_name_that_went_on_is_left_alone),
		TEST(a_directory_being_renamed_cannot_be_removed),
		TEST(rmdir_removes_no_directory_of_another_name),
		TEST(who_removes_a_directory_is_not_waited_for),
		TEST(nor_by_who_renames_over_it),
		TEST(an_entry_added_first_keeps_the_directory),
		TEST(a_directory_that_was_to_be_replaced_lives_on),
		TEST(a_name_half_removed_goes_with_recovery),
		TEST(a_removed_directory_does_not_come_back),
		TEST(the_dead_are_in_nobodys_way),
		TEST(while_a_rename_runs_a_name_shows),
		TEST(a_name_that_is_replaced_or_exchanged_always_shows),
		TEST(making_room_hides_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
