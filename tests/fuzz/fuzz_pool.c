/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: damaged pools.  The first byte chooses the image (damage.h); then each 12 bytes are one change of the heap's
 * metadata (change.c).  Every byte string is an input.  Used as it is; then, from the start, checked, repaired and used, and sound if the
 * repair said so.
 */
#include <string.h>

#include "damage.h"

#define CHANGES_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct damage pools[DAMAGE_IMAGES];

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
		for (size_t i = 0; i < CHANGES_MAX && 1 + DAMAGE_CHANGE_BYTES * (i + 1) <= size; i++)
			damage_change(d, data + 1 + DAMAGE_CHANGE_BYTES * i);
		damage_try(d, how, &outcome, NULL, NULL);
		MUST(how == 2 && !outcome.repair_rc && (outcome.again_rc || outcome.left));	/* a repair that was none */
	}
	return 0;
}
