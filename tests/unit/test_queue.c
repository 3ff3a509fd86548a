/* SPDX-License-Identifier: MIT */
/*
 * Queues in one process: order, limits, roles, waiting.
 */
#include "membarrier.h"
#include "queue_pool.h"

/* ---- one process ---- */

static void fills_drains_and_wraps_in_order(void **state)
{
	static const uint32_t capacities[] = {1, 2, 3, 5, 8, 100};
	uint64_t before = objects();

	(void)state;
	for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++)
		for (unsigned i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
			uint32_t n = capacities[i], in = 0, out = 0;

			make(n, flags);
			for (uint32_t round = 0; round < 9; round++) {
				/* Other starting points each time: all of it, then some of it. */
				uint32_t send = round % 3 == 0 ? n : (n + 1) / 2;

				for (uint32_t k = 0; k < send; k++)
					assert_int_equal(send_number(a, queue, in++), 0);
				assert_int_equal(cxlshm_queue_length(b, queue_b), send);
				if (send == n)
					assert_int_equal(send_number(a, queue, 0), -EAGAIN);
				assert_null(queue_at_ref(a, queue));
				for (uint32_t k = 0; k < send; k++)
					assert_int_equal(receive_number(b, queue_b), out++);
				assert_int_equal(receive_number(b, queue_b), -EAGAIN);
				assert_int_equal(cxlshm_queue_length(a, queue), 0);
			}
			drop();
			assert_int_equal(objects(), before);
		}
}

static void reference_that_is_sent_changes_hands(void **state)
{
	cxlshm_ref ref, out;
	uint64_t id;

	(void)state;
	make(2, 0);
	ref = item(a, 0, 7);
	id = cxlshm_id(a, ref);
	assert_int_equal(cxlshm_dup(a, ref), 0);
	assert_int_equal(cxlshm_queue_send(a, queue, ref), -EBUSY);
	assert_int_equal(cxlshm_release(a, ref), 0);
	assert_int_equal(cxlshm_queue_send(a, queue, ref), 0);
	assert_int_equal(cxlshm_queue_send(a, queue, ref), -EBADF);
	assert_null(cxlshm_ptr(a, ref));
	/* The sender may go: the queue holds it. */
	cxlshm_release(a, queue);
	assert_int_equal(cxlshm_leave(a), 0);
	assert_int_equal(cxlshm_queue_receive(b, queue_b, &out), 0);
	assert_int_equal(cxlshm_id(b, out), id);
	assert_int_equal(((struct item *)cxlshm_ptr(b, out))->number, 7);
	assert_int_equal(cxlshm_release(b, out), 0);
	assert_int_equal(cxlshm_release(b, queue_b), 0);
	objects();
}

static void bad_arguments_are_refused(void **state)
{
	cxlshm_ref ref, out = 99;

	(void)state;
	assert_int_equal(cxlshm_queue_create(a, 0, 0, &out), -EINVAL);
	assert_int_equal(cxlshm_queue_create(a, (1u << 20) + 1, 0, &out), -EINVAL);
	assert_int_equal(cxlshm_queue_create(a, 4, 2, &out), -EINVAL);
	assert_int_equal(cxlshm_queue_create(a, 1u << 20, 0, &out), -ENOSPC);
	assert_int_equal(out, 99);
	make(4, 0);
	ref = item(a, 0, 0);
	assert_int_equal(cxlshm_queue_send(a, 0, ref), -EBADF);
	assert_int_equal(cxlshm_queue_send(a, queue, 0), -EBADF);
	assert_int_equal(cxlshm_queue_send(a, queue_b, ref), -EBADF);
	assert_int_equal(cxlshm_queue_send(a, queue, queue_b), -EBADF);
	assert_int_equal(cxlshm_queue_send(a, ref, queue), -EINVAL);
	assert_int_equal(cxlshm_queue_send(a, queue, queue), -EINVAL);
	assert_int_equal(cxlshm_queue_send_wait(a, queue, queue, -1), -EINVAL);
	assert_int_equal(cxlshm_queue_receive(a, ref, &out), -EINVAL);
	assert_int_equal(cxlshm_queue_receive_wait(a, 12345, &out, 0), -EBADF);
	assert_int_equal(cxlshm_queue_length(a, ref), -EINVAL);
	assert_int_equal(cxlshm_queue_length(a, 0), -EBADF);
	assert_int_equal(out, 99);
	assert_int_equal(cxlshm_release(a, ref), 0);
	drop();
	objects();
}

