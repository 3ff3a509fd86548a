/* SPDX-License-Identifier: MIT */
/*
 * Memory: sizes, alignment, contents, exhaustion, giving back.
 */
#include "fixture.h"

static void every_size_is_as_asked_for(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 0);
	size_t sizes[400];
	cxlshm_ref ref[400];
	int n = 0;

	(void)state;
	for (size_t s = 0; s < 100; s++)
		sizes[n++] = s;
	for (size_t s = 100; s < 3000000; s += s / 7)
		sizes[n++] = s;
	for (int i = 0; i < n; i++) {
		char *p;

		assert_int_equal(cxlshm_alloc(f->client, sizes[i], &ref[i]), 0);
		assert_int_equal(cxlshm_size(f->client, ref[i]), (int64_t)sizes[i]);
		p = cxlshm_ptr(f->client, ref[i]);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, i & 0xff, sizes[i]);
	}
	for (int i = 0; i < n; i++) {
		unsigned char *p = cxlshm_ptr(f->client, ref[i]);

		assert_int_equal(cxlshm_size(f->client, ref[i]), (int64_t)sizes[i]);
		for (size_t b = 0; b < sizes[i]; b += b < 64 ? 1 : 61)
			assert_int_equal(p[b], i & 0xff);
	}
	fixture_check(f);
	for (int i = 0; i < n; i++)
		assert_int_equal(cxlshm_release(f->client, ref[i]), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void page_aligned_objects_are(void **state)
{
	static const size_t sizes[] = {0, 1, 4096, 5000, 65536, 1000000, 6000000};
	struct fixture *f = fixture_new(64 << 20, 0);
	cxlshm_ref ref;

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(cxlshm_alloc_with(f->client, sizes[i], 0, CXLSHM_PAGE_ALIGNED, &ref), 0);
		assert_int_equal((uintptr_t)cxlshm_ptr(f->client, ref) % 4096, 0);
		memset(cxlshm_ptr(f->client, ref), 1, sizes[i]);
		assert_int_equal(cxlshm_size(f->client, ref), (int64_t)sizes[i]);
		assert_int_equal(cxlshm_release(f->client, ref), 0);
	}
	fixture_free(f);
}

static void nearly_the_whole_pool_is_one_object(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 0);
	cxlshm_ref ref;

	(void)state;
	for (int again = 0; again < 3; again++) {
		assert_int_equal(cxlshm_alloc(f->client, 55u << 20, &ref), 0);
		((char *)cxlshm_ptr(f->client, ref))[(55u << 20) - 1] = 1;
		fixture_check(f);
		assert_int_equal(cxlshm_release(f->client, ref), 0);
	}
	assert_int_equal(cxlshm_alloc(f->client, 65u << 20, &ref), -ENOSPC);
	assert_int_equal(cxlshm_alloc(f->client, SIZE_MAX, &ref), -ENOSPC);
	fixture_free(f);
}

static void a_full_pool_says_so_and_goes_on(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 0);
	static cxlshm_ref ref[10000];
	int n[2];

	(void)state;
	for (int again = 0; again < 2; again++) {
		int rc = 0;

		for (n[again] = 0; n[again] < 10000 && !rc; n[again] += !rc)
			rc = cxlshm_alloc(f->client, 1000, &ref[n[again]]);
		assert_int_equal(rc, -ENOSPC);
		assert_true(n[again] > 1000);
		fixture_check(f);
		for (int i = 0; i < n[again]; i++)
			assert_int_equal(cxlshm_release(f->client, ref[i]), 0);
	}
	assert_int_equal(n[0], n[1]);
	fixture_free(f);
}

static void zero_means_zero(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 0);
	cxlshm_ref ref;

	(void)state;
	for (size_t s = 1; s < 300000; s = s * 3 + 1) {
		char *p;

		assert_int_equal(cxlshm_alloc(f->client, s, &ref), 0);
		memset(cxlshm_ptr(f->client, ref), 0xee, s);
		assert_int_equal(cxlshm_release(f->client, ref), 0);
		assert_int_equal(cxlshm_alloc_with(f->client, s, 0, CXLSHM_ZERO, &ref), 0);
		p = cxlshm_ptr(f->client, ref);
		for (size_t i = 0; i < s; i++)
			assert_int_equal(p[i], 0);
		assert_int_equal(cxlshm_release(f->client, ref), 0);
	}
	fixture_free(f);
}

