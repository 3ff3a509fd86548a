/* SPDX-License-Identifier: MIT */
/*
 * Every single byte and word of a pool's metadata, damaged: nothing may crash or hang.
 *
 *   flips [--seconds N] [--long] [--jobs N] [--image N] [--replay IMAGE:OFFSET:CHANGE] [--list]
 *
 * Changes 0 and 1 are a byte xored with 0xff and with 1; 2, 3, 4 and 5 are the 8-byte word set to 0, to all ones, to a
 * valid offset of another thing, and increased by one (the latter four on multiples of eight only).  Each damaged pool is
 * checked, repaired, checked and used; from the start again, used as it is and then repaired; and once more, served by the
 * daemon (where the build has one: FLIPS_DAEMON), which refuses it with -EUCLEAN or answers all that script.c asks.  Who
 * opens and joins it damaged succeeds or is told -EUCLEAN; who does behind a repair succeeds, and finds each name, unless what
 * was damaged holds objects.  mkfs
 * leaves it as it is without --force; with it, and behind --remove, the pool that it makes is clean.
 *
 * Workers run the cases; whoever dies or does not come to an end gives its case as a failure, with the line
 * that replays it, and is replaced.  With --seconds cases are taken in a fixed shuffled order until the time is over; the
 * last line says how many of all there were.  Status 1 if anything died, hung, or was said to be repaired and was not, or if
 * no damage was found or refused, or, where there is a daemon, served.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "damage.h"
#ifdef FLIPS_DAEMON
#include "requests.h"
#define DAEMON 1
#else
#define DAEMON 0
#endif

#define WATCHDOG_S 20	/* of the clock, */
#define WATCHDOG_CPU_S 2	/* or of computing: one case takes milliseconds */
#define CHANGES 6u
#define FAILURES_SHOWN 60u
#define WORKERS_MAX 16u

struct flip {
	uint32_t off;
	uint16_t image;
	uint16_t change;
};

struct worker {	/* shared */
	volatile uint64_t beat;
	volatile uint32_t at;	/* its case */
	volatile uint32_t stage;
	volatile uint32_t busy;
};

struct totals {	/* shared */
	uint64_t next;
	uint64_t done, refused, found, repaired, beyond, harmless, unrepaired, crashes, hangs;
	uint64_t served, not_served;	/* by the daemon */
	uint64_t kept, anew, removed;	/* by mkfs */
	uint64_t names_kept, names_lost;	/* pools that had all their names behind a repair, or not */
	struct worker worker[WORKERS_MAX];
};

/* Each of these has crashed, hung or been mended wrongly once: they come first. */
static const struct flip found[] = {
	{0x462e2, 0, 1}, {0x47036, 0, 1}, {0x491c7, 0, 1}, {0x8530, 1, 3}, {0x5607, 2, 0}, {0x54f7, 3, 0}, {0x80054, 3, 1},
	{0x491c5, 3, 1}, {0x8794, 4, 0}, {0x49147, 5, 1}, {0x1000, 6, 1}, {0x420a3, 6, 0}, {0x1040, 7, 2}, {0x84b0, 7, 5},
	{0x402b9, 7, 1}, {0x5677, 8, 0}, {0x402b9, 9, 0}, {0x5794, 10, 0}, {0x47040, 10, 3}, {0x5744, 11, 1}, {0x402ba, 11, 0},
	/* a record that leads where it may not */
	{0x80b0, 10, 3}, {0x80b5, 10, 0}, {0x80a0, 11, 3}, {0x80a2, 11, 0},
	{0x80a0, 13, 3}, {0x809d, 14, 0},
	/* a file object whose header leads out of the pool */
	{0x43a07, 6, 0},
	/* an entry whose hash is the last there is: who lists began again behind it */
	{0x42408, 0, 3}, {0x420a8, 0, 3},
	/* a slot that looks free, and has the turn to rename directories: who took it waited for itself */
	{0x8000, 12, 1}, {0x8000, 12, 2}, {0x8000, 12, 4},
	/* by the daemon */
	{0x421d8, 7, 2}, {0x42118, 5, 2},
};

