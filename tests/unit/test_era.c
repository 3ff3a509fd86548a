/* SPDX-License-Identifier: MIT */
/*
 * Eras and redo records: did that client's step land?
 */
#include "fixture.h"

#include "redo.h"
#include "era.h"

struct two {
	struct fixture *f;
	struct client *a, *b;
	cxlshm_ref holder;
	struct a128 *word;	/* a counter word of nobody else's: the second cell of an object */
};

static struct two *two_new(void)
{
	struct two *t = calloc(1, sizeof(*t));
	struct cxlshm_client *b;

	t->f = fixture_new(1 << 20, 4);
	assert_int_equal(cxlshm_join(t->f->pool, "b", 0, &b), 0);
	t->a = (struct client *)t->f->client;
	t->b = (struct client *)b;
	assert_int_equal(cxlshm_alloc_with(t->f->client, 32, 0, CXLSHM_ZERO, &t->holder), 0);
	t->word = cxlshm_ptr(t->f->client, t->holder);
	return t;
}

static void two_free(struct two *t)
{
	assert_int_equal(cxlshm_release(t->f->client, t->holder), 0);
	assert_int_equal(cxlshm_leave((struct cxlshm_client *)t->b), 0);
	fixture_free(t->f);
	free(t);
}

static void a_step_that_stands_has_landed(void **state)
{
	struct two *t = two_new();
	uint64_t era = client_era(t->a);

	(void)state;
	assert_false(era_landed(t->a->pool, t->a->cid, era, t->word));
	assert_true(era_cas(t->a, t->word, a128_load_acquire(t->word), 7));
	assert_true(era_landed(t->a->pool, t->a->cid, era, t->word));
	assert_false(era_landed(t->a->pool, t->a->cid, era + 1, t->word));
	assert_false(era_landed(t->a->pool, t->b->cid, era, t->word));
	era_bump(t->a);
	two_free(t);
}

static void a_step_that_was_replaced_has_landed_all_the_same(void **state)
{
	struct two *t = two_new();
	uint64_t era = client_era(t->a);

	(void)state;
	assert_true(era_cas(t->a, t->word, a128_load_acquire(t->word), 7));
	era_bump(t->a);
	assert_true(era_cas(t->b, t->word, a128_load_acquire(t->word), 8));
	era_bump(t->b);
	assert_int_equal(a128_load_acquire(t->word).value, 8);
	assert_true(era_landed(t->a->pool, t->a->cid, era, t->word));
	assert_true(era_landed(t->a->pool, t->a->cid, era, NULL));
	assert_false(era_landed(t->a->pool, t->a->cid, era + 1, NULL));
	two_free(t);
}

static void a_lost_race_has_not_landed(void **state)
{
	struct two *t = two_new();
	struct stamped seen = a128_load_acquire(t->word);
	uint64_t era = client_era(t->a);

	(void)state;
	assert_true(era_cas(t->b, t->word, seen, 8));
	era_bump(t->b);
	assert_false(era_cas(t->a, t->word, seen, 7));
	assert_false(era_landed(t->a->pool, t->a->cid, era, t->word));
	two_free(t);
}

static void stamps_never_come_back(void **state)
{
	struct two *t = two_new();
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct stamped seen = a128_load_acquire(t->word);

		assert_true(era_cas(t->a, t->word, seen, 1));
		era_bump(t->a);
		assert_true(a128_load_acquire(t->word).stamp > last);
		last = a128_load_acquire(t->word).stamp;
	}
	two_free(t);
}

static void links_and_nobody_are_not_published(void **state)
{
	struct two *t = two_new();

	(void)state;
	era_publish(t->a, stamp_link(4096), 0);
	era_publish(t->a, stamp_make(STAMP_CID_NONE, 99), 0);
	for (uint32_t cid = 1; cid <= t->a->pool->slots; cid++)
		if (cid != t->a->cid)
			assert_true(a64_load_acquire(&t->a->row[cid]) < 99);
	era_publish(t->a, stamp_make(t->b->cid, 1), 0);
	assert_int_equal(a64_load_acquire(&t->a->row[t->b->cid]), 1);
	two_free(t);
}

static void a_record_counts_from_its_seal_to_the_bump(void **state)
{
	struct two *t = two_new();
	struct redo_fmt *r = redo_begin(t->a, REDO_COUNT);

	(void)state;
	r->word = off_of(t->a->pool, t->word);
	assert_false(redo_sealed(t->a));
	redo_seal(t->a, r);
	assert_true(redo_sealed(t->a));
	/* Another round of the same transaction: unsealed while its fields change. */
	r = redo_begin(t->a, REDO_COUNT);
	assert_false(redo_sealed(t->a));
	r->word = off_of(t->a->pool, t->word);
	redo_seal(t->a, r);
	era_bump(t->a);
	assert_false(redo_sealed(t->a));
	two_free(t);
}

static void eras_survive_the_slots_reuse(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct cxlshm_client *c;
	uint64_t era;
	uint32_t cid;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &c), 0);
	cid = cxlshm_client_id(c);
	era_bump((struct client *)c);
	era = client_era((struct client *)c);
	assert_int_equal(cxlshm_leave(c), 0);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &c), 0);
	assert_int_equal(cxlshm_client_id(c), cid);
	assert_true(client_era((struct client *)c) >= era);
	assert_int_equal(cxlshm_leave(c), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_step_that_stands_has_landed),
		cmocka_unit_test(a_step_that_was_replaced_has_landed_all_the_same),
		cmocka_unit_test(a_lost_race_has_not_landed),
		cmocka_unit_test(stamps_never_come_back),
		cmocka_unit_test(links_and_nobody_are_not_published),
		cmocka_unit_test(a_record_counts_from_its_seal_to_the_bump),
		cmocka_unit_test(eras_survive_the_slots_reuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