/* What one client left behind is not another's to read: not in adopted segments, */
static void memory_of_others_is_scrubbed(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct cxlshm_client *other;
	cxlshm_ref secret[200], keep, ref;
	uint64_t token;
	int n = 0;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(cxlshm_alloc(other, 500, &secret[i]), 0);
		memset(cxlshm_ptr(other, secret[i]), 0x5a, 500);
	}
	/* One that we keep, so that the segment becomes an orphan and is adopted as it is. */
	assert_int_equal(cxlshm_export(other, secret[0], &token), 0);
	assert_int_equal(cxlshm_import(f->client, token, &keep), 0);
	assert_int_equal(cxlshm_leave(other), 0);
	while (!cxlshm_alloc(f->client, 500, &ref)) {
		unsigned char *p = cxlshm_ptr(f->client, ref);

		for (int i = 0; i < 500; i++)
			assert_int_not_equal(p[i], 0x5a);
		n++;
	}
	assert_true(n > 200);
	fixture_free(f);
}

/* not where b drops the last reference to what a wrote, in a segment that b adopts by it, or has adopted before. */
static void what_is_freed_in_an_adopted_segment_is_scrubbed(void **state)
{
	static const size_t sizes[] = {2000, 100000, 600000};	/* of a page with others, of its own pages, of a span */

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fixture *f = fixture_new(16 << 20, 4);
		struct cxlshm_client *a;
		size_t bytes = sizes[i / 2];
		cxlshm_ref ref;

		assert_int_equal(cxlshm_join(f->pool, "a", 0, &a), 0);
		assert_int_equal(cxlshm_alloc(a, bytes, &ref), 0);
		strcpy((char *)cxlshm_ptr(a, ref) + 1000, "a secret");
		assert_int_equal(cxlshm_link(a, ref, 0, "n", 0600), 0);
		assert_int_equal(cxlshm_leave(a), 0);
		if (i % 2)
			assert_int_equal(cxlshm_alloc(f->client, 16, &ref), 0);
		assert_int_equal(cxlshm_unlink(f->client, 0, "n"), 0);
		for (int n = 0; n < 8; n++) {
			assert_int_equal(cxlshm_alloc(f->client, bytes, &ref), 0);
			assert_int_equal(((char *)cxlshm_ptr(f->client, ref))[1000], 0);
		}
		fixture_free(f);
	}
}

/* not in blocks of its own segments that the other used and freed, */
static void blocks_freed_by_others_are_scrubbed(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct cxlshm_client *other;
	cxlshm_ref ref, theirs;
	uint64_t token, ids[8];
	unsigned again = 0;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(cxlshm_alloc(f->client, 500, &ref), 0);
		ids[i] = cxlshm_id(f->client, ref);
		assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
		assert_int_equal(cxlshm_import(other, token, &theirs), 0);
		memset(cxlshm_ptr(other, theirs), 0x5a, 500);
		assert_int_equal(cxlshm_release(other, theirs), 0);
	}
	while (!cxlshm_alloc(f->client, 500, &ref)) {
		unsigned char *p = cxlshm_ptr(f->client, ref);

		for (unsigned i = 0; i < 8; i++)
			again += ids[i] == cxlshm_id(f->client, ref);
		for (int i = 0; i < 500; i++)
			assert_int_not_equal(p[i], 0x5a);
	}
	assert_int_equal(again, 8);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

/* nor where a page got larger blocks and only the first of them were ever handed out. */
static void memory_never_handed_out_again_is_scrubbed(void **state)
{
	struct fixture *f = fixture_new(2 << 20, 4);
	static cxlshm_ref secret[8000];
	struct cxlshm_client *other;
	cxlshm_ref keep, ref;
	uint64_t token;
	int n = 0, fresh = 0;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	for (; n < 8000 && !cxlshm_alloc(other, 500, &secret[n]); n++)
		memset(cxlshm_ptr(other, secret[n]), 0x5a, 500);
	for (int i = 0; i < n; i++)
		if (i % 100)	/* those left keep their segments in use, and so their pages with the client */
			assert_int_equal(cxlshm_release(other, secret[i]), 0);
	assert_int_equal(cxlshm_alloc(other, 1000, &ref), 0);
	memset(cxlshm_ptr(other, ref), 0, 1000);
	assert_int_equal(cxlshm_export(other, ref, &token), 0);
	assert_int_equal(cxlshm_import(f->client, token, &keep), 0);
	assert_int_equal(cxlshm_leave(other), 0);
	for (; !cxlshm_alloc(f->client, 1000, &ref); fresh++) {
		unsigned char *p = cxlshm_ptr(f->client, ref);

		for (int i = 0; i < 1000; i++)
			assert_int_not_equal(p[i], 0x5a);
	}
	assert_true(fresh > 100);
	fixture_free(f);
}

