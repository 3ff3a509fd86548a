/* SPDX-License-Identifier: MIT */
/*
 * bench_queue: handing references to another process.
 *
 *   send+receive     by one client, of its own queue
 *   hand-over        two processes on two cores pass 1024 objects round: one sends on queue A and receives
 *                    on B, the other the reverse; ns for one hand-over
 *   call             one process sends an argument by reference, reads the answer from the same object;
 *                    the other one receives it, reads every line of it, answers, sends it back
 *
 * Peers: a bare ring of 8-byte words in shared memory (what the cache lines cost; it counts nothing and
 * survives nothing), a pipe, and a Unix socket, which has to copy the argument.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define CIRCULATING 1024u
#define ARGUMENT_MAX 65536u

enum work { IDLE, HAND_OVER, CALL, ALLOC_RELEASE, CALL_WAIT, END };

struct ring {	/* the bare ring */
	uint64_t head __attribute__((aligned(64)));
	uint64_t tail __attribute__((aligned(64)));
	uint64_t slot[2 * CIRCULATING] __attribute__((aligned(64)));
};

struct shared {	/* between the two processes */
	uint32_t work __attribute__((aligned(64)));	/* enum work, written by the parent */
	uint32_t ready;	/* the child has begun or ended it */
	int32_t rc;	/* of the child */
	uint32_t bytes;	/* of the argument */
	uint64_t token[2];
	struct ring ring[2];
	char argument[ARGUMENT_MAX] __attribute__((aligned(64)));
};

struct ours {
	const char *name;
	struct bench_pool pool;
	struct cxlshm_client *client;
	cxlshm_ref queue[2];	/* to the child, back */
	cxlshm_ref local;	/* for send+receive by one client */
	cxlshm_ref argument;
	struct shared *sh;
	unsigned flags;
	int child;
	enum work work;
	uint32_t bytes;
};

static void relax(unsigned *spins)
{
	if (++*spins % 16384 == 0)
		sched_yield();
	else
		bench_pause();
}

static uint64_t read_lines(const char *p, uint32_t bytes)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < bytes; i += 64)
		sum += *(const volatile uint64_t *)(const void *)(p + i);
	return sum;
}

/* ---- ours: the child ---- */

static uint32_t wanted(struct shared *sh)
{
	return __atomic_load_n(&sh->work, __ATOMIC_ACQUIRE);
}

static int child_work(struct ours *o, struct cxlshm_client *c, const cxlshm_ref queue[2])
{
	struct shared *sh = o->sh;
	enum work work = wanted(sh);
	unsigned spins = 0;

	while (wanted(sh) == work) {
		cxlshm_ref ref;
		int rc = work == CALL_WAIT ? cxlshm_queue_receive_wait(c, queue[0], &ref, 1000000)
					   : cxlshm_queue_receive(c, queue[0], &ref);

		if (rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EINTR) {
			relax(&spins);
			continue;
		}
		if (rc)
			return rc;
		if (work == ALLOC_RELEASE) {
			cxlshm_release(c, ref);
			continue;
		}
		if (work == CALL || work == CALL_WAIT) {
			char *p = cxlshm_ptr(c, ref);

			*(uint64_t *)(void *)p = read_lines(p, sh->bytes);
		}
		while ((rc = cxlshm_queue_send(c, queue[1], ref)) == -EAGAIN)
			relax(&spins);
		if (rc)
			return rc;
	}
	return 0;
}

static int child_main(void *arg)
{
	struct ours *o = arg;
	struct shared *sh = o->sh;
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	cxlshm_ref queue[2];
	unsigned spins = 0;

	bench_pin(1);
	BENCH_OK(cxlshm_pool_open(o->pool.path, 0, &pool, NULL));
	BENCH_OK(cxlshm_join(pool, "server", 0, &c));
	for (int i = 0; i < 2; i++)
		BENCH_OK(cxlshm_import(c, sh->token[i], &queue[i]));
	for (;;) {
		__atomic_store_n(&sh->ready, 0, __ATOMIC_RELEASE);
		while (wanted(sh) == IDLE)
			usleep(50);
		if (wanted(sh) == END)
			break;
		spins = 0;
		__atomic_store_n(&sh->ready, 1, __ATOMIC_RELEASE);
		sh->rc = child_work(o, c, queue);
		while (wanted(sh) != IDLE && wanted(sh) != END)
			relax(&spins);
	}
	cxlshm_pool_close(pool);
	return 0;
}

