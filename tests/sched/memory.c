/* SPDX-License-Identifier: MIT */
/*
 * Every access of the library and of the operations to memory that is not on their stack.
 *
 * They are compiled with -fsanitize=thread and linked with the functions below instead of its run-time library: the compiler
 * calls one before each load and store, plain or atomic, and makes atomics out of the rest.  memset() and memcpy() come here
 * through standins.h.  What is done with an access:
 *
 *   shared    the heap (in whichever of its mappings), what is outside memory (standins.c), and the variables of the
 *             operations: counted as a step, and a fiber may be left there (fiber_step())
 *   lines     which lines of clients have read and written each 8 bytes of that.  A line is a client, and whoever recovers
 *             it, and so on: they never run at the same time.  A word used by two lines, one of which writes, is *in conflict*,
 *             unless it is in a client's slot and used only by who holds that slot's lock
 *   undo      the old value of every word written, so that any earlier moment can be had back
 *   hash      the sum over all words ever written of a hash of place and value: equal contents, equal sums
 *
 * The history of the operations is undone but not summed up: explore.c does that, without its clock.
 */
#define STANDINS_THEMSELVES
#include "interleave.h"
#include "standins.h"

#define KIND_READ 0u
#define KIND_WRITE 1u
#define KIND_ORDERED 2u	/* not plain, not relaxed */
#define KIND_FILL 5u	/* a write that notes for itself what it changes */

#define READ_BY(line) (1u << (line))
#define WRITTEN_BY(line) (8u << (line))
#define IN_CONFLICT 64u
#define UNLOCKED 128u	/* used by somebody who did not hold the lock of the slot it is in, or it is in none */
#define PRIVATE UINT64_MAX

struct undo {
	uint64_t *at, old;
};

static struct {
	int on;
	uint32_t line;	/* of the running fiber */
	uint32_t used, pending, room;
	struct undo *log;
	uint64_t hash, changes;
	uintptr_t stack, base, first_base;	/* of the running fiber; of pool 0 */
	uintptr_t lowest, highest;	/* all mappings of the heap lie between them */
	uint64_t stack_bytes, heap_bytes;
	uint64_t slots_at, slots_words, slot_words;	/* the slots: first word, all of them, one of them */
	uint64_t key;	/* what the lock of a slot is while the running fiber holds it */
	struct world *w;
	char *first;	/* the heap at mark 0 */
	const uint64_t *hole;	/* by segment: given back, and not reserved again */
	uint32_t hole_shift;	/* from a word's index to its segment */
	uint8_t *shadow;	/* a byte each 8 bytes: heap, outside, variables */
	uint64_t outside_at, vars_at, shadows;
	uintptr_t outside;
	size_t outside_bytes;
	uintptr_t written;	/* the access before was a write of so many bytes; 0 */
	size_t written_bytes;
	int grown;
	int as_one;	/* no steps: see memory_as_one() */
	int everything;	/* every shared access counts as one in conflict */
} m;

static uint64_t mix(uint64_t place, uint64_t value)
{
	uint64_t x = place * 0x9e3779b97f4a7c15ull ^ (value + 0x2545f4914f6cdd1dull) * 0xd6e8feb86659fd93ull;

	x = (x ^ x >> 32) * 0xbf58476d1ce4e5b9ull;
	x ^= place;
	x = (x ^ x >> 29) * 0x94d049bb133111ebull;
	return x ^ x >> 32;
}

static int in_history(const uint64_t *at)
{
	return (uintptr_t)at - (uintptr_t)&m.w->v.history < sizeof(m.w->v.history);
}

/* ---- undo and hash ---- */

static inline void note(uint64_t *at)
{
	if (m.used == m.room) {
		m.room = m.room ? 2 * m.room : 1u << 16;
		m.log = realloc(m.log, m.room * sizeof(*m.log));
		REQUIRE(m.log);
	}
	m.log[m.used++] = (struct undo){at, *at};
}

/* Of a word: UNLOCKED, or 0. */
static inline uint8_t unlocked(uint64_t i)
{
	const uint64_t *lock = (const uint64_t *)m.outside;

	return i - m.slots_at < m.slots_words && lock[1 + (i - m.slots_at) / m.slot_words] == m.key ? 0 : UNLOCKED;
}

