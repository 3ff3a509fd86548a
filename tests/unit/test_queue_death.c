/* SPDX-License-Identifier: MIT */
/*
 * Queues between processes: nothing is lost or doubled when many use one, when a producer or consumer is killed at any
 * step and replaced, and no sleeper is forgotten.
 */
#include "queue_pool.h"

static struct {	/* die at the hit-th pass of the point */
	unsigned point;
	unsigned hit;
} death;

static void die(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	(void)c;
	if (death.hit && point == death.point && !--death.hit)
		raise(SIGKILL);
}

/* A child with a client and the queue exported as board->token[who]; it dies with us, or by the alarm. */
static pid_t child(int who, int (*body)(int who, struct cxlshm_client *c, cxlshm_ref q), unsigned point, unsigned hit)
{
	struct cxlshm_client *c;
	struct cxlshm_pool *mine;
	cxlshm_ref q;
	pid_t pid;

	hand(a, queue, &board->token[who]);
	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	alarm(60);
	if (cxlshm_pool_open(dir, 0, &mine, NULL) || cxlshm_join(mine, "child", 0, &c) ||
	    cxlshm_import(c, board->token[who], &q))
		_exit(99);
	death.point = point;
	death.hit = hit;
	((struct pool *)mine)->crash_hook = die;
	who = body(who, c, q);
	((struct pool *)mine)->crash_hook = NULL;
	cxlshm_pool_close(mine);
	_exit(who);
}