static struct flip *flips;
static uint64_t flips_count, flips_room;
static struct totals *totals;
static struct damage_names sound[DAMAGE_IMAGES];	/* what a user finds in each undamaged pool, when it is recovered */
static const char *const stages[] = {"between", "check", "repair", "check after repair", "use of the damaged pool",
				     "repair after use", "use of the repaired pool", "check after use",
				     "daemon on the damaged pool", "mkfs on the damaged pool", "mkfs --force on the damaged pool",
				     "mkfs --remove of the damaged pool", "mkfs behind the removal", "check of the new pool",
				     "names behind the repair"};

static void add(uint32_t off, unsigned image, unsigned change)
{
	if (flips_count == flips_room) {
		flips_room = flips_room ? flips_room * 2 : 4096;
		flips = realloc(flips, flips_room * sizeof(*flips));
		MUST(!flips);
	}
	flips[flips_count++] = (struct flip){.off = off, .image = (uint16_t)image, .change = (uint16_t)change};
}

static void add_range(void *arg, uint64_t off, uint64_t bytes, const char *what)
{
	const struct damage *d = arg;

	(void)what;
	for (uint64_t at = off; at < off + bytes; at++)
		for (unsigned change = 0; change < (at & 7 ? 2 : CHANGES); change++)
			add((uint32_t)at, d->image, change);
}

struct name_of {
	uint64_t off;
	const char *what;
	uint64_t from;
};

static void name_range(void *arg, uint64_t off, uint64_t bytes, const char *what)
{
	struct name_of *n = arg;

	if (n->off >= off && n->off < off + bytes) {
		n->what = what;
		n->from = off;
	}
}

static void change_bytes(const struct damage *d, const struct flip *f)
{
	uint64_t word, first = (uint64_t)d->super.first_segment << d->super.segment_shift;

	switch (f->change) {
	case 0:
		d->heap[f->off] = (char)(d->heap[f->off] ^ 0xff);
		return;
	case 1:
		d->heap[f->off] ^= 1;
		return;
	case 2:
		word = 0;
		break;
	case 3:
		word = ~0ull;
		break;
	case 4:
		word = first + (1ull << d->super.page_shift);	/* the first block there is */
		break;
	default:
		memcpy(&word, d->heap + f->off, 8);
		word++;
	}
	memcpy(d->heap + f->off, &word, 8);
}

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void failure(const struct damage *d, const struct flip *f, const char *how, unsigned stage)
{
	struct name_of n = {.off = f->off, .what = "?"};

	damage_ranges(d, name_range, &n);
	if (totals->crashes + totals->hangs + totals->unrepaired <= FAILURES_SHOWN)
		printf("FAILED %s in %s: image %u (%s), %s at 0x%llx + %llu, change %u: replay: %s --replay %u:0x%x:%u\n", how,
		       stages[stage], f->image, damage_image_name(f->image), n.what, (unsigned long long)n.from,
		       (unsigned long long)(n.off - n.from), f->change, program_invocation_name, f->image, f->off, f->change);
	fflush(stdout);
}

/* Every case under another kernel than its neighbour; one in eight with the daemon's threads, which take milliseconds to end. */
static void serve(struct damage *d, const struct flip *f, struct worker *w)
{
#ifdef FLIPS_DAEMON
	int rc;

	damage_restore(d);
	change_bytes(d, f);
	w->stage = 8;
	w->beat++;
	rc = requests_serve(d->dir, (enum device_kernel)((f->off + f->change) % 4), !((f->off ^ f->change) % 8));
	if (rc != 0 && rc != -EUCLEAN) {
		char how[40];

		snprintf(how, sizeof(how), "refused with %d", rc);
		count(&totals->crashes);
		failure(d, f, how, w->stage);
	}
	count(rc ? &totals->not_served : &totals->served);
#else
	(void)d;
	(void)f;
	(void)w;
#endif
}

