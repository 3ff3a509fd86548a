/* SPDX-License-Identifier: MIT */
/* The loops over std::shared_ptr, for programs in C.  h is what peer_sp_make() gave. */
#ifndef PEER_SHARED_PTR_H
#define PEER_SHARED_PTR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct peer_sp;

struct peer_sp *peer_sp_make(void);
void peer_sp_copy_drop(struct peer_sp *h, uint64_t n);	/* copy, destroy the copy */
uint64_t peer_sp_copy(struct peer_sp *h, uint64_t n);	/* copies only; ns of n */
void peer_sp_load(struct peer_sp *h, uint64_t n);	/* atomic<shared_ptr>::load, destroy */
void peer_sp_exchange(struct peer_sp *h, uint64_t n);	/* atomic<shared_ptr>::exchange with a local one */
void peer_sp_make_drop(uint64_t n);	/* make_shared of 64 B, destroy */

#ifdef __cplusplus
}
#endif
#endif