static inline void mark_word(uint64_t i, uint8_t bit)
{
	uint32_t s = m.shadow[i] | bit, writers, users;

	if (!(s & UNLOCKED))
		s |= unlocked(i);
	if (s == m.shadow[i])
		return;
	writers = s >> 3 & 7;
	users = writers | (s & 7);
	if (!(s & IN_CONFLICT) && s & UNLOCKED && writers && users & (users - 1)) {
		s |= IN_CONFLICT;
		m.grown = 1;
	}
	m.shadow[i] = (uint8_t)s;
}

/* Where a word that is noted stands in the shadow. */
static inline uint64_t shadow_of(uintptr_t p)
{
	if (p - m.first_base < m.heap_bytes)
		return (p - m.first_base) >> 3;
	if (p - m.outside < m.outside_bytes)
		return m.outside_at + ((p - m.outside) >> 3);
	if (p - (uintptr_t)&m.w->v < offsetof(struct vars, history))
		return m.vars_at + ((p - (uintptr_t)&m.w->v) >> 3);
	return PRIVATE;
}

/* What was about to be written when it was noted is written now. */
static void settle(void)
{
	uint32_t keep = m.pending;

	for (uint32_t i = m.pending; i < m.used; i++) {
		struct undo u = m.log[i];
		uint64_t is = *u.at, place;

		if (is == u.old)
			continue;
		m.log[keep++] = u;
		if (in_history(u.at))
			continue;
		m.hash += mix((uintptr_t)u.at, is) - mix((uintptr_t)u.at, u.old);
		place = shadow_of((uintptr_t)u.at);
		if (place == PRIVATE)
			continue;
		/* A write that changes nothing is like a read, for all that others can tell. */
		if (m.line != NOBODY)
			mark_word(place, (uint8_t)WRITTEN_BY(m.line));
		m.changes += place < m.vars_at;
	}
	m.used = m.pending = keep;
}

uint32_t memory_mark(void)
{
	settle();
	return m.used;
}

uint64_t memory_hash(void)
{
	settle();
	return m.hash;
}

uint64_t memory_changes(void)
{
	settle();
	return m.changes;
}

void memory_back_to(uint32_t mark, uint64_t hash, uint64_t changes)
{
	while (m.used > mark) {
		struct undo u = m.log[--m.used];

		*u.at = u.old;
	}
	m.pending = m.used;
	m.hash = hash;
	m.changes = changes;
}

/* ---- shared memory ---- */

/* The same for what does not lie in the running fiber's own mapping of the heap. */
static __attribute__((noinline)) uint64_t shared_elsewhere(uintptr_t p, uint64_t **at)
{
	*at = (uint64_t *)(p & ~7ul);
	if (p - m.outside < m.outside_bytes)
		return m.outside_at + ((p - m.outside) >> 3);
	if (p - (uintptr_t)&m.w->v < offsetof(struct vars, history))
		return m.vars_at + ((p - (uintptr_t)&m.w->v) >> 3);
	if (p - m.lowest >= m.highest - m.lowest)
		return PRIVATE;
	for (unsigned f = 0; f <= FIBERS; f++) {
		uint64_t off = p - (uintptr_t)m.w->pool[f]->base;

		if (off < m.heap_bytes) {
			*at = (uint64_t *)(void *)(m.w->pool[0]->base + (off & ~7ul));
			return off >> 3;
		}
	}
	return PRIVATE;
}

/* The index of the word in the shadow, or PRIVATE, and the one place where each word of the heap is known by. */
static inline uint64_t shared_at(uintptr_t p, uint64_t **at)
{
	uint64_t off = p - m.base;

	if (off >= m.heap_bytes)
		return shared_elsewhere(p, at);
	*at = (uint64_t *)(void *)(m.first_base + (off & ~7ul));
	return off >> 3;
}

static inline void mark_read(uint64_t first, uint64_t words)
{
	uint8_t bit = (uint8_t)READ_BY(m.line);
	uint64_t i = first, eight = (bit | UNLOCKED) * 0x0101010101010101ull, is;

	for (; i < first + words && (i & 7 || words < 16); i++)
		mark_word(i, bit);
	for (; i + 8 <= first + words; i += 8) {
		memcpy(&is, m.shadow + i, 8);
		if ((is & eight) != eight)
			for (uint64_t k = i; k < i + 8; k++)
				mark_word(k, bit);
	}
	for (; i < first + words; i++)
		mark_word(i, bit);
}