/* `other` gets the only references to all that the client can allocate; how many those are. */
static int hand_all_over(struct fixture *f, struct cxlshm_client *other, cxlshm_ref theirs[], int most)
{
	cxlshm_ref holder, seen, ref;
	uint64_t token;
	int n = 0;

	assert_int_equal(cxlshm_alloc_with(f->client, 16, 1, CXLSHM_CELLS, &holder), 0);
	assert_int_equal(cxlshm_attach(f->client, holder, &ref), 0);
	assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
	assert_int_equal(cxlshm_import(other, token, &seen), 0);
	while (n < most && !cxlshm_alloc(f->client, 1000, &ref)) {
		assert_int_equal(cxlshm_cell_swap(f->client, holder, 0, &ref), 0);
		assert_int_equal(cxlshm_release(f->client, ref), 0);
		if (cxlshm_cell_load(other, seen, 0, &theirs[n]))
			break;
		n++;
	}
	ref = 0;
	assert_int_equal(cxlshm_cell_swap(f->client, holder, 0, &ref), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_int_equal(cxlshm_release(f->client, holder), 0);
	assert_int_equal(cxlshm_release(other, seen), 0);
	return n;
}

/* Wherever in a full pool another client frees something, its owner's next allocation finds it; of another size, too. */
static void what_others_free_is_found_before_the_pool_is_full(void **state)
{
	static const size_t sizes[] = {1000, 2000, 20000};
	static cxlshm_ref theirs[10000];

	(void)state;
	for (unsigned s = 0; s < 3; s++) {
		struct fixture *f = fixture_new(4 << 20, 4);
		uint32_t shift = ((struct pool *)f->pool)->segment_shift;
		struct cxlshm_client *other;
		uint64_t last = 0;
		cxlshm_ref ref;
		int n;

		assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
		n = hand_all_over(f, other, theirs, 10000);
		assert_true(n > 1000);
		while (!cxlshm_alloc(f->client, 1000, &ref))
			;
		for (int i = 0; i < n; i++) {
			uint64_t segment = cxlshm_id(other, theirs[i]) >> shift;

			if (last && segment != last) {
				assert_int_equal(cxlshm_alloc(f->client, sizes[s], &ref), 0);
				while (!cxlshm_alloc(f->client, 1000, &ref))
					;
			}
			last = segment;
			assert_int_equal(cxlshm_release(other, theirs[i]), 0);
		}
		assert_int_equal(cxlshm_leave(other), 0);
		fixture_free(f);
	}
}

/* Orphans without a free page are adopted on the way to memory, not instead of it. */
static void full_orphans_do_not_make_a_pool_full(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_client *first, *other;
	cxlshm_ref ref, held[2];
	uint64_t token;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "first", 0, &first), 0);
	assert_int_equal(cxlshm_alloc(first, 1, &ref), 0);	/* takes the root directory's segment, which has free pages */
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	for (int i = 0; i < 2; i++) {
		/* 50 of a segment's 63 pages, and then so much more that no page is left. */
		assert_int_equal(cxlshm_alloc(other, 50 * 4096 - 16, &ref), 0);
		assert_int_equal(cxlshm_export(other, ref, &token), 0);
		assert_int_equal(cxlshm_import(f->client, token, &held[i]), 0);
		assert_int_equal(cxlshm_alloc(other, 13 * 4096 - 16, &ref), 0);
		assert_int_equal(cxlshm_export(other, ref, &token), 0);
		assert_int_equal(cxlshm_import(f->client, token, &ref), 0);
	}
	assert_int_equal(cxlshm_leave(other), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(cxlshm_attach(f->client, held[i % 2], &ref), 0);
	assert_int_equal(cxlshm_leave(first), 0);
	fixture_free(f);
}

static void eight_clients_share_64_mebibytes(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 0);
	struct cxlshm_client *c[8];
	cxlshm_ref ref;

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(cxlshm_join(f->pool, "eight", 0, &c[i]), 0);
	for (int round = 0; round < 1000; round++)
		for (int i = 0; i < 8; i++)
			assert_int_equal(cxlshm_alloc(c[i], (size_t)(round % 900), &ref), 0);
	fixture_check(f);
	for (int i = 0; i < 8; i++)
		assert_int_equal(cxlshm_leave(c[i]), 0);
	fixture_free(f);
}

/* Objects of that size until they are 4 MiB, or no more can be had; how many bytes it got. */
static size_t take_4_mebibytes(struct cxlshm_client *c, size_t size, cxlshm_ref *refs, int *n)
{
	size_t got = 0;

	for (*n = 0; got < 4 << 20; got += size)
		if (cxlshm_alloc(c, size, &refs[(*n)++])) {
			--*n;
			break;
		}
	return got;
}

/*
 * Each has 4 MiB at a time, of one size after the other, and holds nothing afterwards but a little in between: what it freed
 * serves the others, so in the end all eight have 4 MiB at once, half of the pool.
 */
