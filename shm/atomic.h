/* SPDX-License-Identifier: MIT */
/*
 * Every access to a word that another client may read or write at the same time goes through here, with
 * its order in the name.  struct a64 keeps plain assignment from compiling; only this file says .raw.
 */
#ifndef CXLSHM_ATOMIC_H
#define CXLSHM_ATOMIC_H

#include "arch.h"

struct a64 {
	uint64_t raw;
};

struct a32 {
	uint32_t raw;
};

/* A stamped word: value and the stamp of the write that put it there. */
struct a128 {
	struct arch16 raw;
};

struct stamped {
	uint64_t value;
	uint64_t stamp;
};

static inline uint64_t a64_load_relaxed(const struct a64 *w)
{
	return __atomic_load_n(&w->raw, __ATOMIC_RELAXED);
}

static inline uint64_t a64_load_acquire(const struct a64 *w)
{
	return __atomic_load_n(&w->raw, __ATOMIC_ACQUIRE);
}

static inline void a64_store_relaxed(struct a64 *w, uint64_t v)
{
	__atomic_store_n(&w->raw, v, __ATOMIC_RELAXED);
}

/* One more, in a word that only this client writes. */
static inline void a64_count(struct a64 *w)
{
	arch_count(&w->raw);
}

static inline void a64_store_release(struct a64 *w, uint64_t v)
{
	__atomic_store_n(&w->raw, v, __ATOMIC_RELEASE);
}

static inline void a64_store_seq_cst(struct a64 *w, uint64_t v)
{
	__atomic_store_n(&w->raw, v, __ATOMIC_SEQ_CST);
}

/* 1 if *w was old and is new now. */
static inline int a64_cas_acq_rel(struct a64 *w, uint64_t old, uint64_t new)
{
	return __atomic_compare_exchange_n(&w->raw, &old, new, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline uint64_t a64_or_acq_rel(struct a64 *w, uint64_t bits)
{
	return __atomic_fetch_or(&w->raw, bits, __ATOMIC_ACQ_REL);
}

static inline uint64_t a64_and_acq_rel(struct a64 *w, uint64_t bits)
{
	return __atomic_fetch_and(&w->raw, bits, __ATOMIC_ACQ_REL);
}

static inline uint64_t a64_add_relaxed(struct a64 *w, uint64_t n)
{
	return __atomic_fetch_add(&w->raw, n, __ATOMIC_RELAXED);
}

static inline uint32_t a32_load_acquire(const struct a32 *w)
{
	return __atomic_load_n(&w->raw, __ATOMIC_ACQUIRE);
}

static inline uint32_t a32_load_relaxed(const struct a32 *w)
{
	return __atomic_load_n(&w->raw, __ATOMIC_RELAXED);
}

static inline void a32_store_relaxed(struct a32 *w, uint32_t v)
{
	__atomic_store_n(&w->raw, v, __ATOMIC_RELAXED);
}

static inline void a32_store_release(struct a32 *w, uint32_t v)
{
	__atomic_store_n(&w->raw, v, __ATOMIC_RELEASE);
}

/* 1 if *w was old and is new now. */
static inline int a32_cas_acq_rel(struct a32 *w, uint32_t old, uint32_t new)
{
	return __atomic_compare_exchange_n(&w->raw, &old, new, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline uint32_t a32_add_acq_rel(struct a32 *w, uint32_t n)
{
	return __atomic_fetch_add(&w->raw, n, __ATOMIC_ACQ_REL);
}

/* For futex(2) only. */
static inline uint32_t *a32_address(struct a32 *w)
{
	return &w->raw;
}

static inline struct stamped a128_load_acquire(const struct a128 *w)
{
	struct arch16 v = arch_load16(&w->raw);

	return (struct stamped){v.value, v.stamp};
}

/*
 * The same by two 8-byte loads, value first, for who goes on with a CAS on the whole word: that fails if the halves are
 * of two writes.  Cheaper than moving 16 bytes through a vector register.
 */
static inline struct stamped a128_load_halves(const struct a128 *w)
{
	uint64_t value, stamp;

	value = __atomic_load_n(&w->raw.value, __ATOMIC_ACQUIRE);
	stamp = __atomic_load_n(&w->raw.stamp, __ATOMIC_ACQUIRE);
	return (struct stamped){value, stamp};
}

/* The halves alone, for the one client that may write the word just now. */
static inline uint64_t a128_value_relaxed(const struct a128 *w)
{
	return __atomic_load_n(&w->raw.value, __ATOMIC_RELAXED);
}

static inline uint64_t a128_stamp_relaxed(const struct a128 *w)
{
	return __atomic_load_n(&w->raw.stamp, __ATOMIC_RELAXED);
}

/* Value first, stamp last: who sees the stamp sees the value. */
static inline void a128_store_value_then_stamp(struct a128 *w, uint64_t value, uint64_t stamp)
{
	__atomic_store_n(&w->raw.value, value, __ATOMIC_RELEASE);
	__atomic_store_n(&w->raw.stamp, stamp, __ATOMIC_RELEASE);
}

static inline void a128_store_value_release(struct a128 *w, uint64_t value)
{
	__atomic_store_n(&w->raw.value, value, __ATOMIC_RELEASE);
}

static inline void a128_store_stamp_release(struct a128 *w, uint64_t stamp)
{
	__atomic_store_n(&w->raw.stamp, stamp, __ATOMIC_RELEASE);
}

static inline void a128_store_release(struct a128 *w, struct stamped v)
{
	arch_store16(&w->raw, (struct arch16){v.value, v.stamp});
}

/* 1 if *w was old and is new now. */
static inline int a128_cas(struct a128 *w, struct stamped old, struct stamped new)
{
	return arch_cas16(&w->raw, (struct arch16){old.value, old.stamp},
			  (struct arch16){new.value, new.stamp});
}

static inline void fence_seq_cst(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Stores before it are seen before stores after it. */
static inline void fence_release(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

/* Loads before it are done before loads after it. */
static inline void fence_acquire(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* Keeps the compiler from moving accesses across; the processor half is membarrier(2)'s, elsewhere. */
static inline void fence_compiler(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#endif