static int ended(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define EACH 3000u

static int produce(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	for (uint32_t i = 1; i <= EACH; i++)
		if (cxlshm_queue_send_wait(c, q, item(c, (uint32_t)who, i), 30 * SECOND))
			return 1;
	return 0;
}

static int consume(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	for (;;) {
		cxlshm_ref ref;
		struct item *p;
		int rc = cxlshm_queue_receive_wait(c, q, &ref, 30 * SECOND);

		if (rc)
			return 1;
		p = cxlshm_ptr(c, ref);
		if (!p->number)	/* the end */
			return cxlshm_release(c, ref) ? 2 : 0;
		if (p->sender > 7 || p->number <= board->last[who][p->sender])
			return 3;	/* order of one sender, as one receiver sees it */
		board->last[who][p->sender] = p->number;
		__atomic_fetch_add(&board->received, 1, __ATOMIC_RELAXED);
		if (cxlshm_release(c, ref))
			return 4;
	}
}

static void four_processes_lose_and_double_nothing(void **state)
{
	static const uint32_t capacities[] = {1, 2, 64};
	uint64_t before = objects();

	(void)state;
	for (unsigned i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
		pid_t pid[4];

		memset(board, 0, sizeof(*board));
		make(capacities[i], 0);
		for (int k = 0; k < 4; k++)
			pid[k] = child(k, k < 2 ? produce : consume, 0, 0);
		assert_int_equal(ended(pid[0]), 0);
		assert_int_equal(ended(pid[1]), 0);
		for (int k = 0; k < 2; k++)
			assert_int_equal(cxlshm_queue_send_wait(a, queue, item(a, 0, 0), 30 * SECOND), 0);
		assert_int_equal(ended(pid[2]), 0);
		assert_int_equal(ended(pid[3]), 0);
		assert_int_equal(board->received, 2 * EACH);
		assert_int_equal(cxlshm_queue_length(a, queue), 0);
		assert_null(queue_at_ref(a, queue));
		drop();
		assert_int_equal(objects(), before);
	}
}

/* Send numbers for ever, noting the ones sent. */
static int produce_numbers(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	(void)who;
	while (!get(&board->stop)) {
		uint32_t number = board->next++;
		int rc = cxlshm_queue_send_wait(c, q, item(c, 0, number), 20 * SECOND);

		if (rc)
			return -rc;
		board->sent++;
	}
	return 0;
}

static int consume_numbers(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	(void)who;
	while (!get(&board->stop)) {
		cxlshm_ref ref;
		struct item *p;
		int rc = cxlshm_queue_receive_wait(c, q, &ref, 1000000);

		if (rc == -ETIMEDOUT)
			continue;
		if (rc)
			return -rc;
		p = cxlshm_ptr(c, ref);
		if (p->number >= MARKS || board->mark[p->number]++)
			return 2;
		/* Through this process's hands in order; the one before may have died with a number. */
		if (p->number < board->last[0][0])
			return 3;
		board->last[0][0] = p->number + 1;
		if (cxlshm_release(c, ref))
			return 4;
		set(&board->received, board->received + 1);
	}
	return 0;
}

static const unsigned send_points[] = {
	CRASH_queue_send_swapped, CRASH_queue_send_moved, CRASH_queue_role_taken, CRASH_queue_send_begun,
	CRASH_queue_send_stored, CRASH_queue_wake_cleared, CRASH_cell_exchange_swapped, CRASH_cell_exchange_rooted,
	CRASH_redo_sealed, CRASH_era_published, CRASH_era_store_published, CRASH_era_bumped, CRASH_ref_exposed,
};

static const unsigned receive_points[] = {
	CRASH_queue_receive_swapped, CRASH_queue_receive_moved, CRASH_queue_role_taken, CRASH_queue_receive_begun,
	CRASH_queue_receive_stored, CRASH_queue_wake_cleared, CRASH_cell_exchange_swapped,
	CRASH_cell_exchange_rooted, CRASH_redo_sealed, CRASH_era_published, CRASH_era_store_published, CRASH_era_bumped,
	CRASH_ref_detach_counted,
};

static uint32_t dead_producers(uint32_t capacity, unsigned flags, unsigned point, unsigned hit)
{
	uint32_t last = 0, got = 0, killed = 0;
	pid_t pid;

	memset(board, 0, sizeof(*board));
	board->next = 1;
	make(capacity, flags);
	/* Three senders after each other; two of them die, if they come by the point. */
	for (int i = 0; i < 3; i++) {
		uint32_t enough = get(&board->next) + 12;
		int status;

		pid = child(0, produce_numbers, point, i < 2 ? hit : 0);
		for (;;) {
			int64_t number = receive_number(b, queue_b);
			siginfo_t info = {0};

			if (number == -EAGAIN) {
				assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
				if (info.si_pid)
					break;
				sched_yield();
				continue;
			}
			assert_true(number > last);
			assert_true(number - last <= 1 + killed);
			last = (uint32_t)number;
			got++;
			if (last > enough)
				set(&board->stop, 1);
		}
		status = ended(pid);
		if (status && status != 128 + SIGKILL)
			fail_msg("client %d ended with %d; %u at %s, capacity %u, flags %u", i, status, hit,
				 crash_point_name((enum crash_point)point), capacity, flags);
		killed += status != 0;
		set(&board->stop, 0);
	}
	for (int64_t number; (number = receive_number(b, queue_b)) != -EAGAIN; got++) {
		assert_true(number > last);
		last = (uint32_t)number;
	}
	/* What the dead were just sending has arrived or has gone with them. */
	assert_true(got >= board->sent && got <= board->sent + killed);
	objects();
	assert_int_equal(cxlshm_queue_length(a, queue), 0);
	assert_null(queue_at_ref(a, queue));
	drop();
	replace_b();
	return killed;
}

static uint32_t dead_consumers(uint32_t capacity, unsigned flags, unsigned point, unsigned hit)
{
	uint32_t number = 0, marked = 0, killed = 0;
	pid_t pid;

	memset(board, 0, sizeof(*board));
	make(capacity, flags);
	for (int i = 0; i < 3; i++) {
		uint32_t enough = get(&board->received) + 12;
		int status;

		pid = child(0, consume_numbers, point, i < 2 ? hit : 0);
		for (;;) {
			siginfo_t info = {0};

			if (get(&board->received) >= enough)
				set(&board->stop, 1);
			if (!send_number(a, queue, number)) {
				number++;
				continue;
			}
			assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
			if (info.si_pid)
				break;
			sched_yield();
		}
		status = ended(pid);
		if (status && status != 128 + SIGKILL)
			fail_msg("client %d ended with %d; %u at %s, capacity %u, flags %u", i, status, hit,
				 crash_point_name((enum crash_point)point), capacity, flags);
		killed += status != 0;
		set(&board->stop, 0);
	}
	cxlshm_recover(pool, NULL);
	for (int64_t left; (left = receive_number(b, queue_b)) != -EAGAIN;) {
		assert_true(left >= board->last[0][0]);
		board->last[0][0] = (uint32_t)left + 1;
		board->mark[left]++;
	}
	for (uint32_t i = 0; i < number; i++) {
		assert_true(board->mark[i] <= 1);
		marked += board->mark[i];
	}
	/* Each of the dead may have taken one with it. */
	assert_true(marked >= number - killed);
	objects();
	assert_int_equal(cxlshm_queue_length(a, queue), 0);
	assert_null(queue_at_ref(a, queue));
	drop();
	replace_b();
	return killed;
}

static void dead_producer_is_replaced(void **state)
{
	uint64_t before = objects();

	(void)state;
	for (unsigned i = 0; i < sizeof(send_points) / sizeof(send_points[0]); i++) {
		uint32_t killed = 0;

		for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++)
			for (unsigned hit = 1; hit <= 5; hit += 2)
				killed += dead_producers(hit == 3 ? 1 : 3, flags, send_points[i], hit);
		if (!killed && send_points[i] != CRASH_queue_wake_cleared)
			fail_msg("nobody died at %s", crash_point_name((enum crash_point)send_points[i]));
		assert_int_equal(objects(), before);
	}
}