static void eight_clients_share_64_mebibytes_again_and_again(void **state)
{
	static const size_t sizes[] = {64, 3000, 40000, 300000};
	enum { MOST = (4 << 20) / 64 };
	struct fixture *f = fixture_new(64 << 20, 0);
	cxlshm_ref *refs = malloc(8 * MOST * sizeof(*refs)), kept[8] = {0};
	struct cxlshm_client *c[8];
	int n[8];

	(void)state;
	assert_non_null(refs);
	for (int i = 0; i < 8; i++)
		assert_int_equal(cxlshm_join(f->pool, "eight", 0, &c[i]), 0);
	for (unsigned round = 0; round < 3 * 4; round++)
		for (unsigned i = 0; i < 8; i++) {
			size_t size = sizes[(round + i) % 4];

			assert_true(take_4_mebibytes(c[i], size, refs, &n[i]) >= 4 << 20);
			for (int k = 0; k < n[i]; k++)
				assert_int_equal(cxlshm_release(c[i], refs[k]), 0);
			assert_int_equal(cxlshm_release(c[i], kept[i]), 0);
			assert_int_equal(cxlshm_alloc(c[i], sizes[round % 4] / 2, &kept[i]), 0);
		}
	for (unsigned i = 0; i < 8; i++)
		assert_true(take_4_mebibytes(c[i], sizes[i % 4], refs + i * MOST, &n[i]) >= 4 << 20);
	fixture_check(f);
	for (int i = 0; i < 8; i++)
		assert_int_equal(cxlshm_leave(c[i]), 0);
	assert_int_equal(fixture_objects(f), 1);
	free(refs);
	fixture_free(f);
}

static void memory_goes_back_to_the_system(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 0);
	struct cxlshm_counters counters;
	static cxlshm_ref ref[20000];
	struct stat before, full, after;
	char path[80];

	(void)state;
	snprintf(path, sizeof(path), "%s/heap", f->dir);
	assert_int_equal(stat(path, &before), 0);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(cxlshm_alloc(f->client, 2000, &ref[i]), 0);
	assert_int_equal(stat(path, &full), 0);
	assert_true(full.st_blocks > before.st_blocks + 20000 * 2000 / 512);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(cxlshm_release(f->client, ref[i]), 0);
	assert_int_equal(cxlshm_leave(f->client), 0);
	f->client = NULL;
	assert_int_equal(stat(path, &after), 0);
	/* Never below what the slot's own area took. */
	assert_true(after.st_blocks < before.st_blocks + (4 << 20) / 512);
	assert_int_equal(cxlshm_counters(f->pool, &counters), 0);
	assert_int_equal(counters.segments_owned, 0);
	fixture_free(f);
}

static void a_large_object_dropped_by_an_idle_client_is_anybodys(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 0);
	struct cxlshm_client *other;
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	assert_int_equal(cxlshm_alloc(f->client, 50 << 20, &ref), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_int_equal(cxlshm_alloc(other, 50 << 20, &ref), 0);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

static void bad_arguments_are_refused(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	cxlshm_ref ref = 0;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 8, 2, 0, &ref), -EINVAL);
	assert_int_equal(cxlshm_alloc_with(f->client, 8, 1, CXLSHM_CELLS, &ref), -EINVAL);
	assert_int_equal(cxlshm_alloc_with(f->client, 8, 0, 0x8000, &ref), -EINVAL);
	assert_int_equal(cxlshm_alloc_with(f->client, 64, 1, CXLSHM_EXTENT, &ref), -EINVAL);
	assert_int_equal(cxlshm_alloc_with(f->client, 1ull << 40, CXLSHM_FIELDS_MAX + 1, 0, &ref), -EINVAL);
	assert_int_equal(ref, 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_is_as_asked_for),
		cmocka_unit_test(page_aligned_objects_are),
		cmocka_unit_test(nearly_the_whole_pool_is_one_object),
		cmocka_unit_test(a_full_pool_says_so_and_goes_on),
		cmocka_unit_test(zero_means_zero),
		cmocka_unit_test(memory_of_others_is_scrubbed),
		cmocka_unit_test(what_is_freed_in_an_adopted_segment_is_scrubbed),
		cmocka_unit_test(blocks_freed_by_others_are_scrubbed),
		cmocka_unit_test(memory_never_handed_out_again_is_scrubbed),
		cmocka_unit_test(what_others_free_is_found_before_the_pool_is_full),
		cmocka_unit_test(full_orphans_do_not_make_a_pool_full),
		cmocka_unit_test(eight_clients_share_64_mebibytes),
		cmocka_unit_test(eight_clients_share_64_mebibytes_again_and_again),
		cmocka_unit_test(memory_goes_back_to_the_system),
		cmocka_unit_test(a_large_object_dropped_by_an_idle_client_is_anybodys),
		cmocka_unit_test(bad_arguments_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
