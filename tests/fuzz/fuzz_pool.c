/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: damaged pools.  The first byte chooses the image (damage.h); then each 12 bytes are one change of the heap's
 * metadata: what to do, where (24 bits, over all ranges of metadata laid end to end), and 8 bytes to do it with.  Every
 * byte string is an input.  Checked, repaired, used; then, from the start, used as it is.
 */
#include <string.h>

#include "damage.h"

#define CHANGES_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct damage pools[DAMAGE_IMAGES];

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

static void change(struct damage *d, const uint8_t *at)
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

static void clean(void)
{
	for (unsigned i = 0; i < DAMAGE_IMAGES; i++)
		if (pools[i].heap)
			damage_free(&pools[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct damage_outcome outcome;
	struct damage *d;

	if (!size)
		return 0;
	d = &pools[data[0] % DAMAGE_IMAGES];
	if (!d->heap) {
		static int registered;

		damage_make(d, data[0] % DAMAGE_IMAGES);
		if (!registered++)
			atexit(clean);
	}
	for (int how = 1; how <= 2; how++) {
		memset(&outcome, 0, sizeof(outcome));
		damage_restore(d);
		for (size_t i = 0; i < CHANGES_MAX && 1 + 12 * (i + 1) <= size; i++)
			change(d, data + 1 + 12 * i);
		damage_try(d, how, &outcome, NULL);
	}
	return 0;
}
