/* SPDX-License-Identifier: MIT */
/*
 * The one list of crash points: every visible step of every operation, by module and name.  tests/crash dies at
 * each of them, and again at each one inside the recovery that this causes, and fails if one is never reached.
 * Counters that only inform (relaxed, struct shared_fmt and slot_fmt) have none: a death beside one of them may count
 * something twice, or not at all.
 */
#ifndef CXLSHM_CRASH_POINTS_H
#define CXLSHM_CRASH_POINTS_H

#define CRASH_POINTS(X)                                                                            \
	X(redo, filled)                                                                            \
	X(redo, sealed)                                                                            \
	X(era, published)                                                                          \
	X(era, store_published)                                                                    \
	X(era, bumped)                                                                             \
	X(client, locked)                                                                          \
	X(client, reserved)                                                                        \
	X(client, claimed)                                                                         \
	X(client, freed)                                                                           \
	X(segment, hint_cleared)                                                                   \
	X(segment, claim_swapped)                                                                  \
	X(segment, claim_next)                                                                     \
	X(segment, claim_linked)                                                                   \
	X(segment, reserved)                                                                       \
	X(segment, state_set)                                                                      \
	X(segment, opened)                                                                         \
	X(segment, span_opened)                                                                    \
	X(segment, adopted)                                                                        \
	X(segment, closing)                                                                        \
	X(segment, punched)                                                                        \
	X(segment, release_swapped)                                                                \
	X(segment, release_unlinked)                                                               \
	X(segment, release_hinted)                                                                 \
	X(segment, dirty_hinted)                                                                   \
	X(segment, trimming)                                                                       \
	X(segment, trimmed)                                                                        \
	X(segment, grow_swapped)                                                                   \
	X(segment, grow_counted)                                                                   \
	X(segment, shrink_punched)                                                                 \
	X(segment, shrink_counted)                                                                 \
	X(segment, shrink_swapped)                                                                 \
	X(segment, shrink_hinted)                                                                  \
	X(page, run_bodies)                                                                        \
	X(page, run_opened)                                                                        \
	X(page, frontier_headers)                                                                  \
	X(page, frontier_raised)                                                                   \
	X(page, run_closed)                                                                        \
	X(page, roots_freed)                                                                       \
	X(page, adopt_masked)                                                                      \
	X(page, adopt_unlisted)                                                                    \
	X(page, adopt_scrubbed)                                                                    \
	X(page, adopt_rest_scrubbed)                                                               \
	X(page, adopt_freed)                                                                       \
	X(page, adopt_zeroed)                                                                      \
	X(page, roots_closed)                                                                      \
	X(page, collect_swapped)                                                                   \
	X(page, collect_block)                                                                     \
	X(page, push_limbo)                                                                        \
	X(page, push_next)                                                                         \
	X(page, push_swapped)                                                                      \
	X(page, pop_scrubbed)                                                                      \
	X(page, pop_freed)                                                                         \
	X(page, popped)                                                                            \
	X(page, push_unlisted)                                                                     \
	X(alloc, rooted)                                                                           \
	X(alloc, live)                                                                             \
	X(alloc, freed)                                                                            \
	X(alloc, unrooted)                                                                         \
	X(root, page_filled)                                                                       \
	X(root, page_linked)                                                                       \
	X(root, page_unlinked)                                                                     \
	X(ref, exposed)                                                                            \
	X(ref, attach_counted)                                                                     \
	X(ref, attach_rooted)                                                                      \
	X(ref, detach_counted)                                                                     \
	X(ref, detach_phase)                                                                       \
	X(ref, detach_cleared)                                                                     \
	X(ref, row_freed)                                                                          \
	X(ref, bury_linked)                                                                        \
	X(ref, bury_topped)                                                                        \
	X(ref, bury_cleared)                                                                       \
	X(ref, undertake_slots)                                                                    \
	X(ref, move_first)                                                                         \
	X(ref, move_second)                                                                        \
	X(cell, exchange_swapped)                                                                  \
	X(cell, exchange_rooted)                                                                   \
	X(cell, exchange_todo)                                                                     \
	X(cell, load_read)                                                                         \
	X(cell, count_swapped)                                                                     \
	X(cell, count_todo)                                                                        \
	X(extent, owned)                                                                           \
	X(extent, created)                                                                         \
	X(extent, reserved)                                                                        \
	X(extent, resized)                                                                         \
	X(extent, allocated)                                                                       \
	X(extent, zero_reserved)                                                                   \
	X(extent, zeroed)                                                                          \
	X(extent, times_set)                                                                       \
	X(extent, deleted)                                                                         \
	X(recover, taken_over)                                                                     \
	X(recover, reading_cleared)                                                                \
	X(recover, row_emptied)                                                                    \
	X(recover, roots_dropped)                                                                  \
	X(queue, send_swapped)                                                                     \
	X(queue, send_moved)                                                                       \
	X(queue, send_helped)                                                                      \
	X(queue, receive_swapped)                                                                  \
	X(queue, receive_moved)                                                                    \
	X(queue, receive_helped)                                                                   \
	X(queue, role_taken)                                                                       \
	X(queue, sender_settled)                                                                   \
	X(queue, receiver_settled)                                                                 \
	X(queue, send_begun)                                                                       \
	X(queue, send_stored)                                                                      \
	X(queue, receive_begun)                                                                    \
	X(queue, receive_stored)                                                                   \
	X(queue, wake_cleared)                                                                     \
	X(queue, wake_counted)                                                                     \
	X(queue, announced)                                                                        \
	X(inode, bits_set)                                                                         \
	X(inode, time_set)                                                                         \
	X(names, entry_filled)                                                                     \
	X(names, split_built)                                                                      \
	X(names, thawed)                                                                           \
	X(names, frozen)                                                                           \
	X(names, move_swapped)                                                                     \
	X(names, move_taken)                                                                       \
	X(names, renamed)                                                                          \
	X(names, displaced)                                                                        \
	X(names, own_named)                                                                        \
	X(names, todo_cleared)                                                                     \
	X(xattr, built)

#define CRASH_POINT_ENUM(module, name) CRASH_##module##_##name,
enum crash_point { CRASH_POINTS(CRASH_POINT_ENUM) CRASH_POINT_COUNT };
#undef CRASH_POINT_ENUM

#endif
