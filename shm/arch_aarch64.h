/* SPDX-License-Identifier: MIT */
/*
 * aarch64 with LSE and LSE2 (ARMv8.4): CASPAL swaps 16 bytes; aligned LDP and STP are single-copy atomic.
 */
#ifndef CXLSHM_ARCH_AARCH64_H
#define CXLSHM_ARCH_AARCH64_H

#include <sys/auxv.h>

static inline struct arch16 arch_load16(const struct arch16 *p)
{
	struct arch16 v;

	__asm__ volatile("ldp %0, %1, %2\n\tdmb ishld" : "=r"(v.value), "=r"(v.stamp) : "Q"(*p) : "memory");
	return v;
}

static inline void arch_store16(struct arch16 *p, struct arch16 v)
{
	__asm__ volatile("dmb ish\n\tstp %1, %2, %0" : "=Q"(*p) : "r"(v.value), "r"(v.stamp) : "memory");
}

static inline int arch_cas16(struct arch16 *p, struct arch16 old, struct arch16 new)
{
	register uint64_t x0 __asm__("x0") = old.value;
	register uint64_t x1 __asm__("x1") = old.stamp;
	register uint64_t x2 __asm__("x2") = new.value;
	register uint64_t x3 __asm__("x3") = new.stamp;

	__asm__ volatile(".arch_extension lse\n\tcaspal %0, %1, %2, %3, %4"
			 : "+r"(x0), "+r"(x1)
			 : "r"(x2), "r"(x3), "Q"(*p)
			 : "memory");
	return x0 == old.value && x1 == old.stamp;
}

static inline int arch_supported(void)
{
	unsigned long caps = getauxval(AT_HWCAP);

	return (caps & (1ul << 8)) && (caps & (1ul << 25));	/* HWCAP_ATOMICS, HWCAP_USCAT */
}

static inline void arch_write_back(const void *p)
{
	__asm__ volatile("dc cvac, %0" ::"r"(p) : "memory");
}

static inline void arch_write_back_fence(void)
{
	__asm__ volatile("dsb ish" ::: "memory");
}

static inline int arch_can_write_back(void)
{
	return 1;
}

static inline void arch_count(uint64_t *p)
{
	__atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

static inline void arch_relax(void)
{
	__asm__ volatile("yield");
}

#endif