static void wrong(const struct damage *d, const struct flip *f, const char *what, int rc, unsigned stage)
{
	char how[80];

	snprintf(how, sizeof(how), "%s (%d)", what, rc);
	count(&totals->crashes);
	failure(d, f, how, stage);
}

static int make(const struct damage *d, int force)
{
	const struct cxlshm_pool_options options = {
		.size_bytes = DAMAGE_POOL_BYTES, .client_slots = 4, .uid = (uid_t)-1, .gid = (gid_t)-1, .force = force};

	return cxlshm_pool_create(d->dir, &options, NULL);
}

/* A pool, however damaged, stays as it is: the next may go on with it. */
static void make_over(const struct damage *d, const struct flip *f, struct worker *w)
{
	uint64_t at = f->off & ~7ull;
	char word[8];
	int rc;

	memcpy(word, d->heap + at, 8);
	w->stage = 9;
	rc = make(d, 0);
	if (rc != -EEXIST)
		wrong(d, f, "made it", rc, w->stage);
	else if (!damage_differs_only_at(d, at, word))
		wrong(d, f, "changed it", rc, w->stage);
	count(&totals->kept);
}

/* With force, or behind a removal, a clean pool takes its place. */
static void make_anew(struct damage *d, const struct flip *f, struct worker *w, int remove)
{
	struct cxlshm_check_result result = {0};
	int rc;

	damage_restore(d);
	change_bytes(d, f);
	w->stage = remove ? 11 : 10;
	rc = remove ? cxlshm_pool_remove(d->dir, NULL) : make(d, 1);
	if (rc) {
		wrong(d, f, remove ? "not removed" : "not made", rc, w->stage);
		return;
	}
	if (remove) {
		w->stage = 12;
		rc = make(d, 0);
		if (rc) {
			wrong(d, f, "not made", rc, w->stage);
			return;
		}
	}
	w->stage = 13;
	rc = cxlshm_check(d->dir, 0, NULL, NULL, &result, NULL);
	if (rc || result.problems || result.extents || !result.objects)
		wrong(d, f, "not clean", rc, w->stage);
	count(remove ? &totals->removed : &totals->anew);
}

/* Names that the client who died was making or moving: of these recovery may do, or not have done, what it can still read. */
static int in_flight(const char *path)
{
	static const char *const begin[] = {"made", "dir/many1", "dir/many2", "dir/inner", "inner"};

	for (size_t i = 0; i < sizeof(begin) / sizeof(begin[0]); i++) {
		size_t n = strlen(begin[i]);

		if (!strncmp(path, begin[i], n) && (!path[n] || path[n] == '/'))
			return 1;
	}
	return 0;
}

/*
 * What holds no object takes none along: behind a repair, all that had a name has it, and is what it was.  But where somebody
 * died, what is damaged in a slot may name an object that the dead had nothing to do with, and recovery drops that reference.
 */
static int takes_none(const char *what, unsigned image)
{
	static const char *const always[] = {"superblock", "superblock copy", "shared", "hints", "eras"};
	static const char *const of_slots[] = {"slot", "exports", "roots"};

	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (!strcmp(what, always[i]))
			return 1;
	for (size_t i = 0; !image && i < sizeof(of_slots) / sizeof(of_slots[0]); i++)
		if (!strcmp(what, of_slots[i]))
			return 1;
	return 0;
}

static void compare_names(const struct damage *d, const struct flip *f, const struct damage_names *now, unsigned stage)
{
	const struct damage_names *was = &sound[f->image];
	struct name_of n = {.off = f->off, .what = "?"};
	unsigned lost = 0;

	damage_ranges(d, name_range, &n);
	for (unsigned i = 0; i < was->count; i++) {
		const struct damage_name *name = &was->name[i];
		unsigned j;

		for (j = 0; j < now->count; j++)
			if (!strcmp(now->name[j].path, name->path) && now->name[j].kind == name->kind &&
			    now->name[j].bytes == name->bytes)
				break;
		if (j < now->count)
			continue;
		lost++;
		if (takes_none(n.what, f->image) && !in_flight(name->path))
			wrong(d, f, name->path, -ENOENT, stage);
	}
	count(lost ? &totals->names_lost : &totals->names_kept);
}