static inline int in_conflict(uint64_t first, uint64_t words)
{
	if (m.everything)
		return 1;
	for (uint64_t i = first; i < first + words; i++)
		if (m.shadow[i] & IN_CONFLICT)
			return 1;
	return 0;
}

static inline void step(uint64_t first, uint64_t words, uint32_t kind)
{
	struct spin *spin = &m.w->spin[fiber_running()];
	int conflict = in_conflict(first, words);

	/* One word read again and again, with nothing changed anywhere: a loop that waits, or looks for a while. */
	if (!(kind & KIND_WRITE) && first == spin->word && m.hash == spin->hash) {
		if (spin->repeats < 3)
			spin->repeats++;
		if (spin->repeats > 2)
			conflict = 0;
	} else {
		spin->repeats = 0;
	}
	spin->word = first;
	spin->hash = m.hash;
	fiber_step(conflict, kind & KIND_ORDERED, standins_is_lock((first - m.outside_at) << 3));
	mark_read(first, words);
}

/* On a full tmpfs this would be the end of the process. */
static __attribute__((noinline, cold)) void touches_hole(uint64_t first)
{
	world_fail(m.w, "fiber %u touches memory given back, at 0x%llx", fiber_running(), (unsigned long long)first << 3);
}

static inline __attribute__((always_inline)) void touch(const void *pointer, size_t bytes, uint32_t kind)
{
	uintptr_t p = (uintptr_t)pointer, copied = 0;
	uint64_t first, words, *at;

	if (!m.on)
		return;
	if (m.used > m.pending)
		settle();
	/* Of `*a = *b` the compiler announces the write first, then the read. */
	if (!(kind & KIND_WRITE) && m.written_bytes == bytes)
		copied = m.written;
	m.written = 0;
	words = ((p & 7) + bytes + 7) >> 3;
	if (p - m.stack >= m.stack_bytes) {
		first = shared_at(p, &at);
		if (first != PRIVATE && m.line != NOBODY && m.as_one)
			mark_read(first, words);
		else if (first != PRIVATE && m.line != NOBODY)
			step(first, words, kind);
		if (first < m.outside_at && m.hole[first >> m.hole_shift])
			touches_hole(first);
		if (kind & KIND_WRITE) {
			m.written = p;
			m.written_bytes = bytes;
			for (uint64_t i = 0; i < words && kind != KIND_FILL; i++)
				note(at + i);
		}
	}
	if (copied) {
		words = ((copied & 7) + bytes + 7) >> 3;
		(void)shared_at(copied, &at);
		for (uint64_t i = 0; i < words; i++)
			note(at + i);
	}
}

void *standin_memset(void *to, int byte, size_t bytes)
{
	uint64_t all = (uint8_t)byte * 0x0101010101010101ull;

	if (!m.on || !bytes)
		return memset(to, byte, bytes);
	touch(to, bytes, KIND_FILL);
	/* Mostly there is nothing to change. */
	for (size_t i = 0, n; i < bytes; i += n) {
		uintptr_t p = (uintptr_t)to + i;
		uint64_t *at;

		n = 8 - (p & 7);
		if (n > bytes - i)
			n = bytes - i;
		if (n == 8 && *(uint64_t *)(void *)p == all)
			continue;
		if (p - m.stack >= m.stack_bytes) {
			(void)shared_at(p, &at);
			note(at);
		}
		memset((void *)p, byte, n);
	}
	return to;
}

void *standin_memcpy(void *to, const void *from, size_t bytes)
{
	if (!m.on || !bytes)
		return memcpy(to, from, bytes);
	touch(from, bytes, KIND_READ);
	touch(to, bytes, KIND_WRITE);
	return memcpy(to, from, bytes);
}

/* ---- for the others ---- */

void memory_as_one(const void *p, size_t bytes)
{
	if (m.on)
		touch(p, bytes, KIND_READ | KIND_ORDERED);
	m.as_one = 1;
}

void memory_line(uint32_t line)
{
	settle();
	m.line = line;
	m.as_one = line != NOBODY;
}

void memory_apart(void)
{
	m.as_one = 0;
}

int memory_followed(void)
{
	return m.on;
}

