/* SPDX-License-Identifier: MIT */
/*
 * x86-64.  cmpxchg16b swaps 16 bytes; aligned 16-byte SSE loads and stores are single-copy atomic on
 * every processor with AVX (Intel SDM vol. 3A 9.1.1; AMD APM vol. 2 7.3.2), and pool_open() refuses
 * others.  Stores are ordered after earlier stores and loads, loads after earlier loads.
 */
#ifndef CXLSHM_ARCH_X86_H
#define CXLSHM_ARCH_X86_H

#ifdef ARCH_SEEN_BY_TSAN
/* ThreadSanitizer does not see into assembly: give it the same accesses in its own terms. */
typedef unsigned __int128 arch_u128;

static inline arch_u128 arch_join(struct arch16 v)
{
	return (arch_u128)v.stamp << 64 | v.value;
}

static inline struct arch16 arch_load16(const struct arch16 *p)
{
	arch_u128 raw = __atomic_load_n((const arch_u128 *)p, __ATOMIC_ACQUIRE);

	return (struct arch16){(uint64_t)raw, (uint64_t)(raw >> 64)};
}

static inline void arch_store16(struct arch16 *p, struct arch16 v)
{
	__atomic_store_n((arch_u128 *)p, arch_join(v), __ATOMIC_RELEASE);
}

static inline int arch_cas16(struct arch16 *p, struct arch16 old, struct arch16 new)
{
	arch_u128 expected = arch_join(old);

	return __atomic_compare_exchange_n((arch_u128 *)p, &expected, arch_join(new), 0,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#else
typedef long long arch_v2 __attribute__((vector_size(16)));

static inline struct arch16 arch_load16(const struct arch16 *p)
{
	arch_v2 raw;

	__asm__ volatile("movdqa %1, %0" : "=x"(raw) : "m"(*p) : "memory");
	return (struct arch16){(uint64_t)raw[0], (uint64_t)raw[1]};
}

static inline void arch_store16(struct arch16 *p, struct arch16 v)
{
	arch_v2 raw = {(long long)v.value, (long long)v.stamp};

	__asm__ volatile("movdqa %1, %0" : "=m"(*p) : "x"(raw) : "memory");
}

static inline int arch_cas16(struct arch16 *p, struct arch16 old, struct arch16 new)
{
	unsigned char done;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(done), "+m"(*p), "+a"(old.value), "+d"(old.stamp)
			 : "b"(new.value), "c"(new.stamp)
			 : "memory");
	return done;
}
#endif

static inline int arch_supported(void)
{
	return __builtin_cpu_supports("avx") != 0;
}

/* clwb is in a separate encoding space of clflushopt's: old assemblers need the bytes. */
static inline void arch_write_back(const void *p)
{
	__asm__ volatile(".byte 0x66; xsaveopt %0" : "+m"(*(volatile char *)(uintptr_t)p));
}

static inline void arch_write_back_fence(void)
{
	__asm__ volatile("sfence" ::: "memory");
}

static inline int arch_can_write_back(void)
{
	unsigned eax = 7, ebx, ecx = 0, edx;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return (ebx >> 24) & 1;
}

static inline void arch_count(uint64_t *p)
{
#ifdef ARCH_SEEN_BY_TSAN
	__atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
#else
	__asm__ volatile("addq $1, %0" : "+m"(*p) : : "cc");
#endif
}

static inline void arch_relax(void)
{
	__asm__ volatile("pause");
}

#endif
