/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: requests to the daemon, of a pool that is sound or damaged.  The daemon is fs/ whole, but for main.c and the
 * threads of monitor.c and prune.c; the kernel is kernel.c.  The input:
 *
 *   byte 0   bits 0-1 the kernel (device.h), 2 damaged, 3 the fixed walk of script.c at the end, 4 no reservation (sparse),
 *            5 requests before INIT, 6 failure domain host
 *   byte 1   the image (damage.h); byte 2 the handshake
 *   if damaged: a byte, the number of changes (at most 8), and DAMAGE_CHANGE_BYTES for each
 *   the rest are requests (requests.h)
 *
 * Whatever happened, the daemon holds nothing at the end.  A sound pool is sound then, too: fsck's own walk finds nothing.
 * A damaged one is refused with -EUCLEAN, or served.
 */
#include <errno.h>
#include <fuse_log.h>
#include <signal.h>
#include <string.h>

#include "damage.h"
#include "requests.h"

#define CHANGES_MAX 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct damage pools[DAMAGE_IMAGES];

static void clean(void)
{
	for (unsigned i = 0; i < DAMAGE_IMAGES; i++)
		if (pools[i].heap)
			damage_free(&pools[i]);
}

static void no_log(enum fuse_log_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
}

static struct damage *image(unsigned which)
{
	static int registered;
	struct damage *d = &pools[which % DAMAGE_IMAGES];

	if (!registered++) {
		fuse_set_log_func(no_log);
		signal(SIGIO, SIG_IGN);	/* as main() of the daemon */
		atexit(clean);
	}
	if (!d->heap)
		damage_make(d, which % DAMAGE_IMAGES);
	damage_restore(d);
	return d;
}

static void handshake(struct kernel *k, uint8_t how)
{
	static const struct {
		uint32_t major, minor;
		uint64_t flags;
		size_t bytes;
	} kinds[] = {
		{7, 45, UINT64_MAX, 64},
		{7, 38, UINT32_MAX & ~(1ull << 30), 64},	/* without FUSE_INIT_EXT */
		{7, 31, 0xffffff, 16},
		{7, 12, 0, 8},
		{7, 45, UINT64_MAX, 20},	/* cut */
	};

	if (how & 0x80)	/* a kernel of another major version asks twice */
		kernel_init(k, how & 0x40 ? 8 : 6, 1, 0, 64);
	how %= sizeof(kinds) / sizeof(kinds[0]);
	kernel_init(k, kinds[how].major, kinds[how].minor, kinds[how].flags, kinds[how].bytes);
}

static void report(void *arg, int severity, const char *line)
{
	(void)arg;
	if (severity)
		fprintf(stderr, "%s\n", line);
}

/* Bytes that are used up are gone from *data. */
static void damage(struct damage *d, const uint8_t **data, const uint8_t *end)
{
	unsigned changes = *data < end ? *(*data)++ % (CHANGES_MAX + 1) : 0;

	for (; changes && end - *data >= (ptrdiff_t)DAMAGE_CHANGE_BYTES; changes--) {
		damage_change(d, *data);
		*data += DAMAGE_CHANGE_BYTES;
	}
}

static void before_init(struct kernel *k)
{
	kernel_send(k, FUSE_LOOKUP, FUSE_ROOT_ID, "file", 5, 0);
	kernel_send(k, FUSE_FORGET, FUSE_ROOT_ID, "\1\0\0\0\0\0\0", 8, 0);
	kernel_send(k, FUSE_DESTROY, 0, NULL, 0, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data + 3, *end = data + size;
	struct cxlshm_check_result result = {0};
	struct damage *d;
	struct kernel k;
	bool damaged;
	int rc;

	if (size < 3)
		return 0;
	d = image(data[1]);
	damaged = data[0] & 4;
	if (data[0] & 64)
		damage_make_host(d);
	if (damaged)
		damage(d, &at, end);
	rc = kernel_mount(&k, d->dir, data[0] & 3, data[0] & 16, !damaged);
	if (rc == -ENOTSUP && data[0] & 64)
		return 0;	/* a processor that cannot write back */
	if (rc) {
		/* ENOTSUP: both superblocks damaged, and what is left looks like another version's. */
		MUST(damaged ? rc != -EUCLEAN && rc != -ENOTSUP : rc);
		return 0;
	}
	if (data[0] & 32)
		before_init(&k);
	handshake(&k, data[2]);
	requests_decode(&k, at, (size_t)(end - at));
	if (data[0] & 8)
		requests_script(&k);
	kernel_unmount(&k);
	if (damaged)
		return 0;
	MUST(cxlshm_check(d->dir, 0, report, NULL, &result, NULL));
	MUST(result.problems != 0);
	return 0;
}
