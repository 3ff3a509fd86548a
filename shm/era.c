/* SPDX-License-Identifier: MIT */
/*
 * The slow half of publishing, and the question recovery asks.
 */
#include "era.h"

void era_publish_slow(struct client *c, uint64_t stamp)
{
	uint32_t cid = stamp_cid(stamp);
	uint64_t era = stamp_era(stamp);

	/* NONE was never written by a client; a LINK, or anything else out of range, belongs to nobody. */
	if (cid == STAMP_CID_NONE || cid > c->pool->slots)
		return;
	if (a64_load_relaxed(&c->row[cid]) >= era)
		return;
	a64_store_release(&c->row[cid], era);
	persist(c->pool, &c->row[cid], sizeof(c->row[cid]));
}

int era_landed(const struct pool *pool, uint32_t cid, uint64_t era, const struct a128 *word)
{
	uint64_t high;

	/*
	 * The word first, then the rows: who replaced the stamp published before, so if the word no longer shows it,
	 * the note is there.
	 */
	if (word && a128_load_acquire(word).stamp == stamp_make(cid, era))
		return 1;
	high = a64_load_acquire(&pool->shared->slots_high);
	for (uint32_t j = 1; j <= high && j <= pool->slots; j++)
		if (j != cid && a64_load_acquire(&pool_era_row(pool, j)[cid]) >= era)
			return 1;
	return 0;
}