/* A damaged pool is opened and joined, or said to be damaged; one of a format that nobody knows is said to be that. */
static void judge_use(const struct damage *d, const struct flip *f, const struct damage_outcome *o, int repaired, unsigned stage)
{
	if (o->open_rc && (repaired || (o->open_rc != -EUCLEAN && o->open_rc != -ENOTSUP)))
		wrong(d, f, "not opened", o->open_rc, stage);
	else if (!o->open_rc && o->join_rc && (repaired || (o->join_rc != -EUCLEAN && o->join_rc != -EUSERS)))
		wrong(d, f, "not joined", o->join_rc, stage);
	if (o->endless)
		wrong(d, f, "a listing goes back, and may not end", 0, stage);
}

static void judge_repair(const struct damage *d, const struct flip *f, const struct damage_outcome *o, unsigned stage)
{
	if (!o->repair_rc && (o->again_rc || o->left)) {
		count(&totals->unrepaired);
		failure(d, f, "problems behind a repair", stage);
	}
}

static void run_one(struct damage *d, const struct flip *f, struct worker *w)
{
	struct damage_outcome o = {0};
	struct damage_names names = {0};

	damage_restore(d);
	change_bytes(d, f);
	make_over(d, f, w);
	damage_try(d, 2, &o, &w->stage, &names);
	w->beat++;
	if (o.check_rc)
		count(&totals->refused);
	else if (!o.problems)
		count(&totals->harmless);
	else
		count(&totals->found);
	judge_repair(d, f, &o, w->stage);
	if (!o.repair_rc && o.beyond)
		count(&totals->beyond);
	else if (!o.repair_rc && !o.again_rc && !o.left && !o.check_rc && o.problems)
		count(&totals->repaired);
	if (!o.repair_rc && !o.beyond) {
		judge_use(d, f, &o, 1, w->stage);
		if (o.list_rc)
			wrong(d, f, "not listed", o.list_rc, w->stage);
		else
			compare_names(d, f, &names, w->stage);
	}
	damage_restore(d);
	change_bytes(d, f);
	damage_try(d, 1, &o, &w->stage, NULL);
	judge_use(d, f, &o, 0, w->stage);
	judge_repair(d, f, &o, w->stage);
	serve(d, f, w);
	make_anew(d, f, w, 0);
	if ((f->off ^ f->change) % 4 == 1)	/* the same calls, nearly */
		make_anew(d, f, w, 1);
	count(&totals->done);
	w->stage = 0;
}