static void dead_consumer_is_replaced(void **state)
{
	uint64_t before = objects();

	(void)state;
	for (unsigned i = 0; i < sizeof(receive_points) / sizeof(receive_points[0]); i++) {
		uint32_t killed = 0;

		for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++)
			for (unsigned hit = 1; hit <= 5; hit += 2)
				killed += dead_consumers(hit == 3 ? 1 : 3, flags, receive_points[i], hit);
		if (!killed && receive_points[i] != CRASH_queue_wake_cleared)
			fail_msg("nobody died at %s", crash_point_name((enum crash_point)receive_points[i]));
		assert_int_equal(objects(), before);
	}
}

static int receive_one_number(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	cxlshm_ref ref;

	set(&board->ready, 1);
	if (cxlshm_queue_receive_wait(c, q, &ref, -1))
		return 1;
	set(&board->last[who][0], ((struct item *)cxlshm_ptr(c, ref))->number);
	return cxlshm_release(c, ref) ? 2 : 0;
}

static int send_one_number(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	set(&board->ready, 1);
	return cxlshm_queue_send_wait(c, q, item(c, (uint32_t)who, 5), -1) ? 1 : 0;
}

static void wait_until_asleep(void)
{
	while (!get(&board->ready))
		usleep(1000);
	usleep(60000);
}

static void sleeper_is_woken(void **state)
{
	pid_t pid;

	(void)state;
	for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++) {
		memset(board, 0, sizeof(*board));
		make(1, flags);
		pid = child(1, receive_one_number, 0, 0);
		wait_until_asleep();
		assert_int_equal(send_number(a, queue, 77), 0);
		assert_int_equal(ended(pid), 0);
		assert_int_equal(board->last[1][0], 77);
		assert_int_equal(send_number(a, queue, 78), 0);
		drop();

		set(&board->ready, 0);
		make(1, flags);
		if (!(flags & CXLSHM_SPSC))
			assert_int_equal(send_number(b, queue_b, 1), 0);
		else {	/* the role must be free for the child */
			struct cxlshm_client *other;
			cxlshm_ref q;

			hand(a, queue, &board->token[7]);
			assert_int_equal(cxlshm_join(pool, "other", 0, &other), 0);
			assert_int_equal(cxlshm_import(other, board->token[7], &q), 0);
			assert_int_equal(send_number(other, q, 1), 0);
			assert_int_equal(cxlshm_leave(other), 0);
		}
		pid = child(1, send_one_number, 0, 0);
		wait_until_asleep();
		assert_int_equal(receive_number(b, queue_b), 1);
		assert_int_equal(ended(pid), 0);
		assert_int_equal(receive_number(b, queue_b), 5);
		drop();
	}
	objects();
}

/*
 * Asleep for longer than the slices of cxlshm_queue_send_wait(), in which a wake-up that never came would only cost time.
 * What queue_sleep() says.
 */
