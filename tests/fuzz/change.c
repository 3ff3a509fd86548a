/* SPDX-License-Identifier: MIT */
/*
 * Changes of a pool's metadata, made of bytes: what to do, where (24 bits, over all ranges of metadata laid end to end), and
 * 8 bytes to do it with.
 */
#include <string.h>

#include "damage.h"

struct place {
	uint64_t left, off;
	int found;
};

static void total(void *arg, uint64_t off, uint64_t bytes, const char *what)
{
	(void)off;
	(void)what;
	*(uint64_t *)arg += bytes;
}

static void find(void *arg, uint64_t off, uint64_t bytes, const char *what)
{
	struct place *p = arg;

	(void)what;
	if (p->found)
		return;
	if (p->left < bytes) {
		p->off = off + p->left;
		p->found = 1;
	} else {
		p->left -= bytes;
	}
}

void damage_change(struct damage *d, const uint8_t *at)
{
	uint64_t bytes = 0, word, now;
	struct place place = {.left = at[1] | (uint64_t)at[2] << 8 | (uint64_t)at[3] << 16};

	damage_ranges(d, total, &bytes);
	place.left %= bytes;
	damage_ranges(d, find, &place);
	memcpy(&word, at + 4, 8);
	if (at[0] & 1) {
		d->heap[place.off] = at[0] & 2 ? (char)at[4] : (char)(d->heap[place.off] ^ at[4]);
		return;
	}
	place.off &= ~7ull;
	memcpy(&now, d->heap + place.off, 8);
	switch (at[0] >> 1 & 3) {
	case 0:
		now = word;
		break;
	case 1:
		now ^= word;
		break;
	case 2:
		now += (uint64_t)(int64_t)(int8_t)at[4];
		break;
	default:	/* what another place holds: offsets that are almost right */
		place = (struct place){.left = word % bytes};
		damage_ranges(d, find, &place);
		memcpy(&word, d->heap + (place.off & ~7ull), 8);
		now = word;
	}
	place.left = (at[1] | (uint64_t)at[2] << 8 | (uint64_t)at[3] << 16) % bytes;
	place.found = 0;
	damage_ranges(d, find, &place);
	memcpy(d->heap + (place.off & ~7ull), &now, 8);
}
