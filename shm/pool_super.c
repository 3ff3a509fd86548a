/* SPDX-License-Identifier: MIT */
/*
 * pool_super: the superblock.  Where everything lies, computed from three numbers (pool_bytes,
 * segment_shift, slots); its checksum; the fingerprint of the format's structs; and the judgement whether
 * the bytes found in a heap file are a superblock that may be believed.
 *
 * Everything but the three numbers is recomputed and compared when a pool is opened, so no offset that
 * the rest of the library adds to the mapping's base comes unchecked from the file.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "pool.h"

/* Bijective in w, so one changed word always changes the result. */
static uint64_t mix(uint64_t sum, uint64_t w)
{
	sum = (sum ^ w) * 0xff51afd7ed558ccdull;
	return sum ^ sum >> 32;
}

uint64_t pool_super_checksum(const struct super_fmt *super)
{
	uint64_t sum = 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < offsetof(struct super_fmt, checksum); i += sizeof(uint64_t)) {
		uint64_t w;

		memcpy(&w, (const char *)super + i, sizeof(w));
		sum = mix(sum, w);
	}
	return sum;
}

uint64_t pool_super_fingerprint(void)
{
	static const uint32_t layout[] = {
		sizeof(struct super_fmt), offsetof(struct super_fmt, heap_bytes),
		offsetof(struct super_fmt, root_dir), offsetof(struct super_fmt, checksum),
		sizeof(struct shared_fmt), offsetof(struct shared_fmt, slots_high),
		offsetof(struct shared_fmt, clients_sequence), offsetof(struct shared_fmt, gone_allocations),
		sizeof(struct todo_fmt), sizeof(struct redo_fmt), offsetof(struct redo_fmt, word),
		offsetof(struct redo_fmt, look), offsetof(struct redo_fmt, todo), sizeof(struct cell_fmt), sizeof(struct root_fmt),
		sizeof(struct roots_fmt), sizeof(struct slot_fmt), offsetof(struct slot_fmt, redo),
		offsetof(struct slot_fmt, dead_top), offsetof(struct slot_fmt, todo),
		offsetof(struct slot_fmt, exports), sizeof(struct segment_fmt),
		offsetof(struct segment_fmt, remote), sizeof(struct page_fmt),
		offsetof(struct page_fmt, block_bytes), offsetof(struct page_fmt, free),
		sizeof(struct object_fmt), sizeof(struct attr_fmt), offsetof(struct attr_fmt, mode),
		offsetof(struct attr_fmt, extent), offsetof(struct entry_fmt, name), sizeof(struct node_fmt),
		sizeof(struct queue_fmt), offsetof(struct queue_fmt, tail), offsetof(struct queue_fmt, head),
		STAMP_ERA_BITS, PAGES_PER_SEGMENT, OBJECT_KINDS, REDO_OPS, OBJECT_SLOTS_SHIFT, HASH_BITS,
		DIR_EDGES, EXPORTS, SLOT_ROOTS_BYTES,
	};
	uint64_t sum = FORMAT_VERSION;

	for (size_t i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
		sum = mix(sum, layout[i]);
	return sum;
}

static uint64_t align_up(uint64_t n)
{
	return (n + FORMAT_ALIGN - 1) & ~(FORMAT_ALIGN - 1);
}

static uint64_t roots_off(uint32_t slots)
{
	return sizeof(struct slot_fmt) + align_up((slots + 1ull) * sizeof(struct a64));
}

static uint64_t square_root(uint64_t n)
{
	uint64_t r = 0;

	for (int bit = 31; bit >= 0; bit--)
		if ((r | 1ull << bit) * (r | 1ull << bit) <= n)
			r |= 1ull << bit;
	return r;
}

uint32_t pool_super_default_slots(uint64_t pool_bytes)
{
	/* The eras take slots^2 * 8 bytes, at most 1 % of the pool; all slot areas at most an eighth. */
	uint64_t slots = square_root(pool_bytes / 100 / sizeof(struct a64));
	uint64_t areas;

	if (slots > POOL_SLOTS_DEFAULT_MAX)
		slots = POOL_SLOTS_DEFAULT_MAX;
	areas = pool_bytes / 8 / (roots_off((uint32_t)slots) + SLOT_ROOTS_BYTES);
	if (slots > areas)
		slots = areas;
	return slots < POOL_SLOTS_DEFAULT_MIN ? POOL_SLOTS_DEFAULT_MIN : (uint32_t)slots;
}

uint32_t pool_super_default_shift(uint64_t pool_bytes)
{
	uint32_t shift = 63u - (uint32_t)__builtin_clzll(pool_bytes | 1);

	shift = shift > PAGE_SHIFT_BELOW_SEGMENT ? shift - PAGE_SHIFT_BELOW_SEGMENT : 0;
	if (shift < SEGMENT_SHIFT_MIN)
		return SEGMENT_SHIFT_MIN;
	return shift > SEGMENT_SHIFT_MAX ? SEGMENT_SHIFT_MAX : shift;
}

int pool_super_layout(struct super_fmt *s)
{
	uint64_t meta_end;

	if (s->pool_bytes < POOL_BYTES_MIN || s->pool_bytes > POOL_BYTES_MAX ||
	    s->pool_bytes % FORMAT_ALIGN != 0)
		return -ERANGE;
	if (s->segment_shift < SEGMENT_SHIFT_MIN || s->segment_shift > SEGMENT_SHIFT_MAX)
		return -ERANGE;
	if (s->slots < POOL_SLOTS_MIN || s->slots > SLOTS_MAX)
		return -ERANGE;
	s->page_shift = s->segment_shift - PAGE_SHIFT_BELOW_SEGMENT;
	s->segments = (uint32_t)(s->pool_bytes >> s->segment_shift);
	s->heap_bytes = (uint64_t)s->segments << s->segment_shift;
	s->segment_table_off = align_up(HINTS_OFF + 2ull * hint_words(s->segments) * sizeof(struct a64));
	s->slots_off = align_up(s->segment_table_off + s->segments * sizeof(struct segment_fmt));
	s->era_row_off = sizeof(struct slot_fmt);
	s->roots_off = roots_off(s->slots);
	s->slot_stride_bytes = s->roots_off + SLOT_ROOTS_BYTES;
	meta_end = s->slots_off + s->slots * s->slot_stride_bytes;
	s->first_segment = (uint32_t)((meta_end + (1ull << s->segment_shift) - 1) >> s->segment_shift);
	return s->segments < s->first_segment + POOL_SEGMENTS_MIN ? -ENOSPC : 0;
}

/* The geometry in s is what its three numbers give. */
static int layout_matches(const struct super_fmt *s)
{
	struct super_fmt again = {
		.pool_bytes = s->pool_bytes, .segment_shift = s->segment_shift, .slots = s->slots,
	};

	return pool_super_layout(&again) == 0 && again.page_shift == s->page_shift &&
	       again.segments == s->segments && again.heap_bytes == s->heap_bytes &&
	       again.segment_table_off == s->segment_table_off && again.slots_off == s->slots_off &&
	       again.era_row_off == s->era_row_off && again.roots_off == s->roots_off &&
	       again.slot_stride_bytes == s->slot_stride_bytes && again.first_segment == s->first_segment;
}

static int root_dir_plausible(const struct super_fmt *s)
{
	uint64_t in_segment = s->root_dir & ((1ull << s->segment_shift) - 1);

	return !(s->root_dir & 15) && s->root_dir < s->heap_bytes &&
	       s->root_dir >> s->segment_shift >= s->first_segment && in_segment >= 1ull << s->page_shift;
}

int pool_super_judge(const struct super_fmt *s, const char *path, struct cxlshm_error *error)
{
	if (s->magic != FORMAT_MAGIC)
		return error_set(error, -EUCLEAN,
				 "%s: the file heap is no cxlshm heap, or mkfs.cxlshm did not finish; "
				 "run mkfs.cxlshm --force to make the pool anew", path);
	if (s->version != FORMAT_VERSION || s->super_bytes != sizeof(*s))
		return error_set(error, -ENOTSUP,
				 "%s: the pool has format version %" PRIu32 "; this is cxlshm %d.%d.%d, which "
				 "knows version %u", path, s->version, CXLSHM_VERSION_MAJOR,
				 CXLSHM_VERSION_MINOR, CXLSHM_VERSION_PATCH, FORMAT_VERSION);
	if (s->checksum != pool_super_checksum(s))
		return error_set(error, -EUCLEAN, "%s: the superblock is damaged (checksum); run fsck.cxlshm",
				 path);
	if (s->incompat & ~FORMAT_INCOMPAT)
		return error_set(error, -ENOTSUP,
				 "%s: the pool uses features 0x%" PRIx64 " that this version does not know; "
				 "use a newer cxlshm", path, (uint64_t)(s->incompat & ~FORMAT_INCOMPAT));
	if (s->fingerprint != pool_super_fingerprint())
		return error_set(error, -ENOTSUP,
				 "%s: the pool was made by a build of cxlshm with another memory layout; "
				 "use that one", path);
	if (!layout_matches(s) || !root_dir_plausible(s) || s->failure_domain > CXLSHM_FAILURE_HOST ||
	    memchr(s->numa, 0, sizeof(s->numa)) == NULL)
		return error_set(error, -EUCLEAN,
				 "%s: the superblock contradicts itself (geometry); run fsck.cxlshm", path);
	for (size_t i = 0; i < sizeof(s->zero); i++)
		if (s->zero[i])
			return error_set(error, -EUCLEAN,
					 "%s: the superblock is damaged (padding); run fsck.cxlshm", path);
	return 0;
}

/* Up to bytes from off; what the file does not have reads as zero. */
static int read_at(int fd, void *out, size_t bytes, uint64_t off)
{
	size_t done = 0;

	memset(out, 0, bytes);
	while (done < bytes) {
		ssize_t n = pread(fd, (char *)out + done, bytes - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return 0;
}

static int write_at(int fd, const void *from, size_t bytes, uint64_t off)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pwrite(fd, (const char *)from + done, bytes - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int pool_super_read(int fd, struct super_fmt *first, struct super_fmt *copy)
{
	int rc = read_at(fd, first, sizeof(*first), SUPER_OFF);

	return rc ? rc : read_at(fd, copy, sizeof(*copy), SUPER_COPY_OFF);
}

int pool_super_write(int fd, const struct super_fmt *super)
{
	int rc;

	_Static_assert(sizeof(*super) <= 4096, "who is killed has written all of a page, or nothing; else the checksum tells");
	/*
	 * Crash before the copy is there: neither is believed.  Crash after it: open says -EUCLEAN, and repair takes the copy,
	 * as pool_make() does where the first has never been written.
	 */
	rc = write_at(fd, super, sizeof(*super), SUPER_COPY_OFF);
	return rc ? rc : write_at(fd, super, sizeof(*super), SUPER_OFF);
}

int pool_super_wipe(int fd)
{
	static const struct super_fmt none;
	int rc = write_at(fd, &none, sizeof(none), SUPER_OFF);

	return rc ? rc : write_at(fd, &none, sizeof(none), SUPER_COPY_OFF);
}