static int sleep_long(struct cxlshm_client *client, cxlshm_ref q, enum queue_side side)
{
	struct client *c = (struct client *)client;
	struct queue parts;
	uint32_t announced;

	if (queue_at(c->pool, cxlshm_id(client, q), &parts))
		return 1;
	announced = queue_announce(c, &parts, side);
	set(&board->ready, 1);
	return -queue_sleep(&parts, side, announced, 30 * SECOND);
}

static int sleep_for_room(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	(void)who;
	return sleep_long(c, q, QUEUE_SENDER);
}

static int sleep_for_one(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	(void)who;
	return sleep_long(c, q, QUEUE_RECEIVER);
}

static void each_step_wakes_the_other_side(void **state)
{
	pid_t pid;

	(void)state;
	for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++) {
		memset(board, 0, sizeof(*board));
		make(1, flags);
		pid = child(1, sleep_for_one, 0, 0);
		wait_until_asleep();
		assert_int_equal(send_number(a, queue, 1), 0);
		assert_int_equal(ended(pid), 0);
		set(&board->ready, 0);
		pid = child(1, sleep_for_room, 0, 0);
		wait_until_asleep();
		assert_int_equal(receive_number(b, queue_b), 1);
		assert_int_equal(ended(pid), 0);
		drop();
	}
	objects();
}

static struct {
	struct queue_fmt *q;
	uint32_t announced;
	uint32_t seen;
} waking;

static void while_it_wakes(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	(void)c;
	if (point != CRASH_queue_wake_cleared)
		return;
	waking.seen++;
	assert_int_equal(a32_load_acquire(&waking.q->receive_waiting), 0);
	assert_int_equal(a32_load_acquire(&waking.q->receive_futex), waking.announced);
}

/*
 * The announcement goes before the futex word changes.  The other way round, a sleeper that reads the changed word and
 * announces in between has its announcement taken back, and nothing to wake up by.
 */
static void who_announces_during_a_wake_up_stays_announced(void **state)
{
	struct queue parts;

	(void)state;
	make(4, 0);
	assert_int_equal(queue_at((struct pool *)pool, cxlshm_id(a, queue), &parts), 0);
	waking.q = parts.q;
	waking.seen = 0;
	waking.announced = queue_announce((struct client *)b, &parts, QUEUE_RECEIVER);
	((struct pool *)pool)->crash_hook = while_it_wakes;
	assert_int_equal(send_number(a, queue, 1), 0);
	((struct pool *)pool)->crash_hook = NULL;
	assert_int_equal(waking.seen, 1);
	assert_int_not_equal(a32_load_acquire(&parts.q->receive_futex), waking.announced);
	assert_int_equal(receive_number(b, queue_b), 1);
	drop();
	objects();
}

static void sleeper_outlives_its_peer(void **state)
{
	static const unsigned points[] = {CRASH_queue_send_swapped, CRASH_queue_send_stored, CRASH_queue_send_begun,
					  CRASH_queue_wake_cleared};
	uint32_t killed[sizeof(points) / sizeof(points[0])] = {0};

	(void)state;
	for (unsigned flags = 0; flags <= CXLSHM_SPSC; flags++)
		for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
			pid_t sleeper, sender;
			int status;

			memset(board, 0, sizeof(*board));
			make(2, flags);
			sleeper = child(1, receive_one_number, 0, 0);
			wait_until_asleep();
			sender = child(2, send_one_number, points[i], 1);
			status = ended(sender);
			assert_true(status == 0 || status == 128 + SIGKILL);
			killed[i] += status != 0;
			/* Not sent: its successor does. */
			if (points[i] == CRASH_queue_send_begun && status)
				assert_int_equal(send_number(a, queue, 5), 0);
			assert_int_equal(ended(sleeper), 0);
			assert_int_equal(board->last[1][0], 5);
			drop();
		}
	for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		if (!killed[i] && points[i] != CRASH_queue_wake_cleared)
			fail_msg("nobody died at %s", crash_point_name((enum crash_point)points[i]));
	objects();
}

static int hold_roles(int who, struct cxlshm_client *c, cxlshm_ref q)
{
	(void)who;
	if (send_number(c, q, 1) || send_number(c, q, 2) || receive_number(c, q) != 1)
		return 1;
	set(&board->ready, 1);
	pause();
	return 2;
}

