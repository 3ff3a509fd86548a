/* SPDX-License-Identifier: MIT */
/*
 * era: the recoverable compare-and-swap (CXL-SHM, SOSP 2023, section 4; DESIGN.md "The core").
 *
 * A stamped word {value, stamp} is changed by one 16-byte CAS that leaves the writer's stamp {cid, era} in it.
 * Before overwriting somebody else's stamp a writer notes it in its own era row.  So "did client i's write in
 * era e land?" has an answer at any later time: the word still shows the stamp, or somebody's row has i at e or more.
 *
 * What ends in _if takes `host`: write back, as in failure_domain=host.  Where it is a constant, the short paths of ref.c
 * and cell.c have nothing of it.
 *
 * Progress: publish and bump are wait-free; a loop around era_cas() is lock-free, for a failed CAS means that
 * another client's succeeded.
 */
#ifndef CXLSHM_ERA_H
#define CXLSHM_ERA_H

#include "client.h"

static inline uint64_t era_stamp(const struct client *c)
{
	return stamp_make(c->cid, client_era(c));
}

/*
 * Note that the stamp was seen, before it is overwritten (rule 2).  NONE was never written by a client; a LINK, or anything
 * else out of range, belongs to nobody.
 * Pairs: era_landed() reads the rows after the word.
 * Crash: a note about a write that did take place: true for ever, harmless.
 */
static inline void era_publish(struct client *c, uint64_t stamp, int host)
{
	uint32_t cid = stamp_cid(stamp);

	if (cid == c->cid || cid - 1 >= c->slots || a64_load_relaxed(&c->row[cid]) >= stamp_era(stamp))
		return;
	a64_store_release(&c->row[cid], stamp_era(stamp));
	persist_if(host, &c->row[cid], sizeof(c->row[cid]));
}

/* Replace old by {value, my stamp}; 1 if that took place. */
static inline int era_cas_if(struct client *c, struct a128 *word, struct stamped old, uint64_t value, int host)
{
	era_publish(c, old.stamp, host);
	CRASH_POINT(c, era, published);
	if (!a128_cas(word, old, (struct stamped){value, era_stamp(c)}))
		return 0;
	persist_if(host, word, sizeof(*word));
	return 1;
}

static inline int era_cas(struct client *c, struct a128 *word, struct stamped old, uint64_t value)
{
	return era_cas_if(c, word, old, value, c->pool->host);
}

/* The same where nobody else can write the word: one plain 16-byte store, so that a crash leaves all of it or nothing. */
static inline void era_store_if(struct client *c, struct a128 *word, uint64_t old_stamp, uint64_t value, int host)
{
	era_publish(c, old_stamp, host);
	CRASH_POINT(c, era, store_published);
	a128_store_release(word, (struct stamped){value, era_stamp(c)});
	persist_if(host, word, sizeof(*word));
}

static inline void era_store(struct client *c, struct a128 *word, uint64_t old_stamp, uint64_t value)
{
	era_store_if(c, word, old_stamp, value, c->pool->host);
}

/*
 * End the transaction: the era is used up (rules 1, 3 and 4), and a record sealed in it is no longer read.
 * Pairs: recovery compares the record's era with this word.
 */
static inline void era_bump_if(struct client *c, int host)
{
	a64_store_release(c->era_word, client_era(c) + 1);
	fence_compiler();	/* the next record is filled with plain stores: not before this one counts no more */
	persist_if(host, c->era_word, sizeof(*c->era_word));
	CRASH_POINT(c, era, bumped);
}

static inline void era_bump(struct client *c)
{
	era_bump_if(c, c->pool->host);
}

/* Did the write of client cid in this era to this word land?  The caller holds the lock of slot cid.  word is NULL if its
 * memory has been given back: then it was overwritten, and only the others' rows can tell. */
int era_landed(const struct pool *pool, uint32_t cid, uint64_t era, const struct a128 *word);

#endif
