/* SPDX-License-Identifier: MIT */
/* std::shared_ptr as a peer: see peer_shared_ptr.h.  64-byte objects, made by make_shared. */
#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "peer_shared_ptr.h"

struct object {
	char bytes[64];
};

struct peer_sp {
	alignas(64) std::shared_ptr<object> local;
	alignas(64) std::atomic<std::shared_ptr<object>> cell;
};

template <typename T> static inline void keep(T &value)
{
	asm volatile("" : : "r"(&value) : "memory");
}

peer_sp *peer_sp_make(void)
{
	auto h = new peer_sp;

	h->local = std::make_shared<object>();
	h->cell.store(std::make_shared<object>());
	return h;
}

void peer_sp_copy_drop(peer_sp *h, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		std::shared_ptr<object> copy = h->local;
		keep(copy);
	}
}

uint64_t peer_sp_copy(peer_sp *h, uint64_t n)
{
	std::vector<std::shared_ptr<object>> copies;

	copies.reserve(n);
	auto t0 = std::chrono::steady_clock::now();
	for (uint64_t i = 0; i < n; i++)
		copies.push_back(h->local);
	auto t = std::chrono::steady_clock::now() - t0;
	return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(t).count());
}

void peer_sp_load(peer_sp *h, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		std::shared_ptr<object> copy = h->cell.load();
		keep(copy);
	}
}

void peer_sp_exchange(peer_sp *h, uint64_t n)
{
	std::shared_ptr<object> mine = std::make_shared<object>();

	for (uint64_t i = 0; i < n; i++) {
		mine = h->cell.exchange(std::move(mine));
		keep(mine);
	}
}

void peer_sp_make_drop(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		auto fresh = std::make_shared<object>();
		keep(fresh);
	}
}