static void dead_holder_of_roles_is_recovered_by_who_wants_them(void **state)
{
	cxlshm_ref ref;
	pid_t pid;

	(void)state;
	make(2, CXLSHM_SPSC);
	pid = child(0, hold_roles, 0, 0);
	while (!get(&board->ready))
		usleep(1000);
	assert_int_equal(send_number(a, queue, 3), -EBUSY);
	assert_int_equal(receive_number(b, queue_b), -EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(ended(pid), 128 + SIGKILL);
	assert_int_equal(send_number(a, queue, 3), 0);
	assert_int_equal(cxlshm_queue_receive_wait(b, queue_b, &ref, 10 * SECOND), 0);
	assert_int_equal(((struct item *)cxlshm_ptr(b, ref))->number, 2);
	assert_int_equal(cxlshm_release(b, ref), 0);
	assert_int_equal(receive_number(b, queue_b), 3);
	drop();
	objects();
}

/* While somebody else recovers the holder of a role, whoever waits for it goes on waiting. */
static void role_of_one_just_being_recovered_is_waited_for(void **state)
{
	uint64_t before = objects();
	struct cxlshm_pool *third;
	struct client *acting;
	cxlshm_ref ref = item(a, 0, 2);
	uint32_t cid;

	(void)state;
	make(2, CXLSHM_SPSC);
	assert_int_equal(send_number(b, queue_b, 1), 0);
	assert_int_equal(send_number(a, queue, 2), -EBUSY);
	cid = cxlshm_client_id(b);
	client_abandon((struct client *)b);
	assert_int_equal(cxlshm_pool_open(dir, 0, &third, NULL), 0);
	assert_int_equal(client_take_over((struct pool *)third, cid, &acting), 0);
	assert_int_equal(send_number(a, queue, 2), -EBUSY);
	assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, SECOND / 10), -ETIMEDOUT);
	client_abandon(acting);
	cxlshm_pool_close(third);
	assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, 10 * SECOND), 0);
	assert_int_equal(receive_number(a, queue), 1);
	assert_int_equal(receive_number(a, queue), 2);
	assert_int_equal(cxlshm_release(a, queue), 0);
	assert_int_equal(cxlshm_join(pool, "b", 0, &b), 0);
	assert_int_equal(objects(), before);
}

/* Who joins in the slot of one that was recovered is not taken for it. */
static void role_of_a_successor_in_the_same_slot_is_held(void **state)
{
	uint64_t before = objects();
	cxlshm_ref ref = item(a, 0, 2);
	uint64_t token;
	uint32_t cid;

	(void)state;
	make(2, CXLSHM_SPSC);
	assert_int_equal(send_number(b, queue_b, 1), 0);
	cid = cxlshm_client_id(b);
	client_abandon((struct client *)b);
	assert_int_equal(cxlshm_recover(pool, NULL), 0);
	assert_int_equal(cxlshm_join(pool, "b", 0, &b), 0);
	assert_int_equal(cxlshm_client_id(b), cid);
	hand(a, queue, &token);
	assert_int_equal(cxlshm_import(b, token, &queue_b), 0);
	assert_int_equal(send_number(b, queue_b, 2), 0);
	assert_int_equal(cxlshm_queue_send_wait(a, queue, ref, 10 * SECOND), -EBUSY);
	assert_int_equal(cxlshm_release(a, ref), 0);
	drop();
	assert_int_equal(objects(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(four_processes_lose_and_double_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(dead_producer_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(dead_consumer_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(sleeper_is_woken, setup, teardown),
		cmocka_unit_test_setup_teardown(each_step_wakes_the_other_side, setup, teardown),
		cmocka_unit_test_setup_teardown(who_announces_during_a_wake_up_stays_announced, setup, teardown),
		cmocka_unit_test_setup_teardown(sleeper_outlives_its_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(dead_holder_of_roles_is_recovered_by_who_wants_them, setup, teardown),
		cmocka_unit_test_setup_teardown(role_of_one_just_being_recovered_is_waited_for, setup, teardown),
		cmocka_unit_test_setup_teardown(role_of_a_successor_in_the_same_slot_is_held, setup, teardown),
	};

	return board_map() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