static void queue_of_queues_goes_with_all_it_holds(void **state)
{
	uint64_t before = objects();

	(void)state;
	for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++) {
		cxlshm_ref outer;

		assert_int_equal(cxlshm_queue_create(a, 3, flags, &outer), 0);
		for (int i = 0; i < 3; i++) {
			cxlshm_ref inner;

			assert_int_equal(cxlshm_queue_create(a, 200, flags, &inner), 0);
			for (uint32_t k = 0; k < 200; k++)
				assert_int_equal(send_number(a, inner, k), 0);
			assert_int_equal(cxlshm_queue_send(a, outer, inner), 0);
		}
		assert_int_equal(objects(), before + 1 + 3 * 201);
		assert_int_equal(cxlshm_release(a, outer), 0);
		assert_int_equal(objects(), before);
	}
}

static void roles_of_spsc_belong_to_one_living_client(void **state)
{
	(void)state;
	make(4, CXLSHM_SPSC);
	assert_int_equal(send_number(a, queue, 1), 0);
	assert_int_equal(send_number(b, queue_b, 2), -EBUSY);
	assert_int_equal(receive_number(b, queue_b), 1);
	assert_int_equal(receive_number(a, queue), -EBUSY);
	assert_int_equal(cxlshm_queue_receive_wait(a, queue, &(cxlshm_ref){0}, SECOND), -EBUSY);
	/* The sender leaves, and comes back in the same slot: it is another one. */
	assert_int_equal(cxlshm_leave(a), 0);
	assert_int_equal(cxlshm_join(pool, "a", 0, &a), 0);
	assert_int_equal(send_number(b, queue_b, 2), 0);
	assert_int_equal(receive_number(b, queue_b), 2);
	hand(b, queue_b, &board->token[0]);
	assert_int_equal(cxlshm_import(a, board->token[0], &queue), 0);
	assert_int_equal(send_number(a, queue, 3), -EBUSY);
	assert_int_equal(receive_number(a, queue), -EBUSY);
	drop();
	objects();
}

/* ---- time ---- */

static void on_alarm(int signal)
{
	(void)signal;
}

static const struct queue_fmt *announcing;

static void it_is_announced(void)
{
	assert_int_equal(a32_load_acquire(&announcing->receive_waiting), 1);
}

/* Who sends has no fence of its own: who is to be woken makes every processor look, and then looks again itself. */
static void a_sleeper_is_announced_before_a_barrier(void **state)
{
	struct queue parts;

	(void)state;
	make(1, 0);
	assert_int_equal(queue_at((struct pool *)pool, cxlshm_id(a, queue), &parts), 0);
	announcing = parts.q;
	membarriers.calls = 0;
	membarriers.at = it_is_announced;
	queue_announce((struct client *)a, &parts, QUEUE_RECEIVER);
	membarriers.at = NULL;
	if (!((struct client *)a)->fenced)	/* else this kernel has none */
		assert_int_equal(membarriers.calls, 1);
	drop();
}

static void waiting_ends_in_time(void **state)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	/* Again and again: a signal that comes between two sleeps is handled and forgotten. */
	struct itimerval every_50ms = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};
	cxlshm_ref ref, out;
	int64_t from;

	(void)state;
	sigaction(SIGALRM, &action, NULL);
	for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++) {
		make(1, flags);
		from = now_ns();
		assert_int_equal(cxlshm_queue_receive_wait(b, queue_b, &out, 70000000), -ETIMEDOUT);
		assert_true(now_ns() - from >= 70000000);
		assert_int_equal(cxlshm_queue_receive_wait(b, queue_b, &out, 0), -ETIMEDOUT);
		ref = item(a, 0, 1);
		assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, 0), 0);
		ref = item(a, 0, 2);
		from = now_ns();
		assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, 70000000), -ETIMEDOUT);
		assert_true(now_ns() - from >= 70000000);
		setitimer(ITIMER_REAL, &every_50ms, NULL);
		assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, -1), -EINTR);
		/* Nothing happened to it. */
		assert_int_equal(((struct item *)cxlshm_ptr(a, ref))->number, 2);
		assert_int_equal(receive_number(b, queue_b), 1);
		assert_int_equal(cxlshm_queue_receive_wait(b, queue_b, &out, 3600 * SECOND), -EINTR);
		setitimer(ITIMER_REAL, &never, NULL);
		assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, -1), 0);
		assert_int_equal(cxlshm_queue_receive_wait(b, queue_b, &out, INT64_MAX), 0);
		assert_int_equal(cxlshm_release(b, out), 0);
		drop();
	}
	objects();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(fills_drains_and_wraps_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(reference_that_is_sent_changes_hands, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_arguments_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(queue_of_queues_goes_with_all_it_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(roles_of_spsc_belong_to_one_living_client, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sleeper_is_announced_before_a_barrier, setup, teardown),
		cmocka_unit_test_setup_teardown(waiting_ends_in_time, setup, teardown),
	};

	return board_map() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