static void child_start(struct shared *sh, enum work work)
{
	__atomic_store_n(&sh->work, work, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE))
		usleep(10);
}

static void child_stop(struct shared *sh)
{
	__atomic_store_n(&sh->work, IDLE, __ATOMIC_RELEASE);
	while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE))
		usleep(10);
}

/* ---- ours: the parent ---- */

static double hand_over_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	struct cxlshm_client *c = o->client;
	cxlshm_ref spare[CIRCULATING];
	unsigned have = 0, out = 0, spins = 0;
	uint64_t done = 0, t0;
	int rc = 0;

	for (; have < CIRCULATING; have++)
		BENCH_OK(cxlshm_alloc(c, 64, &spare[have]));
	child_start(o->sh, HAND_OVER);
	t0 = bench_ns();
	while ((done < n || out) && !o->sh->rc) {
		if (done < n && have) {
			rc = cxlshm_queue_send(c, o->queue[0], spare[have - 1]);
			if (rc && rc != -EAGAIN)
				break;
			if (!rc) {
				have--;
				out++;
			}
		}
		rc = cxlshm_queue_receive(c, o->queue[1], &spare[have]);
		if (rc == -EAGAIN) {
			if (!have || done >= n)
				relax(&spins);
			rc = 0;
			continue;
		}
		if (rc)
			break;
		have++;
		out--;
		done += 2;
	}
	t0 = bench_ns() - t0;
	child_stop(o->sh);
	while (have)
		cxlshm_release(c, spare[--have]);
	rc = rc ? rc : o->sh->rc;
	return rc ? rc : (double)t0 / (double)done;
}

/* Allocate, send; the child receives and releases. */
static double alloc_release_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	unsigned spins = 0;
	uint64_t t0;
	int rc = 0;

	child_start(o->sh, ALLOC_RELEASE);
	t0 = bench_ns();
	for (uint64_t i = 0; i < n && !rc; i++) {
		cxlshm_ref ref;

		rc = cxlshm_alloc(o->client, 64, &ref);
		while (!rc && (rc = cxlshm_queue_send(o->client, o->queue[0], ref)) == -EAGAIN && !o->sh->rc) {
			relax(&spins);
			rc = 0;
		}
	}
	while (!rc && !o->sh->rc && cxlshm_queue_length(o->client, o->queue[0]) > 0)
		relax(&spins);
	t0 = bench_ns() - t0;
	child_stop(o->sh);
	rc = rc ? rc : o->sh->rc;
	return rc ? rc : (double)t0 / (double)n;
}

static double call_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	struct cxlshm_client *c = o->client;
	unsigned spins = 0;
	uint64_t t0;
	int rc = 0;

	o->sh->bytes = o->bytes;
	child_start(o->sh, o->work);
	t0 = bench_ns();
	for (uint64_t i = 0; i < n && !rc && !o->sh->rc; i++) {
		*(uint64_t *)cxlshm_ptr(c, o->argument) = i;
		rc = cxlshm_queue_send(c, o->queue[0], o->argument);
		if (rc)
			break;
		if (o->work == CALL_WAIT)
			rc = cxlshm_queue_receive_wait(c, o->queue[1], &o->argument, 1000000000);
		else
			while ((rc = cxlshm_queue_receive(c, o->queue[1], &o->argument)) == -EAGAIN &&
			       !o->sh->rc)
				relax(&spins);
		if (!rc)
			BENCH_KEEP(*(volatile uint64_t *)cxlshm_ptr(c, o->argument));
	}
	t0 = bench_ns() - t0;
	child_stop(o->sh);
	rc = rc ? rc : o->sh->rc;
	return rc ? rc : (double)t0 / (double)n;
}

static double local_measure(void *arg, uint64_t n)
{
	struct ours *o = arg;
	uint64_t t0 = bench_ns();
	int rc = 0;

	for (uint64_t i = 0; i < n && !rc; i++) {
		rc = cxlshm_queue_send(o->client, o->local, o->argument);
		if (!rc)
			rc = cxlshm_queue_receive(o->client, o->local, &o->argument);
	}
	return rc ? rc : (double)(bench_ns() - t0) / (double)n;
}

