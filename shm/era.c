/* SPDX-License-Identifier: MIT */
/*
 * The question that recovery asks.
 */
#include "era.h"

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