static void work(struct damage *pools, struct worker *w, double until)
{
	const struct itimerval watchdog = {.it_value.tv_sec = WATCHDOG_CPU_S};

	for (;;) {
		struct timespec now;
		uint64_t index;

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (until > 0 && (double)now.tv_sec + (double)now.tv_nsec / 1e9 > until)
			_exit(0);
		index = __atomic_fetch_add(&totals->next, 1, __ATOMIC_RELAXED);
		if (index >= flips_count)
			_exit(0);
		w->at = (uint32_t)index;
		setitimer(ITIMER_PROF, &watchdog, NULL);
		w->beat++;
		run_one(&pools[flips[index].image], &flips[index], w);
	}
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void shuffle(void)
{
	uint64_t random = 88172645463325252ull;

	for (uint64_t i = flips_count; i > 1; i--) {
		struct flip swap;
		uint64_t j;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		j = random % i;
		swap = flips[i - 1];
		flips[i - 1] = flips[j];
		flips[j] = swap;
	}
}

/* One slot of work: keep a child at it until the cases are done. */
static void start_worker(struct damage *pools, unsigned j, pid_t *pids, double until)
{
	fflush(NULL);
	totals->worker[j].stage = 0;
	pids[j] = fork();
	MUST(pids[j] < 0);
	if (!pids[j])
		work(pools + j * DAMAGE_IMAGES, &totals->worker[j], until);
}

static void supervise(struct damage *pools, unsigned jobs, double until)
{
	uint64_t beat[WORKERS_MAX] = {0};
	double since[WORKERS_MAX], next_word = seconds() + 10;
	pid_t pids[WORKERS_MAX];
	unsigned left = jobs;

	for (unsigned j = 0; j < jobs; j++) {
		since[j] = seconds();
		start_worker(pools, j, pids, until);
	}
	while (left) {
		struct timespec nap = {.tv_nsec = 50000000};
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		unsigned j;

		if (pid > 0) {
			for (j = 0; j < jobs && pids[j] != pid; j++)
				;
			if (j == jobs)
				continue;
			pids[j] = -1;
			if (WIFEXITED(status) && !WEXITSTATUS(status)) {
				left--;
				continue;
			}
			if (beat[j] != UINT64_MAX) {
				const struct flip *f = &flips[totals->worker[j].at];
				char how[40];

				if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF) {
					count(&totals->hangs);
					snprintf(how, sizeof(how), "hangs");
				} else {
					count(&totals->crashes);
					snprintf(how, sizeof(how), WIFSIGNALED(status) ? "signal %d" : "status %d",
						 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
				}
				failure(&pools[f->image], f, how, totals->worker[j].stage);
			}
			beat[j] = 0;
			since[j] = seconds();
			start_worker(pools, j, pids, until);
			continue;
		}
		for (j = 0; j < jobs; j++) {
			if (pids[j] < 0 || beat[j] == UINT64_MAX)
				continue;
			if (totals->worker[j].beat != beat[j]) {
				beat[j] = totals->worker[j].beat;
				since[j] = seconds();
			} else if (seconds() - since[j] > WATCHDOG_S) {
				const struct flip *f = &flips[totals->worker[j].at];

				count(&totals->hangs);
				failure(&pools[f->image], f, "hangs", totals->worker[j].stage);
				beat[j] = UINT64_MAX;
				kill(pids[j], SIGKILL);
			}
		}
		if (seconds() > next_word) {
			next_word = seconds() + (until > 0 ? 10 : 60);
			printf("flips: %llu of %llu\n", (unsigned long long)totals->done, (unsigned long long)flips_count);
		}
		nanosleep(&nap, NULL);
	}
}

int main(int argc, char **argv)
{
	const char *length = getenv("CXLSHM_TEST_LENGTH");
	double from = seconds(), limit = !length || !strcmp(length, "quick") ? 20 : 50;
	struct flip again = {.change = UINT16_MAX};
	unsigned jobs = 2, image_only = UINT16_MAX;
	struct damage *pools;

	if (length && !strcmp(length, "long"))
		limit = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		unsigned a, b, c;

		if (!strcmp(argv[i], "--long")) {
			limit = 0;
		} else if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			limit = atof(argv[++i]);
		} else if (!strcmp(argv[i], "--jobs") && i + 1 < argc) {
			jobs = (unsigned)atoi(argv[++i]);
		} else if (!strcmp(argv[i], "--image") && i + 1 < argc) {
			image_only = (unsigned)atoi(argv[++i]);
		} else if (!strcmp(argv[i], "--list")) {
			for (unsigned j = 0; j < DAMAGE_IMAGES; j++)
				printf("%u %s\n", j, damage_image_name(j));
			return 0;
		} else if (!strcmp(argv[i], "--replay") && i + 1 < argc && sscanf(argv[++i], "%u:%x:%u", &a, &b, &c) == 3) {
			again = (struct flip){.image = (uint16_t)a, .off = b, .change = (uint16_t)c};
		} else {
			fprintf(stderr,
				"usage: %s [--seconds N] [--long] [--jobs N] [--image N] [--replay IMAGE:OFFSET:CHANGE]\n",
				argv[0]);
			return 2;
		}
	}
	MUST(!jobs || jobs > WORKERS_MAX);
	signal(SIGIO, SIG_IGN);	/* as the daemon does */
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(totals == MAP_FAILED);
	if (again.change != UINT16_MAX) {
		struct damage d;

		MUST(again.image >= DAMAGE_IMAGES);
		damage_make(&d, again.image);
		d.loud = 1;
		run_one(&d, &again, &totals->worker[0]);
		damage_free(&d);
		printf("flips: survived, %llu wrongly said to be repaired\n", (unsigned long long)totals->unrepaired);
		return totals->unrepaired || totals->crashes;
	}
	pools = calloc((size_t)jobs * DAMAGE_IMAGES, sizeof(*pools));
	MUST(!pools);
	for (unsigned j = 0; j < jobs; j++)
		for (unsigned image = 0; image < DAMAGE_IMAGES; image++)
			if (j)
				damage_clone(&pools[j * DAMAGE_IMAGES + image], &pools[image]);
			else
				damage_make(&pools[image], image);
	for (unsigned image = 0; image < DAMAGE_IMAGES; image++) {
		struct damage_outcome o = {0};

		damage_try(&pools[image], 0, &o, NULL, &sound[image]);
		MUST(o.repair_rc || o.left || o.list_rc || sound[image].count < 20);
		damage_restore(&pools[image]);
	}
	for (unsigned image = 0; image < DAMAGE_IMAGES; image++)
		if (image_only == UINT16_MAX || image == image_only)
			damage_ranges(&pools[image], add_range, &pools[image]);
	if (limit > 0)
		shuffle();
	for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
		if (image_only != UINT16_MAX && found[i].image != image_only)
			continue;
		add(flips[i].off, flips[i].image, flips[i].change);
		flips[i] = found[i];
	}
	supervise(pools, jobs, limit > 0 ? from + limit : 0);
	for (unsigned j = 0; j < jobs * DAMAGE_IMAGES; j++)
		damage_free(&pools[j]);
	free(pools);
	if (totals->served || totals->not_served)
		printf("flips: daemon: %llu served, %llu refused as damaged\n", (unsigned long long)totals->served,
		       (unsigned long long)totals->not_served);
	printf("flips: names: all there behind %llu repairs, some lost with what was damaged behind %llu\n",
	       (unsigned long long)totals->names_kept, (unsigned long long)totals->names_lost);
	printf("flips: mkfs: %llu left as they were, %llu made anew, %llu removed\n", (unsigned long long)totals->kept,
	       (unsigned long long)totals->anew, (unsigned long long)totals->removed);
	printf("flips: %llu of %llu cases, %llu refused, %llu found, %llu repaired, %llu beyond repair and said so, %llu harmless, "
	       "%llu wrongly said to be repaired, %llu crashes, %llu hangs, %.0f s\n",
	       (unsigned long long)totals->done, (unsigned long long)flips_count, (unsigned long long)totals->refused,
	       (unsigned long long)totals->found, (unsigned long long)totals->repaired,
	       (unsigned long long)totals->beyond, (unsigned long long)totals->harmless, (unsigned long long)totals->unrepaired,
	       (unsigned long long)totals->crashes, (unsigned long long)totals->hangs, seconds() - from);
	/* A checker that finds nothing, or a daemon that serves nothing, was not tried. */
	if (!(totals->found + totals->refused) || (DAEMON && !totals->served)) {
		printf("flips: FAILED: no damage was %s\n", totals->found + totals->refused ? "served" : "found or refused");
		return 1;
	}
	/* A repair that empties the pool mends it, too.  Of all cases about one in twelve damages an object or its page so that it goes. */
	if (totals->done >= 500 && totals->names_kept < 4 * totals->names_lost) {
		printf("flips: FAILED: too many repairs lost names\n");
		return 1;
	}
	return totals->crashes || totals->hangs || totals->unrepaired || !totals->done;
}