static int ours_open(struct bench *b, struct ours *o, const char *name, uint32_t domain, unsigned flags)
{
	o->name = name;
	o->flags = flags;
	o->sh = bench_shared(sizeof *o->sh);
	if (bench_pool(b, &o->pool, 256u << 20, 0, domain))
		return -1;
	BENCH_OK(cxlshm_join(o->pool.pool, "caller", 0, &o->client));
	BENCH_OK(cxlshm_alloc_with(o->client, ARGUMENT_MAX, 0, CXLSHM_ZERO, &o->argument));
	BENCH_OK(cxlshm_queue_create(o->client, CIRCULATING, flags, &o->local));
	for (int i = 0; i < 2; i++) {
		cxlshm_ref copy;

		BENCH_OK(cxlshm_queue_create(o->client, 2 * CIRCULATING, flags, &o->queue[i]));
		BENCH_OK(cxlshm_attach(o->client, o->queue[i], &copy));
		BENCH_OK(cxlshm_export(o->client, copy, &o->sh->token[i]));
	}
	o->child = bench_fork(child_main, o);
	return 0;
}

/* ---- peers ---- */

static int ring_push(struct ring *r, uint64_t value)
{
	uint64_t head = r->head;

	if (head - __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == 2 * CIRCULATING)
		return -EAGAIN;
	r->slot[head % (2 * CIRCULATING)] = value;
	__atomic_store_n(&r->head, head + 1, __ATOMIC_RELEASE);
	return 0;
}

static int ring_pop(struct ring *r, uint64_t *value)
{
	uint64_t tail = r->tail;

	if (tail == __atomic_load_n(&r->head, __ATOMIC_ACQUIRE))
		return -EAGAIN;
	*value = r->slot[tail % (2 * CIRCULATING)];
	__atomic_store_n(&r->tail, tail + 1, __ATOMIC_RELEASE);
	return 0;
}

struct peer {
	struct shared *sh;
	int fd[2];	/* ours, the child's (socket); 0 for the ring */
	int child;
	uint32_t bytes;
	enum work work;
};

static int ring_child(void *arg)
{
	struct shared *sh = ((struct peer *)arg)->sh;
	unsigned spins = 0;

	bench_pin(1);
	while (wanted(sh) != END) {
		uint64_t value;

		if (ring_pop(&sh->ring[0], &value)) {
			if (wanted(sh) == IDLE)
				usleep(20);
			else
				relax(&spins);
			continue;
		}
		if (value == CALL)
			*(uint64_t *)(void *)sh->argument = read_lines(sh->argument, sh->bytes);
		while (ring_push(&sh->ring[1], value))
			relax(&spins);
	}
	return 0;
}

static double ring_measure(void *arg, uint64_t n)
{
	struct peer *p = arg;
	struct shared *sh = p->sh;
	uint64_t t0, value, done = 0, have = p->work == CALL ? 1 : CIRCULATING, out = 0;
	unsigned spins = 0;

	sh->bytes = p->bytes;
	__atomic_store_n(&sh->work, p->work, __ATOMIC_RELEASE);
	usleep(200);	/* the child spins by now */
	t0 = bench_ns();
	while (done < n || out) {
		if (done < n && have) {
			*(uint64_t *)(void *)sh->argument = done;
			if (!ring_push(&sh->ring[0], p->work)) {
				have--;
				out++;
			}
		}
		if (ring_pop(&sh->ring[1], &value)) {
			if (!have || done >= n)
				relax(&spins);
			continue;
		}
		have++;
		out--;
		done += p->work == CALL ? 1 : 2;
	}
	t0 = bench_ns() - t0;
	__atomic_store_n(&sh->work, IDLE, __ATOMIC_RELEASE);
	return (double)t0 / (double)done;
}

static int read_all(int fd, char *p, size_t bytes)
{
	while (bytes) {
		ssize_t got = read(fd, p, bytes);

		if (got <= 0)
			return -EIO;
		p += got;
		bytes -= (size_t)got;
	}
	return 0;
}

static int write_all(int fd, const char *p, size_t bytes)
{
	while (bytes) {
		ssize_t put = write(fd, p, bytes);

		if (put <= 0)
			return -EIO;
		p += put;
		bytes -= (size_t)put;
	}
	return 0;
}