void memory_running(uint32_t fiber, const void *stack, size_t stack_bytes)
{
	settle();
	m.line = m.w->line[fiber];
	m.key = (uint64_t)m.w->pool[fiber]->heap_fd + 1;
	m.stack = (uintptr_t)stack;
	m.stack_bytes = stack_bytes;
	m.base = (uintptr_t)m.w->pool[fiber]->base;
}

/* The main stack, below the frame that calls. */
void memory_main(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	settle();
	m.line = NOBODY;
	m.stack = here - (1u << 20);
	m.stack_bytes = 2u << 20;
}

void memory_follow(struct world *w)
{
	m.w = w;
	m.on = w != NULL;
	if (!w)
		return;
	m.heap_bytes = w->pool[0]->heap_bytes;
	m.outside = (uintptr_t)standins_outside(&m.outside_bytes);
	m.outside_at = m.heap_bytes >> 3;
	m.slots_at = w->pool[0]->super->slots_off >> 3;
	m.slot_words = w->pool[0]->super->slot_stride_bytes >> 3;
	m.slots_words = SLOTS * m.slot_words;
	m.hole = standins_holes();
	m.hole_shift = w->pool[0]->segment_shift - 3;
	REQUIRE(w->pool[0]->segments <= SEGMENTS_MAX);
	m.vars_at = m.outside_at + (m.outside_bytes >> 3);
	m.shadows = m.vars_at + (sizeof(struct vars) >> 3);
	free(m.shadow);
	m.shadow = calloc(m.shadows, 1);
	REQUIRE(m.shadow);
	m.first_base = (uintptr_t)w->pool[0]->base;
	m.lowest = UINTPTR_MAX;
	m.highest = 0;
	for (unsigned f = 0; f <= FIBERS; f++) {
		uintptr_t base = (uintptr_t)w->pool[f]->base;

		if (base < m.lowest)
			m.lowest = base;
		if (base + m.heap_bytes > m.highest)
			m.highest = base + m.heap_bytes;
	}
	free(m.first);
	m.first = malloc(m.heap_bytes);
	REQUIRE(m.first);
	memcpy(m.first, w->pool[0]->base, m.heap_bytes);
	m.used = m.pending = 0;
	m.hash = m.changes = 0;
	memory_main();
}

/* Back at the beginning, where nothing may be left of writes that nobody told us of. */
void memory_back_to_first(void)
{
	memory_back_to(0, 0, 0);
	if (memcmp(m.first, m.w->pool[0]->base, m.heap_bytes)) {
		uint64_t at = 0;

		while (m.first[at] == m.w->pool[0]->base[at])
			at++;
		fprintf(stderr, "memory was changed behind the compiler's back, at 0x%llx\n", (unsigned long long)at);
		exit(3);
	}
}

void memory_forget_lines(void)
{
	memset(m.shadow, 0, m.shadows);
	m.grown = 0;
}

int memory_grown(int reset)
{
	int grown = m.grown;

	if (reset)
		m.grown = 0;
	return grown;
}

void memory_everything(int on)
{
	m.everything = on;
}

uint32_t memory_conflicts(void)
{
	uint32_t n = 0;

	for (uint64_t i = 0; i < m.shadows; i++)
		n += (m.shadow[i] & IN_CONFLICT) != 0;
	return n;
}

/* ---- what the compiler calls; it needs no declarations ---- */

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define HOOKS(bytes)                                                                               \
	void __tsan_read##bytes(void *p)                                                           \
	{                                                                                          \
		touch(p, bytes, KIND_READ);                                                        \
	}                                                                                          \
	void __tsan_write##bytes(void *p)                                                          \
	{                                                                                          \
		touch(p, bytes, KIND_WRITE);                                                       \
	}                                                                                          \
	void __tsan_volatile_read##bytes(void *p)                                                  \
	{                                                                                          \
		touch(p, bytes, KIND_READ);                                                        \
	}                                                                                          \
	void __tsan_volatile_write##bytes(void *p)                                                 \
	{                                                                                          \
		touch(p, bytes, KIND_WRITE);                                                       \
	}                                                                                          \
	void __tsan_unaligned_read##bytes(void *p)                                                 \
	{                                                                                          \
		touch(p, bytes, KIND_READ);                                                        \
	}                                                                                          \
	void __tsan_unaligned_write##bytes(void *p)                                                \
	{                                                                                          \
		touch(p, bytes, KIND_WRITE);                                                       \
	}

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_init(void)
{
}

void __tsan_func_entry(void *p)
{
	(void)p;
}