static int socket_child(void *arg)
{
	struct peer *p = arg;
	static char buffer[ARGUMENT_MAX] __attribute__((aligned(64)));

	bench_pin(1);
	close(p->fd[0]);
	while (!read_all(p->fd[1], buffer, p->sh->bytes)) {
		*(uint64_t *)(void *)buffer = read_lines(buffer, p->sh->bytes);
		if (write_all(p->fd[1], buffer, 64))
			break;
	}
	return 0;
}

static double socket_measure(void *arg, uint64_t n)
{
	struct peer *p = arg;
	char answer[64];
	uint64_t t0;
	int rc = 0;

	if (p->child && p->sh->bytes != p->bytes) {	/* another child: the old one may wait for the other size */
		close(p->fd[0]);
		bench_wait(p->child);
		p->child = 0;
	}
	if (!p->child) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, p->fd))
			return -errno;
		p->sh->bytes = p->bytes;
		p->child = bench_fork(socket_child, p);
		close(p->fd[1]);
	}
	t0 = bench_ns();
	for (uint64_t i = 0; i < n && !rc; i++) {
		rc = write_all(p->fd[0], p->sh->argument, p->bytes);
		if (!rc)
			rc = read_all(p->fd[0], answer, sizeof answer);
	}
	return rc ? rc : (double)(bench_ns() - t0) / (double)n;
}

/* ---- */

static void queue_case(struct bench *b, struct ours *o, int ours, const char *name,
		       double (*measure)(void *, uint64_t), enum work work, uint32_t bytes, struct peer *ring,
		       struct peer *socket)
{
	struct variant v[8];
	int n = 0;

	for (; n < ours; n++) {
		o[n].work = work;
		o[n].bytes = bytes;
		v[n] = (struct variant){o[n].name, measure, &o[n]};
	}
	if (ring) {
		ring->work = work;
		ring->bytes = bytes;
		v[n++] = (struct variant){"bare ring", ring_measure, ring};
	}
	if (socket) {
		socket->bytes = bytes;
		v[n++] = (struct variant){"Unix socket", socket_measure, socket};
	}
	bench_case(b, name, 0, "ns", v, n, 0);
}

int main(int argc, char **argv)
{
	static struct ours o[3];
	struct peer ring = {0}, sock = {0};
	struct bench b;
	int ours = 0;

	bench_start(&b, "queue", argc, argv);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		bench_skip(&b, "all", 0, "all", "one processor: a hand-over there measures the scheduler");
	ring.sh = bench_shared(sizeof *ring.sh);
	sock.sh = bench_shared(sizeof *sock.sh);
	ring.child = bench_fork(ring_child, &ring);
	if (!ours_open(&b, &o[0], "cxlshm", CXLSHM_FAILURE_PROCESS, CXLSHM_SPSC) &&
	    !ours_open(&b, &o[1], "cxlshm any-to-any", CXLSHM_FAILURE_PROCESS, 0) && ++ours && ++ours &&
	    !b.summary && !ours_open(&b, &o[2], "cxlshm host", CXLSHM_FAILURE_HOST, CXLSHM_SPSC))
		ours++;
	bench_pin(0);
	queue_case(&b, o, ours, "queue send+receive, one client", local_measure, IDLE, 0, NULL, NULL);
	queue_case(&b, o, ours, "queue hand-over, two processes", hand_over_measure, HAND_OVER, 0, &ring, NULL);
	if (!b.summary) {
		queue_case(&b, o, ours, "alloc, send, receive, release", alloc_release_measure, ALLOC_RELEASE, 0,
			   NULL, NULL);
		queue_case(&b, o, ours, "call, 64 B argument", call_measure, CALL, 64, &ring, &sock);
		queue_case(&b, o, ours, "call, 64 KiB argument", call_measure, CALL, 65536, &ring, &sock);
		queue_case(&b, o, ours, "call, 64 B, blocking", call_measure, CALL_WAIT, 64, NULL, &sock);
	}
	for (int i = 0; i < ours; i++) {
		__atomic_store_n(&o[i].sh->work, END, __ATOMIC_RELEASE);
		bench_wait(o[i].child);
		bench_pool_gone(&b, &o[i].pool);
	}
	__atomic_store_n(&ring.sh->work, END, __ATOMIC_RELEASE);
	bench_wait(ring.child);
	if (sock.child) {
		close(sock.fd[0]);
		bench_wait(sock.child);
	}
	return bench_end(&b);
}