void __tsan_func_exit(void)
{
}

/* What ThreadSanitizer is to overlook, is looked at here. */
void AnnotateIgnoreReadsBegin(const char *file, int line)
{
	(void)file;
	(void)line;
}

void AnnotateIgnoreReadsEnd(const char *file, int line)
{
	(void)file;
	(void)line;
}

void __tsan_read_range(void *p, size_t bytes)
{
	touch(p, bytes, KIND_READ);
}

void __tsan_write_range(void *p, size_t bytes)
{
	touch(p, bytes, KIND_WRITE);
}

void *__tsan_memset(void *to, int byte, size_t bytes)
{
	return standin_memset(to, byte, bytes);
}

void *__tsan_memcpy(void *to, const void *from, size_t bytes)
{
	return standin_memcpy(to, from, bytes);
}

void __tsan_atomic_thread_fence(int order)
{
	(void)order;
}

void __tsan_atomic_signal_fence(int order)
{
	(void)order;
}

static uint32_t ordered(int order)
{
	return order == __ATOMIC_RELAXED ? 0 : KIND_ORDERED;
}

/* One fiber runs at a time, so they need not be atomic themselves. */
#define ATOMICS(bits, type)                                                                        \
	type __tsan_atomic##bits##_load(const type *p, int order)                                  \
	{                                                                                          \
		touch(p, bits / 8, KIND_READ | ordered(order));                                    \
		return *p;                                                                         \
	}                                                                                          \
	void __tsan_atomic##bits##_store(type *p, type v, int order)                               \
	{                                                                                          \
		touch(p, bits / 8, KIND_WRITE | ordered(order));                                   \
		*p = v;                                                                            \
	}                                                                                          \
	type __tsan_atomic##bits##_exchange(type *p, type v, int order)                            \
	{                                                                                          \
		type old;                                                                          \
                                                                                                   \
		touch(p, bits / 8, KIND_WRITE | ordered(order));                                   \
		old = *p;                                                                          \
		*p = v;                                                                            \
		return old;                                                                        \
	}                                                                                          \
	type __tsan_atomic##bits##_fetch_add(type *p, type v, int order)                           \
	{                                                                                          \
		type old;                                                                          \
                                                                                                   \
		touch(p, bits / 8, KIND_WRITE | ordered(order));                                   \
		old = *p;                                                                          \
		*p = (type)(old + v);                                                              \
		return old;                                                                        \
	}                                                                                          \
	type __tsan_atomic##bits##_fetch_or(type *p, type v, int order)                            \
	{                                                                                          \
		type old;                                                                          \
                                                                                                   \
		touch(p, bits / 8, KIND_WRITE | ordered(order));                                   \
		old = *p;                                                                          \
		*p = (type)(old | v);                                                              \
		return old;                                                                        \
	}                                                                                          \
	type __tsan_atomic##bits##_fetch_and(type *p, type v, int order)                           \
	{                                                                                          \
		type old;                                                                          \
                                                                                                   \
		touch(p, bits / 8, KIND_WRITE | ordered(order));                                   \
		old = *p;                                                                          \
		*p = (type)(old & v);                                                              \
		return old;                                                                        \
	}                                                                                          \
	type __tsan_atomic##bits##_compare_exchange_val(type *p, type old, type v, int order, int fail) \
	{                                                                                          \
		type is;                                                                           \
                                                                                                   \
		(void)fail;                                                                        \
		touch(p, bits / 8, KIND_WRITE | ordered(order));                                   \
		is = *p;                                                                           \
		if (is == old)                                                                     \
			*p = v;                                                                    \
		return is;                                                                         \
	}                                                                                          \
	int __tsan_atomic##bits##_compare_exchange_strong(type *p, type *old, type v, int order, int fail) \
	{                                                                                          \
		type is = __tsan_atomic##bits##_compare_exchange_val(p, *old, v, order, fail);     \
		int done = is == *old;                                                             \
                                                                                                   \
		*old = is;                                                                         \
		return done;                                                                       \
	}                                                                                          \
	int __tsan_atomic##bits##_compare_exchange_weak(type *p, type *old, type v, int order, int fail) \
	{                                                                                          \
		return __tsan_atomic##bits##_compare_exchange_strong(p, old, v, order, fail);      \
	}

typedef unsigned __int128 two_words;

ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
ATOMICS(128, two_words)
